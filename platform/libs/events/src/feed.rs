//! Topics `feed` and `feed.state`: the normalised feed, in the feed's own vocabulary.
//!
//! Timestamps are milliseconds since 1970 UTC by the producer's clock; they order messages of a line, arrival does not.

use paddock_odds::{Factor, Fixed, Odds, Specifiers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Body, LineKey, Topic};

/// Status of a market. Bets are taken only on `active`.
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
    JsonSchema,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
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

/// Status of a sport event.
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
    JsonSchema,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SportEventStatus {
    /// Status.
    pub status: EventStatus,
    /// Score so far.
    pub score: Score,
    /// Clock while live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
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
    /// Producer.
    pub product: u32,
    /// Event URN.
    pub event_id: String,
    /// Producer's time, ms.
    pub timestamp: i64,
    /// The recovery that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<u64>,
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
    /// Producer.
    pub product: u32,
    /// Event URN.
    pub event_id: String,
    /// Producer's time, ms.
    pub timestamp: i64,
    /// The recovery that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<u64>,
    /// Market groups; `all` is every market.
    pub groups: Vec<String>,
    /// Status they take; suspended if the feed says nothing.
    pub market_status: MarketStatus,
}

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
    /// Producer.
    pub product: u32,
    /// Event URN.
    pub event_id: String,
    /// Producer's time, ms.
    pub timestamp: i64,
    /// The recovery that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<u64>,
    /// 1 live scouted, 2 confirmed.
    pub certainty: u8,
    /// Lines.
    pub markets: Vec<MarketResult>,
}

/// Undoes settlements that are older than it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackBetSettlement {
    /// Producer.
    pub product: u32,
    /// Event URN.
    pub event_id: String,
    /// Producer's time, ms.
    pub timestamp: i64,
    /// The recovery that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<u64>,
    /// Lines.
    pub lines: Vec<LineName>,
}

/// Voids bets placed in a range of time; an absent end is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BetCancel {
    /// Producer.
    pub product: u32,
    /// Event URN.
    pub event_id: String,
    /// Producer's time, ms.
    pub timestamp: i64,
    /// The recovery that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<u64>,
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
    /// Producer.
    pub product: u32,
    /// Event URN.
    pub event_id: String,
    /// Producer's time, ms.
    pub timestamp: i64,
    /// The recovery that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<u64>,
    /// Start of the range, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
    /// End of the range, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<i64>,
    /// Lines.
    pub lines: Vec<LineName>,
}

/// The schedule record of an event with its place in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fixture {
    /// Producer.
    pub product: u32,
    /// Event URN.
    pub event_id: String,
    /// Producer's time, ms.
    pub timestamp: i64,
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

/// What topic `feed` carries.
#[derive(
    Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr, strum::VariantNames,
)]
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
}

impl FeedMessage {
    /// The event it is about.
    pub fn event_id(&self) -> &str {
        match self {
            Self::Fixture(it) => &it.event_id,
            Self::OddsChange(it) => &it.event_id,
            Self::BetStop(it) => &it.event_id,
            Self::BetSettlement(it) => &it.event_id,
            Self::RollbackBetSettlement(it) => &it.event_id,
            Self::BetCancel(it) => &it.event_id,
            Self::RollbackBetCancel(it) => &it.event_id,
        }
    }

    /// The producer that sent it.
    pub const fn product(&self) -> u32 {
        match self {
            Self::Fixture(it) => it.product,
            Self::OddsChange(it) => it.product,
            Self::BetStop(it) => it.product,
            Self::BetSettlement(it) => it.product,
            Self::RollbackBetSettlement(it) => it.product,
            Self::BetCancel(it) => it.product,
            Self::RollbackBetCancel(it) => it.product,
        }
    }

    /// The producer's time, ms.
    pub const fn timestamp(&self) -> i64 {
        match self {
            Self::Fixture(it) => it.timestamp,
            Self::OddsChange(it) => it.timestamp,
            Self::BetStop(it) => it.timestamp,
            Self::BetSettlement(it) => it.timestamp,
            Self::RollbackBetSettlement(it) => it.timestamp,
            Self::BetCancel(it) => it.timestamp,
            Self::RollbackBetCancel(it) => it.timestamp,
        }
    }
}

impl Body for FeedMessage {
    const TOPIC: Topic = Topic::Feed;
    const TYPES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    /// The line if it is about one line only, else the event.
    fn key(&self) -> String {
        let lines: Vec<&LineName> = match self {
            Self::Fixture(_) | Self::BetStop(_) => Vec::new(),
            Self::OddsChange(it) => it.markets.iter().map(|market| &market.line).collect(),
            Self::BetSettlement(it) => it.markets.iter().map(|market| &market.line).collect(),
            Self::RollbackBetSettlement(it) => it.lines.iter().collect(),
            Self::BetCancel(it) => it.lines.iter().collect(),
            Self::RollbackBetCancel(it) => it.lines.iter().collect(),
        };
        match lines.as_slice() {
            [line] => LineKey::new(self.event_id(), line.market_id, line.specifiers.clone()).to_string(),
            _ => self.event_id().to_owned(),
        }
    }

    fn partition_key(&self) -> String {
        self.event_id().to_owned()
    }
}

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
