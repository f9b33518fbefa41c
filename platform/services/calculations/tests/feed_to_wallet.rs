//! From the feed to the wallet, through rates, calculations, settlement and account as they are, each over its own database, account
//! over HTTP. Only the bus is left out: what an outbox holds is handed on in its order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::num::NonZeroU32;
use std::sync::Arc;

use paddock_account::domain::customer::Applicant;
use paddock_account::domain::plan::Movement;
use paddock_account::http::{AppState, CALLERS, internal};
use paddock_account::limiter::Limiter;
use paddock_account::password::Passwords;
use paddock_account::store::{Action, Asked, Command, NewCustomer, Store as Ledger};
use paddock_calculations::acceptance::Acceptance;
use paddock_calculations::bank::Account;
use paddock_calculations::metrics::{AcceptanceMetrics, SettlementMetrics};
use paddock_calculations::offer::{OfferCopy, Record};
use paddock_calculations::settlement::Payer;
use paddock_calculations::store::{Status, Store, Ticket};
use paddock_events::{Envelope, FeedMessage, FeedState, LineKey, OfferMessage, Origin, ResultMessage, Topic, decode};
use paddock_ledger::{AccountCode, Reason};
use paddock_market_book::Book;
use paddock_money::Currency;
use paddock_odds::Specifiers;
use paddock_rates::partition::{Outlet, Partition, Surroundings, heartbeat};
use paddock_rates::producers::Producers;
use paddock_service::binding::Bindings;
use paddock_service::kafka::Consumed;
use paddock_service::outbox::Outbox;
use paddock_service::postgres::Database;
use paddock_service::{BookHolder, CallerToken, Callers, Readiness};
use paddock_test_callers::Issuer;
use paddock_test_postgres::Server;
use prometheus::IntCounter;
use proptest::strategy::{Just, Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const EUR: Currency = Currency::EUR;
const FUNDS: i64 = 10_000;
const STAKE: i64 = 1_000;

/// Tables of rates that a backup has; what the outbox has sent is not unsaid.
const KEPT: [&str; 5] = ["event", "line", "result_message", "line_result", "consumer_offset"];

/// Available, held and at stake, minor units.
type Wallet = (i64, i64, i64);

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn origin() -> Origin {
    Origin { tenant: "acme".to_owned(), environment: "test".to_owned() }
}

fn book() -> String {
    let rule = |market: &str| {
        json!({ "name": market, "sport": "soccer", "marketType": market, "selector": { "phases": ["PreMatch", "Live"] },
            "margin": { "method": "Power", "overround": { "preMatch": "0.05", "live": "0.07" }, "ladder": "Standard" },
            "limits": [{ "currency": "EUR", "minStake": "1.00", "maxStake": "100.00", "maxPayout": "2000.00",
                "liability": "100000.00" }],
            "betDelayMs": { "preMatch": 0, "live": 0 }, "geography": {}, "state": "Open" })
    };
    json!({ "schema": 1, "generation": 1, "rules": [rule("match-result"), rule("total-goals")] }).to_string()
}

struct Platform {
    rates: PgPool,
    partition: Partition,
    outlet: Outlet,
    acceptance: Acceptance,
    payer: Payer,
    ledger: Ledger,
    accounts: PgPool,
    /// Topic `feed`.
    said: Vec<Consumed>,
    /// What of the outbox of rates was handed on.
    relayed: i64,
    _server: Server,
}

impl Platform {
    async fn start() -> Self {
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let server = Server::start().await.unwrap();
        let rates = server.database(&paddock_rates::MIGRATIONS).await.unwrap();
        let tickets = server.database(&paddock_calculations::MIGRATIONS).await.unwrap();
        let accounts = server.database(&paddock_account::store::MIGRATIONS).await.unwrap();

        let ledger = Ledger::new(Database::over(accounts.clone()), Outbox::default(), origin());
        let cheap = argon2::Params::new(argon2::Params::MIN_M_COST, 1, 1, None).unwrap();
        let state = AppState {
            store: ledger.clone(),
            passwords: Passwords::new(1, cheap).unwrap(),
            limiter: Limiter::per_minute(NonZeroU32::MIN, NonZeroU32::MIN),
            staff: None,
            currencies: Arc::new([EUR]),
            session_lifetime_s: 60,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (issuer, folder) = (Issuer::new("k1").unwrap(), tempfile::tempdir().unwrap());
        issuer.publish(folder.path()).unwrap();
        let callers = Callers::new("account", "acme-test", CALLERS);
        callers.load(folder.path()).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let bank = |caller: &str| {
            std::fs::create_dir(folder.path().join(caller)).unwrap();
            let token = issuer.token("acme-test", caller, "account").unwrap();
            std::fs::write(folder.path().join(caller).join("token"), token).unwrap();
            let file = Bindings::new(folder.path().to_owned()).watch(caller).unwrap();
            Arc::new(Account::new(&base, CallerToken::new(file).unwrap()).unwrap())
        };
        tokio::spawn(async move { axum::serve(listener, internal(state, &callers)).await });

        let store = Store::new(Database::over(tickets), Outbox::default(), origin());
        let holder = BookHolder::new(Readiness::default().gate("market-book", "not loaded"));
        holder.put(book().as_bytes()).await.unwrap();
        let acceptance = Acceptance {
            store: store.clone(),
            offer: OfferCopy::default(),
            book: holder,
            bank: bank("calculations"),
            metrics: AcceptanceMetrics::new().unwrap(),
        };
        let payer = Payer { store, bank: bank("settlement"), metrics: SettlementMetrics::new().unwrap() };
        let unreadable = IntCounter::new("unreadable", "Records.").unwrap();
        let outlet = Outlet { origin: origin(), outbox: Outbox::default(), unreadable };
        let partition = Partition::load(&rates, 0).await.unwrap();
        let (said, relayed) = (Vec::new(), 0);
        Self { rates, partition, outlet, acceptance, payer, ledger, accounts, said, relayed, _server: server }
    }

    fn around() -> Surroundings {
        let producers = json!([{ "product": 3, "name": "pre", "scope": "pre_match", "up": true, "reason": "" }]);
        let state: FeedState = serde_json::from_value(json!({ "at": now(), "producers": producers })).unwrap();
        let book = Arc::new(Book::from_json(book().as_bytes()).unwrap());
        Surroundings { book, producers: Producers::at(Some(&state), now()), now: now() }
    }

    /// The feed says something; rates takes it in, and its outbox reaches calculations and settlement.
    async fn feed(&mut self, id: Uuid, kind: &str, payload: Value) {
        self.say(id, kind, &payload);
        self.take_in().await;
    }

    /// The feed says something that rates has not read yet.
    fn say(&mut self, id: Uuid, kind: &str, payload: &Value) {
        let message: FeedMessage = serde_json::from_value(json!({ "type": kind, "payload": payload })).unwrap();
        let value = Envelope::at(&origin(), id, jiff::Timestamp::UNIX_EPOCH, message).to_json().unwrap();
        let (topic, partition, key) = (Topic::Feed, 0, String::new());
        let offset = i64::try_from(self.said.len()).unwrap();
        self.said.push(Consumed { topic, partition, offset, key, value: Some(value) });
    }

    /// Rates takes in together what it has not read yet.
    async fn take_in(&mut self) {
        let around = Self::around();
        self.partition.take(&self.rates, &self.outlet, &around, &self.said).await.unwrap();
        self.beat().await;
    }

    async fn beat(&mut self) {
        let around = Self::around();
        heartbeat(&self.rates, &self.outlet, &around, &[&self.partition], now(), 1).await.unwrap();
        self.relay().await;
    }

    async fn relay(&mut self) {
        let rows: Vec<(i64, String, Option<Vec<u8>>)> =
            sqlx::query_as("SELECT id, topic, value FROM outbox WHERE id > $1 ORDER BY id")
                .bind(self.relayed)
                .fetch_all(&self.rates)
                .await
                .unwrap();
        for (id, topic, value) in rows {
            self.relayed = id;
            let value = value.expect("nothing is withdrawn here");
            if topic == Topic::Offer.name() {
                let message = decode::<OfferMessage>(&value).unwrap().unwrap().body;
                let records = vec![Record::Message(0, Box::new(message))];
                let changes = self.acceptance.offer.changes(&records);
                self.acceptance.store.change_states(&changes).await.unwrap();
                self.acceptance.offer.apply(records);
            } else {
                let envelope = decode::<ResultMessage>(&value).unwrap().unwrap();
                let ResultMessage::LineResult(result) = &envelope.body;
                let next = self.payer.store.next_result(Topic::Results.name(), 0).await.unwrap();
                let place = (Topic::Results.name(), 0, next, next);
                assert!(self.payer.store.take_in(place, Some((envelope.id, result))).await.unwrap());
            }
        }
    }

    /// A fixture with a match result and a total of 2.25 goals, both open.
    async fn open(&mut self, event: &str) {
        let named = |id: &str, name: &str| json!({ "id": id, "name": name });
        let fixture = json!({ "product": 3, "eventId": event, "timestamp": 1, "startTime": now() + 3_600_000,
            "sport": named("sr:sport:1", "Soccer"), "category": named("c:1", "England"),
            "tournament": named("t:1", "Premier League"), "competitors": [], "status": "not_started" });
        self.feed(Uuid::now_v7(), "fixture", fixture).await;
        self.price(event, "active", 2).await;
    }

    async fn price(&mut self, event: &str, status: &str, timestamp: i64) {
        self.say_price(event, status, timestamp);
        self.take_in().await;
    }

    fn say_price(&mut self, event: &str, status: &str, timestamp: i64) {
        let outcome = |id: &str, probability: &str| json!({ "id": id, "active": true, "probability": probability });
        let odds = json!({ "product": 3, "eventId": event, "timestamp": timestamp, "markets": [
            { "marketId": 1, "status": status, "outcomes": [outcome("1", "0.5"), outcome("2", "0.25"), outcome("3", "0.25")] },
            { "marketId": 18, "specifiers": "total=2.25", "status": status, "outcomes": [outcome("12", "0.5"), outcome("13", "0.5")] },
        ] });
        self.say(Uuid::now_v7(), "odds_change", &odds);
    }

    /// Keeps a copy of what rates knows.
    async fn back_up(&self) {
        for table in KEPT {
            let copy = format!("CREATE TABLE backup.{table} AS TABLE {table}");
            let all = format!("CREATE SCHEMA IF NOT EXISTS backup; {copy}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(all)).execute(&self.rates).await.unwrap();
        }
    }

    /// Brings it back.
    async fn restore(&mut self) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("TRUNCATE {}", KEPT.join(", ")))).execute(&self.rates).await.unwrap();
        for table in KEPT {
            let back = format!("INSERT INTO {table} SELECT * FROM backup.{table}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(back)).execute(&self.rates).await.unwrap();
        }
        self.partition = Partition::load(&self.rates, 0).await.unwrap();
    }

    /// The newest change of a line's or an event's state that acceptance knows.
    async fn state(&self, key: &str) -> (i64, String) {
        self.acceptance.store.states(&[key.to_owned()]).await.unwrap().remove(key).unwrap()
    }

    async fn customer(&self) -> Uuid {
        let id = Uuid::now_v7();
        let applicant = Applicant {
            email: format!("{id}@example.com"),
            name: "Ann Example".to_owned(),
            birth_date: jiff::civil::date(1990, 1, 1),
            country: "GB".to_owned(),
            currency: EUR,
        };
        self.ledger.register(&NewCustomer { id, applicant, password_hash: "none".to_owned() }).await.unwrap();
        let (debit, credit) = (AccountCode::HousePsp, AccountCode::PlayerCash);
        let movement = Movement { debit, credit, amount: FUNDS, reason: Reason::Deposit };
        let action = Action::Transfer(Asked { customer: id, currency: EUR, movement });
        self.ledger.apply(&Command { id: Uuid::now_v7(), action }).await.unwrap();
        id
    }

    async fn wallet(&self, customer: Uuid) -> Wallet {
        let wallet = self.ledger.wallets(customer).await.unwrap().1[0];
        (wallet.available.minor(), wallet.held.minor(), wallet.at_stake.minor())
    }

    async fn bet(&mut self, customer: Uuid, event: &str, market: u32, specifiers: &str, outcome: &str) -> Ticket {
        self.beat().await;
        let line = LineKey::new(event, market, Specifiers::parse(specifiers).unwrap());
        let offered = self.acceptance.offer.line(&line, now()).expect("the line is known");
        let odds = offered.line.outcome(outcome).and_then(|outcome| outcome.odds).map(|odds| odds.to_string());
        let request = json!({
            "customerId": customer, "currency": "EUR", "country": "GB", "idempotencyKey": Uuid::now_v7().to_string(),
            "ticket": { "currency": "EUR", "bets": [{ "type": "single", "stake": "10.00", "selections": [{
                "eventId": event, "marketId": market, "specifiers": specifiers, "outcomeId": outcome,
                "odds": odds.unwrap_or_else(|| "1.50".to_owned()) }] }] },
        });
        self.acceptance.place(&serde_json::from_value(request).unwrap()).await.unwrap().ticket
    }

    /// Until nothing is due any more. A payer may be called again at once: what it leased, it has finished.
    async fn settle(&self) {
        while self.payer.round(&CancellationToken::new()).await.unwrap() > 0 {}
    }

    async fn check_books(&self) {
        let unbalanced: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT FROM accounts GROUP BY customer_id, currency
             HAVING sum(debits_posted) <> sum(credits_posted) OR sum(debits_pending) <> sum(credits_pending)) wrong",
        )
        .fetch_one(&self.accounts)
        .await
        .unwrap();
        assert_eq!(unbalanced, 0);
    }
}

