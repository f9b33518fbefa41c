//! An event: its place in the catalogue, who plays, state of play.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

use super::FeedHead;

/// Status of a sport event.
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
pub enum EventStatus {
    /// 0.
    NotStarted,
    /// 1.
    Live,
    /// 2.
    Suspended,
    /// 3: play is over, results may still change.
    Ended,
    /// 4: results are final.
    Closed,
    /// 5.
    Cancelled,
    /// 6.
    Delayed,
    /// 7.
    Interrupted,
    /// 8.
    Postponed,
    /// 9.
    Abandoned,
}

impl EventStatus {
    /// Whether bets can be open on an event of this status.
    pub const fn takes_bets(self) -> bool {
        matches!(self, Self::NotStarted | Self::Live | Self::Delayed)
    }
}

/// Home or away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Listed first.
    Home,
    /// Listed second.
    Away,
}

/// A URN with its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// URN.
    pub id: String,
    /// Name in the feed's language.
    pub name: String,
}

/// Who plays.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Competitor {
    /// URN.
    pub id: String,
    /// Name in the feed's language.
    pub name: String,
    /// Which side.
    pub side: Side,
}

/// Goals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// Of the home side.
    pub home: u16,
    /// Of the away side.
    pub away: u16,
}

/// The match clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub struct Clock {
    /// Minutes played.
    pub minute: u16,
}

/// State of play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SportEventStatus {
    /// Status.
    pub status: EventStatus,
    /// Score so far.
    pub score: Score,
    /// Clock while live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
}

/// The schedule record of an event with its place in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fixture {
    /// Who says it, about what, when.
    #[serde(flatten)]
    pub head: FeedHead,
    /// Kick-off, ms.
    pub start_time: i64,
    /// Sport; its name in lower case is what market rules name.
    pub sport: Named,
    /// Category.
    pub category: Named,
    /// Tournament.
    pub tournament: Named,
    /// Who plays, home first.
    pub competitors: Vec<Competitor>,
    /// Status at that time.
    pub status: EventStatus,
}
