//! Old holds are resolved by the decision on their ticket, never by age.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::HashMap;

use async_trait::async_trait;
use paddock_account::domain::plan::Movement;
use paddock_account::janitor::{Decision, DecisionError, Decisions, Round, round};
use paddock_account::store::{Action, Asked, Command, TransferState};
use paddock_ledger::{AccountCode, Reason};
use paddock_money::Currency;
use support::Fixture;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

struct Known(HashMap<Uuid, Decision>);

#[async_trait]
impl Decisions for Known {
    async fn decision(&self, ticket: Uuid) -> Result<Decision, DecisionError> {
        self.0.get(&ticket).copied().ok_or(DecisionError::UnknownTicket(ticket))
    }
}

fn asked(customer: Uuid, debit: AccountCode, credit: AccountCode, amount: i64, reason: Reason) -> Asked {
    Asked { customer, currency: Currency::EUR, movement: Movement { debit, credit, amount, reason } }
}

#[tokio::test]
async fn does_what_calculations_answers_and_nothing_else() {
    let fixture = Fixture::new().await;
    let customer = fixture.customer().await;
    let deposit = asked(customer, AccountCode::HousePsp, AccountCode::PlayerCash, 1000, Reason::Deposit);
    fixture.store.apply(&Command { id: Uuid::new_v4(), action: Action::Transfer(deposit) }).await.unwrap();
    let [accepted, rejected, pending, unknown] = [1, 2, 3, 4].map(Uuid::from_u128);
    for id in [accepted, rejected, pending, unknown] {
        let hold = asked(customer, AccountCode::PlayerCash, AccountCode::HouseBets, 100, Reason::BetStake);
        fixture.store.apply(&Command { id, action: Action::Hold(hold) }).await.unwrap();
    }
    let answers = Known(HashMap::from([
        (accepted, Decision::Accepted),
        (rejected, Decision::Rejected),
        (pending, Decision::Pending),
    ]));

    assert_eq!(
        round(&fixture.store, &answers, 3600, &CancellationToken::new()).await.unwrap(),
        Round::default(),
        "young holds are left alone"
    );
    let done = round(&fixture.store, &answers, -1, &CancellationToken::new()).await.unwrap();
    assert_eq!(done, Round { posted: 1, voided: 1, waiting: 2 });
    let again = round(&fixture.store, &answers, -1, &CancellationToken::new()).await.unwrap();
    assert_eq!(again, Round { posted: 0, voided: 0, waiting: 2 });

    let mut states = Vec::new();
    for id in [accepted, rejected, pending, unknown] {
        states.push(fixture.store.transfer(id).await.unwrap().unwrap().state);
    }
    assert_eq!(states, [TransferState::Posted, TransferState::Voided, TransferState::Pending, TransferState::Pending]);
    let (_, wallets) = fixture.store.wallets(customer).await.unwrap();
    let figures = (wallets[0].available.minor(), wallets[0].held.minor(), wallets[0].at_stake.minor());
    assert_eq!(figures, (700, 200, 100));

    // Calculations comes late with its own id: the same resolution is no error and no second movement.
    let late = Command { id: Uuid::new_v4(), action: Action::Post { hold: accepted, part: None } };
    assert!(!fixture.store.apply(&late).await.unwrap().created);
}

/// Holds that nobody can resolve do not keep the others from their turn, and what is no stake is not asked about.
#[tokio::test]
async fn holds_that_wait_for_ever_stand_in_nobodys_way() {
    let fixture = Fixture::new().await;
    let customer = fixture.customer().await;
    let deposit = asked(customer, AccountCode::HousePsp, AccountCode::PlayerCash, 1000, Reason::Deposit);
    fixture.store.apply(&Command { id: Uuid::new_v4(), action: Action::Transfer(deposit) }).await.unwrap();
    let withdrawal = Uuid::new_v4();
    let held = asked(customer, AccountCode::PlayerCash, AccountCode::HouseWithdrawals, 100, Reason::Withdrawal);
    fixture.store.apply(&Command { id: withdrawal, action: Action::Hold(held) }).await.unwrap();
    let stake = asked(customer, AccountCode::PlayerCash, AccountCode::HouseBets, 1, Reason::BetStake);
    for number in 0..120 {
        let id = Uuid::from_u128(number + 1);
        fixture.store.apply(&Command { id, action: Action::Hold(stake) }).await.unwrap();
    }
    let decided = Uuid::new_v4();
    fixture.store.apply(&Command { id: decided, action: Action::Hold(stake) }).await.unwrap();
    // Calculations knows of the newest only; nobody ever said anything of the withdrawal.
    let answers = Known(HashMap::from([(decided, Decision::Accepted), (withdrawal, Decision::Rejected)]));
    for _round in 0..2 {
        round(&fixture.store, &answers, -1, &CancellationToken::new()).await.unwrap();
    }
    let became = async |id| fixture.store.transfer(id).await.unwrap().unwrap().state;
    assert_eq!(became(decided).await, TransferState::Posted);
    assert_eq!(became(withdrawal).await, TransferState::Pending, "not calculations' to decide");
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM open_holds").fetch_one(&fixture.pool).await.unwrap();
    assert_eq!(open, 120, "what is resolved is not looked at again");
}

/// Whoever is asked is told that the process ends.
struct Closing(CancellationToken);

#[async_trait]
impl Decisions for Closing {
    async fn decision(&self, _ticket: Uuid) -> Result<Decision, DecisionError> {
        self.0.cancel();
        Ok(Decision::Pending)
    }
}

/// Each question can take seconds: a process that is told to end asks no further one.
#[tokio::test]
async fn a_round_ends_with_the_process() {
    let fixture = Fixture::new().await;
    let customer = fixture.customer().await;
    let deposit = asked(customer, AccountCode::HousePsp, AccountCode::PlayerCash, 1000, Reason::Deposit);
    fixture.store.apply(&Command { id: Uuid::new_v4(), action: Action::Transfer(deposit) }).await.unwrap();
    for _ in 0..5 {
        let hold = asked(customer, AccountCode::PlayerCash, AccountCode::HouseBets, 100, Reason::BetStake);
        fixture.store.apply(&Command { id: Uuid::new_v4(), action: Action::Hold(hold) }).await.unwrap();
    }
    let end = CancellationToken::new();
    let done = round(&fixture.store, &Closing(end.clone()), -1, &end).await.unwrap();
    assert_eq!(done, Round { posted: 0, voided: 0, waiting: 1 });
}