/// What the feed says of the match result: outcome `winner` won.
fn settlement(event: &str, timestamp: i64, certainty: u8, winner: &str) -> (&'static str, Value) {
    let outcomes: Vec<Value> = ["1", "2", "3"].map(|id| json!({ "id": id, "won": id == winner })).to_vec();
    let markets = json!([{ "marketId": 1, "outcomes": outcomes }]);
    let payload =
        json!({ "product": 3, "eventId": event, "timestamp": timestamp, "certainty": certainty, "markets": markets });
    ("bet_settlement", payload)
}

/// A message about the line of the match result, with bounds of time.
fn about(kind: &'static str, event: &str, timestamp: i64, range: Option<(i64, i64)>) -> (&'static str, Value) {
    let mut payload = json!({ "product": 3, "eventId": event, "timestamp": timestamp, "lines": [{ "marketId": 1 }] });
    if let Some((start, end)) = range {
        (payload["startTime"], payload["endTime"]) = (start.into(), end.into());
    }
    (kind, payload)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wins_losses_voids_and_corrections_reach_the_wallet() {
    let mut platform = Platform::start().await;
    let event = "sim:match:1";
    platform.open(event).await;
    let [home, away, over, late] =
        [platform.customer().await, platform.customer().await, platform.customer().await, platform.customer().await];
    let ticket = platform.bet(home, event, 1, "", "1").await;
    assert_eq!((ticket.status, ticket.code.as_deref()), (Status::Accepted, None));
    // 1 / (0.5 · 1.05) by the power method, down to the ladder.
    let win = ticket.bets[0].potential_payout;
    assert!((1_800..2_000).contains(&win), "{win}");
    assert_eq!(platform.wallet(home).await, (FUNDS - STAKE, 0, STAKE));
    assert_eq!(platform.bet(away, event, 1, "", "3").await.status, Status::Accepted);
    let total = platform.bet(over, event, 18, "total=2.25", "12").await;
    assert_eq!(total.status, Status::Accepted);

    // A suspension by the feed reaches acceptance.
    platform.feed(Uuid::now_v7(), "bet_stop", stop(event, 3)).await;
    let refused = platform.bet(late, event, 1, "", "1").await;
    assert_eq!((refused.status, refused.code.as_deref()), (Status::Rejected, Some("market-suspended")));
    platform.price(event, "active", 4).await;

    // Home wins, says a scout; the total of two goals is half lost.
    let (kind, payload) = settlement(event, 10, 1, "1");
    platform.feed(Uuid::now_v7(), kind, payload).await;
    let half = json!({ "product": 3, "eventId": event, "timestamp": 10, "certainty": 2, "markets": [{ "marketId": 18,
        "specifiers": "total=2.25", "outcomes": [{ "id": "12", "won": false, "voidFactor": "0.5" },
            { "id": "13", "won": true, "voidFactor": "0.5" }] }] });
    platform.feed(Uuid::now_v7(), "bet_settlement", half).await;
    let decided = platform.bet(late, event, 1, "", "1").await;
    assert_eq!((decided.status, decided.code.as_deref()), (Status::Rejected, Some("market-closed")));
    assert_eq!(platform.wallet(late).await, (FUNDS, 0, 0));
    platform.settle().await;
    assert_eq!(platform.wallet(home).await, (FUNDS - STAKE + win, 0, 0));
    assert_eq!(platform.wallet(away).await, (FUNDS - STAKE, 0, 0));
    assert_eq!(platform.wallet(over).await, (FUNDS - STAKE / 2, 0, 0));

    // No, away does.
    let (kind, payload) = settlement(event, 11, 2, "3");
    platform.feed(Uuid::now_v7(), kind, payload).await;
    platform.settle().await;
    assert_eq!(platform.wallet(home).await, (FUNDS - STAKE, 0, 0));
    assert!(platform.wallet(away).await.0 > FUNDS);

    // Undone, and then the event is cancelled: everybody has the stake again.
    let (kind, payload) = about("rollback_bet_settlement", event, 12, None);
    platform.feed(Uuid::now_v7(), kind, payload).await;
    platform.settle().await;
    assert_eq!(platform.wallet(home).await, (FUNDS - STAKE, 0, STAKE));
    assert_eq!(platform.wallet(away).await, (FUNDS - STAKE, 0, STAKE));
    let (kind, payload) = about("bet_cancel", event, 13, None);
    platform.feed(Uuid::now_v7(), kind, payload).await;
    platform.settle().await;
    for customer in [home, away] {
        assert_eq!(platform.wallet(customer).await, (FUNDS, 0, 0));
    }
    assert_eq!(platform.acceptance.store.ticket(ticket.id).await.unwrap().unwrap().status, Status::Cancelled);
    platform.check_books().await;
}

fn stop(event: &str, timestamp: i64) -> Value {
    json!({ "product": 3, "eventId": event, "timestamp": timestamp, "groups": ["all"], "marketStatus": "suspended" })
}

/// Rates may read a stop together with what ends it. A ticket that waits out its delay meanwhile must not pass over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_ends_at_once_changes_the_state_of_its_lines() {
    let mut platform = Platform::start().await;
    let (event, line) = ("sim:match:1", "sim:match:1|1|");
    platform.open(event).await;
    let seen = platform.state(line).await;
    platform.say(Uuid::now_v7(), "bet_stop", &stop(event, 3));
    platform.say_price(event, "active", 4);
    platform.take_in().await;
    let stands = platform.state(line).await;
    assert!(seen.1 == "active" && stands.1 == "active" && stands.0 > seen.0, "{seen:?}, then {stands:?}");
}

