//! The ledger as a state machine in memory: the oracle for durable implementations.

use std::collections::BTreeMap;

use paddock_money::{Currency, Money};
use uuid::Uuid;

use crate::{Account, AccountId, Balances, Kind, Limit, Status, Transfer, TransferError};

/// What applying a transfer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was new.
    Created(Status),
    /// The same transfer was applied before; this is its present state.
    Exists(Status),
}

/// A hold's or transfer's accounts and amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Movement {
    debit: AccountId,
    credit: AccountId,
    amount: Money,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    transfer: Transfer,
    movement: Movement,
    status: Status,
}

/// Accounts and transfers of one environment, all currencies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    accounts: BTreeMap<(Currency, AccountId), Balances>,
    transfers: BTreeMap<Uuid, Record>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// An account; one that nothing was booked on is empty.
    pub fn account(&self, id: AccountId, currency: Currency) -> Account {
        Account { id, currency, balances: self.accounts.get(&(currency, id)).copied().unwrap_or_default() }
    }

    /// Every account that something was booked on.
    pub fn accounts(&self) -> impl Iterator<Item = Account> {
        self.accounts.iter().map(|((currency, id), balances)| Account {
            id: *id,
            currency: *currency,
            balances: *balances,
        })
    }

    /// A transfer and its present state.
    pub fn transfer(&self, id: Uuid) -> Option<(Transfer, Status)> {
        self.transfers.get(&id).map(|record| (record.transfer, record.status))
    }

    /// Applies one transfer at a time (Unix milliseconds). Repeating it gives [`Applied::Exists`]; a refusal changes nothing
    /// and is not remembered.
    pub fn apply(&mut self, transfer: Transfer, now: i64) -> Result<Applied, TransferError> {
        if let Some(known) = self.transfers.get(&transfer.id) {
            let same = known.transfer == transfer;
            return if same { Ok(Applied::Exists(known.status)) } else { Err(TransferError::IdReused(transfer.id)) };
        }
        match transfer.kind {
            Kind::Transfer { debit, credit, amount } => {
                let movement = checked(transfer, debit, credit, amount)?;
                self.book(&movement, |debit, credit| {
                    (debit.debits_posted, credit.credits_posted) = (amount.minor(), amount.minor());
                })?;
                Ok(self.remember(transfer, movement, Status::Posted))
            }
            Kind::Hold { debit, credit, amount, .. } => {
                let movement = checked(transfer, debit, credit, amount)?;
                self.book(&movement, |debit, credit| {
                    (debit.debits_pending, credit.credits_pending) = (amount.minor(), amount.minor());
                })?;
                Ok(self.remember(transfer, movement, Status::Pending))
            }
            Kind::Post { hold, amount } => {
                let held = self.open_hold(hold, transfer, now)?;
                let part = amount.unwrap_or(held.amount);
                if part.currency() != held.amount.currency() || part.minor() > held.amount.minor() {
                    return Err(TransferError::ExceedsHold);
                }
                if !part.is_positive() {
                    return Err(TransferError::NotPositive);
                }
                let (released, moved) = (-held.amount.minor(), part.minor());
                self.book(&held, |debit, credit| {
                    (debit.debits_pending, debit.debits_posted) = (released, moved);
                    (credit.credits_pending, credit.credits_posted) = (released, moved);
                })?;
                self.resolve(hold, Status::Posted);
                Ok(self.remember(transfer, Movement { amount: part, ..held }, Status::Posted))
            }
            Kind::Void { hold } => {
                let held = self.open_hold(hold, transfer, now)?;
                self.release(&held)?;
                self.resolve(hold, Status::Voided);
                Ok(self.remember(transfer, held, Status::Voided))
            }
        }
    }

    /// Applies a linked chain as a whole: if one transfer is refused, none is applied. The error names the refused one's place.
    pub fn apply_chain(&mut self, chain: &[Transfer], now: i64) -> Result<Vec<Applied>, (usize, TransferError)> {
        let mut trial = self.clone();
        let mut applied = Vec::with_capacity(chain.len());
        for (at, transfer) in chain.iter().enumerate() {
            applied.push(trial.apply(*transfer, now).map_err(|error| (at, error))?);
        }
        *self = trial;
        Ok(applied)
    }

    /// Expires the holds whose time has come, in order of their ids; returns them.
    pub fn expire(&mut self, now: i64) -> Vec<Uuid> {
        let due: Vec<(Uuid, Movement)> = self
            .transfers
            .iter()
            .filter(|(_, record)| record.status == Status::Pending && is_due(&record.transfer, now))
            .map(|(id, record)| (*id, record.movement))
            .collect();
        due.into_iter()
            .filter_map(|(id, held)| {
                self.release(&held).ok()?;
                self.resolve(id, Status::Expired);
                Some(id)
            })
            .collect()
    }

    /// Whether Σ debits = Σ credits per currency, posted and pending each, and every account keeps its limit (B1).
    pub fn is_balanced(&self) -> bool {
        let mut sums: BTreeMap<Currency, (i128, i128)> = BTreeMap::new();
        for ((currency, id), balances) in &self.accounts {
            let (posted, pending) = sums.entry(*currency).or_default();
            *posted += i128::from(balances.debits_posted) - i128::from(balances.credits_posted);
            *pending += i128::from(balances.debits_pending) - i128::from(balances.credits_pending);
            if !balances.keep(id.code().limit()) {
                return false;
            }
        }
        sums.values().all(|sums| *sums == (0, 0))
    }

    fn open_hold(&self, hold: Uuid, resolution: Transfer, now: i64) -> Result<Movement, TransferError> {
        let record = self.transfers.get(&hold).ok_or(TransferError::HoldNotFound(hold))?;
        if !matches!(record.transfer.kind, Kind::Hold { .. }) {
            return Err(TransferError::HoldNotFound(hold));
        }
        if record.transfer.reason != resolution.reason {
            return Err(TransferError::ReasonMismatch);
        }
        match record.status {
            Status::Pending if is_due(&record.transfer, now) => Err(TransferError::Expired(hold)),
            Status::Pending => Ok(record.movement),
            Status::Posted => Err(TransferError::AlreadyPosted(hold)),
            Status::Voided => Err(TransferError::AlreadyVoided(hold)),
            Status::Expired => Err(TransferError::Expired(hold)),
        }
    }

    fn release(&mut self, held: &Movement) -> Result<(), TransferError> {
        let released = -held.amount.minor();
        self.book(held, |debit, credit| (debit.debits_pending, credit.credits_pending) = (released, released))
    }

    fn resolve(&mut self, hold: Uuid, status: Status) {
        if let Some(record) = self.transfers.get_mut(&hold) {
            record.status = status;
        }
    }

    fn remember(&mut self, transfer: Transfer, movement: Movement, status: Status) -> Applied {
        self.transfers.insert(transfer.id, Record { transfer, movement, status });
        Applied::Created(status)
    }

    /// Adds changes to both accounts, or to none if a sum overflows or a limit would break.
    fn book(
        &mut self,
        movement: &Movement,
        change: impl FnOnce(&mut Balances, &mut Balances),
    ) -> Result<(), TransferError> {
        let currency = movement.amount.currency();
        let (mut debit_change, mut credit_change) = (Balances::default(), Balances::default());
        change(&mut debit_change, &mut credit_change);
        let after = |id: AccountId, change: &Balances| -> Result<Balances, TransferError> {
            let before = self.account(id, currency).balances;
            let add =
                |old: i64, more: i64| old.checked_add(more).filter(|sum| *sum >= 0).ok_or(TransferError::Overflow);
            Ok(Balances {
                debits_pending: add(before.debits_pending, change.debits_pending)?,
                debits_posted: add(before.debits_posted, change.debits_posted)?,
                credits_pending: add(before.credits_pending, change.credits_pending)?,
                credits_posted: add(before.credits_posted, change.credits_posted)?,
            })
        };
        let debit = after(movement.debit, &debit_change)?;
        let credit = after(movement.credit, &credit_change)?;
        if !debit.keep(movement.debit.code().limit()) {
            return Err(TransferError::InsufficientFunds);
        }
        if movement.credit.code().limit() == Limit::CreditsWithinDebits && !credit.keep(Limit::CreditsWithinDebits) {
            return Err(TransferError::ExceedsDebt);
        }
        self.accounts.insert((currency, movement.debit), debit);
        self.accounts.insert((currency, movement.credit), credit);
        Ok(())
    }
}

fn is_due(transfer: &Transfer, now: i64) -> bool {
    matches!(transfer.kind, Kind::Hold { expires_at: Some(at), .. } if at <= now)
}

fn checked(transfer: Transfer, debit: AccountId, credit: AccountId, amount: Money) -> Result<Movement, TransferError> {
    if !amount.is_positive() {
        return Err(TransferError::NotPositive);
    }
    if debit == credit {
        return Err(TransferError::SameAccount);
    }
    let one_customer = match (debit.customer(), credit.customer()) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    if !one_customer || !transfer.reason.allows(debit.code(), credit.code()) {
        return Err(TransferError::ReasonMismatch);
    }
    Ok(Movement { debit, credit, amount })
}
