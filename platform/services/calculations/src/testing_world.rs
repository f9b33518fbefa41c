//! A whole calculations and settlement over a real database, with account's ledger in memory.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use paddock_events::{
    EventStatus, LineKey, LineResult, MarketStatus, OfferHeartbeat, OfferLine, OfferMessage, Origin, OutcomeResult,
    ResultOrigin,
};
use paddock_ledger::{AccountId, Kind, Ledger, Reason, Transfer, TransferError};
use paddock_money::{Currency, Money};
use paddock_odds::Factor;
use paddock_service::outbox::Outbox;
use paddock_service::postgres::Database;
use paddock_service::{BookHolder, Readiness};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::MIGRATIONS;
use crate::acceptance::Acceptance;
use crate::bank::{Bank, BankError, resolution};
use crate::domain::money_moves::Move;
use crate::domain::request::PlaceTicket;
use crate::metrics::{AcceptanceMetrics, SettlementMetrics};
use crate::offer::{OfferCopy, Record};
use crate::settlement::Payer;
use crate::store::{Store, Ticket};
use crate::testing;

/// Where the process "dies": around the n-th call of account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The call never arrives.
    Before(usize),
    /// The call took effect, its answer never arrives.
    After(usize),
}

#[derive(Default)]
pub(crate) struct MemoryBank {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    ledger: Ledger,
    moved: BTreeSet<Uuid>,
    calls: usize,
    crash: Option<Crash>,
}

impl MemoryBank {
    pub(crate) fn fund(&self, customer: Uuid, amount: &str) {
        let kind = Kind::Transfer {
            debit: AccountId::HOUSE_CASHIER,
            credit: AccountId::cash(customer),
            amount: Money::parse(amount, Currency::EUR).unwrap(),
        };
        let transfer = Transfer { id: Uuid::now_v7(), kind, reason: Reason::CashierCredit };
        self.inner.lock().unwrap().ledger.apply(transfer, 0).unwrap();
    }

    /// Counts calls from now on and crashes around one of them.
    pub(crate) fn crash(&self, crash: Option<Crash>) {
        let mut inner = self.inner.lock().unwrap();
        (inner.calls, inner.crash) = (0, crash);
    }

    pub(crate) fn calls(&self) -> usize {
        self.inner.lock().unwrap().calls
    }

    /// Credits − debits posted, minor units.
    pub(crate) fn balance(&self, account: AccountId) -> i64 {
        let balances = self.inner.lock().unwrap().ledger.account(account, Currency::EUR).balances;
        balances.credits_posted - balances.debits_posted
    }

    /// Cash minus debt.
    pub(crate) fn worth(&self, customer: Uuid) -> i64 {
        self.balance(AccountId::cash(customer)) + self.balance(AccountId::debt(customer))
    }

    pub(crate) fn held(&self, customer: Uuid) -> i64 {
        self.inner.lock().unwrap().ledger.account(AccountId::cash(customer), Currency::EUR).held().minor()
    }

    pub(crate) fn is_balanced(&self) -> bool {
        self.inner.lock().unwrap().ledger.is_balanced()
    }

    fn call(&self, work: impl FnOnce(&mut Inner) -> Result<(), TransferError>) -> Result<(), BankError> {
        let mut inner = self.inner.lock().unwrap();
        let number = inner.calls;
        inner.calls += 1;
        let crash = || BankError::Unavailable("crashed".to_owned());
        if inner.crash == Some(Crash::Before(number)) {
            return Err(crash());
        }
        let done = work(&mut inner).map_err(|error| BankError::Refused(error.code().to_owned()));
        if inner.crash == Some(Crash::After(number)) { Err(crash()) } else { done }
    }
}

#[async_trait]
impl Bank for MemoryBank {
    async fn hold(&self, ticket: Uuid, customer: Uuid, amount: Money) -> Result<(), BankError> {
        let (debit, credit) = (AccountId::cash(customer), AccountId::HOUSE_BETS);
        let kind = Kind::Hold { debit, credit, amount, expires_at: None };
        self.call(|inner| inner.ledger.apply(Transfer { id: ticket, kind, reason: Reason::BetStake }, 0).map(|_| ()))
    }

