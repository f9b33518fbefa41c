//! What a transfer does to the books of one customer in one currency: pure, checked before anything is written.
//!
//! House accounts are kept in parts, one per customer, so every transfer concerns the books of exactly one customer.

use std::collections::BTreeMap;

use paddock_ledger::{AccountCode, Balances, Limit, Reason, TransferError};

/// How an entry moves its amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Phase {
    /// Becomes pending on both accounts.
    Hold,
    /// A pending amount is posted.
    Post,
    /// A pending amount is released.
    Void,
    /// Posted at once.
    Transfer,
}

/// One double entry: the same amount debited here and credited there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// How.
    pub phase: Phase,
    /// Debited account.
    pub debit: AccountCode,
    /// Credited account.
    pub credit: AccountCode,
    /// Minor units, above zero.
    pub amount: i64,
    /// Why.
    pub reason: Reason,
}

impl Entry {
    /// By how many minor units the entry changes what the customer can spend.
    pub const fn change(&self) -> i64 {
        let debits_cash = matches!(self.debit, AccountCode::PlayerCash);
        let credits_cash = matches!(self.credit, AccountCode::PlayerCash);
        match self.phase {
            Phase::Hold | Phase::Transfer if debits_cash => -self.amount,
            Phase::Void if debits_cash => self.amount,
            Phase::Post | Phase::Transfer if credits_cash => self.amount,
            Phase::Hold | Phase::Void | Phase::Post | Phase::Transfer => 0,
        }
    }
}

impl Entry {
    /// The customer's account of the entry, the account on its other side, and whether the first is the debited one. An
    /// entry between two house accounts is seen from the debited one.
    pub const fn seen_by_customer(&self) -> (AccountCode, AccountCode, bool) {
        let from_credit = !matches!(self.debit, AccountCode::PlayerCash)
            && (matches!(self.credit, AccountCode::PlayerCash) || (self.credit.is_player() && !self.debit.is_player()));
        if from_credit { (self.credit, self.debit, false) } else { (self.debit, self.credit, true) }
    }
}

/// A debited account, a credited account, an amount in minor units and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// Debited account.
    pub debit: AccountCode,
    /// Credited account.
    pub credit: AccountCode,
    /// Minor units.
    pub amount: i64,
    /// Why.
    pub reason: Reason,
}

/// The accounts of one customer in one currency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    accounts: BTreeMap<AccountCode, Balances>,
}

/// The entries that a transfer makes, in order, and the book after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// At least one.
    pub entries: Vec<Entry>,
    /// What holds afterwards.
    pub after: Book,
}

impl Book {
    /// A book of known balances; accounts that are not named are empty.
    pub fn new(accounts: impl IntoIterator<Item = (AccountCode, Balances)>) -> Self {
        Self { accounts: accounts.into_iter().collect() }
    }

    /// The balances of an account.
    pub fn balances(&self, code: AccountCode) -> Balances {
        self.accounts.get(&code).copied().unwrap_or_default()
    }

    /// Every account that something was booked on.
    pub fn accounts(&self) -> impl Iterator<Item = (AccountCode, Balances)> {
        self.accounts.iter().map(|(code, balances)| (*code, *balances))
    }

    /// What can be spent, in minor units.
    pub fn available(&self) -> i64 {
        let cash = self.balances(AccountCode::PlayerCash);
        cash.credits_posted - cash.debits_posted - cash.debits_pending
    }

    /// What waits for a decision.
    pub fn held(&self) -> i64 {
        self.balances(AccountCode::PlayerCash).debits_pending
    }

    /// Stakes of accepted bets that are not settled.
    pub fn at_stake(&self) -> i64 {
        let bets = self.balances(AccountCode::HouseBets);
        bets.credits_posted - bets.debits_posted
    }

    /// What the customer owes.
    pub fn owed(&self) -> i64 {
        let debt = self.balances(AccountCode::PlayerDebt);
        debt.debits_posted - debt.credits_posted
    }

