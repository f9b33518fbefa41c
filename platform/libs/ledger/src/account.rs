//! An account's balances.

use paddock_money::{Currency, Money, MoneyError};

use crate::AccountId;

/// Which balance an account must keep. Pending amounts of the limited side count, those of the other side do not (B1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// None.
    None,
    /// debits posted + debits pending ≤ credits posted.
    DebitsWithinCredits,
    /// credits posted + credits pending ≤ debits posted.
    CreditsWithinDebits,
}

/// The four sums of an account, in minor units; none is ever negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Balances {
    /// Debits of pending transfers.
    pub debits_pending: i64,
    /// Debits of posted transfers.
    pub debits_posted: i64,
    /// Credits of pending transfers.
    pub credits_pending: i64,
    /// Credits of posted transfers.
    pub credits_posted: i64,
}

impl Balances {
    /// Whether the balances keep a limit.
    pub const fn keep(&self, limit: Limit) -> bool {
        let debits = self.debits_posted as i128 + self.debits_pending as i128;
        let credits = self.credits_posted as i128 + self.credits_pending as i128;
        match limit {
            Limit::None => true,
            Limit::DebitsWithinCredits => debits <= self.credits_posted as i128,
            Limit::CreditsWithinDebits => credits <= self.debits_posted as i128,
        }
    }
}

/// An account of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Which.
    pub id: AccountId,
    /// Its ledger.
    pub currency: Currency,
    /// Its sums.
    pub balances: Balances,
}

impl Account {
    /// An account without entries.
    pub const fn empty(id: AccountId, currency: Currency) -> Self {
        let balances = Balances { debits_pending: 0, debits_posted: 0, credits_pending: 0, credits_posted: 0 };
        Self { id, currency, balances }
    }

    /// What can be debited: credits posted − debits posted − debits pending. Never below zero for a customer's cash.
    pub fn available(&self) -> Result<Money, MoneyError> {
        let money = |minor| Money::from_minor(minor, self.currency);
        money(self.balances.credits_posted)
            .checked_sub(money(self.balances.debits_posted))?
            .checked_sub(money(self.balances.debits_pending))
    }

    /// What is held by pending debits.
    pub const fn held(&self) -> Money {
        Money::from_minor(self.balances.debits_pending, self.currency)
    }
}
