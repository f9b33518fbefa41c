//! The one table of market types: names, feed ids, outcomes, winners, specifier, settlement rule.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoStaticStr, VariantNames};

use crate::Specifiers;

/// A kind of market. Its text (`match-result`) is the name in Market resources, books and logs.
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
    Display,
    EnumString,
    EnumIter,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum MarketType {
    /// Home, draw or away after regular time.
    MatchResult,
    /// Two of the three match results.
    DoubleChance,
    /// Home or away; a draw refunds.
    DrawNoBet,
    /// Home or away after adding `hcp` goals to the home side; quarter lines split the stake.
    AsianHandicap,
    /// Goals of both sides over or under `total`; quarter lines split the stake.
    TotalGoals,
    /// Goals of the home side over or under `total`.
    HomeTotalGoals,
    /// Goals of the away side over or under `total`.
    AwayTotalGoals,
    /// Whether the number of goals is odd or even.
    OddEven,
    /// Whether both sides score.
    BothTeamsToScore,
    /// The exact score up to 4:4, else "other".
    CorrectScore,
}

/// One outcome of a market type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Id as in the feed.
    pub id: &'static str,
    /// Name template; `{total}`, `{+hcp}` and `{-hcp}` stand for the specifier's value.
    pub name: &'static str,
}

/// The specifier that a market type needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specifier {
    /// Key of a number of goals, at least a quarter, in steps of a quarter.
    Total(&'static str),
    /// Key of a signed number of goals in steps of a quarter.
    Handicap(&'static str),
}

impl Specifier {
    /// The key: `total`, `hcp`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Total(key) | Self::Handicap(key) => key,
        }
    }
}

/// How the final score decides the outcomes; implemented in [`crate::winning`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettlementRule {
    /// Home, draw, away.
    Result,
    /// Each outcome covers two of home, draw, away.
    TwoResults,
    /// Home or away, a draw refunds.
    DrawRefunds,
    /// Home goals + handicap against away goals, with halves and refunds.
    Handicap,
    /// Goals of the named sides against the line, with halves and refunds.
    Total {
        /// Home goals count.
        home: bool,
        /// Away goals count.
        away: bool,
    },
    /// Parity of all goals.
    Parity,
    /// Both sides above zero.
    BothScore,
    /// The exact score.
    Score,
}

/// A line's number in quarters of a goal (`2.5` is 10), or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Line {
    /// The market type has one line.
    Only,
    /// Quarters of a goal.
    Quarters(i32),
}

/// Specifiers do not fit the market type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("specifiers {specifiers:?} do not fit market {market}: {expected}")]
pub struct LineError {
    /// The market type.
    pub market: MarketType,
    /// The specifiers as given.
    pub specifiers: String,
    /// What to write instead.
    pub expected: &'static str,
}

macro_rules! outcomes {
    ($($id:literal $name:literal),+ $(,)?) => { &[$(Outcome { id: $id, name: $name }),+] };
}

const MATCH_RESULT: &[Outcome] = outcomes!["1" "{home}", "2" "draw", "3" "{away}"];
const DOUBLE_CHANCE: &[Outcome] = outcomes!["9" "{home} or draw", "10" "{home} or {away}", "11" "draw or {away}"];
const DRAW_NO_BET: &[Outcome] = outcomes!["4" "{home}", "5" "{away}"];
const HANDICAP: &[Outcome] = outcomes!["1714" "{home} ({+hcp})", "1715" "{away} ({-hcp})"];
const TOTAL: &[Outcome] = outcomes!["12" "over {total}", "13" "under {total}"];
const ODD_EVEN: &[Outcome] = outcomes!["70" "odd", "72" "even"];
const YES_NO: &[Outcome] = outcomes!["74" "yes", "76" "no"];
const SCORES: &[Outcome] = outcomes![
    "274" "0:0", "276" "1:0", "278" "2:0", "280" "3:0", "282" "4:0",
    "284" "0:1", "286" "1:1", "288" "2:1", "290" "3:1", "292" "4:1",
    "294" "0:2", "296" "1:2", "298" "2:2", "300" "3:2", "302" "4:2",
    "304" "0:3", "306" "1:3", "308" "2:3", "310" "3:3", "312" "4:3",
    "314" "0:4", "316" "1:4", "318" "2:4", "320" "3:4", "322" "4:4",
    "324" "other",
];

