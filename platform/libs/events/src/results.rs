//! Topic `results`: what became of each line.

use paddock_odds::Specifiers;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::{Body, LineKey, OutcomeResult, Topic};

/// Who decided a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Display, EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ResultOrigin {
    /// The feed.
    Feed,
    /// Staff; wins until it is lifted.
    Manual,
}

/// A live cancel: bets placed in the range are void, whatever the settlement says. An absent end is open.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelledRange {
    /// Placed at or after, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
    /// Placed before, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<i64>,
    /// Why, as the feed numbers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_reason: Option<u32>,
}

impl CancelledRange {
    /// Whether a bet placed then, ms, is void.
    pub fn covers(&self, placed_at: i64) -> bool {
        self.start_time.is_none_or(|start| placed_at >= start) && self.end_time.is_none_or(|end| placed_at < end)
    }
}

/// The result of a line as the set of its messages gives it (rule B4): the whole state, not a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LineResult {
    /// Event URN.
    pub event_id: String,
    /// Market id as in the feed.
    pub market_id: u32,
    /// Canonical specifiers, empty if none.
    #[serde(default)]
    #[schemars(with = "String")]
    pub specifiers: Specifiers,
    /// Rises with each change of the line's result; a lower one than already seen is old.
    pub sequence: i64,
    /// Who decided.
    pub origin: ResultOrigin,
    /// 1 live scouted, 2 confirmed; `None` = not settled, or rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certainty: Option<u8>,
    /// Producer's time of the settlement in force, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<i64>,
    /// Why stakes are returned, as the feed numbers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_reason: Option<u32>,
    /// Every outcome's result; empty if not settled.
    #[serde(default)]
    pub outcomes: Vec<OutcomeResult>,
    /// Cancels in force.
    #[serde(default)]
    pub cancels: Vec<CancelledRange>,
}

impl LineResult {
    /// The line.
    pub fn line_key(&self) -> LineKey {
        LineKey::new(&self.event_id, self.market_id, self.specifiers.clone())
    }

    /// Whether a bet placed then, ms, is void.
    pub fn is_cancelled(&self, placed_at: i64) -> bool {
        self.cancels.iter().any(|range| range.covers(placed_at))
    }
}

/// What topic `results` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::VariantNames)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ResultMessage {
    /// A line's result.
    LineResult(LineResult),
}

impl Body for ResultMessage {
    const TOPIC: Topic = Topic::Results;
    const TYPES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    fn key(&self) -> String {
        let Self::LineResult(result) = self;
        result.line_key().to_string()
    }

    fn partition_key(&self) -> String {
        let Self::LineResult(result) = self;
        result.event_id.clone()
    }
}
