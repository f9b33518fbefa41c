//! The machine keeps the books balanced, applies every transfer once and resolves every hold at most once (B1, B2).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helper functions of tests are tests too

use paddock_ledger::{AccountCode, AccountId, Applied, Kind, Ledger, Reason, Status, Transfer, TransferError};
use paddock_money::{Currency, Money};
use proptest::prelude::*;
use uuid::Uuid;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn customer() -> Uuid {
    id(1_000)
}

fn cash() -> AccountId {
    AccountId::cash(customer())
}

fn euro(minor: i64) -> Money {
    Money::from_minor(minor, Currency::EUR)
}

fn credit(number: u128, minor: i64) -> Transfer {
    let kind = Kind::Transfer { debit: AccountId::HOUSE_CASHIER, credit: cash(), amount: euro(minor) };
    Transfer { id: id(number), kind, reason: Reason::CashierCredit }
}

fn hold(number: u128, minor: i64, expires_at: Option<i64>) -> Transfer {
    let kind = Kind::Hold { debit: cash(), credit: AccountId::HOUSE_BETS, amount: euro(minor), expires_at };
    Transfer { id: id(number), kind, reason: Reason::BetStake }
}

fn post(number: u128, hold: u128, part: Option<i64>) -> Transfer {
    let kind = Kind::Post { hold: id(hold), amount: part.map(euro) };
    Transfer { id: id(number), kind, reason: Reason::BetStake }
}

fn void(number: u128, hold: u128) -> Transfer {
    Transfer { id: id(number), kind: Kind::Void { hold: id(hold) }, reason: Reason::BetStake }
}

fn available(ledger: &Ledger) -> i64 {
    ledger.account(cash(), Currency::EUR).available().unwrap().minor()
}

fn in_escrow(ledger: &Ledger) -> (i64, i64) {
    let balances = ledger.account(AccountId::HOUSE_BETS, Currency::EUR).balances;
    (balances.credits_pending, balances.credits_posted - balances.debits_posted)
}

/// A single transfer and holds of 15, 15, 15 (1 s), 7, 1, 1 on an account of 100, resolved in every way.
#[test]
fn holds_are_posted_voided_or_expire() {
    let mut ledger = Ledger::new();
    ledger.apply(credit(1, 100), 0).unwrap();
    let stake = Kind::Transfer { debit: cash(), credit: AccountId::HOUSE_BETS, amount: euro(15) };
    ledger.apply(Transfer { id: id(2), kind: stake, reason: Reason::BetStake }, 0).unwrap();
    for (number, amount, expires_at) in
        [(3, 15, None), (4, 15, None), (5, 15, Some(1_000)), (6, 7, None), (7, 1, None), (8, 1, None)]
    {
        assert_eq!(ledger.apply(hold(number, amount, expires_at), 0), Ok(Applied::Created(Status::Pending)));
    }
    assert_eq!((available(&ledger), in_escrow(&ledger)), (31, (54, 15)));
    assert!(ledger.expire(999).is_empty());
    assert_eq!(ledger.expire(1_000), [id(5)]);
    ledger.apply(post(13, 3, Some(13)), 1_000).unwrap();
    ledger.apply(void(14, 4), 1_000).unwrap();
    assert_eq!(ledger.apply(void(15, 5), 1_000), Err(TransferError::Expired(id(5))));
    ledger.apply(post(16, 6, None), 1_000).unwrap();
    ledger.apply(post(17, 7, Some(1)), 1_000).unwrap();
    assert_eq!(ledger.apply(post(18, 8, Some(0)), 1_000), Err(TransferError::NotPositive));
    ledger.apply(void(19, 8), 1_000).unwrap();
    assert_eq!((available(&ledger), in_escrow(&ledger)), (64, (0, 36)));
    assert!(ledger.is_balanced());
}

#[test]
fn holds_count_against_what_is_available() {
    let mut ledger = Ledger::new();
    ledger.apply(credit(1, 100), 0).unwrap();
    ledger.apply(hold(2, 60, None), 0).unwrap();
    assert_eq!(ledger.apply(hold(3, 41, None), 0), Err(TransferError::InsufficientFunds));
    assert_eq!(ledger.transfer(id(3)), None, "a refusal is not remembered");
    ledger.apply(void(4, 2), 0).unwrap();
    assert_eq!(ledger.apply(hold(3, 41, None), 0), Ok(Applied::Created(Status::Pending)));
}

