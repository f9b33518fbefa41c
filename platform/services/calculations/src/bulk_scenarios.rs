//! Very many rows of one kind: no statement touches them all.

use std::sync::Arc;

use async_trait::async_trait;
use paddock_events::{LineKey, MarketStatus};
use paddock_money::{Currency, Money};
use paddock_odds::Specifiers;
use paddock_service::outbox::Outbox;
use paddock_service::postgres::Database;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bank::{Bank, BankError};
use crate::domain::money_moves::Move;
use crate::settlement::Payer;
use crate::store::{Status, Store};
use crate::testing;
use crate::testing_world::{Crash, World, request, result};

const BIG: &str = "100000.00";

/// A statement that changes more rows of a table fails, as it would by its time with a thousand times as many.
async fn at_most(pool: &PgPool, table: &str, event: &str, transition: &str, rows: u32) {
    let trigger = format!(
        "CREATE FUNCTION few_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT count(*) FROM changed) > {rows} THEN RAISE 'too many rows'; END IF; RETURN NULL; END $$;
         CREATE TRIGGER few AFTER {event} ON {table} REFERENCING {transition} TABLE AS changed
            FOR EACH STATEMENT EXECUTE FUNCTION few_{table}()"
    );
    sqlx::raw_sql(AssertSqlSafe(trigger)).execute(pool).await.unwrap();
}

/// So many accepted tickets of one bet like an accepted one.
async fn copies(pool: &PgPool, ticket: Uuid, count: i32) {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE TEMP TABLE copies AS SELECT gen_random_uuid() AS ticket, gen_random_uuid() AS bet FROM generate_series(1, {count});
         INSERT INTO ticket (id, customer_id, currency, country, odds_change, status, total_stake, hold, delay_ms, context,
                placed_at, attempt_at)
            SELECT copies.ticket, customer_id, currency, country, odds_change, status, total_stake, hold, delay_ms, context,
                placed_at, attempt_at FROM copies, ticket WHERE id = '{ticket}';
         INSERT INTO bet (id, ticket_id, position, stake, potential_payout)
            SELECT copies.bet, copies.ticket, position, stake, potential_payout FROM copies, bet WHERE ticket_id = '{ticket}';
         INSERT INTO selection (bet_id, position, line_key, event_id, market_id, specifiers, outcome_id, asked_odds, odds,
                seen_state, seen_phase)
            SELECT copies.bet, s.position, line_key, event_id, market_id, specifiers, outcome_id, asked_odds, odds, seen_state,
                seen_phase FROM copies, selection s JOIN bet b ON b.id = s.bet_id WHERE b.ticket_id = '{ticket}'"
    )))
    .execute(pool)
    .await
    .unwrap();
}

async fn due(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM bet WHERE due_at IS NOT NULL").fetch_one(&world.pool).await.unwrap()
}

/// The result of a line with very many bets is taken in at once, with its offset. Its bets are marked afterwards, page by page; other
/// lines have their turn between two pages, and newer news begin with the first bet again.
#[tokio::test]
async fn a_very_popular_line_is_settled() {
    let world = World::start(BIG, 0).await;
    let ticket = world.place(world.customer("50.00"), "10.00").await;
    copies(&world.pool, ticket.id, 2499).await;
    let other = LineKey::new("sim:match:2", 1, Specifiers::none());
    let mut line = testing::line("2.10", 1, MarketStatus::Active);
    line.event_id.clone_from(&other.event_id);
    world.offer(line).await;
    let asked = request(world.customer("50.00"), "other", "10.00", &other.event_id);
    let beside = world.acceptance.place(&asked).await.unwrap().ticket;
    at_most(&world.pool, "bet", "UPDATE", "NEW", 1000).await;

    let store = &world.payer.store;
    let (id, popular) = result(&testing::key(), 1, Some(true), false);
    assert_eq!(store.next_result("results", 0).await.unwrap(), 0);
    assert!(store.take_in(("results", 0, 0, 0), Some((id, &popular))).await.unwrap());
    assert_eq!((store.next_result("results", 0).await.unwrap(), due(&world).await), (1, 0));
    world.result(&result(&other, 1, Some(true), false)).await;

    assert_eq!(store.mark_due(1000).await.unwrap(), 1000);
    assert_eq!(store.mark_due(1).await.unwrap(), 1, "the other line's turn");
    let marked: bool = sqlx::query_scalar("SELECT due_at IS NOT NULL FROM bet WHERE ticket_id = $1")
        .bind(beside.id)
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert!(marked);
    world.result(&result(&testing::key(), 2, None, false)).await;
    let mut looked_at = 0;
    loop {
        match store.mark_due(1000).await.unwrap() {
            0 => break,
            marked => looked_at += marked,
        }
    }
    assert!(looked_at >= 2500, "{looked_at}: with newer news all of them");
    assert_eq!(due(&world).await, 2501);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM line_due").fetch_one(&world.pool).await.unwrap();
    assert_eq!(left, 0);
}

