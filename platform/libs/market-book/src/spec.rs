//! A Market resource's spec as plain text fields, and its validation.

use std::collections::{BTreeMap, BTreeSet};

use paddock_money::{Currency, Money};
use paddock_odds::{Factor, Ladder, MarketType, Method, Specifiers};
use serde::{Deserialize, Serialize};

use crate::duration::parse_duration;
use crate::{Geography, Limits, MarginRule, MarketRule, PerPhase, Phase, RuleState, Selector};

/// The shape of a Market's `spec`; read it from the resource by serde.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSpec {
    /// Sport, lower case.
    pub sport: String,
    /// Market type by name.
    pub market_type: MarketType,
    /// Lines; empty = all.
    #[serde(default)]
    pub specifiers: Vec<String>,
    /// Which events.
    #[serde(default)]
    pub selector: SelectorSpec,
    /// Margin.
    pub margin: MarginSpec,
    /// Limits by currency.
    #[serde(default)]
    pub limits: Vec<LimitSpec>,
    /// Delay of acceptance.
    #[serde(default)]
    pub bet_delay: PhaseDurations,
    /// Who may bet.
    #[serde(default)]
    pub geography: Geography,
    /// Whether it is offered.
    #[serde(default)]
    pub state: RuleState,
}

/// Which events a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelectorSpec {
    /// URNs or slugs; empty = all.
    #[serde(default)]
    pub categories: Vec<String>,
    /// URNs or slugs; empty = all.
    #[serde(default)]
    pub tournaments: Vec<String>,
    /// Empty = both.
    #[serde(default)]
    pub phases: Vec<Phase>,
}

/// Margin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MarginSpec {
    /// How it is spread.
    #[serde(default)]
    pub method: Method,
    /// How much.
    pub overround: PhaseOverrounds,
    /// Which prices.
    #[serde(default)]
    pub ladder: Ladder,
}

/// Overround for each phase, as decimal text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PhaseOverrounds {
    /// Before the match.
    pub pre_match: String,
    /// While it runs.
    pub live: String,
}

/// A Go-style duration for each phase; absent = none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PhaseDurations {
    /// Before the match.
    #[serde(default)]
    pub pre_match: Option<String>,
    /// While it runs.
    #[serde(default)]
    pub live: Option<String>,
}

/// Limits in one currency, as decimal text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitSpec {
    /// ISO 4217 code.
    pub currency: String,
    /// Lowest stake.
    pub min_stake: String,
    /// Highest stake.
    pub max_stake: String,
    /// Highest payout.
    pub max_payout: String,
    /// Highest liability.
    pub liability: String,
}

/// One thing that is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.{field}: {message}")]
pub struct FieldError {
    /// Path below `spec`.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Bets may be delayed by at most a minute.
const MOST_DELAY_MS: u32 = 60_000;

impl RuleSpec {
    /// The validated rule, or everything that is wrong.
    pub fn validate(&self, name: &str) -> Result<MarketRule, Vec<FieldError>> {
        let mut faults = Faults::default();
        if !self.market_type.fits_sport(&self.sport) {
            let message = format!("market {} does not exist for {:?}: use soccer", self.market_type, self.sport);
            faults.add("sport", message);
        }
        let rule = MarketRule {
            name: name.to_owned(),
            sport: self.sport.clone(),
            market_type: self.market_type,
            specifiers: self.lines(&mut faults),
            selector: self.selector.validate(&mut faults),
            margin: self.margin.validate(&mut faults),
            limits: limits(&self.limits, &mut faults),
            bet_delay_ms: PerPhase {
                pre_match: delay(self.bet_delay.pre_match.as_deref(), "betDelay.preMatch", &mut faults),
                live: delay(self.bet_delay.live.as_deref(), "betDelay.live", &mut faults),
            },
            geography: self.geography.clone(),
            state: self.state,
        };
        for (field, countries) in [("allow", &self.geography.allow), ("deny", &self.geography.deny)] {
            for country in countries {
                if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
                    let message =
                        format!("{country:?} is no country: use ISO 3166-1 alpha-2 in upper case, such as FR");
                    faults.add(&format!("geography.{field}"), message);
                }
            }
        }
        if faults.0.is_empty() { Ok(rule) } else { Err(faults.0) }
    }