/// The database of rates comes back from a backup, and the feed is read again from there. What rates says then is newer than all that
/// it has said before, also where it had said more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_rates_is_heard() {
    let mut platform = Platform::start().await;
    let event = "sim:match:1";
    platform.open(event).await;
    let [home, late] = [platform.customer().await, platform.customer().await];
    assert_eq!(platform.bet(home, event, 1, "", "1").await.status, Status::Accepted);
    platform.back_up().await;
    for (timestamp, status) in (3..).zip(["suspended", "active", "suspended", "active"]) {
        platform.price(event, status, timestamp).await;
    }
    for (timestamp, certainty, winner) in [(10, 1, "2"), (11, 1, "3"), (12, 2, "1")] {
        let (kind, payload) = settlement(event, timestamp, certainty, winner);
        platform.feed(Uuid::now_v7(), kind, payload).await;
    }
    platform.settle().await;
    assert!(platform.wallet(home).await.0 > FUNDS);

    platform.restore().await;
    platform.take_in().await;
    platform.settle().await;
    assert!(platform.wallet(home).await.0 > FUNDS, "the same again changes nothing");
    platform.feed(Uuid::now_v7(), "bet_stop", stop(event, 13)).await;
    let refused = platform.bet(late, event, 18, "total=2.25", "12").await;
    assert_eq!((refused.status, refused.code.as_deref()), (Status::Rejected, Some("market-suspended")));
    let (kind, payload) = about("rollback_bet_settlement", event, 14, None);
    platform.feed(Uuid::now_v7(), kind, payload).await;
    platform.settle().await;
    assert_eq!(platform.wallet(home).await, (FUNDS - STAKE, 0, STAKE));
    platform.check_books().await;
}

