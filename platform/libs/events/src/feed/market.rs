//! Lines of an event: prices and suspension.

use paddock_odds::{Fixed, Odds, Specifiers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

use super::{FeedHead, SportEventStatus};

/// Status of a market. Bets are taken only on `active`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    Display,
    EnumString,
    IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum MarketStatus {
    /// 1: open for bets.
    Active,
    /// -1: shown, no bets.
    Suspended,
    /// 0: not shown; may return.
    Deactivated,
    /// -2: another producer owns the line from now on.
    HandedOver,
    /// -3: decided.
    Settled,
    /// -4: void.
    Cancelled,
}

/// Market and specifiers of a line within its event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LineName {
    /// Market id.
    pub market_id: u32,
    /// Canonical specifiers, empty if none.
    #[serde(default)]
    #[schemars(with = "String")]
    pub specifiers: Specifiers,
}

/// One outcome's price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedOutcome {
    /// Outcome id.
    pub id: String,
    /// Whether it may be bet on.
    pub active: bool,
    /// The feed's own odds, a decimal or fraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub odds: Option<Odds>,
    /// Probability without margin as a decimal; for lines that can refund, the effective one (1 / fair odds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub probability: Option<Fixed>,
}

/// A line's present state; it lists all its outcomes, or none if only the status changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedMarket {
    /// Which line.
    #[serde(flatten)]
    pub line: LineName,
    /// Status.
    pub status: MarketStatus,
    /// Outcomes.
    #[serde(default)]
    pub outcomes: Vec<FeedOutcome>,
}

/// Prices and state of an event; markets that are not listed are unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OddsChange {
    /// Who says it, about what, when.
    #[serde(flatten)]
    pub head: FeedHead,
    /// State of play, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sport_event_status: Option<SportEventStatus>,
    /// Lines.
    #[serde(default)]
    pub markets: Vec<FeedMarket>,
}

/// Every market of the groups takes another status at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BetStop {
    /// Who says it, about what, when.
    #[serde(flatten)]
    pub head: FeedHead,
    /// Market groups; `all` is every market.
    pub groups: Vec<String>,
    /// Status they take; suspended if the feed says nothing.
    pub market_status: MarketStatus,
}