impl MarketType {
    /// Market id as in the feed: 1 for `match-result`.
    pub const fn feed_id(self) -> u32 {
        match self {
            Self::MatchResult => 1,
            Self::DoubleChance => 10,
            Self::DrawNoBet => 11,
            Self::AsianHandicap => 16,
            Self::TotalGoals => 18,
            Self::HomeTotalGoals => 19,
            Self::AwayTotalGoals => 20,
            Self::OddEven => 26,
            Self::BothTeamsToScore => 29,
            Self::CorrectScore => 45,
        }
    }

    /// The market type of a feed market id.
    pub fn of_feed_id(id: u32) -> Option<Self> {
        use strum::IntoEnumIterator;
        Self::iter().find(|market| market.feed_id() == id)
    }

    /// Every market type, in order of declaration.
    pub fn all() -> impl Iterator<Item = Self> {
        use strum::IntoEnumIterator;
        Self::iter()
    }

    /// The kebab-case name.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The outcomes in display order.
    pub const fn outcomes(self) -> &'static [Outcome] {
        match self {
            Self::MatchResult => MATCH_RESULT,
            Self::DoubleChance => DOUBLE_CHANCE,
            Self::DrawNoBet => DRAW_NO_BET,
            Self::AsianHandicap => HANDICAP,
            Self::TotalGoals | Self::HomeTotalGoals | Self::AwayTotalGoals => TOTAL,
            Self::OddEven => ODD_EVEN,
            Self::BothTeamsToScore => YES_NO,
            Self::CorrectScore => SCORES,
        }
    }

    /// The outcome of an id.
    pub fn outcome(self, id: &str) -> Option<&'static Outcome> {
        self.outcomes().iter().find(|outcome| outcome.id == id)
    }

    /// How many outcomes win together (k): fair probabilities sum to it.
    pub const fn winners(self) -> u32 {
        match self {
            Self::DoubleChance => 2,
            _ => 1,
        }
    }

    /// The specifier that each line of this type has, if any.
    pub const fn specifier(self) -> Option<Specifier> {
        match self {
            Self::TotalGoals | Self::HomeTotalGoals | Self::AwayTotalGoals => Some(Specifier::Total("total")),
            Self::AsianHandicap => Some(Specifier::Handicap("hcp")),
            _ => None,
        }
    }

    /// How the final score decides it.
    pub const fn settlement(self) -> SettlementRule {
        match self {
            Self::MatchResult => SettlementRule::Result,
            Self::DoubleChance => SettlementRule::TwoResults,
            Self::DrawNoBet => SettlementRule::DrawRefunds,
            Self::AsianHandicap => SettlementRule::Handicap,
            Self::TotalGoals => SettlementRule::Total { home: true, away: true },
            Self::HomeTotalGoals => SettlementRule::Total { home: true, away: false },
            Self::AwayTotalGoals => SettlementRule::Total { home: false, away: true },
            Self::OddEven => SettlementRule::Parity,
            Self::BothTeamsToScore => SettlementRule::BothScore,
            Self::CorrectScore => SettlementRule::Score,
        }
    }

    /// Whether the type exists for a sport (feed sport name, lower case).
    pub fn fits_sport(self, sport: &str) -> bool {
        sport == "soccer"
    }

    /// Checks specifiers against this type and reads the line's number.
    pub fn line(self, specifiers: &Specifiers) -> Result<Line, LineError> {
        let fail = |expected| LineError { market: self, specifiers: specifiers.to_string(), expected };
        let Some(specifier) = self.specifier() else {
            return if specifiers.is_empty() {
                Ok(Line::Only)
            } else {
                Err(fail("it has no specifiers, leave them empty"))
            };
        };
        let (signed, expected) = match specifier {
            Specifier::Total(_) => (false, "write \"total=2.5\": a number above 0 in steps of 0.25, no trailing zeros"),
            Specifier::Handicap(_) => {
                (true, "write \"hcp=-0.5\": a number in steps of 0.25, no trailing zeros, no plus")
            }
        };
        match (specifiers.get(specifier.key()).and_then(quarters), specifiers.iter().count()) {
            (Some(quarters), 1) if signed || quarters > 0 => Ok(Line::Quarters(quarters)),
            _ => Err(fail(expected)),
        }
    }

    /// The canonical specifiers of a line of this type; `None` where [`MarketType::line`] would refuse it.
    pub fn specifiers(self, line: Line) -> Option<Specifiers> {
        let specifiers = match (line, self.specifier()) {
            (Line::Only, None) => Specifiers::none(),
            (Line::Quarters(quarters), Some(specifier)) => {
                Specifiers::one(specifier.key(), &show_quarters(quarters)).ok()?
            }
            _ => return None,
        };
        self.line(&specifiers).is_ok().then_some(specifiers)
    }
}

