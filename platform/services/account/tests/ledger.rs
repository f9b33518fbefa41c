//! The durable ledger against the pure one, with many clients, repetitions and lost connections (rules B1, B2, B4).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, HashMap};

use futures::future::join_all;
use paddock_account::domain::plan::{Book, Entry, Movement};
use paddock_account::store::{Action, Asked, Command, Outcome, Store, StoreError, TransferState};
use paddock_ledger::{AccountCode, AccountId, Balances, Kind, Ledger, Reason, Transfer, TransferError};
use paddock_money::{Currency, Money};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use support::Fixture;
use uuid::Uuid;

use AccountCode::{HouseBets, HouseCashier, HousePnl, HousePsp, PlayerCash, PlayerDebt};

const EUR: Currency = Currency::EUR;

/// What a client does, by small numbers, so that ids collide and holds are found.
#[derive(Debug, Clone)]
enum Step {
    Hold(u8, i64),
    Move(u8, usize, i64),
    Post(u8, u8, Option<i64>),
    Void(u8, u8),
}

const MOVES: [(AccountCode, AccountCode, Reason); 8] = [
    (HousePsp, PlayerCash, Reason::Deposit),
    (HouseBets, PlayerCash, Reason::BetReturn),
    (HousePnl, PlayerCash, Reason::BetWin),
    (HouseBets, HousePnl, Reason::BetLoss),
    (PlayerCash, HousePnl, Reason::BetRollback),
    (PlayerCash, HouseBets, Reason::BetRollback),
    (HouseCashier, PlayerCash, Reason::CashierCredit),
    // Never allowed.
    (PlayerCash, HousePsp, Reason::Deposit),
];

fn step() -> impl Strategy<Value = Step> {
    let amount = -1..60_i64;
    prop_oneof![
        3 => (0..40_u8, amount.clone()).prop_map(|(id, amount)| Step::Hold(id, amount)),
        4 => (0..40_u8, 0..MOVES.len(), amount.clone()).prop_map(|(id, way, amount)| Step::Move(id, way, amount)),
        2 => (0..40_u8, 0..40_u8, prop::option::of(amount)).prop_map(|(id, hold, part)| Step::Post(id, hold, part)),
        1 => (0..40_u8, 0..40_u8).prop_map(|(id, hold)| Step::Void(id, hold)),
    ]
}

fn steps(seed: u8, count: usize) -> Vec<Step> {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &[seed; 32]),
    );
    (0..count).map(|_| step().new_tree(&mut runner).unwrap().current()).collect()
}

fn id(customer: Uuid, number: u8) -> Uuid {
    Uuid::new_v5(&customer, &[number])
}

fn command(customer: Uuid, step: &Step) -> Command {
    let asked = |debit, credit, amount, reason| Asked {
        customer,
        currency: EUR,
        movement: Movement { debit, credit, amount, reason },
    };
    match *step {
        Step::Hold(number, amount) => Command {
            id: id(customer, number),
            action: Action::Hold(asked(PlayerCash, HouseBets, amount, Reason::BetStake)),
        },
        Step::Move(number, way, amount) => {
            let (debit, credit, reason) = MOVES[way];
            Command { id: id(customer, number), action: Action::Transfer(asked(debit, credit, amount, reason)) }
        }
        Step::Post(number, hold, part) => Command {
            id: id(customer, number),
            action: Action::Post {
                hold: id(customer, hold),
                part: part.map(|part| Money::from_minor(part, EUR).amount()),
            },
        },
        Step::Void(number, hold) => {
            Command { id: id(customer, number), action: Action::Void { hold: id(customer, hold) } }
        }
    }
}

/// The pure ledger of one customer, with the two rules that account adds: debt on rollback, and its repayment.
struct Oracle {
    customer: Uuid,
    ledger: Ledger,
    applied: HashMap<Uuid, Command>,
    derived: u32,
}

impl Oracle {
    fn new(customer: Uuid) -> Self {
        Self { customer, ledger: Ledger::new(), applied: HashMap::new(), derived: 0 }
    }