#[test]
fn an_id_is_applied_once_and_only_for_one_body() {
    let mut ledger = Ledger::new();
    ledger.apply(credit(1, 100), 0).unwrap();
    ledger.apply(hold(2, 10, None), 0).unwrap();
    assert_eq!(ledger.apply(hold(2, 10, None), 5), Ok(Applied::Exists(Status::Pending)));
    assert_eq!(ledger.apply(hold(2, 11, None), 5), Err(TransferError::IdReused(id(2))));
    ledger.apply(post(3, 2, None), 5).unwrap();
    assert_eq!(ledger.apply(post(3, 2, None), 6), Ok(Applied::Exists(Status::Posted)));
    assert_eq!(ledger.apply(hold(2, 10, None), 7), Ok(Applied::Exists(Status::Posted)), "its present state");
    assert_eq!(ledger.apply(post(4, 2, None), 8), Err(TransferError::AlreadyPosted(id(2))));
    assert_eq!(ledger.apply(void(5, 2), 8), Err(TransferError::AlreadyPosted(id(2))));
    assert_eq!(available(&ledger), 90);
}

#[test]
fn a_hold_whose_time_has_come_can_only_expire() {
    let mut ledger = Ledger::new();
    ledger.apply(credit(1, 100), 0).unwrap();
    ledger.apply(hold(2, 10, Some(50)), 0).unwrap();
    assert_eq!(ledger.apply(post(3, 2, None), 50), Err(TransferError::Expired(id(2))));
    assert_eq!(ledger.expire(50), [id(2)]);
    assert_eq!((available(&ledger), ledger.transfer(id(2)).unwrap().1), (100, Status::Expired));
}

#[test]
fn a_chain_is_all_or_nothing() {
    let mut ledger = Ledger::new();
    ledger.apply(credit(1, 100), 0).unwrap();
    let before = ledger.clone();
    let chain = [hold(2, 60, None), hold(3, 60, None)];
    assert_eq!(ledger.apply_chain(&chain, 0), Err((1, TransferError::InsufficientFunds)));
    assert_eq!(ledger, before);
    let chain = [hold(2, 60, None), post(3, 2, None)];
    assert_eq!(
        ledger.apply_chain(&chain, 0),
        Ok(vec![Applied::Created(Status::Pending), Applied::Created(Status::Posted)])
    );
    assert_eq!(
        ledger.apply_chain(&chain, 0),
        Ok(vec![Applied::Exists(Status::Posted), Applied::Exists(Status::Posted)])
    );
}

#[test]
fn malformed_transfers_are_refused() {
    let mut ledger = Ledger::new();
    ledger.apply(credit(1, 100), 0).unwrap();
    let mut apply = |debit, credit, amount, reason| {
        ledger.apply(Transfer { id: id(9), kind: Kind::Transfer { debit, credit, amount }, reason }, 0)
    };
    let stake = Reason::BetStake;
    assert_eq!(apply(cash(), AccountId::HOUSE_BETS, euro(0), stake), Err(TransferError::NotPositive));
    assert_eq!(apply(cash(), AccountId::HOUSE_BETS, euro(-5), stake), Err(TransferError::NotPositive));
    assert_eq!(apply(cash(), cash(), euro(5), stake), Err(TransferError::SameAccount));
    assert_eq!(apply(AccountId::HOUSE_BETS, cash(), euro(5), stake), Err(TransferError::ReasonMismatch));
    let stranger = AccountId::debt(id(2_000));
    assert_eq!(apply(cash(), stranger, euro(5), Reason::DebtRepayment), Err(TransferError::ReasonMismatch));
    let krona = Money::from_minor(5, Currency::SEK);
    assert_eq!(apply(cash(), AccountId::HOUSE_BETS, krona, stake), Err(TransferError::InsufficientFunds));
    assert_eq!(ledger.apply(post(10, 77, None), 0), Err(TransferError::HoldNotFound(id(77))));
    assert_eq!(ledger.apply(post(10, 1, None), 0), Err(TransferError::HoldNotFound(id(1))), "no hold");
    ledger.apply(hold(11, 10, None), 0).unwrap();
    assert_eq!(ledger.apply(post(12, 11, Some(11)), 0), Err(TransferError::ExceedsHold));
}

/// A rollback of 30 with 10 in cash: 10 from cash, 20 as debt; a repayment cannot exceed the debt.
#[test]
fn what_cash_cannot_cover_becomes_debt() {
    let mut ledger = Ledger::new();
    ledger.apply(credit(1, 10), 0).unwrap();
    let transfer = |number, debit, credit, minor, reason| Transfer {
        id: id(number),
        kind: Kind::Transfer { debit, credit, amount: euro(minor) },
        reason,
    };
    let debt = AccountId::debt(customer());
    let chain = [
        transfer(2, cash(), AccountId::HOUSE_PNL, 10, Reason::BetRollback),
        transfer(3, debt, AccountId::HOUSE_PNL, 20, Reason::Debt),
    ];
    ledger.apply_chain(&chain, 0).unwrap();
    ledger.apply(credit(4, 50), 0).unwrap();
    assert_eq!(ledger.apply(transfer(5, cash(), debt, 21, Reason::DebtRepayment), 0), Err(TransferError::ExceedsDebt));
    ledger.apply(transfer(6, cash(), debt, 20, Reason::DebtRepayment), 0).unwrap();
    assert_eq!(available(&ledger), 30);
    assert!(ledger.is_balanced());
}