/// Canonical text of a number of quarters: `10` is `2.5`, `-3` is `-0.75`, `8` is `2`.
fn show_quarters(quarters: i32) -> String {
    let sign = if quarters < 0 { "-" } else { "" };
    let decimals = match quarters.unsigned_abs() % 4 {
        1 => ".25",
        2 => ".5",
        3 => ".75",
        _ => "",
    };
    format!("{sign}{}{decimals}", quarters.unsigned_abs() / 4)
}

/// Quarters of a goal from canonical text; other spellings of the same number are refused, so that a line has one name.
fn quarters(text: &str) -> Option<i32> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || whole.len() > 3 || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = match decimals {
        "" => 0,
        "25" => 1,
        "5" => 2,
        "75" => 3,
        _ => return None,
    };
    let magnitude = whole.parse::<i32>().ok()? * 4 + part;
    let value = if text.starts_with('-') { -magnitude } else { magnitude };
    (show_quarters(value) == text).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;

    #[test]
    fn names_ids_and_outcomes_are_unique() {
        let names: BTreeSet<_> = MarketType::all().map(MarketType::name).collect();
        let ids: BTreeSet<_> = MarketType::all().map(MarketType::feed_id).collect();
        assert_eq!((names.len(), ids.len()), (10, 10));
        for market in MarketType::all() {
            let outcomes: BTreeSet<_> = market.outcomes().iter().map(|outcome| outcome.id).collect();
            assert_eq!(outcomes.len(), market.outcomes().len());
            assert!(usize::try_from(market.winners()).unwrap() < market.outcomes().len());
            assert_eq!(MarketType::of_feed_id(market.feed_id()), Some(market));
            assert_eq!(market.name().parse(), Ok(market));
            assert_eq!(serde_json::to_value(market).unwrap(), market.name());
        }
    }

    #[rstest]
    #[case(MarketType::TotalGoals, "total=2.5", Line::Quarters(10))]
    #[case(MarketType::TotalGoals, "total=3", Line::Quarters(12))]
    #[case(MarketType::HomeTotalGoals, "total=0.75", Line::Quarters(3))]
    #[case(MarketType::AsianHandicap, "hcp=-0.25", Line::Quarters(-1))]
    #[case(MarketType::AsianHandicap, "hcp=0", Line::Quarters(0))]
    #[case(MarketType::AsianHandicap, "hcp=1.75", Line::Quarters(7))]
    #[case(MarketType::MatchResult, "", Line::Only)]
    fn lines_have_one_spelling(#[case] market: MarketType, #[case] text: &str, #[case] line: Line) {
        let specifiers = Specifiers::parse(text).unwrap();
        assert_eq!(market.line(&specifiers), Ok(line));
        assert_eq!(market.specifiers(line), Some(specifiers));
    }

    #[rstest]
    #[case(MarketType::TotalGoals, "")]
    #[case(MarketType::TotalGoals, "total=2.50")]
    #[case(MarketType::TotalGoals, "total=02.5")]
    #[case(MarketType::TotalGoals, "total=2.3")]
    #[case(MarketType::TotalGoals, "total=0")]
    #[case(MarketType::TotalGoals, "total=-1")]
    #[case(MarketType::TotalGoals, "total=2.5|x=1")]
    #[case(MarketType::TotalGoals, "hcp=2.5")]
    #[case(MarketType::AsianHandicap, "hcp=-0")]
    #[case(MarketType::AsianHandicap, "hcp=+1")]
    #[case(MarketType::MatchResult, "total=2.5")]
    fn other_specifiers_are_refused(#[case] market: MarketType, #[case] text: &str) {
        assert!(market.line(&Specifiers::parse(text).unwrap()).is_err());
    }
}
