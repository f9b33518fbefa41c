//! The feed's heartbeats: with every producer's state on topic `feed.state`, and in every partition of topic `feed`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Body, Topic};

/// Which events a producer prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProducerScope {
    /// Before the kick-off.
    PreMatch,
    /// From the kick-off on.
    Live,
}

/// A producer as the feed sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProducerState {
    /// Producer id.
    pub product: u32,
    /// Name.
    pub name: String,
    /// What it prices.
    pub scope: ProducerScope,
    /// Whether its prices may be used; all its lines are suspended while it is not.
    pub up: bool,
    /// Why it is in this state.
    pub reason: String,
    /// Producer's time of the last alive received while up, ms: where a recovery starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover_from: Option<i64>,
}

/// Heartbeat of the feed; none for 3 s means that all producers are down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedState {
    /// When it was written, ms.
    pub at: i64,
    /// Every producer.
    pub producers: Vec<ProducerState>,
    /// The writer's last word: another instance may take over at once.
    #[serde(default)]
    pub leaving: bool,
}

/// Each second and in every partition of topic `feed`: everything that the feed said up to `at` stands before it in this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedHeartbeat {
    /// When it was written, ms since 1970 UTC by the feed's clock.
    pub at: i64,
}

/// What topic `feed.state` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::VariantNames)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FeedStateMessage {
    /// Heartbeat.
    FeedState(FeedState),
}

impl Body for FeedStateMessage {
    const TOPIC: Topic = Topic::FeedState;
    const TYPES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    fn key(&self) -> String {
        "feed".to_owned()
    }

    fn partition_key(&self) -> String {
        "feed".to_owned()
    }
}
