//! Kind Market: a standing rule of what is offered and on what terms.

use super::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

/// A Market is a standing rule for one sport and market type: what is offered, at which margin, with which limits. A market of
/// the feed without an Open rule is not offered. The narrowest selector wins.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "paddock.bet",
    version = "v1alpha1",
    kind = "Market",
    plural = "markets",
    singular = "market",
    shortname = "mkt",
    category = "betting",
    namespaced,
    status = "MarketStatus",
    derive = "PartialEq",
    doc = "A Market is a standing rule for one sport and market type: what is offered, at which margin, with which limits and delay.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("a Market's name has at most 63 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    printcolumn(name = "Sport", type_ = "string", json_path = ".spec.sport"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.marketType"),
    printcolumn(name = "Book", type_ = "integer", json_path = ".status.book.acknowledged", description = "market book generation that every pod enforces"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MarketSpec {
    /// Sport: a slug of the catalogue, for example `soccer`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub sport: String,
    /// Type of market, for example `match-result`.
    #[schemars(schema_with = "schema::market_type")]
    pub market_type: String,
    /// Lines, for example `total=2.5`. Absent means all. A list restricts the pre-match offer only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 3, max = 128), regex(pattern = "^[a-z0-9_]+=[^|=]+(\\|[a-z0-9_]+=[^|=]+)*$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub specifiers: Vec<String>,
    /// Narrows the rule to part of the sport.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<MarketSelector>,
    /// The bookmaker's margin.
    pub margin: Margin,
    /// Limits by currency. A currency without an entry is refused.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["currency".into()]))]
    pub limits: Vec<Limit>,
    /// How long an accepted bet waits before it is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bet_delay: Option<BetDelay>,
    /// Countries in which it is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geography: Option<Geography>,
    /// Open, Suspended (shown, no bets) or Closed (not offered; open bets still settle).
    #[serde(default)]
    pub state: MarketState,
}

/// Phase of an event.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display, IntoStaticStr,
)]
pub enum Phase {
    /// Before the start.
    PreMatch,
    /// While it is played.
    Live,
}

/// Part of a sport.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
pub struct MarketSelector {
    /// Categories: URNs or slugs of the catalogue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub categories: Vec<String>,
    /// Tournaments: URNs or slugs of the catalogue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub tournaments: Vec<String>,
    /// Phases. Absent means both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub phases: Vec<Phase>,
}

/// How margin is put on fair probabilities.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr)]
pub enum MarginMethod {
    /// Every price shrinks by the same factor.
    Multiplicative,
    /// Every probability grows by the same amount.
    Additive,
    /// Probabilities to a power: more on long shots. Never negative.
    Power,
    /// Odds ratio of each outcome grows by the same factor.
    OddsRatio,
    /// Shin's model of informed bettors.
    Shin,
}

/// Ladder of prices.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Display, IntoStaticStr)]
pub enum Ladder {
    /// 1.01 to 1000 in the ticks that exchanges use.
    #[default]
    Standard,
}

/// Margin of a rule.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Margin {
    /// Method. Power is the safe default choice.
    pub method: MarginMethod,
    /// Overround by phase: what the probabilities of a line's prices sum to, per winner, less 1. Between 0 and 0.5.
    pub overround: Overround,
    /// Ladder that prices are rounded down to.
    #[serde(default)]
    pub ladder: Ladder,
}

/// Overround: what the probabilities of a line's prices sum to, per winner, less 1. Between 0 and 0.5.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Overround {
    /// Before the match, for example `0.05`.
    #[schemars(length(max = 6), regex(pattern = "^0(\\.([0-4][0-9]{0,3}|50{0,3}))?$"))]
    pub pre_match: String,
    /// During the match, for example `0.07`.
    #[schemars(length(max = 6), regex(pattern = "^0(\\.([0-4][0-9]{0,3}|50{0,3}))?$"))]
    pub live: String,
}

/// Limits in one currency, decimal strings.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// ISO 4217 code.
    #[schemars(schema_with = "schema::currency")]
    pub currency: String,
    /// Smallest stake of a bet.
    #[schemars(schema_with = "schema::amount")]
    pub min_stake: String,
    /// Largest stake of a bet.
    #[schemars(schema_with = "schema::amount")]
    pub max_stake: String,
    /// Largest payout of a bet.
    #[schemars(schema_with = "schema::amount")]
    pub max_payout: String,
    /// Greatest net loss over all lines of this type on one event.
    #[schemars(schema_with = "schema::amount")]
    pub liability: String,
}

/// How long a bet waits before it is decided, by phase. At most 60s.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BetDelay {
    /// During the match. Default 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub live: Option<String>,
    /// Before the match. Default 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub pre_match: Option<String>,
}

/// Countries, ISO 3166 alpha-2 codes. Deny wins.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
pub struct Geography {
    /// Offered only here; empty means everywhere.
    #[serde(default)]
    #[schemars(length(max = 250), inner(regex(pattern = "^[A-Z]{2}$"), length(max = 2)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Vec<String>,
    /// Not offered here.
    #[serde(default)]
    #[schemars(length(max = 250), inner(regex(pattern = "^[A-Z]{2}$"), length(max = 2)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub deny: Vec<String>,
}

/// State of a rule.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Display, IntoStaticStr)]
pub enum MarketState {
    /// Offered.
    #[default]
    Open,
    /// Shown, no bets.
    Suspended,
    /// Not offered; open bets still settle.
    Closed,
}

/// What the operator found of a Market.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MarketStatus {
    /// The metadata.generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The market book that holds this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub book: Option<BookStatus>,
    /// Ready, Reconciling, Stalled, Accepted, Suspended.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Generations of the market book.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct BookStatus {
    /// Generation that holds the rule as written.
    pub generation: i64,
    /// Latest generation that every pod has acknowledged.
    pub acknowledged: i64,
}