    /// Books one entry, or refuses it and changes nothing.
    pub fn apply(&mut self, entry: Entry) -> Result<(), TransferError> {
        let mut debit = self.balances(entry.debit);
        let mut credit = self.balances(entry.credit);
        let (pending, posted) = match entry.phase {
            Phase::Hold => (entry.amount, 0),
            Phase::Post => (-entry.amount, entry.amount),
            Phase::Void => (-entry.amount, 0),
            Phase::Transfer => (0, entry.amount),
        };
        for (sum, change) in [
            (&mut debit.debits_pending, pending),
            (&mut debit.debits_posted, posted),
            (&mut credit.credits_pending, pending),
            (&mut credit.credits_posted, posted),
        ] {
            *sum = sum.checked_add(change).filter(|sum| *sum >= 0).ok_or(TransferError::Overflow)?;
        }
        if !debit.keep(entry.debit.limit()) {
            return Err(TransferError::InsufficientFunds);
        }
        if entry.credit.limit() == Limit::CreditsWithinDebits && !credit.keep(Limit::CreditsWithinDebits) {
            return Err(TransferError::ExceedsDebt);
        }
        self.accounts.insert(entry.debit, debit);
        self.accounts.insert(entry.credit, credit);
        Ok(())
    }

    /// Applies entries in order, then lets free money pay open debt, so that no customer ever has both: the balances after
    /// a set of settlements and rollbacks do not depend on their order (B4).
    fn plan(&self, entries: Vec<Entry>) -> Result<Plan, TransferError> {
        let mut plan = Plan { entries, after: self.clone() };
        for entry in &plan.entries {
            plan.after.apply(*entry)?;
        }
        let repaid = plan.after.owed().min(plan.after.available());
        if repaid > 0 {
            let entry = Entry {
                phase: Phase::Transfer,
                debit: AccountCode::PlayerCash,
                credit: AccountCode::PlayerDebt,
                amount: repaid,
                reason: Reason::DebtRepayment,
            };
            plan.after.apply(entry)?;
            plan.entries.push(entry);
        }
        Ok(plan)
    }
}

/// Where a hold for a reason takes money from and to; `None` if nothing is held for it.
pub const fn hold_route(reason: Reason) -> Option<(AccountCode, AccountCode)> {
    match reason {
        Reason::BetStake => Some((AccountCode::PlayerCash, AccountCode::HouseBets)),
        Reason::Withdrawal => Some((AccountCode::PlayerCash, AccountCode::HouseWithdrawals)),
        _ => None,
    }
}

/// Plans a hold.
pub fn hold(book: &Book, movement: Movement) -> Result<Plan, TransferError> {
    check(movement)?;
    book.plan(vec![entry(Phase::Hold, movement, movement.amount)])
}

/// Plans a transfer. A rollback takes what cash covers; the rest becomes debt.
pub fn transfer(book: &Book, movement: Movement) -> Result<Plan, TransferError> {
    check(movement)?;
    let may_owe = movement.reason == Reason::BetRollback && movement.debit == AccountCode::PlayerCash;
    let uncovered = movement.amount - movement.amount.min(book.available().max(0));
    if !may_owe || uncovered == 0 {
        return book.plan(vec![entry(Phase::Transfer, movement, movement.amount)]);
    }
    let owed = Movement { debit: AccountCode::PlayerDebt, reason: Reason::Debt, ..movement };
    let mut entries = vec![entry(Phase::Transfer, owed, uncovered)];
    if movement.amount > uncovered {
        entries.insert(0, entry(Phase::Transfer, movement, movement.amount - uncovered));
    }
    book.plan(entries)
}

/// Plans the posting of a hold, whole or in part; the rest is released.
pub fn post(book: &Book, held: Movement, part: Option<i64>) -> Result<Plan, TransferError> {
    let part = part.unwrap_or(held.amount);
    if part > held.amount {
        return Err(TransferError::ExceedsHold);
    }
    if part <= 0 {
        return Err(TransferError::NotPositive);
    }
    let mut entries = vec![entry(Phase::Post, held, part)];
    if part < held.amount {
        entries.push(entry(Phase::Void, held, held.amount - part));
    }
    book.plan(entries)
}

/// Plans the release of a hold.
pub fn void(book: &Book, held: Movement) -> Result<Plan, TransferError> {
    book.plan(vec![entry(Phase::Void, held, held.amount)])
}

