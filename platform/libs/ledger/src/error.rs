//! Why a transfer is refused.

use uuid::Uuid;

/// What a caller can do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// The request is wrong and will always be.
    Invalid,
    /// The id was used for something else.
    Conflict,
    /// Balances or the hold's state forbid it now.
    Refused,
}

/// Why a transfer is refused; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The id belongs to a transfer with another body.
    #[error("transfer {0} exists with another body: use a new id for a new transfer")]
    IdReused(Uuid),
    /// Zero or less.
    #[error("the amount is not above zero: send a positive amount")]
    NotPositive,
    /// Debit and credit are one account.
    #[error("debit and credit are the same account: name two accounts")]
    SameAccount,
    /// The registry does not let money move this way for this reason.
    #[error("reason and accounts do not fit: see the registry of reasons for the allowed directions")]
    ReasonMismatch,
    /// The debited account has too little, holds included.
    #[error("insufficient funds: the available balance does not cover the amount")]
    InsufficientFunds,
    /// The credited account would be credited beyond what it is owed.
    #[error("the credit exceeds what the account is owed: lower the amount to the open debt")]
    ExceedsDebt,
    /// No hold has the id.
    #[error("hold {0} does not exist: create it first")]
    HoldNotFound(Uuid),
    /// The hold was posted before.
    #[error("hold {0} is already posted: move the money back with a new transfer")]
    AlreadyPosted(Uuid),
    /// The hold was voided before.
    #[error("hold {0} is already voided: make a new hold")]
    AlreadyVoided(Uuid),
    /// The hold expired.
    #[error("hold {0} has expired: make a new hold")]
    Expired(Uuid),
    /// More than is held, or another currency.
    #[error("the amount is not within the hold: post at most what is held, in its currency")]
    ExceedsHold,
    /// A sum would leave 64 bits.
    #[error("the account's sums would overflow: split the books into a new account")]
    Overflow,
    /// Another transfer of the linked chain failed; this one was not applied.
    #[error("another transfer of the chain was refused: see its error")]
    ChainFailed,
}

impl TransferError {
    /// What the caller can do.
    pub const fn category(&self) -> Category {
        match self {
            Self::IdReused(_) => Category::Conflict,
            Self::NotPositive | Self::SameAccount | Self::ReasonMismatch | Self::ExceedsHold => Category::Invalid,
            _ => Category::Refused,
        }
    }

    /// Stable code for APIs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::IdReused(_) => "idempotency-key-reused",
            Self::NotPositive => "amount-not-positive",
            Self::SameAccount => "same-account",
            Self::ReasonMismatch => "reason-mismatch",
            Self::InsufficientFunds => "insufficient-funds",
            Self::ExceedsDebt => "exceeds-debt",
            Self::HoldNotFound(_) => "hold-not-found",
            Self::AlreadyPosted(_) => "hold-already-posted",
            Self::AlreadyVoided(_) => "hold-already-voided",
            Self::Expired(_) => "hold-expired",
            Self::ExceedsHold => "exceeds-hold",
            Self::Overflow => "overflow",
            Self::ChainFailed => "chain-failed",
        }
    }
}
