//! Results of lines, and what undoes them.

use paddock_odds::Factor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FeedHead, LineName};

/// Result of one outcome: multiplier of a leg = `v + (1 − v)·r·d·odds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeResult {
    /// Outcome id.
    pub id: String,
    /// r: won; `None` = undecided.
    pub won: Option<bool>,
    /// v: share of the stake that is returned.
    #[serde(default = "zero")]
    #[schemars(with = "String")]
    pub void_factor: Factor,
    /// d: places left / runners tied.
    #[serde(default = "one")]
    #[schemars(with = "String")]
    pub dead_heat_factor: Factor,
}

const fn zero() -> Factor {
    Factor::ZERO
}

const fn one() -> Factor {
    Factor::ONE
}

/// Results of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MarketResult {
    /// Which line.
    #[serde(flatten)]
    pub line: LineName,
    /// Why stakes are returned, as the feed numbers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_reason: Option<u32>,
    /// Outcomes.
    pub outcomes: Vec<OutcomeResult>,
}

/// Results of lines of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BetSettlement {
    /// Who says it, about what, when.
    #[serde(flatten)]
    pub head: FeedHead,
    /// 1 live scouted, 2 confirmed.
    pub certainty: u8,
    /// Lines.
    pub markets: Vec<MarketResult>,
}

/// Undoes settlements that are older than it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackBetSettlement {
    /// Who says it, about what, when.
    #[serde(flatten)]
    pub head: FeedHead,
    /// Lines.
    pub lines: Vec<LineName>,
}

/// Voids bets placed in a range of time; an absent end is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BetCancel {
    /// Who says it, about what, when.
    #[serde(flatten)]
    pub head: FeedHead,
    /// Bets placed at or after, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
    /// Bets placed before, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<i64>,
    /// Why, as the feed numbers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_reason: Option<u32>,
    /// Lines.
    pub lines: Vec<LineName>,
}

/// Undoes a cancel of the same range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackBetCancel {
    /// Who says it, about what, when.
    #[serde(flatten)]
    pub head: FeedHead,
    /// Start of the range, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
    /// End of the range, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<i64>,
    /// Lines.
    pub lines: Vec<LineName>,
}