fn any_transfer() -> impl Strategy<Value = Transfer> {
    let account = prop_oneof![
        4 => (1_000_u128..1_002).prop_map(|customer| AccountId::cash(id(customer))),
        1 => (1_000_u128..1_002).prop_map(|customer| AccountId::debt(id(customer))),
        2 => Just(AccountId::HOUSE_BETS),
        2 => Just(AccountId::HOUSE_PNL),
        2 => Just(AccountId::HOUSE_CASHIER),
        1 => Just(AccountCode::HouseSuspense.of_house().unwrap()),
    ];
    let reason = prop_oneof![
        3 => Just(Reason::CashierCredit), 4 => Just(Reason::BetStake), 1 => Just(Reason::BetReturn), 1 => Just(Reason::BetWin),
        1 => Just(Reason::BetRollback), 1 => Just(Reason::Debt), 1 => Just(Reason::DebtRepayment), 1 => Just(Reason::Correction),
    ];
    let amount = (-1_i64..60, prop_oneof![5 => Just(Currency::EUR), 1 => Just(Currency::SEK)])
        .prop_map(|(minor, currency)| Money::from_minor(minor, currency));
    let free = (account.clone(), account, amount.clone(), prop::option::of(0_i64..40), any::<bool>()).prop_map(
        |(debit, credit, amount, expires_at, at_once)| {
            if at_once {
                Kind::Transfer { debit, credit, amount }
            } else {
                Kind::Hold { debit, credit, amount, expires_at }
            }
        },
    );
    let resolving = (0_u128..60, prop::option::of(amount), any::<bool>()).prop_map(|(hold, amount, posts)| {
        if posts { Kind::Post { hold: id(hold), amount } } else { Kind::Void { hold: id(hold) } }
    });
    let likely = prop_oneof![
        3 => (1_i64..100).prop_map(|minor| (credit(0, minor).kind, Reason::CashierCredit)),
        3 => (1_i64..40, prop::option::of(0_i64..40)).prop_map(|(minor, at)| (hold(0, minor, at).kind, Reason::BetStake)),
        3 => (resolving, Just(Reason::BetStake)),
        3 => (free, reason),
    ];
    (0_u128..60, likely).prop_map(|(number, (kind, reason))| Transfer { id: id(number), kind, reason })
}

proptest! {
    /// Whatever is thrown at it: balanced at every instant, refusals change nothing, holds resolve once, repeats are inert.
    #[test]
    fn the_books_always_balance(transfers in prop::collection::vec(any_transfer(), 1..80)) {
        let mut ledger = Ledger::new();
        for (now, transfer) in (0_i64..).zip(&transfers) {
            let before = ledger.clone();
            match ledger.apply(*transfer, now) {
                Ok(Applied::Created(_)) => {
                    let after = ledger.clone();
                    prop_assert!(matches!(ledger.apply(*transfer, now), Ok(Applied::Exists(_))));
                    prop_assert_eq!(&ledger, &after);
                },
                Ok(Applied::Exists(_)) | Err(_) => prop_assert_eq!(&ledger, &before),
            }
            if now % 7 == 0 {
                ledger.expire(now);
                prop_assert!(ledger.expire(now).is_empty());
            }
            prop_assert!(ledger.is_balanced());
            for account in ledger.accounts().filter(|account| account.id.code() == AccountCode::PlayerCash) {
                prop_assert!(account.available().unwrap().minor() >= 0);
            }
        }
        // Every hold has at most one resolution among the transfers that were applied.
        for number in 0..60 {
            let Some((_, status)) = ledger.transfer(id(number)) else { continue };
            let resolutions = (0..60).filter_map(|other| ledger.transfer(id(other))).filter(|(transfer, _)| {
                matches!(transfer.kind, Kind::Post { hold, .. } | Kind::Void { hold } if hold == id(number))
            }).count();
            prop_assert!(resolutions <= 1);
            if resolutions == 1 {
                prop_assert!(matches!(status, Status::Posted | Status::Voided));
            }
        }
    }

    /// Retrying every transfer any number of times, as a client with a lossy network does, ends in the same books.
    #[test]
    fn retries_change_nothing(transfers in prop::collection::vec(any_transfer(), 1..40), repeats in prop::collection::vec(1_usize..4, 40)) {
        let (mut once, mut often) = (Ledger::new(), Ledger::new());
        for (transfer, times) in transfers.iter().zip(&repeats) {
            let first = once.apply(*transfer, 0);
            for _ in 0..*times {
                let again = often.apply(*transfer, 0);
                prop_assert_eq!(first.is_ok(), again.is_ok());
            }
        }
        prop_assert_eq!(once, often);
    }
}