/// B4 from end to end: the same messages in any order, each twice, paid in between or not, end in the same wallets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_order_of_the_feed_ends_in_the_same_wallets() {
    let mut platform = Platform::start().await;
    let mut runner = TestRunner::deterministic();
    let mut ends: Vec<(bool, Vec<Wallet>)> = Vec::new();
    for number in 0..8 {
        let event = format!("sim:match:{}", 100 + number);
        platform.open(&event).await;
        let mut customers = Vec::new();
        let mut placed = (i64::MAX, 0);
        for outcome in ["1", "2", "3"] {
            let customer = platform.customer().await;
            let ticket = platform.bet(customer, &event, 1, "", outcome).await;
            let at = ticket.placed_at.expect("accepted");
            placed = (placed.0.min(at), placed.1.max(at));
            customers.push(customer);
        }
        // Every second match stays cancelled for those who bet on it.
        let is_void = number % 2 == 1;
        let range = Some((placed.0, placed.1 + 1));
        let mut messages = vec![
            settlement(&event, 10, 1, "1"),
            settlement(&event, 11, 2, "2"),
            about("rollback_bet_settlement", &event, 12, None),
            about("bet_cancel", &event, 13, range),
            settlement(&event, 14, 1, "1"),
            settlement(&event, 15, 2, "3"),
            // Another range, in which nobody bet.
            about("bet_cancel", &event, 16, Some((0, 1))),
        ];
        if !is_void {
            messages.push(about("rollback_bet_cancel", &event, 17, range));
        }
        let known: Vec<_> = messages.into_iter().map(|message| (Uuid::now_v7(), message)).collect();
        let twice: Vec<_> = known.iter().chain(&known).cloned().collect();
        let order = Just(twice).prop_shuffle().new_tree(&mut runner).unwrap().current();
        for (place, (id, (kind, payload))) in order.into_iter().enumerate() {
            platform.feed(id, kind, payload).await;
            if (place + number) % 3 == 0 {
                platform.settle().await;
            }
        }
        platform.settle().await;
        let mut wallets = Vec::new();
        for customer in customers {
            wallets.push(platform.wallet(customer).await);
        }
        ends.push((is_void, wallets));
    }
    for (is_void, wallets) in &ends {
        if *is_void {
            assert!(wallets.iter().all(|wallet| *wallet == (FUNDS, 0, 0)), "{ends:?}");
        } else {
            let lost = (FUNDS - STAKE, 0, 0);
            assert_eq!((wallets[0], wallets[1]), (lost, lost), "{ends:?}");
            assert!(wallets[2].0 > FUNDS && wallets[2] == ends[0].1[2], "{ends:?}");
        }
    }
    platform.check_books().await;
}