    fn account(&self, code: AccountCode) -> AccountId {
        code.of_player(self.customer).or(code.of_house()).unwrap()
    }

    fn derived(&mut self) -> Uuid {
        self.derived += 1;
        Uuid::from_u128(u128::from(self.derived))
    }

    fn available(&self) -> i64 {
        self.ledger.account(AccountId::cash(self.customer), EUR).available().unwrap().minor()
    }

    fn transfer(&self, id: Uuid, debit: AccountCode, credit: AccountCode, amount: i64, reason: Reason) -> Transfer {
        let (debit, credit, amount) = (self.account(debit), self.account(credit), Money::from_minor(amount, EUR));
        Transfer { id, kind: Kind::Transfer { debit, credit, amount }, reason }
    }

    /// `Ok(true)` if it is new.
    fn apply(&mut self, command: &Command) -> Result<bool, TransferError> {
        let hold_of = |hold: &Uuid| match self.applied.get(hold).map(|command| &command.action) {
            Some(Action::Hold(_)) => Ok(*hold),
            _ => Err(TransferError::HoldNotFound(*hold)),
        };
        // Where a hold is missing there is no customer to lock, so that is found out first.
        if let Action::Post { hold, .. } | Action::Void { hold } = &command.action
            && !self.applied.contains_key(hold)
        {
            return Err(TransferError::HoldNotFound(*hold));
        }
        if let Some(known) = self.applied.get(&command.id) {
            return if known == command { Ok(false) } else { Err(TransferError::IdReused(command.id)) };
        }
        let chain = match &command.action {
            Action::Hold(asked) => {
                let m = asked.movement;
                let (debit, credit) = (self.account(m.debit), self.account(m.credit));
                let kind = Kind::Hold { debit, credit, amount: Money::from_minor(m.amount, EUR), expires_at: None };
                vec![Transfer { id: command.id, kind, reason: m.reason }]
            }
            Action::Transfer(asked) => {
                let m = asked.movement;
                let covered = m.amount.min(self.available());
                if m.reason == Reason::BetRollback && m.amount > 0 && covered < m.amount {
                    let debt_id = self.derived();
                    let mut chain =
                        vec![self.transfer(debt_id, PlayerDebt, m.credit, m.amount - covered, Reason::Debt)];
                    if covered > 0 {
                        chain.push(self.transfer(command.id, m.debit, m.credit, covered, m.reason));
                    }
                    chain
                } else {
                    vec![self.transfer(command.id, m.debit, m.credit, m.amount, m.reason)]
                }
            }
            Action::Post { hold, part } => {
                let hold = hold_of(hold)?;
                let amount = part.as_ref().map(|part| Money::parse(part, EUR).unwrap());
                vec![Transfer { id: command.id, kind: Kind::Post { hold, amount }, reason: Reason::BetStake }]
            }
            Action::Void { hold } => {
                vec![Transfer { id: command.id, kind: Kind::Void { hold: hold_of(hold)? }, reason: Reason::BetStake }]
            }
        };
        self.ledger.apply_chain(&chain, 0).map_err(|(_, error)| error)?;
        let debt = self.ledger.account(AccountId::debt(self.customer), EUR).balances;
        let repaid = (debt.debits_posted - debt.credits_posted).min(self.available());
        if repaid > 0 {
            let derived = self.derived();
            let repayment = self.transfer(derived, PlayerCash, PlayerDebt, repaid, Reason::DebtRepayment);
            self.ledger.apply(repayment, 0).unwrap();
        }
        assert!(self.ledger.is_balanced());
        self.applied.insert(command.id, command.clone());
        Ok(true)
    }

    fn balances(&self) -> BTreeMap<String, Balances> {
        self.ledger.accounts().map(|account| (account.id.code().to_string(), account.balances)).collect()
    }
}

