//! A validated market rule.

use std::collections::{BTreeMap, BTreeSet};

use paddock_money::{Currency, Money, MoneyError};
use paddock_odds::{Factor, Ladder, Margin, MarketType, Method, Specifiers};
use serde::{Deserialize, Serialize};

/// Before or after the kick-off.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
)]
pub enum Phase {
    /// The event has not started.
    PreMatch,
    /// The event is running.
    Live,
}

/// What a rule lets happen on its lines.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
)]
pub enum RuleState {
    /// Offered.
    #[default]
    Open,
    /// Shown, no bets.
    Suspended,
    /// Not offered; open bets still settle.
    Closed,
}

/// A value for each phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PerPhase<T> {
    /// Before the kick-off.
    pub pre_match: T,
    /// While the event runs.
    pub live: T,
}

impl<T: Copy> PerPhase<T> {
    /// The value of a phase.
    pub const fn of(&self, phase: Phase) -> T {
        match phase {
            Phase::PreMatch => self.pre_match,
            Phase::Live => self.live,
        }
    }
}

/// Which events a rule is for. Different lists narrow each other; an empty list is no restriction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// URNs or slugs of categories.
    #[serde(default)]
    pub categories: BTreeSet<String>,
    /// URNs or slugs of tournaments.
    #[serde(default)]
    pub tournaments: BTreeSet<String>,
    /// Phases; never empty in a validated rule.
    pub phases: BTreeSet<Phase>,
}

/// Margin settings of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarginRule {
    /// How the margin is spread over the outcomes.
    pub method: Method,
    /// Σ1/o ÷ k − 1 for each phase.
    pub overround: PerPhase<Factor>,
    /// Which prices are shown.
    pub ladder: Ladder,
}

impl MarginRule {
    /// The settings that [`paddock_odds::price`] takes.
    pub const fn of(&self, phase: Phase) -> Margin {
        Margin { method: self.method, overround: self.overround.of(phase), ladder: self.ladder }
    }
}

/// Limits in one currency. The liability limit is the greatest net loss over all lines of the rule's market type on one
/// event; the stake and payout limits are for one bet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LimitsText", into = "LimitsText")]
pub struct Limits {
    /// Lowest stake.
    pub min_stake: Money,
    /// Highest stake.
    pub max_stake: Money,
    /// Highest payout, stake included.
    pub max_payout: Money,
    /// Highest liability.
    pub liability: Money,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LimitsText {
    currency: Currency,
    min_stake: String,
    max_stake: String,
    max_payout: String,
    liability: String,
}

impl From<Limits> for LimitsText {
    fn from(limits: Limits) -> Self {
        Self {
            currency: limits.min_stake.currency(),
            min_stake: limits.min_stake.amount(),
            max_stake: limits.max_stake.amount(),
            max_payout: limits.max_payout.amount(),
            liability: limits.liability.amount(),
        }
    }
}

impl TryFrom<LimitsText> for Limits {
    type Error = MoneyError;

    fn try_from(text: LimitsText) -> Result<Self, MoneyError> {
        let read = |amount: &str| Money::parse(amount, text.currency);
        Ok(Self {
            min_stake: read(&text.min_stake)?,
            max_stake: read(&text.max_stake)?,
            max_payout: read(&text.max_payout)?,
            liability: read(&text.liability)?,
        })
    }
}

/// Countries (ISO 3166-1 alpha-2) that may bet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Geography {
    /// Only these; empty = everywhere.
    #[serde(default)]
    pub allow: BTreeSet<String>,
    /// Never these, also if allowed.
    #[serde(default)]
    pub deny: BTreeSet<String>,
}

impl Geography {
    /// Whether not everybody may bet.
    pub fn is_restricted(&self) -> bool {
        !self.allow.is_empty() || !self.deny.is_empty()
    }

    /// Whether a customer in a country (upper case) may bet. An unknown country (empty) may only where nothing is
    /// restricted.
    pub fn admits(&self, country: &str) -> bool {
        if country.is_empty() {
            return !self.is_restricted();
        }
        (self.allow.is_empty() || self.allow.contains(country)) && !self.deny.contains(country)
    }
}

/// A standing rule for one sport and market type: what is offered and on what terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarketRule {
    /// Name of the Market resource.
    pub name: String,
    /// Sport, lower case (`soccer`).
    pub sport: String,
    /// Market type.
    pub market_type: MarketType,
    /// Lines offered before the match; empty = all. Live, every line is offered.
    #[serde(default)]
    pub specifiers: BTreeSet<Specifiers>,
    /// Which events.
    pub selector: Selector,
    /// Margin.
    pub margin: MarginRule,
    /// Limits by currency; a currency without an entry is refused.
    #[serde(with = "limits_list")]
    pub limits: BTreeMap<Currency, Limits>,
    /// Delay of acceptance in milliseconds.
    pub bet_delay_ms: PerPhase<u32>,
    /// Who may bet.
    pub geography: Geography,
    /// Whether it is offered.
    pub state: RuleState,
}

impl MarketRule {
    /// Limits in a currency; `None` = the currency is refused.
    pub fn limits_in(&self, currency: Currency) -> Option<&Limits> {
        self.limits.get(&currency)
    }

    /// Whether bets may be taken as far as this rule says.
    pub fn is_open(&self) -> bool {
        self.state == RuleState::Open
    }

    /// How narrow the rule is for lines of a phase; the highest wins. A tournament is narrower than anything without one,
    /// then a category, then listed lines (pre-match only), then a single phase.
    pub(crate) fn narrowness(&self, phase: Phase) -> u8 {
        let bits = [
            !self.selector.tournaments.is_empty(),
            !self.selector.categories.is_empty(),
            phase == Phase::PreMatch && !self.specifiers.is_empty(),
            self.selector.phases.len() == 1,
        ];
        bits.into_iter().fold(0, |sum, bit| sum * 2 + u8::from(bit))
    }
}

/// Limits as a list ordered by currency, each naming its own.
mod limits_list {
    use serde::{Deserializer, Serializer};

    use super::{BTreeMap, Currency, Deserialize, Limits};

    pub(super) fn serialize<S: Serializer>(limits: &BTreeMap<Currency, Limits>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(limits.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Currency, Limits>, D::Error> {
        let list = Vec::<Limits>::deserialize(from)?;
        Ok(list.into_iter().map(|limits| (limits.min_stake.currency(), limits)).collect())
    }
}
