//! Topic `ledger`: every entry of a customer's accounts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Body, Topic};

/// Side of an entry, as the customer's account sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntrySide {
    /// Money leaves the customer's account.
    Debit,
    /// Money comes to it.
    Credit,
}

/// One entry. Amounts are decimal strings in its currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// Entry.
    #[schemars(with = "String")]
    pub entry_id: Uuid,
    /// Counts a customer's entries from 1.
    pub sequence: i64,
    /// Transfer that it belongs to.
    #[schemars(with = "String")]
    pub transfer_id: Uuid,
    /// Customer.
    #[schemars(with = "String")]
    pub customer_id: Uuid,
    /// Account code: `player:cash`.
    pub account: String,
    /// Account code of the other side.
    pub counter_account: String,
    /// `hold`, `post`, `void`, `transfer`.
    pub kind: String,
    /// Reason code of the registry.
    pub reason: String,
    /// Debit or credit.
    pub side: EntrySide,
    /// ISO 4217.
    pub currency: String,
    /// Amount.
    pub amount: String,
    /// Wallet after the entry: can be spent.
    pub available: String,
    /// Wallet after the entry: undecided tickets.
    pub held: String,
    /// Wallet after the entry: open bets.
    pub at_stake: String,
    /// When it was booked, ms, database clock.
    pub booked_at: i64,
}

/// What topic `ledger` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::VariantNames)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LedgerMessage {
    /// An entry.
    LedgerEntry(LedgerEntry),
}

impl Body for LedgerMessage {
    const TOPIC: Topic = Topic::Ledger;
    const TYPES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    fn key(&self) -> String {
        let Self::LedgerEntry(entry) = self;
        entry.customer_id.to_string()
    }

    fn partition_key(&self) -> String {
        self.key()
    }
}
