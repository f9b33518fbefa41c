//! Topic `tickets`: every state a ticket takes.
//!
//! `ticket_decided` is written by calculations (acceptance), `ticket_settled` by settlement. Amounts are decimal strings in
//! the ticket's currency.

use paddock_odds::{Odds, Specifiers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Body, Topic};

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// `web`, `mobile`, `partner`, `retail`.
    #[serde(default)]
    pub channel: String,
    /// Address of the client.
    #[serde(default)]
    pub ip: String,
    /// ISO 3166-1 alpha-2, upper case; empty = unknown.
    #[serde(default)]
    pub country: String,
    /// Device.
    #[serde(default)]
    pub device_id: String,
    /// Session.
    #[serde(default)]
    pub session_id: String,
}

/// A leg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TicketSelection {
    /// Event URN.
    pub event_id: String,
    /// Market id as in the feed.
    pub market_id: u32,
    /// Canonical specifiers.
    #[serde(default)]
    #[schemars(with = "String")]
    pub specifiers: Specifiers,
    /// Outcome id.
    pub outcome_id: String,
    /// Odds it is or would be placed at.
    #[schemars(with = "String")]
    pub odds: Odds,
    /// Stands in every line of a system.
    #[serde(default)]
    pub banker: bool,
    /// Why this leg was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// `open`, `won`, `lost`, `void`, `half-won`, `half-lost`, once settlement has spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// A bet of a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TicketBet {
    /// Bet.
    #[schemars(with = "String")]
    pub bet_id: Uuid,
    /// `single`, `accumulator`, `system`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Number of combinations.
    pub lines: u32,
    /// Stake of the whole bet.
    pub stake: String,
    /// Payout if everything wins.
    pub potential_payout: String,
    /// Counts settlements of the bet; 0 = open.
    #[serde(default)]
    pub settlement_version: u32,
    /// Paid out by the settlement in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout: Option<String>,
    /// Legs.
    pub selections: Vec<TicketSelection>,
}

/// A ticket with its whole present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TicketState {
    /// Ticket.
    #[schemars(with = "String")]
    pub ticket_id: Uuid,
    /// Customer.
    #[schemars(with = "String")]
    pub customer_id: Uuid,
    /// Counts the ticket's states from 1; a lower one than already seen is old.
    pub sequence: i64,
    /// `received`, `pending_delay`, `accepted`, `rejected`, `reoffered`, `settled`, `cancelled`, `cashed_out`, `rolled_back`.
    pub status: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// ISO 4217.
    pub currency: String,
    /// Sum of stakes.
    pub total_stake: String,
    /// Sum of potential payouts.
    pub potential_payout: String,
    /// When the request arrived, ms, database clock.
    pub received_at: i64,
    /// When it was accepted, ms, database clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed_at: Option<i64>,
    /// Bets.
    pub bets: Vec<TicketBet>,
    /// Where the request came from.
    #[serde(default)]
    pub context: Context,
}

/// What topic `tickets` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::VariantNames)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TicketMessage {
    /// A step of acceptance; written by calculations.
    TicketDecided(TicketState),
    /// A settlement, cancel or rollback; written by settlement.
    TicketSettled(TicketState),
}

impl TicketMessage {
    /// The ticket.
    pub const fn ticket(&self) -> &TicketState {
        match self {
            Self::TicketDecided(ticket) | Self::TicketSettled(ticket) => ticket,
        }
    }
}

impl Body for TicketMessage {
    const TOPIC: Topic = Topic::Tickets;
    const TYPES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    fn key(&self) -> String {
        self.ticket().customer_id.to_string()
    }

    fn partition_key(&self) -> String {
        self.key()
    }
}