async fn balances(fixture: &Fixture, customer: Uuid) -> BTreeMap<String, Balances> {
    let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT code, debits_pending, debits_posted, credits_pending, credits_posted FROM accounts WHERE customer_id = $1",
    )
    .bind(customer)
    .fetch_all(&fixture.pool)
    .await
    .unwrap();
    rows.into_iter()
        .map(|(code, debits_pending, debits_posted, credits_pending, credits_posted)| {
            (code, Balances { debits_pending, debits_posted, credits_pending, credits_posted })
        })
        .collect()
}

/// Rule B1 over the whole database, and that entries alone give the balances.
async fn check_books(fixture: &Fixture) {
    let unbalanced: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT currency FROM accounts GROUP BY currency
         HAVING sum(debits_posted) <> sum(credits_posted) OR sum(debits_pending) <> sum(credits_pending)) wrong",
    )
    .fetch_one(&fixture.pool)
    .await
    .unwrap();
    assert_eq!(unbalanced, 0, "debits and credits differ");
    let customers: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM customers").fetch_all(&fixture.pool).await.unwrap();
    for customer in customers {
        let page = fixture.store.entries(customer, None, i64::MAX).await.unwrap();
        let mut entries: Vec<(i64, Entry)> =
            page.entries.iter().map(|resource| (resource.sequence, resource.entry)).collect();
        entries.reverse();
        let mut book = Book::default();
        for (expected, (sequence, entry)) in (1..).zip(entries) {
            assert_eq!(sequence, expected, "a gap in the entries of {customer}");
            book.apply(entry).expect("entries replay in their order without ever breaking a limit");
            assert!(book.available() >= 0);
        }
        assert!(book.owed() == 0 || book.available() == 0, "{customer} owes and has money");
        let replayed: BTreeMap<String, Balances> =
            book.accounts().map(|(code, balances)| (code.to_string(), balances)).collect();
        assert_eq!(replayed, balances(fixture, customer).await);
    }
    let (entries, events): (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM outbox WHERE topic = 'ledger')")
            .fetch_one(&fixture.pool)
            .await
            .unwrap();
    assert_eq!(entries, events, "every entry is an event");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gives_what_the_pure_ledger_gives() {
    let fixture = Fixture::new().await;
    for seed in 0..6 {
        let customer = fixture.customer().await;
        let mut oracle = Oracle::new(customer);
        for step in steps(seed, 120) {
            let command = command(customer, &step);
            let wanted = oracle.apply(&command);
            let got = fixture.store.apply(&command).await;
            match (&wanted, &got) {
                (Ok(created), Ok(outcome)) => assert_eq!(*created, outcome.created, "{step:?}"),
                // The same resolution under another id is no second one.
                (Err(TransferError::AlreadyPosted(_)), Ok(Outcome { created: false, resource })) => {
                    assert_eq!(resource.state, TransferState::Posted, "{step:?}");
                }
                (Err(TransferError::AlreadyVoided(_)), Ok(Outcome { created: false, resource })) => {
                    assert_eq!(resource.state, TransferState::Voided, "{step:?}");
                }
                (Err(wanted), Err(StoreError::Transfer(got))) => assert_eq!(wanted, got, "{step:?}"),
                _ => panic!("{step:?}: wanted {wanted:?}, got {got:?}"),
            }
            assert_eq!(oracle.balances(), balances(&fixture, customer).await, "after {step:?}");
        }
        assert!(oracle.applied.len() > 20, "the steps must move something");
    }
    check_books(&fixture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_of_few_customers_keep_the_books() {
    let fixture = Fixture::new().await;
    let customers = [fixture.customer().await, fixture.customer().await, fixture.customer().await];
    let clients = (0..8_u8).map(|client| {
        let store = fixture.store.clone();
        async move {
            let mut created = 0_i64;
            // Clients 0 and 4, 1 and 5, … send the same: every request comes at least twice.
            for (turn, step) in steps(100 + client % 4, 60).into_iter().enumerate() {
                let customer = customers[(turn + usize::from(client)) % customers.len()];
                match store.apply(&command(customer, &step)).await {
                    Ok(outcome) => created += i64::from(outcome.created),
                    Err(StoreError::Transfer(_)) => {}
                    Err(error) => panic!("{step:?}: {error}"),
                }
            }
            created
        }
    });
    let created: i64 = join_all(clients).await.into_iter().sum();
    let transfers: i64 = sqlx::query_scalar("SELECT count(*) FROM transfers").fetch_one(&fixture.pool).await.unwrap();
    assert_eq!(created, transfers, "each transfer was created by exactly one request");
    assert!(transfers > 40);
    check_books(&fixture).await;
}

async fn deposit(store: &Store, customer: Uuid, amount: i64) {
    let movement = Movement { debit: HousePsp, credit: PlayerCash, amount, reason: Reason::Deposit };
    let action = Action::Transfer(Asked { customer, currency: EUR, movement });
    store.apply(&Command { id: Uuid::new_v4(), action }).await.unwrap();
}

fn hold(customer: Uuid, id: Uuid, amount: i64) -> Command {
    let movement = Movement { debit: PlayerCash, credit: HouseBets, amount, reason: Reason::BetStake };
    Command { id, action: Action::Hold(Asked { customer, currency: EUR, movement }) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_holds_never_overdraw() {
    let fixture = Fixture::new().await;
    let customer = fixture.customer().await;
    deposit(&fixture.store, customer, 1000).await;
    let holds = (0..30).map(|_| {
        let store = fixture.store.clone();
        async move { store.apply(&hold(customer, Uuid::new_v4(), 100)).await.is_ok() }
    });
    let held = join_all(holds).await.into_iter().filter(|held| *held).count();
    assert_eq!(held, 10);
    check_books(&fixture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_neither_lose_nor_double_money() {
    let fixture = Fixture::new().await;
    let customers = [fixture.customer().await, fixture.customer().await];
    for customer in customers {
        deposit(&fixture.store, customer, 100_000).await;
    }
    let mut administrator = fixture.owner().await;
    let done = tokio_util::sync::CancellationToken::new();
    let terminator = tokio::spawn({
        let done = done.clone();
        async move {
            let mut killed = 0_i64;
            while !done.is_cancelled() {
                let now: i64 = sqlx::query_scalar(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'",
                )
                .fetch_one(&mut administrator)
                .await
                .unwrap();
                killed += now;
                tokio::time::sleep(std::time::Duration::from_millis(15)).await;
            }
            killed
        }
    });
    let clients = (0..4_u8).map(|client| {
        let store = fixture.store.clone();
        async move {
            let customer = customers[usize::from(client % 2)];
            for number in 0..40_u128 {
                let id = Uuid::from_u128((u128::from(client) << 64) | number);
                let post = Command { id: Uuid::new_v5(&id, b"post"), action: Action::Post { hold: id, part: None } };
                for command in [hold(customer, id, 7), post] {
                    // A client that does not know whether it worked repeats itself.
                    loop {
                        match store.apply(&command).await {
                            Ok(_) => break,
                            Err(StoreError::Database(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            }
        }
    });
    join_all(clients).await;
    done.cancel();
    assert!(terminator.await.unwrap() > 0, "nothing was killed: the test proved nothing");
    check_books(&fixture).await;
    for customer in customers {
        let wallet = fixture.store.wallets(customer).await.unwrap().1[0];
        assert_eq!((wallet.available.minor(), wallet.held.minor(), wallet.at_stake.minor()), (99_440, 0, 560));
    }
}

#[tokio::test]
async fn nothing_posted_can_be_edited() {
    let fixture = Fixture::new().await;
    let customer = fixture.customer().await;
    deposit(&fixture.store, customer, 100).await;
    let mut owner = fixture.owner().await;
    for statement in [
        "UPDATE transfers SET amount = 1",
        "DELETE FROM transfers",
        "UPDATE entries SET amount = 1",
        "DELETE FROM entries",
        "TRUNCATE entries, transfers CASCADE",
        "UPDATE audit SET who = 'x'",
        "DELETE FROM audit",
    ] {
        let error = sqlx::query(statement).execute(&mut owner).await.unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    let error =
        sqlx::query("UPDATE accounts SET debits_posted = 101 WHERE code = 'player:cash'").execute(&mut owner).await;
    assert!(error.unwrap_err().to_string().contains("accounts_never_overdrawn"));
}

/// B1 in the database: whatever a faulty version writes, each statement keeps the books balanced, or is refused.
#[tokio::test]
async fn the_database_refuses_books_that_do_not_balance() {
    let fixture = Fixture::new().await;
    let (ann, bob) = (fixture.customer().await, fixture.customer().await);
    deposit(&fixture.store, ann, 100).await;
    deposit(&fixture.store, bob, 100).await;
    fixture.store.apply(&hold(ann, Uuid::new_v4(), 40)).await.unwrap();
    let account = |customer: Uuid, currency: &str, credit: i64| {
        format!("INSERT INTO accounts VALUES ('{customer}', '{currency}', 'house:bonus-cost', 0, 0, 0, {credit})")
    };
    let transfer = "UPDATE accounts SET credits_posted = credits_posted + 5 WHERE code = 'player:cash'";
    for statement in [
        // Money from nowhere, on one side only, on the wrong customer's books, in another currency.
        transfer.to_owned(),
        format!("{transfer} AND customer_id = '{ann}'"),
        "UPDATE accounts SET debits_pending = 0 WHERE code = 'player:cash'".to_owned(),
        format!(
            "UPDATE accounts SET credits_posted = credits_posted + CASE WHEN code = 'player:cash' THEN 5 ELSE 0 END,
                debits_posted = debits_posted + CASE WHEN code = 'house:psp' THEN 5 ELSE 0 END
             WHERE (code, customer_id) IN (('player:cash', '{ann}'), ('house:psp', '{bob}'))"
        ),
        account(ann, "EUR", 5),
        account(ann, "SEK", 5),
        format!("{} ON CONFLICT DO NOTHING", account(bob, "EUR", 1)),
        "DELETE FROM accounts".to_owned(),
        "TRUNCATE accounts".to_owned(),
    ] {
        // As pods and as the owner of the schema.
        let mut owner = fixture.owner().await;
        for error in [
            sqlx::query(sqlx::AssertSqlSafe(statement.clone())).execute(&fixture.pool).await.unwrap_err(),
            sqlx::query(sqlx::AssertSqlSafe(statement.clone())).execute(&mut owner).await.unwrap_err(),
        ] {
            let error = error.to_string();
            let refusals = ["debits and credits differ", "never removed", "permission denied"];
            assert!(refusals.iter().any(|refusal| error.contains(refusal)), "{statement}: {error}");
        }
    }
    let both = format!(
        "UPDATE accounts SET credits_posted = credits_posted + CASE WHEN code = 'player:cash' THEN 5 ELSE 0 END,
            debits_posted = debits_posted + CASE WHEN code = 'house:psp' THEN 5 ELSE 0 END
         WHERE customer_id = '{bob}' AND code IN ('player:cash', 'house:psp')"
    );
    sqlx::query(sqlx::AssertSqlSafe(both)).execute(&fixture.pool).await.unwrap();
}

#[tokio::test]
async fn an_id_of_another_customer_is_refused() {
    let fixture = Fixture::new().await;
    let (ann, bob) = (fixture.customer().await, fixture.customer().await);
    deposit(&fixture.store, ann, 100).await;
    deposit(&fixture.store, bob, 100).await;
    let id = Uuid::new_v4();
    assert!(fixture.store.apply(&hold(ann, id, 5)).await.unwrap().created);
    let error = fixture.store.apply(&hold(bob, id, 5)).await.unwrap_err();
    assert!(matches!(error, StoreError::Transfer(TransferError::IdReused(reused)) if reused == id));
    check_books(&fixture).await;
}