/// Bets that are refused while a result of their line is known wait for no settlement: there would be more and more of them at the
/// front of those that do.
#[tokio::test]
async fn a_bet_that_is_refused_is_not_due() {
    let world = World::start(BIG, 0).await;
    for (number, cash, age, code) in [(1, "5.00", 0, "insufficient-funds"), (2, "50.00", 11, "account-unavailable")] {
        world.bank.crash(Some(Crash::Before(0)));
        let ticket = world.place(world.customer(cash), "10.00").await;
        assert_eq!(ticket.status, Status::Received);
        world.result(&result(&testing::key(), number, Some(true), false)).await;
        assert_eq!(world.payer.store.mark_due(1000).await.unwrap(), usize::try_from(number).unwrap());
        assert_eq!(due(&world).await, 1, "it is marked while nobody knows what becomes of it");
        sqlx::query("UPDATE ticket SET received_at = received_at - $1 * interval '1 second'")
            .bind(age)
            .execute(&world.pool)
            .await
            .unwrap();
        world.bank.crash(if age > 0 { Some(Crash::Before(0)) } else { None });
        world.resume().await;
        let ticket = world.ticket(ticket.id).await;
        assert_eq!((ticket.status, ticket.code.as_deref()), (Status::Rejected, Some(code)));
        assert_eq!(due(&world).await, 0, "{code}");
        // A result for each has come: the line takes bets again.
        world.result(&result(&testing::key(), number * 10, None, false)).await;
        world.payer.store.mark_due(1000).await.unwrap();
    }
}

#[tokio::test]
async fn very_many_old_keys_are_forgotten() {
    let world = World::start(BIG, 0).await;
    let ticket = world.place(world.customer("50.00"), "10.00").await;
    sqlx::query(
        "INSERT INTO idempotency (customer_id, key, fingerprint, ticket_id, created_at)
         SELECT customer_id, 'old ' || number, '', id, now() - interval '31 days'
         FROM ticket, generate_series(1, 2500) AS number WHERE id = $1",
    )
    .bind(ticket.id)
    .execute(&world.pool)
    .await
    .unwrap();
    at_most(&world.pool, "idempotency", "DELETE", "OLD", 1000).await;
    assert_eq!(world.payer.store.forget_old_keys().await.unwrap(), 2500);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency").fetch_one(&world.pool).await.unwrap();
    assert_eq!(left, 1, "the ticket's own");
}

/// As many queries for a page of tickets as for one.
#[tokio::test]
async fn a_page_of_tickets_costs_what_one_costs() {
    let world = World::start(BIG, 0).await;
    let customer = world.customer("50.00");
    let mut placed = Vec::new();
    for number in 0..5 {
        let mut asked = request(customer, &format!("key {number}"), "1.00", testing::EVENT);
        if number == 2 {
            asked.ticket.bets.push(asked.ticket.bets[0].clone());
        }
        placed.push(world.acceptance.place(&asked).await.unwrap().ticket);
    }
    placed.reverse();
    let pool =
        PgPoolOptions::new().max_connections(1).connect_with((*world.pool.connect_options()).clone()).await.unwrap();
    let origin = paddock_events::Origin { tenant: "acme".to_owned(), environment: "test".to_owned() };
    let store = Store::new(Database::over(pool.clone()), Outbox::default(), origin);
    let page = store.tickets_of(customer, None, 50).await.unwrap();
    let states = |tickets: &[crate::store::Ticket]| tickets.iter().map(crate::store::Ticket::state).collect::<Vec<_>>();
    assert_eq!(states(&page), states(&placed));
    assert_eq!(page.iter().map(|ticket| ticket.bets.len()).collect::<Vec<_>>(), [1, 1, 2, 1, 1]);
    let queries: i64 =
        sqlx::query_scalar("SELECT sum(generic_plans + custom_plans)::bigint FROM pg_prepared_statements")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(queries <= 3, "{queries} queries, this one among them");
    let older = store.tickets_of(customer, Some(placed[1].id), 2).await.unwrap();
    assert_eq!(states(&older), states(&placed[2..4]));
}

/// A bank at which the process is told to end.
struct Closing {
    inner: Arc<dyn Bank>,
    end: CancellationToken,
}

#[async_trait]
impl Bank for Closing {
    async fn hold(&self, ticket: Uuid, customer: Uuid, amount: Money) -> Result<(), BankError> {
        self.inner.hold(ticket, customer, amount).await
    }

    async fn post(&self, ticket: Uuid) -> Result<(), BankError> {
        self.inner.post(ticket).await
    }

    async fn void(&self, ticket: Uuid) -> Result<(), BankError> {
        self.inner.void(ticket).await
    }

    async fn transfer(&self, customer: Uuid, currency: Currency, step: &Move) -> Result<(), BankError> {
        self.end.cancel();
        self.inner.transfer(customer, currency, step).await
    }
}

/// A payer that is told to end begins nothing more; who leases the rest next pays it.
#[tokio::test]
async fn a_payer_ends_under_load() {
    let world = World::start(BIG, 0).await;
    let customer = world.customer("50.00");
    for number in 0..30 {
        world.acceptance.place(&request(customer, &number.to_string(), "1.00", testing::EVENT)).await.unwrap();
    }
    world.result(&result(&testing::key(), 1, Some(true), false)).await;
    let end = CancellationToken::new();
    let bank = Arc::new(Closing { inner: world.bank.clone(), end: end.clone() });
    Payer { bank, ..world.payer.clone() }.round(&end).await.unwrap();
    let paid = || async {
        let paid = sqlx::query_scalar("SELECT count(*) FROM settlement WHERE done").fetch_one(&world.pool).await;
        let paid: i64 = paid.unwrap();
        paid
    };
    assert!(paid().await < 10, "{} were under way at most", paid().await);
    world.settle().await;
    assert_eq!(paid().await, 30);
}
