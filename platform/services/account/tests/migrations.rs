//! The schema of a ledger that has customers is brought up to date while money moves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Instant;

use paddock_account::domain::plan::Movement;
use paddock_account::store::{Action, Asked, Command, MIGRATIONS};
use paddock_ledger::{AccountCode, Reason};
use paddock_money::Currency;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use support::Fixture;
use uuid::Uuid;

use AccountCode::{HouseBets, HousePsp, HouseWithdrawals, PlayerCash};

fn asked(customer: Uuid, debit: AccountCode, credit: AccountCode, reason: Reason) -> Asked {
    Asked { customer, currency: Currency::EUR, movement: Movement { debit, credit, amount: 100, reason } }
}

async fn until_something_waits_for_a_lock(pool: &PgPool) {
    let started = Instant::now();
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'transfers'::regclass)";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(pool).await.unwrap() {
        assert!(started.elapsed().as_secs() < 30, "the migration waits for who writes transfers");
        tokio::task::yield_now().await;
    }
}

/// A pod of the version before holds a stake while the migrations run: neither waits for the other for ever, and no hold is
/// forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_open_stake_is_known_after_the_migration() {
    let first = Migrator::with_migrations(MIGRATIONS.iter().take(1).cloned().collect());
    let fixture = Fixture::at(&first).await;
    let customer = fixture.customer().await;
    for _deposit in 0..6 {
        let action = Action::Transfer(asked(customer, HousePsp, PlayerCash, Reason::Deposit));
        fixture.store.apply(&Command { id: Uuid::new_v4(), action }).await.unwrap();
    }
    let [open, posted, voided, withdrawal, meanwhile] = [(); 5].map(|()| Uuid::new_v4());
    let stake = asked(customer, PlayerCash, HouseBets, Reason::BetStake);
    let other = asked(customer, PlayerCash, HouseWithdrawals, Reason::Withdrawal);
    for (hold, asked) in [(open, stake), (posted, stake), (voided, stake), (withdrawal, other)] {
        fixture.store.apply(&Command { id: hold, action: Action::Hold(asked) }).await.unwrap();
    }
    for action in [Action::Post { hold: posted, part: None }, Action::Void { hold: voided }] {
        fixture.store.apply(&Command { id: Uuid::new_v4(), action }).await.unwrap();
    }

    // A pod between its two writes.
    let mut pod = fixture.pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO transfers (id, customer_id, kind, debit, credit, currency, amount, reason)
         VALUES ($1, $2, 'hold', 'player:cash', 'house:bets', 'EUR', 100, 'bet-stake')",
    )
    .bind(meanwhile)
    .bind(customer)
    .execute(&mut *pod)
    .await
    .unwrap();
    let mut owner = fixture.owner().await;
    let migration = tokio::spawn(async move { MIGRATIONS.run_direct(None, &mut owner, false).await });
    until_something_waits_for_a_lock(&fixture.pool).await;
    sqlx::query(
        "UPDATE accounts SET debits_pending = debits_pending + CASE code WHEN 'player:cash' THEN 100 ELSE 0 END,
            credits_pending = credits_pending + CASE code WHEN 'house:bets' THEN 100 ELSE 0 END
         WHERE customer_id = $1 AND code IN ('player:cash', 'house:bets')",
    )
    .bind(customer)
    .execute(&mut *pod)
    .await
    .unwrap();
    pod.commit().await.unwrap();
    migration.await.unwrap().unwrap();

    let mut known: Vec<Uuid> =
        fixture.store.stale_holds(-1, 10).await.unwrap().into_iter().map(|hold| hold.id).collect();
    known.sort();
    let mut expected = [open, meanwhile];
    expected.sort();
    assert_eq!(known, expected);
    for hold in expected {
        fixture.store.apply(&Command { id: Uuid::new_v4(), action: Action::Void { hold } }).await.unwrap();
    }
    assert_eq!(fixture.store.stale_holds(-1, 10).await.unwrap(), []);
    let wallet = fixture.store.wallets(customer).await.unwrap().1[0];
    assert_eq!((wallet.available.minor(), wallet.held.minor(), wallet.at_stake.minor()), (400, 100, 100));
}
