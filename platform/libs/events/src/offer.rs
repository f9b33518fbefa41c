//! Topic `offer`: what can be bet on, at which price.
//!
//! A reader may take a bet on a line only while the offer is fresh: see [`crate::OfferFreshness`].

use paddock_odds::{Fixed, Odds, Specifiers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

use crate::{Body, Competitor, EventStatus, LineKey, MarketStatus, Named, Score, Topic};

/// Which terms of the market rule hold.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Display, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PricePhase {
    /// Before the kick-off.
    PreMatch,
    /// From the kick-off on.
    Live,
}

/// What keeps a line from being active; the first that applies, in this order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Display, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SuspendedBy {
    /// The feed's own status.
    Feed,
    /// Its producer, or all of the feed, is down.
    Producer,
    /// The event is not open.
    Event,
    /// A trader.
    Trader,
    /// The market rule, or that there is none.
    Rule,
    /// No safe price exists at the wanted margin.
    Price,
}

/// An outcome as offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfferOutcome {
    /// Outcome id as in the feed.
    pub id: String,
    /// Name with the competitors and the line's number filled in.
    pub name: String,
    /// Whether it may be bet on; never without odds.
    pub active: bool,
    /// Offered odds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub odds: Option<Odds>,
    /// Probability without margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub probability: Option<Fixed>,
}

/// Where a price comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriceSource {
    /// Producer.
    pub product: u32,
    /// Producer's time of the last change, ms.
    pub timestamp: i64,
    /// Partition of topic `feed`: which heartbeats keep this line fresh.
    pub feed_partition: i32,
    /// Offset in that partition of the last change.
    pub feed_offset: i64,
    /// Market rule, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Generation of the market book that it was priced with.
    pub book_generation: u64,
}

/// A line with its whole present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfferLine {
    /// Event URN.
    pub event_id: String,
    /// Market id as in the feed.
    pub market_id: u32,
    /// Market type name: `total-goals`.
    pub market_type: String,
    /// Canonical specifiers, empty if none.
    #[serde(default)]
    #[schemars(with = "String")]
    pub specifiers: Specifiers,
    /// Rises with each change of the line; a lower one than already seen is old.
    pub sequence: i64,
    /// Effective status: the most restrictive of feed, producer, event, trader and rule.
    pub status: MarketStatus,
    /// What keeps it from being active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_by: Option<SuspendedBy>,
    /// Which terms hold.
    pub phase: PricePhase,
    /// All outcomes.
    pub outcomes: Vec<OfferOutcome>,
    /// Provenance.
    pub source: PriceSource,
}

impl OfferLine {
    /// The line.
    pub fn line_key(&self) -> LineKey {
        LineKey::new(&self.event_id, self.market_id, self.specifiers.clone())
    }

    /// An outcome by id.
    pub fn outcome(&self, id: &str) -> Option<&OfferOutcome> {
        self.outcomes.iter().find(|outcome| outcome.id == id)
    }
}

/// An event of the catalogue with its state of play.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogueEvent {
    /// Event URN.
    pub event_id: String,
    /// Rises with each change of the event; a lower one than already seen is old.
    pub sequence: i64,
    /// Sport.
    pub sport: Named,
    /// Category.
    pub category: Named,
    /// Tournament.
    pub tournament: Named,
    /// Who plays, home first.
    pub competitors: Vec<Competitor>,
    /// Kick-off, ms since 1970 UTC.
    pub start_time: i64,
    /// Status.
    pub status: EventStatus,
    /// Score so far.
    pub score: Score,
    /// Minutes played, while live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minute: Option<u16>,
}

/// Each second and on every partition: all changes of these feed partitions up to `at` stand before it in this partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfferHeartbeat {
    /// Partitions of topic `feed` that the writer has read that far.
    pub feed_partitions: Vec<i32>,
    /// The newest heartbeat of the feed in them, ms since 1970 UTC; not when this was written.
    pub at: i64,
    /// Generation of the market book in force at the writer.
    pub book_generation: u64,
}

/// What topic `offer` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::VariantNames)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OfferMessage {
    /// A line.
    Line(OfferLine),
    /// An event.
    Event(CatalogueEvent),
    /// Freshness.
    Heartbeat(OfferHeartbeat),
}

impl Body for OfferMessage {
    const TOPIC: Topic = Topic::Offer;
    const TYPES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    fn key(&self) -> String {
        match self {
            Self::Line(line) => line.line_key().to_string(),
            Self::Event(event) => event.event_id.clone(),
            Self::Heartbeat(beat) => format!("heartbeat|{}", beat.feed_partitions.first().copied().unwrap_or(-1)),
        }
    }

    /// The event. Heartbeats go to every partition, so their writer names each.
    fn partition_key(&self) -> String {
        match self {
            Self::Line(line) => line.event_id.clone(),
            Self::Event(event) => event.event_id.clone(),
            Self::Heartbeat(_) => self.key(),
        }
    }
}