    async fn post(&self, ticket: Uuid) -> Result<(), BankError> {
        let kind = Kind::Post { hold: ticket, amount: None };
        let transfer = Transfer { id: resolution(ticket, "post"), kind, reason: Reason::BetStake };
        self.call(|inner| inner.ledger.apply(transfer, 0).map(|_| ()))
    }

    async fn void(&self, ticket: Uuid) -> Result<(), BankError> {
        let transfer =
            Transfer { id: resolution(ticket, "void"), kind: Kind::Void { hold: ticket }, reason: Reason::BetStake };
        self.call(|inner| match inner.ledger.apply(transfer, 0) {
            Ok(_) | Err(TransferError::HoldNotFound(_)) => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// As account does it: what a rollback cannot take from cash becomes debt.
    async fn transfer(&self, customer: Uuid, currency: Currency, step: &Move) -> Result<(), BankError> {
        self.call(|inner| {
            if inner.moved.contains(&step.id) {
                return Ok(());
            }
            let account = |code: paddock_ledger::AccountCode| code.of_player(customer).or(code.of_house()).unwrap();
            let (debit, credit) = (account(step.from), account(step.to));
            let mut from_cash = step.amount;
            if step.reason == Reason::BetRollback && debit == AccountId::cash(customer) {
                let available = inner.ledger.account(debit, currency).available().unwrap().minor();
                from_cash = step.amount.min(available);
            }
            let money = |minor| Money::from_minor(minor, currency);
            let mut chain = Vec::new();
            if from_cash > 0 {
                let kind = Kind::Transfer { debit, credit, amount: money(from_cash) };
                chain.push(Transfer { id: step.id, kind, reason: step.reason });
            }
            if from_cash < step.amount {
                let (debit, amount) = (AccountId::debt(customer), money(step.amount - from_cash));
                let kind = Kind::Transfer { debit, credit, amount };
                chain.push(Transfer { id: Uuid::new_v5(&step.id, b"debt"), kind, reason: Reason::Debt });
            }
            inner.ledger.apply_chain(&chain, 0).map_err(|(_, error)| error)?;
            inner.moved.insert(step.id);
            Ok(())
        })
    }
}

pub(crate) struct World {
    pub(crate) pool: PgPool,
    pub(crate) bank: Arc<MemoryBank>,
    pub(crate) acceptance: Acceptance,
    pub(crate) payer: Payer,
    _server: paddock_test_postgres::Server,
}

impl World {
    /// A world in which event 1 takes bets at 2.10 and a rule has this liability and delay.
    pub(crate) async fn start(liability: &str, delay_ms: u32) -> Self {
        let server = paddock_test_postgres::Server::start().await.unwrap();
        let pool = server.database(&MIGRATIONS).await.unwrap();
        let origin = Origin { tenant: "acme".to_owned(), environment: "test".to_owned() };
        let store = Store::new(Database::over(pool.clone()), Outbox::default(), origin);
        let bank = Arc::new(MemoryBank::default());
        let acceptance = Acceptance {
            store: store.clone(),
            offer: OfferCopy::default(),
            book: BookHolder::new(Readiness::default().gate("market-book", "not loaded")),
            bank: bank.clone(),
            metrics: AcceptanceMetrics::new().unwrap(),
        };
        let payer = Payer { store, bank: bank.clone(), metrics: SettlementMetrics::new().unwrap() };
        let world = Self { pool, bank, acceptance, payer, _server: server };
        world.book(1, liability, delay_ms).await;
        world.offer(testing::line("2.10", 1, MarketStatus::Active)).await;
        world.acceptance.offer.caught_up();
        world
    }

    pub(crate) async fn book(&self, generation: u64, liability: &str, delay_ms: u32) {
        let json = testing::book_with(generation, liability, delay_ms).to_json().unwrap();
        self.acceptance.book.put(json.as_bytes()).await.unwrap();
    }

    /// A line with its event, fresh.
    pub(crate) async fn offer(&self, line: OfferLine) {
        let now = jiff::Timestamp::now().as_millisecond();
        let mut event = testing::event(EventStatus::NotStarted, now + 3_600_000);
        event.event_id.clone_from(&line.event_id);
        let beat = OfferHeartbeat { feed_partitions: vec![0], at: now + 3_600_000, book_generation: 1 };
        let messages = [OfferMessage::Line(line), OfferMessage::Event(event), OfferMessage::Heartbeat(beat)];
        let records: Vec<Record> = messages.into_iter().map(|message| Record::Message(0, Box::new(message))).collect();
        let copy = &self.acceptance.offer;
        self.acceptance.store.change_states(&copy.changes(&records)).await.unwrap();
        copy.apply(records);
    }

    pub(crate) fn customer(&self, cash: &str) -> Uuid {
        let customer = Uuid::now_v7();
        self.bank.fund(customer, cash);
        customer
    }

    pub(crate) async fn place(&self, customer: Uuid, stake: &str) -> Ticket {
        self.acceptance.place(&request(customer, "key", stake, testing::EVENT)).await.unwrap().ticket
    }

    pub(crate) async fn ticket(&self, id: Uuid) -> Ticket {
        self.acceptance.store.ticket(id).await.unwrap().unwrap()
    }

    /// What another process does after a crash: everything that waits is due at once.
    pub(crate) async fn resume(&self) {
        for _round in 0..5 {
            sqlx::query("UPDATE ticket SET attempt_at = clock_timestamp()").execute(&self.pool).await.unwrap();
            self.acceptance.resume().await.unwrap();
        }
    }

    /// The delay of every ticket is over.
    pub(crate) async fn pass_delay(&self) {
        sqlx::query("UPDATE ticket SET decide_at = clock_timestamp() WHERE status = 'pending_delay'")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    pub(crate) async fn settle(&self) {
        for _round in 0..5 {
            self.end_leases().await;
            self.payer.round(&CancellationToken::new()).await.unwrap();
        }
    }

    /// Everything that a payer has leased is free again, but for what one works on at this moment: to wait for it, row after row,
    /// would be a deadlock with payers that wait for each other's.
    pub(crate) async fn end_leases(&self) {
        sqlx::query(
            "UPDATE settlement SET attempt_at = clock_timestamp() WHERE (bet_id, version) IN (
                SELECT bet_id, version FROM settlement WHERE NOT done FOR UPDATE SKIP LOCKED)",
        )
        .execute(&self.pool)
        .await
        .unwrap();
        sqlx::query(
            "UPDATE bet SET due_at = clock_timestamp() WHERE id IN (
                SELECT id FROM bet WHERE due_at IS NOT NULL FOR UPDATE SKIP LOCKED)",
        )
        .execute(&self.pool)
        .await
        .unwrap();
    }

    pub(crate) async fn result(&self, message: &(Uuid, LineResult)) {
        self.payer.store.add_result(message.0, &message.1).await.unwrap();
    }
}

pub(crate) fn request(customer: Uuid, key: &str, stake: &str, event: &str) -> PlaceTicket {
    serde_json::from_value(serde_json::json!({
        "customerId": customer, "currency": "EUR", "country": "SE", "idempotencyKey": key,
        "context": { "channel": "web" },
        "ticket": { "currency": "EUR", "funds": "cash", "oddsChange": "none", "bets": [{
            "type": "single", "stake": stake, "stakePer": "bet",
            "selections": [{ "eventId": event, "marketId": 1, "specifiers": "", "outcomeId": "1", "odds": "2.10" }],
        }]},
    }))
    .unwrap()
}

/// A result of the home outcome of a line: won, or none = rolled back; `void` refunds.
pub(crate) fn result(line: &LineKey, sequence: i64, won: Option<bool>, void: bool) -> (Uuid, LineResult) {
    let outcome = |won| OutcomeResult {
        id: "1".to_owned(),
        won: Some(won),
        void_factor: if void { Factor::ONE } else { Factor::ZERO },
        dead_heat_factor: Factor::ONE,
    };
    let result = LineResult {
        event_id: line.event_id.clone(),
        market_id: line.market_id,
        specifiers: line.specifiers.clone(),
        sequence,
        origin: ResultOrigin::Feed,
        certainty: won.map(|_| 2),
        settled_at: won.map(|_| sequence),
        void_reason: None,
        outcomes: won.map(outcome).into_iter().collect(),
        cancels: Vec::new(),
    };
    (Uuid::now_v7(), result)
}