    fn lines(&self, faults: &mut Faults) -> BTreeSet<Specifiers> {
        let mut lines = BTreeSet::new();
        for (at, text) in self.specifiers.iter().enumerate() {
            let field = format!("specifiers[{at}]");
            match Specifiers::parse(text) {
                Ok(specifiers) => match self.market_type.line(&specifiers) {
                    Ok(_) => _ = lines.insert(specifiers),
                    Err(error) => faults.add(&field, error.to_string()),
                },
                Err(error) => faults.add(&field, error.to_string()),
            }
        }
        lines
    }
}

impl SelectorSpec {
    fn validate(&self, faults: &mut Faults) -> Selector {
        for (field, names) in [("categories", &self.categories), ("tournaments", &self.tournaments)] {
            if names.iter().any(|name| name.is_empty() || name.len() > 128 || name.contains(char::is_whitespace)) {
                let message =
                    "a name is empty, has spaces or is longer than 128: use a URN such as sr:category:1 or a slug";
                faults.add(&format!("selector.{field}"), message.to_owned());
            }
        }
        let phases = if self.phases.is_empty() { vec![Phase::PreMatch, Phase::Live] } else { self.phases.clone() };
        Selector {
            categories: self.categories.iter().cloned().collect(),
            tournaments: self.tournaments.iter().cloned().collect(),
            phases: phases.into_iter().collect(),
        }
    }
}

impl MarginSpec {
    fn validate(&self, faults: &mut Faults) -> MarginRule {
        let mut read = |field: &str, text: &str| {
            let overround = Factor::parse(text).ok().filter(|overround| *overround <= Factor::HALF);
            overround.unwrap_or_else(|| {
                let message = format!("{text:?} is no overround: write a decimal from 0 to 0.5, such as \"0.05\"");
                faults.add(&format!("margin.overround.{field}"), message);
                Factor::ZERO
            })
        };
        let overround = PerPhase {
            pre_match: read("preMatch", &self.overround.pre_match),
            live: read("live", &self.overround.live),
        };
        MarginRule { method: self.method, overround, ladder: self.ladder }
    }
}

#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: &str, message: String) {
        self.0.push(FieldError { field: field.to_owned(), message });
    }
}

fn delay(text: Option<&str>, field: &str, faults: &mut Faults) -> u32 {
    let Some(text) = text else { return 0 };
    parse_duration(text).filter(|delay| *delay <= MOST_DELAY_MS).unwrap_or_else(|| {
        faults.add(field, format!("{text:?} is no delay: write a duration from 0s to 60s, such as \"5s\""));
        0
    })
}

fn limits(specs: &[LimitSpec], faults: &mut Faults) -> BTreeMap<Currency, Limits> {
    let mut all = BTreeMap::new();
    for (at, spec) in specs.iter().enumerate() {
        match limit(spec) {
            Ok(limits) => {
                if all.insert(limits.min_stake.currency(), limits).is_some() {
                    faults.add(&format!("limits[{at}].currency"), format!("{} stands twice: keep one", spec.currency));
                }
            }
            Err((field, message)) => faults.add(&format!("limits[{at}].{field}"), message),
        }
    }
    all
}

fn limit(spec: &LimitSpec) -> Result<Limits, (&'static str, String)> {
    let currency = Currency::of(&spec.currency).map_err(|error| ("currency", error.to_string()))?;
    let read = |field: &'static str, text: &str| match Money::parse(text, currency) {
        Ok(money) if money.is_positive() => Ok(money),
        Ok(_) => Err((field, format!("{text:?} is not above zero: set an amount such as \"10.00\""))),
        Err(error) => Err((field, error.to_string())),
    };
    let limits = Limits {
        min_stake: read("minStake", &spec.min_stake)?,
        max_stake: read("maxStake", &spec.max_stake)?,
        max_payout: read("maxPayout", &spec.max_payout)?,
        liability: read("liability", &spec.liability)?,
    };
    if limits.min_stake.minor() > limits.max_stake.minor() {
        return Err(("maxStake", "it is below minStake: raise maxStake or lower minStake".to_owned()));
    }
    Ok(limits)
}
