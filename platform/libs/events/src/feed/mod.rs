//! Topics `feed` and `feed.state`: the normalised feed, in the feed's own vocabulary.
//!
//! Timestamps are milliseconds since 1970 UTC by the producer's clock; they order messages of a line, arrival does not.

mod event;
mod market;
mod result;
mod state;

pub use event::{Clock, Competitor, EventStatus, Fixture, Named, Score, Side, SportEventStatus};
pub use market::{BetStop, FeedMarket, FeedOutcome, LineName, MarketStatus, OddsChange};
pub use result::{BetCancel, BetSettlement, MarketResult, OutcomeResult, RollbackBetCancel, RollbackBetSettlement};
pub use state::{FeedHeartbeat, FeedState, FeedStateMessage, ProducerScope, ProducerState};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use crate::{Body, LineKey, Topic};

/// What every message of a producer begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedHead {
    /// Producer.
    pub product: u32,
    /// Event URN.
    pub event_id: String,
    /// Producer's time, ms.
    pub timestamp: i64,
    /// The recovery that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<u64>,
}

/// What topic `feed` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, IntoStaticStr, VariantNames)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FeedMessage {
    /// Schedule.
    Fixture(Fixture),
    /// Prices.
    OddsChange(OddsChange),
    /// Suspension.
    BetStop(BetStop),
    /// Results.
    BetSettlement(BetSettlement),
    /// Undo of results.
    RollbackBetSettlement(RollbackBetSettlement),
    /// Void.
    BetCancel(BetCancel),
    /// Undo of void.
    RollbackBetCancel(RollbackBetCancel),
    /// Freshness.
    Heartbeat(FeedHeartbeat),
}

impl FeedMessage {
    /// Key of the feed's own heartbeats.
    pub const HEARTBEAT: &'static str = "heartbeat";

    /// What every message of a producer begins with; a heartbeat is the feed's own.
    pub const fn head(&self) -> Option<&FeedHead> {
        match self {
            Self::Fixture(it) => Some(&it.head),
            Self::OddsChange(it) => Some(&it.head),
            Self::BetStop(it) => Some(&it.head),
            Self::BetSettlement(it) => Some(&it.head),
            Self::RollbackBetSettlement(it) => Some(&it.head),
            Self::BetCancel(it) => Some(&it.head),
            Self::RollbackBetCancel(it) => Some(&it.head),
            Self::Heartbeat(_) => None,
        }
    }
}

impl Body for FeedMessage {
    const TOPIC: Topic = Topic::Feed;
    const TYPES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    /// The line if it is about one line only, else the event.
    fn key(&self) -> String {
        let Some(FeedHead { event_id, .. }) = self.head() else { return Self::HEARTBEAT.to_owned() };
        let lines: Vec<&LineName> = match self {
            Self::Fixture(_) | Self::BetStop(_) | Self::Heartbeat(_) => Vec::new(),
            Self::OddsChange(it) => it.markets.iter().map(|market| &market.line).collect(),
            Self::BetSettlement(it) => it.markets.iter().map(|market| &market.line).collect(),
            Self::RollbackBetSettlement(it) => it.lines.iter().collect(),
            Self::BetCancel(it) => it.lines.iter().collect(),
            Self::RollbackBetCancel(it) => it.lines.iter().collect(),
        };
        match lines.as_slice() {
            [line] => LineKey::new(event_id, line.market_id, line.specifiers.clone()).to_string(),
            _ => event_id.clone(),
        }
    }

    /// The event. Heartbeats go to every partition, so their writer names each.
    fn partition_key(&self) -> String {
        self.head().map_or_else(|| self.key(), |head| head.event_id.clone())
    }
}