const fn entry(phase: Phase, movement: Movement, amount: i64) -> Entry {
    Entry { phase, debit: movement.debit, credit: movement.credit, amount, reason: movement.reason }
}

fn check(movement: Movement) -> Result<(), TransferError> {
    if movement.amount <= 0 {
        return Err(TransferError::NotPositive);
    }
    if movement.debit == movement.credit {
        return Err(TransferError::SameAccount);
    }
    if !movement.reason.allows(movement.debit, movement.credit) {
        return Err(TransferError::ReasonMismatch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use AccountCode::{HouseBets, HouseCashier, HousePnl, PlayerCash};

    use super::*;

    fn with_cash(amount: i64) -> Book {
        transfer(
            &Book::default(),
            Movement { debit: HouseCashier, credit: PlayerCash, amount, reason: Reason::CashierCredit },
        )
        .unwrap()
        .after
    }

    const fn stake(amount: i64) -> Movement {
        Movement { debit: PlayerCash, credit: HouseBets, amount, reason: Reason::BetStake }
    }

    const fn win(amount: i64) -> Movement {
        Movement { debit: HousePnl, credit: PlayerCash, amount, reason: Reason::BetWin }
    }

    const fn undo_win(amount: i64) -> Movement {
        Movement { debit: PlayerCash, credit: HousePnl, amount, reason: Reason::BetRollback }
    }

    #[test]
    fn a_hold_takes_from_available_at_once() {
        let held = hold(&with_cash(100), stake(60)).unwrap().after;
        assert_eq!((held.available(), held.held(), held.at_stake()), (40, 60, 0));
        assert_eq!(hold(&held, stake(41)), Err(TransferError::InsufficientFunds));
        let posted = post(&held, stake(60), Some(50)).unwrap();
        assert_eq!((posted.after.available(), posted.after.held(), posted.after.at_stake()), (50, 0, 50));
        assert_eq!(posted.entries.iter().map(Entry::change).sum::<i64>(), 10);
        let voided = void(&held, stake(60)).unwrap().after;
        assert_eq!((voided.available(), voided.held(), voided.at_stake()), (100, 0, 0));
    }

    #[test]
    fn what_a_rollback_cannot_take_becomes_debt() {
        let plan = transfer(&with_cash(30), undo_win(50)).unwrap();
        assert_eq!((plan.after.available(), plan.after.owed()), (0, 20));
        assert_eq!(plan.entries.len(), 2);
        let later = transfer(&plan.after, win(50)).unwrap();
        assert_eq!((later.after.available(), later.after.owed()), (30, 0));
    }

    #[test]
    fn order_of_win_and_rollback_does_not_matter() {
        let wins_first = transfer(&transfer(&with_cash(10), win(50)).unwrap().after, undo_win(50)).unwrap().after;
        let rollback_first = transfer(&transfer(&with_cash(10), undo_win(50)).unwrap().after, win(50)).unwrap().after;
        assert_eq!((wins_first.available(), wins_first.owed()), (10, 0));
        assert_eq!((rollback_first.available(), rollback_first.owed()), (10, 0));
    }

    #[test]
    fn a_released_hold_pays_debt() {
        let held = hold(&with_cash(10), stake(10)).unwrap().after;
        let owing = transfer(&held, undo_win(4)).unwrap().after;
        assert_eq!((owing.available(), owing.owed()), (0, 4));
        let released = void(&owing, stake(10)).unwrap().after;
        assert_eq!((released.available(), released.owed()), (6, 0));
    }

    #[test]
    fn refuses_wrong_directions_and_amounts() {
        let book = with_cash(100);
        assert_eq!(hold(&book, stake(0)), Err(TransferError::NotPositive));
        assert_eq!(hold(&book, stake(-1)), Err(TransferError::NotPositive));
        let backwards = Movement { debit: HouseBets, credit: PlayerCash, amount: 1, reason: Reason::BetStake };
        assert_eq!(transfer(&book, backwards), Err(TransferError::ReasonMismatch));
        assert_eq!(post(&book, stake(5), Some(6)), Err(TransferError::ExceedsHold));
        assert_eq!(post(&book, stake(5), Some(0)), Err(TransferError::NotPositive));
    }
}
