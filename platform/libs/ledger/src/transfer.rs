//! Transfers: the only way that balances change.

use paddock_money::Money;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AccountId, Reason};

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Kind {
    /// Moves money at once.
    Transfer {
        /// Account that is debited.
        debit: AccountId,
        /// Account that is credited.
        credit: AccountId,
        /// Amount above zero.
        amount: Money,
    },
    /// Holds money until it is posted, voided or expires.
    Hold {
        /// Account that is debited.
        debit: AccountId,
        /// Account that is credited.
        credit: AccountId,
        /// Amount above zero.
        amount: Money,
        /// Unix milliseconds from which the hold can only expire; none = it waits for a decision.
        expires_at: Option<i64>,
    },
    /// Moves a held amount, or a part of it; the rest is released.
    Post {
        /// The hold.
        hold: Uuid,
        /// The part; none = all.
        amount: Option<Money>,
    },
    /// Releases a hold.
    Void {
        /// The hold.
        hold: Uuid,
    },
}

/// An immutable transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Transfer {
    /// Made by the client; the same id is applied once.
    pub id: Uuid,
    /// What it does.
    #[serde(flatten)]
    pub kind: Kind,
    /// Why. A post or void has the reason of its hold.
    pub reason: Reason,
}

/// What became of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Status {
    /// A hold that waits.
    Pending,
    /// Money has moved.
    Posted,
    /// A hold that was released.
    Voided,
    /// A hold whose time ran out.
    Expired,
}
