//! Two-phase double-entry ledger: the pure model (rules B1, B2).
//!
//! Vocabulary and behaviour follow `TigerBeetle`'s data model: accounts with pending and posted debits and credits, immutable
//! transfers with ids made by the client, pending transfers that are posted (in part), voided or expire at most once, and
//! linked chains that are applied as a whole or not at all. [`Ledger`] is the in-memory machine that a durable implementation
//! is checked against; the chart of accounts ([`AccountCode`]) and the registry of reasons ([`Reason`]) are shared with it.

mod account;
mod chart;
mod error;
mod machine;
mod transfer;

pub use account::{Account, Balances, Limit};
pub use chart::{AccountCode, AccountId, AccountIdError, Reason};
pub use error::{Category, TransferError};
pub use machine::{Applied, Ledger};
pub use transfer::{Kind, Status, Transfer};
