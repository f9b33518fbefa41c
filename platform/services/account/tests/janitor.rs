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

    assert_eq!(round(&fixture.store, &answers, 3600).await.unwrap(), Round::default(), "young holds are left alone");
    let done = round(&fixture.store, &answers, -1).await.unwrap();
    assert_eq!(done, Round { posted: 1, voided: 1, waiting: 2 });
    let again = round(&fixture.store, &answers, -1).await.unwrap();
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
