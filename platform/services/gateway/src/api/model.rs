//! Bodies of the public API that the gateway itself reads or writes, and those that it describes. Amounts and odds are
//! strings: no client has to trust a floating-point number.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Who wants to become a customer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Registration {
    /// Address.
    #[schema(example = "ann@example.com")]
    email: String,
    /// 8 to 256 characters.
    #[schema(format = Password)]
    password: String,
    /// Full name.
    name: String,
    /// `YYYY-MM-DD`; at least 18 years ago.
    #[schema(example = "1990-01-31")]
    birth_date: String,
    /// ISO 3166-1 alpha-2.
    #[schema(example = "GB")]
    country: String,
    /// ISO 4217, one that the brand offers.
    #[schema(example = "EUR")]
    currency: String,
}

/// A new customer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Registered {
    customer_id: Uuid,
}

/// A log-in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LogIn {
    /// Address, in any case.
    pub(super) email: String,
    /// Password.
    #[schema(format = Password)]
    pub(super) password: String,
    /// Name of the device, if the client has one.
    #[serde(default)]
    pub(super) device_id: String,
}

/// A new session.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Opened {
    /// Opaque; send it as a bearer token.
    token: String,
    customer_id: Uuid,
    /// RFC 3339.
    expires_at: String,
}

/// The session of the request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Current {
    pub(super) customer_id: Uuid,
    pub(super) currency: String,
    pub(super) country: String,
    /// Only `active` may bet.
    pub(super) state: String,
}

/// A customer's money.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Wallets {
    /// Sequence of the newest entry that the figures contain.
    sequence: i64,
    wallets: Vec<Wallet>,
}

/// Money in one currency.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wallet {
    currency: String,
    /// Can be bet.
    #[schema(example = "15.00")]
    available: String,
    /// Undecided tickets.
    held: String,
    /// Open bets.
    at_stake: String,
}

/// Entries, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entries {
    entries: Vec<Entry>,
    /// `cursor` of the next page; absent on the last.
    next_cursor: Option<String>,
}

/// An entry of the ledger.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    id: Uuid,
    sequence: i64,
    transfer_id: Uuid,
    /// `hold`, `post`, `void`, `transfer`.
    kind: String,
    /// Why.
    reason: String,
    /// Debited account.
    from: String,
    /// Credited account.
    to: String,
    currency: String,
    amount: String,
    /// Signed: what the entry did to `available`.
    change: String,
    booked_at: String,
}

/// A ticket to be placed. All bets or none.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TicketRequest {
    #[schema(example = "EUR")]
    currency: String,
    /// `cash`.
    funds: Option<String>,
    /// `none`: any other price refuses. `higher`: a better one is taken. `any`: the current one is.
    odds_change: Option<String>,
    bets: Vec<BetRequest>,
}

/// A bet.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BetRequest {
    /// `single`, `accumulator`, `system`; what is offered is said by the answer.
    #[serde(rename = "type")]
    #[schema(example = "single")]
    kind: String,
    system_sizes: Option<Vec<u32>>,
    each_way: Option<bool>,
    #[schema(example = "5.00")]
    stake: String,
    /// `bet` or `line`.
    stake_per: Option<String>,
    selections: Vec<SelectionRequest>,
}

/// A leg.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SelectionRequest {
    event_id: String,
    market_id: u32,
    /// One canonical string, keys sorted; empty if the market has none.
    #[schema(example = "total=2.5")]
    specifiers: Option<String>,
    outcome_id: String,
    /// The price that the customer saw.
    #[schema(example = "2.10")]
    odds: String,
    banker: Option<bool>,
}

/// A page of tickets, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Tickets {
    tickets: Vec<Ticket>,
    /// `cursor` of the next page; `null` on the last.
    next: Option<Uuid>,
}

/// A ticket in its present state. What does not apply is absent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[allow(clippy::struct_field_names, reason = "the names are the API's")]
#[serde(rename_all = "camelCase")]
pub(super) struct Ticket {
    ticket_id: Uuid,
    /// `pending`, `accepted`, `rejected`; later `settled`, or `cancelled` if all of it was void. A settlement that is undone leads back
    /// to `accepted`.
    status: String,
    /// Why it was refused.
    code: Option<String>,
    #[schema(example = "EUR")]
    currency: String,
    total_stake: String,
    potential_payout: String,
    /// When the request came, ms since 1970 UTC.
    received_at: i64,
    /// When it was accepted, ms since 1970 UTC.
    placed_at: Option<i64>,
    /// Names the record of the decision.
    certificate_id: Option<Uuid>,
    bets: Vec<Bet>,
    /// What the decision was made from; only of one ticket, not in lists. Its members may change.
    #[schema(value_type = Option<Object>)]
    certificate: Option<serde_json::Value>,
}

/// A bet of a ticket.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[allow(clippy::struct_field_names, reason = "the names are the API's")]
#[serde(rename_all = "camelCase")]
pub(super) struct Bet {
    bet_id: Uuid,
    /// `single`.
    #[serde(rename = "type")]
    kind: String,
    /// Why it was refused.
    code: Option<String>,
    /// Combinations.
    lines: u32,
    stake: String,
    potential_payout: String,
    /// Counts settlements of the bet; 0: never settled.
    settlement_version: u32,
    /// Paid by the settlement in force; absent while the bet is open.
    payout: Option<String>,
    selections: Vec<Selection>,
    /// How the payout came to be, step by step; only of one ticket, not in lists. Its members may change.
    #[schema(value_type = Option<Object>)]
    proof: Option<serde_json::Value>,
}

/// A leg of a bet.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Selection {
    event_id: String,
    market_id: u32,
    /// Empty if the market has none.
    specifiers: String,
    outcome_id: String,
    /// Odds that it is or would be placed at.
    odds: String,
    /// Stands in every combination of a system.
    banker: bool,
    /// Why this leg was refused.
    code: Option<String>,
    /// `open`, `won`, `lost`, `void`, `half-won`, `half-lost`, once settlement has spoken.
    result: Option<String>,
}
