//! Acceptance and settlement as a whole: crashes, repetition, concurrency.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use paddock_events::{CancelledRange, LineKey, MarketStatus, TicketMessage, decode};
use paddock_ledger::AccountId;
use paddock_market_book::Refusal;
use paddock_odds::Specifiers;
use paddock_service::{BookHolder, CALLER_HEADER, Callers, PutBookError, Readiness};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::acceptance::Acceptance;
use crate::domain::request::CallersBook;
use crate::store::{StateChange, Status, StoreError};
use crate::testing;
use crate::testing_world::{Crash, World, request, result};

const BIG: &str = "100000.00";

#[tokio::test]
async fn a_ticket_is_accepted_once_and_its_key_replays() {
    let world = World::start(BIG, 0).await;
    let customer = world.customer("50.00");
    let ticket = world.place(customer, "10.00").await;
    assert_eq!((ticket.status, ticket.code.as_deref()), (Status::Accepted, None));
    assert!(ticket.placed_at.unwrap() >= ticket.received_at);
    assert_eq!(ticket.potential_payout(), 2100);
    let certificate = ticket.certificate.unwrap();
    assert_eq!(certificate["bets"][0]["rule"], "soccer-1x2");
    assert_eq!(certificate["bets"][0]["liability"]["after"], "11.00");
    assert_eq!((world.bank.balance(AccountId::HOUSE_BETS), world.bank.worth(customer)), (1000, 4000));

    let mut repeated = request(customer, "key", "10.00", testing::EVENT);
    // What is refused by now was accepted then.
    repeated.book = Some(CallersBook { generation: 9, refused: vec![Some(Refusal::MarketSuspended)] });
    let again = world.acceptance.place(&repeated).await.unwrap();
    assert_eq!((again.ticket.id, again.ticket.status, again.is_new), (ticket.id, Status::Accepted, false));
    let other = world.acceptance.place(&request(customer, "key", "11.00", testing::EVENT)).await.unwrap_err();
    assert_eq!(other.code(), "idempotency-key-reused");
    assert_eq!(world.bank.worth(customer), 4000, "nothing more was taken");
    let events: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&world.pool).await.unwrap();
    assert_eq!(events, 1);
}

#[tokio::test]
async fn the_same_key_at_the_same_time_makes_one_ticket() {
    let world = World::start(BIG, 0).await;
    let customer = world.customer("50.00");
    let asked = request(customer, "key", "10.00", testing::EVENT);
    let answers = futures::future::join_all((0..6).map(|_| world.acceptance.place(&asked))).await;
    let mut tickets: Vec<_> = answers.iter().map(|answer| answer.as_ref().unwrap().ticket.id).collect();
    tickets.dedup();
    assert_eq!(tickets.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.as_ref().unwrap().is_new).count(), 1);
    world.resume().await;
    assert_eq!(world.bank.worth(customer), 4000);
}

#[tokio::test]
async fn refusals_take_nothing() {
    let world = World::start(BIG, 0).await;
    let customer = world.customer("5.00");
    let ticket = world.place(customer, "10.00").await;
    assert_eq!((ticket.status, ticket.code.as_deref()), (Status::Rejected, Some("insufficient-funds")));
    let mut asked = request(customer, "unknown", "1.00", "sim:match:404");
    let ticket = world.acceptance.place(&asked).await.unwrap().ticket;
    assert_eq!((ticket.status, ticket.code.as_deref()), (Status::Rejected, Some("unknown-selection")));
    assert_eq!(ticket.bets[0].code.as_deref(), Some("unknown-selection"));
    for nonsense in ["", "sim:match:1|1|", "sim:match:\0", "sim match", &"x".repeat(200)] {
        let problem = world.acceptance.place(&request(customer, "nonsense", "1.00", nonsense)).await.unwrap_err();
        assert_eq!((problem.status(), problem.code()), (StatusCode::UNPROCESSABLE_ENTITY, "unknown-selection"));
    }
    asked = request(customer, "accumulator", "1.00", testing::EVENT);
    asked.ticket.bets[0].kind = "accumulator".to_owned();
    let problem = world.acceptance.place(&asked).await.unwrap_err();
    assert_eq!((problem.status(), problem.code()), (StatusCode::UNPROCESSABLE_ENTITY, "bet-type-not-offered"));
    asked = request(customer, "newer-book", "1.00", testing::EVENT);
    asked.book = Some(CallersBook { generation: 2, refused: vec![Some(Refusal::MarketSuspended)] });
    let ticket = world.acceptance.place(&asked).await.unwrap().ticket;
    assert_eq!((ticket.status, ticket.code.as_deref()), (Status::Rejected, Some("market-suspended")), "a newer book");
    assert_eq!((world.bank.worth(customer), world.bank.held(customer)), (500, 0));

    // A caller whose book is not newer says nothing that this replica does not know better.
    asked = request(customer, "older-book", "1.00", testing::EVENT);
    asked.book = Some(CallersBook { generation: 1, refused: vec![Some(Refusal::MarketSuspended)] });
    assert_eq!(world.acceptance.place(&asked).await.unwrap().ticket.status, Status::Accepted);
}

/// B2: kill the process around every call of account; another one finishes the ticket.
#[tokio::test]
async fn a_crash_at_any_call_loses_no_ticket() {
    let world = World::start(BIG, 0).await;
    for (number, crash) in
        [Crash::Before(0), Crash::After(0), Crash::Before(1), Crash::After(1)].into_iter().enumerate()
    {
        let customer = world.customer("50.00");
        world.bank.crash(Some(crash));
        let ticket = world.place(customer, "10.00").await;
        assert_eq!(world.bank.calls(), if number < 2 { 1 } else { 2 }, "{crash:?} happened");
        world.bank.crash(None);
        world.resume().await;
        assert_eq!(world.ticket(ticket.id).await.status, Status::Accepted, "{crash:?}");
        assert_eq!((world.bank.worth(customer), world.bank.held(customer)), (4000, 0), "{crash:?}");
    }
    assert_eq!(world.bank.balance(AccountId::HOUSE_BETS), 4000);
    assert!(world.bank.is_balanced());
}

#[tokio::test]
async fn a_crash_around_a_refusal_leaves_no_hold() {
    let world = World::start(BIG, 60_000).await;
    for (number, crash) in (2..).zip([Crash::Before(0), Crash::After(0), Crash::Before(1), Crash::After(1)]) {
        let customer = world.customer("50.00");
        world.bank.crash(Some(crash));
        let ticket = world.place(customer, "10.00").await;
        let is_hold = matches!(crash, Crash::Before(0) | Crash::After(0));
        if is_hold {
            assert_eq!(world.bank.calls(), 1);
            world.bank.crash(None);
        }
        world.resume().await;
        // The line is suspended and returns during the delay.
        world.offer(testing::line("2.10", number * 10, MarketStatus::Suspended)).await;
        world.offer(testing::line("2.10", number * 10 + 1, MarketStatus::Active)).await;
        world.pass_delay().await;
        world.resume().await;
        world.bank.crash(None);
        world.resume().await;
        let ticket = world.ticket(ticket.id).await;
        assert_eq!((ticket.status, ticket.code.as_deref()), (Status::Rejected, Some("market-suspended")), "{crash:?}");
        assert_eq!((world.bank.worth(customer), world.bank.held(customer)), (5000, 0), "{crash:?}");
    }
    assert_eq!(world.bank.balance(AccountId::HOUSE_BETS), 0);
}

#[tokio::test]
async fn a_delayed_ticket_is_decided_by_whoever_comes() {
    let world = World::start(BIG, 60_000).await;
    let customer = world.customer("50.00");
    let ticket = world.place(customer, "10.00").await;
    assert_eq!(ticket.status, Status::PendingDelay);
    assert_eq!((world.bank.worth(customer), world.bank.held(customer)), (5000, 1000));
    world.resume().await;
    assert_eq!(world.ticket(ticket.id).await.status, Status::PendingDelay, "not before its time");
    world.pass_delay().await;
    // Two replicas at once.
    let other: Acceptance = world.acceptance.clone();
    sqlx::query("UPDATE ticket SET attempt_at = clock_timestamp()").execute(&world.pool).await.unwrap();
    let patience = Duration::ZERO;
    let (one, two) = tokio::join!(world.acceptance.advance(ticket.id, patience), other.advance(ticket.id, patience));
    one.unwrap();
    two.unwrap();
    let decided = world.ticket(ticket.id).await;
    assert_eq!((decided.status, decided.sequence), (Status::Accepted, 3), "one decision");
    assert_eq!((world.bank.worth(customer), world.bank.held(customer)), (4000, 0));
}

/// B3: whatever comes together, the liability limit holds.
#[tokio::test]
async fn concurrent_tickets_never_pass_the_liability() {
    // Each bet of 10.00 at 2.10 costs 11.00 at most: four fit into 50.00.
    let world = World::start("50.00", 0).await;
    let customer = world.customer("1000.00");
    let requests: Vec<_> =
        (0..16).map(|number| request(customer, &format!("key{number}"), "10.00", testing::EVENT)).collect();
    futures::future::join_all(requests.iter().map(|asked| world.acceptance.place(asked))).await;
    world.resume().await;
    let count = async |status: &str, code: Option<&str>| -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM ticket WHERE status = $1 AND code IS NOT DISTINCT FROM $2")
            .bind(status)
            .bind(code)
            .fetch_one(&world.pool)
            .await
            .unwrap()
    };
    assert_eq!(count("accepted", None).await, 4);
    assert_eq!(count("rejected", Some("limit-exceeded")).await, 12);
    let liability: i64 = sqlx::query_scalar("SELECT liability FROM exposure").fetch_one(&world.pool).await.unwrap();
    assert_eq!(liability, 4400);
    assert_eq!((world.bank.worth(customer), world.bank.held(customer)), (96_000, 0));
}

/// B3: a suspension does not wait until nobody bets any more.
#[tokio::test]
async fn a_suspension_is_written_while_bets_keep_coming() {
    let world = std::sync::Arc::new(World::start(BIG, 0).await);
    let end = CancellationToken::new();
    let bettors: Vec<_> = (0..8)
        .map(|_| {
            let (world, end, customer) = (std::sync::Arc::clone(&world), end.clone(), world.customer("10000.00"));
            tokio::spawn(async move {
                let mut accepted = 0;
                while !end.is_cancelled() {
                    let asked = request(customer, &Uuid::now_v7().to_string(), "1.00", testing::EVENT);
                    let ticket = world.acceptance.place(&asked).await.unwrap().ticket;
                    match ticket.code.as_deref() {
                        None => accepted += 1,
                        // This replica's copy is older than the row.
                        code => assert_eq!(code, Some("offer-stale")),
                    }
                }
                accepted
            })
        })
        .collect();
    let count = async || -> i64 {
        let query = sqlx::query_scalar("SELECT count(*) FROM ticket WHERE status = 'accepted'");
        query.fetch_one(&world.pool).await.unwrap()
    };
    while count().await < 20 {
        assert!(bettors.iter().all(|bettor| !bettor.is_finished()), "a bet was refused");
        tokio::task::yield_now().await;
    }
    let key = testing::key().to_string();
    let change = StateChange { key, sequence: 2, status: MarketStatus::Suspended.into(), witnessed: true };
    // Bets go on until it is written, however long that takes.
    let changes = [change];
    let written = world.acceptance.store.change_states(&changes);
    tokio::time::timeout(std::time::Duration::from_secs(20), written).await.unwrap().unwrap();
    let until_then = count().await;
    end.cancel();
    let accepted: i32 = futures::future::join_all(bettors).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(i64::from(accepted), until_then, "none was accepted after it");
}

/// What is told and answered is what was stored.
#[tokio::test]
async fn a_decision_is_told_as_it_is_stored() {
    let world = World::start("30.00", 0).await;
    let customer = world.customer("100.00");
    for (key, status) in [("fits", Status::Accepted), ("does not", Status::Rejected)] {
        let answer = world.acceptance.place(&request(customer, key, "20.00", testing::EVENT)).await.unwrap().ticket;
        assert_eq!(answer.status, status);
        let stored = world.ticket(answer.id).await;
        assert_eq!(answer.state(), stored.state());
        assert_eq!(
            (&answer.certificate, answer.placed_at.is_some()),
            (&stored.certificate, status == Status::Accepted)
        );
        let told: Vec<u8> = sqlx::query_scalar("SELECT value FROM outbox ORDER BY id DESC LIMIT 1")
            .fetch_one(&world.pool)
            .await
            .unwrap();
        let TicketMessage::TicketDecided(told) = decode::<TicketMessage>(&told).unwrap().unwrap().body else {
            panic!("a decision")
        };
        assert_eq!(told, stored.state());
    }
}

/// B3: after another replica has a newer book in force, this one commits nothing by its older one.
#[tokio::test]
async fn no_ticket_commits_against_an_older_book() {
    let world = World::start(BIG, 60_000).await;
    let customer = world.customer("50.00");
    let ticket = world.place(customer, "10.00").await;
    world.pass_delay().await;
    world.acceptance.store.book_in_force(2).await.unwrap();
    let behind = world.acceptance.advance(ticket.id, Duration::ZERO).await.unwrap_err();
    assert!(matches!(behind, StoreError::BookBehind(2)));
    assert_eq!(world.ticket(ticket.id).await.status, Status::PendingDelay);
    // The new book lowers the limit below this bet.
    world.book(2, "5.00", 60_000).await;
    world.acceptance.advance(ticket.id, Duration::ZERO).await.unwrap();
    let ticket = world.ticket(ticket.id).await;
    assert_eq!((ticket.status, ticket.code.as_deref()), (Status::Rejected, Some("limit-exceeded")));
    assert_eq!((world.bank.worth(customer), world.bank.held(customer)), (5000, 0));
}

/// An operator that lost its memory, and has written the file that a new pod read, is told the number that the database knows.
#[tokio::test]
async fn a_new_pod_refuses_a_book_that_is_older_than_the_database_knows() {
    let world = World::start(BIG, 0).await;
    world.acceptance.store.book_in_force(9).await.unwrap();
    let readiness = Readiness::default();
    let pod =
        Acceptance { book: BookHolder::new(readiness.gate("market-book", "not loaded")), ..world.acceptance.clone() };
    pod.book.compare_first();
    let end = CancellationToken::new();
    let announcing =
        tokio::spawn(pod.clone().announce_books(readiness.gate("generation", "not compared"), end.clone()));
    let put = async |generation| {
        let json = testing::book(generation).to_json().unwrap();
        loop {
            match pod.book.put(json.as_bytes()).await {
                Err(PutBookError::NotCompared) => tokio::time::sleep(Duration::from_millis(10)).await,
                answer => return answer,
            }
        }
    };
    let patience = Duration::from_secs(30);
    let refused = tokio::time::timeout(patience, put(3)).await.unwrap();
    assert!(matches!(&refused, Err(PutBookError::Newer(now)) if now.generation == 9), "{refused:?}");
    put(10).await.unwrap();
    let ready = async {
        while !readiness.missing().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(patience, ready).await.expect("ready");
    end.cancel();
    announcing.await.unwrap().unwrap();
}

/// B3: what another replica has acknowledged counts here, before this replica's copy has seen it.
#[tokio::test]
async fn a_suspension_that_another_replica_applied_refuses() {
    let world = World::start(BIG, 60_000).await;
    let customer = world.customer("50.00");
    let ticket = world.place(customer, "10.00").await;
    let key = testing::key().to_string();
    let change = StateChange { key, sequence: 2, status: MarketStatus::Suspended.into(), witnessed: true };
    world.acceptance.store.change_states(&[change]).await.unwrap();
    world.pass_delay().await;
    world.resume().await;
    let ticket = world.ticket(ticket.id).await;
    assert_eq!((ticket.status, ticket.code.as_deref()), (Status::Rejected, Some("offer-stale")));
    assert_eq!((world.bank.worth(customer), world.bank.held(customer)), (5000, 0));
}

async fn accepted_on(world: &World, customer: Uuid, event: &str) -> Uuid {
    let mut line = testing::line("2.10", 1, MarketStatus::Active);
    event.clone_into(&mut line.event_id);
    world.offer(line).await;
    let ticket = world.acceptance.place(&request(customer, event, "10.00", event)).await.unwrap().ticket;
    assert_eq!(ticket.status, Status::Accepted);
    ticket.id
}

/// B4: the same messages in any order, repeated, with payments in between, end in the same balances.
#[tokio::test]
async fn any_order_of_results_pays_the_same() {
    let world = World::start(BIG, 0).await;
    let mut runner = TestRunner::deterministic();
    for number in 0..12 {
        let (customer, event) = (world.customer("50.00"), format!("sim:match:{}", 100 + number));
        let id = accepted_on(&world, customer, &event).await;
        let line = LineKey::new(&event, 1, Specifiers::none());
        let messages = vec![
            result(&line, 1, Some(true), false),
            result(&line, 2, None, false),
            result(&line, 3, Some(false), false),
            result(&line, 4, Some(true), true),
            result(&line, 5, Some(true), false),
        ];
        let twice: Vec<_> = messages.iter().chain(&messages).cloned().collect();
        let order = proptest::strategy::Just(twice).prop_shuffle().new_tree(&mut runner).unwrap().current();
        for (place, message) in order.iter().enumerate() {
            world.result(message).await;
            if (place + number) % 3 == 0 {
                world.settle().await;
            }
        }
        world.settle().await;
        let ticket = world.ticket(id).await;
        assert_eq!((ticket.status, ticket.bets[0].payout), (Status::Settled, Some(2100)), "{number}");
        assert_eq!(ticket.bets[0].selections[0].result.as_deref(), Some("won"));
        assert_eq!(world.bank.worth(customer), 6100, "{number}");
    }
    assert_eq!(world.bank.balance(AccountId::HOUSE_BETS), 0);
    assert_eq!(world.bank.balance(AccountId::HOUSE_PNL), -12 * 1100);
    assert!(world.bank.is_balanced());
}

#[tokio::test]
async fn a_crash_at_any_transfer_pays_once() {
    let world = World::start(BIG, 0).await;
    for (number, crash) in
        [Crash::Before(0), Crash::After(0), Crash::Before(1), Crash::After(1)].into_iter().enumerate()
    {
        let (customer, event) = (world.customer("50.00"), format!("sim:match:{}", 200 + number));
        let id = accepted_on(&world, customer, &event).await;
        let line = LineKey::new(&event, 1, Specifiers::none());
        world.result(&result(&line, 1, Some(true), false)).await;
        world.bank.crash(Some(crash));
        world.payer.round(&CancellationToken::new()).await.unwrap();
        assert_eq!(world.ticket(id).await.status, Status::Accepted, "{crash:?} happened");
        world.bank.crash(None);
        world.settle().await;
        assert_eq!(world.ticket(id).await.status, Status::Settled, "{crash:?}");
        assert_eq!(world.bank.worth(customer), 6100, "{crash:?}");
    }
    assert_eq!(world.bank.balance(AccountId::HOUSE_BETS), 0);
    assert!(world.bank.is_balanced());
}

/// Two replicas of settlement, and leases that end while they pay: every step may be done twice at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_payers_at_once_pay_once() {
    let world = World::start(BIG, 0).await;
    let (customer, event) = (world.customer("500.00"), "sim:match:250");
    let line = LineKey::new(event, 1, Specifiers::none());
    accepted_on(&world, customer, event).await;
    for number in 0..12 {
        let asked = request(customer, &format!("more{number}"), "10.00", event);
        assert_eq!(world.acceptance.place(&asked).await.unwrap().ticket.status, Status::Accepted);
    }
    // Thirteen bets of 10.00 at 2.10: won, undone, lost, won.
    for (sequence, won) in (1..).zip([Some(true), None, Some(false), Some(true)]) {
        world.result(&result(&line, sequence, won, false)).await;
        let done = std::sync::atomic::AtomicBool::new(false);
        let payer = async || {
            for _round in 0..6 {
                world.payer.round(&CancellationToken::new()).await.unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        };
        // Takes every lease away as soon as it is given.
        let unleash = async {
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                world.end_leases().await;
            }
        };
        tokio::join!(payer(), payer(), payer(), unleash);
        world.settle().await;
        let each = match won {
            Some(true) => 2100,
            Some(false) => 0,
            None => 1000,
        };
        let at_stake = world.bank.balance(AccountId::HOUSE_BETS);
        assert_eq!(at_stake, if won.is_none() { 13_000 } else { 0 });
        assert_eq!(world.bank.worth(customer) + at_stake, 50_000 - 13_000 + 13 * each, "{won:?}");
    }
    let versions: Vec<i32> =
        sqlx::query_scalar("SELECT DISTINCT settlement_version FROM bet").fetch_all(&world.pool).await.unwrap();
    assert_eq!(versions, [4], "each bet took each result once");
    assert!(world.bank.is_balanced());
}

#[tokio::test]
async fn a_rollback_after_the_money_is_gone_becomes_debt() {
    let world = World::start(BIG, 0).await;
    let (customer, event) = (world.customer("10.00"), "sim:match:300");
    let id = accepted_on(&world, customer, event).await;
    let line = LineKey::new(event, 1, Specifiers::none());
    world.result(&result(&line, 1, Some(true), false)).await;
    world.settle().await;
    // All of it is bet again.
    let mut second = testing::line("2.10", 1, MarketStatus::Active);
    "sim:match:301".clone_into(&mut second.event_id);
    world.offer(second).await;
    world.acceptance.place(&request(customer, "all", "21.00", "sim:match:301")).await.unwrap();
    world.result(&result(&line, 2, None, false)).await;
    world.settle().await;
    assert_eq!(world.ticket(id).await.status, Status::RolledBack);
    assert_eq!(world.bank.balance(AccountId::cash(customer)), 0);
    assert_eq!(world.bank.balance(AccountId::debt(customer)), -2100);
    assert_eq!(world.bank.balance(AccountId::HOUSE_BETS), 3100);
    world.result(&result(&line, 3, Some(false), false)).await;
    world.settle().await;
    assert_eq!(world.bank.balance(AccountId::HOUSE_PNL), 1000);
    assert!(world.bank.is_balanced());
}

#[tokio::test]
async fn a_cancel_voids_bets_placed_in_its_range_only() {
    let world = World::start(BIG, 0).await;
    let (customer, event) = (world.customer("50.00"), "sim:match:400");
    let id = accepted_on(&world, customer, event).await;
    let placed_at = world.ticket(id).await.placed_at.unwrap();
    let line = LineKey::new(event, 1, Specifiers::none());
    let cancelled = |sequence, start, end| {
        let mut message = result(&line, sequence, Some(false), false);
        message.1.cancels.push(CancelledRange { start_time: Some(start), end_time: Some(end), void_reason: None });
        message
    };
    world.result(&cancelled(1, placed_at, placed_at + 1)).await;
    world.settle().await;
    let ticket = world.ticket(id).await;
    assert_eq!((ticket.status, ticket.bets[0].payout), (Status::Cancelled, Some(1000)));
    world.result(&cancelled(2, placed_at + 1, placed_at + 2)).await;
    world.settle().await;
    let ticket = world.ticket(id).await;
    assert_eq!((ticket.status, ticket.bets[0].payout), (Status::Settled, Some(0)));
    assert_eq!(world.bank.worth(customer), 4000);
}

/// B3, past-posting: the result may be here before the feed closes the line.
#[tokio::test]
async fn nobody_bets_on_what_is_decided() {
    let world = World::start(BIG, 60_000).await;
    let customer = world.customer("50.00");
    let decide = async |ticket: Uuid| {
        world.pass_delay().await;
        world.resume().await;
        world.settle().await;
        let ticket = world.ticket(ticket).await;
        (ticket.status, ticket.code)
    };
    // Decided while the delay runs.
    let during = world.place(customer, "10.00").await.id;
    world.result(&result(&testing::key(), 1, Some(true), false)).await;
    assert_eq!(decide(during).await, (Status::Rejected, Some("market-closed".to_owned())));
    assert_eq!((world.bank.worth(customer), world.bank.held(customer)), (5000, 0));
    // A void is a result as well.
    world.result(&result(&testing::key(), 2, Some(false), true)).await;
    let void = world.acceptance.place(&request(customer, "void", "10.00", testing::EVENT)).await.unwrap().ticket.id;
    assert_eq!(decide(void).await, (Status::Rejected, Some("market-closed".to_owned())));
    // Rolled back: open again, and the messages of before settle nothing.
    world.result(&result(&testing::key(), 3, None, false)).await;
    let open = world.acceptance.place(&request(customer, "open", "10.00", testing::EVENT)).await.unwrap().ticket.id;
    assert_eq!(decide(open).await, (Status::Accepted, None));
    world.result(&result(&testing::key(), 4, Some(true), false)).await;
    world.settle().await;
    assert_eq!((world.ticket(open).await.status, world.bank.worth(customer)), (Status::Settled, 6100));
}

#[tokio::test]
async fn an_offset_is_taken_once() {
    let world = World::start(BIG, 0).await;
    let store = &world.payer.store;
    assert_eq!(store.next_result("results", 3).await.unwrap(), 0);
    let (id, message) = result(&testing::key(), 1, Some(true), false);
    assert!(store.take_in(("results", 3, 0, 7), Some((id, &message))).await.unwrap());
    assert!(!store.take_in(("results", 3, 0, 7), Some((id, &message))).await.unwrap());
    assert_eq!(store.next_result("results", 3).await.unwrap(), 8);
}

#[tokio::test]
async fn the_api_shows_tickets_decisions_and_proofs() {
    let world = World::start(BIG, 0).await;
    let customer = world.customer("50.00");
    let issuer = paddock_test_callers::Issuer::new("k1").unwrap();
    let folder = tempfile::tempdir().unwrap();
    issuer.publish(folder.path()).unwrap();
    let callers = Callers::new("calculations", "acme-test", crate::http::CALLERS);
    callers.load(folder.path()).unwrap();
    let app = crate::http::app(world.acceptance.clone(), &callers);
    let call = async |caller_and_method: &str, path: &str, body: &Value| -> (StatusCode, Value) {
        let (caller, method) = caller_and_method.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header(CALLER_HEADER, issuer.token("acme-test", caller, "calculations").unwrap())
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    };
    let asked = serde_json::to_value(request(customer, "key", "10.00", testing::EVENT)).unwrap();
    let (status, ticket) = call("gateway POST", "/internal/v1/tickets", &asked).await;
    assert_eq!((status, &ticket["status"]), (StatusCode::CREATED, &"accepted".into()));
    assert_eq!((&ticket["totalStake"], &ticket["potentialPayout"]), (&"10.00".into(), &"21.00".into()));
    assert!(ticket["certificateId"].is_string());
    let id = ticket["ticketId"].as_str().unwrap().to_owned();
    assert_eq!(call("gateway POST", "/internal/v1/tickets", &asked).await.0, StatusCode::OK);
    let decision = call("account GET", &format!("/internal/v1/tickets/{id}/decision"), &Value::Null).await;
    assert_eq!(decision, (StatusCode::OK, serde_json::json!({ "decision": "accepted" })));
    assert_eq!(
        call("account GET", &format!("/internal/v1/tickets/{}/decision", Uuid::nil()), &Value::Null).await.0,
        StatusCode::NOT_FOUND
    );

    world.result(&result(&testing::key(), 1, Some(true), false)).await;
    world.settle().await;
    let (_, ticket) =
        call("gateway GET", &format!("/internal/v1/tickets/{id}?customerId={customer}"), &Value::Null).await;
    assert_eq!((&ticket["status"], &ticket["bets"][0]["payout"]), (&"settled".into(), &"21.00".into()));
    assert_eq!(ticket["bets"][0]["proof"]["steps"][0]["multiplier"], "2.1");
    let stranger = format!("/internal/v1/tickets/{id}?customerId={}", Uuid::nil());
    assert_eq!(call("gateway GET", &stranger, &Value::Null).await.0, StatusCode::NOT_FOUND);

    let (_, page) =
        call("gateway GET", &format!("/internal/v1/tickets?customerId={customer}&limit=1"), &Value::Null).await;
    assert_eq!((page["tickets"].as_array().unwrap().len(), &page["next"]), (1, &id.as_str().into()));
    let rest = format!("/internal/v1/tickets?customerId={customer}&cursor={id}");
    assert_eq!(call("gateway GET", &rest, &Value::Null).await.1["tickets"], serde_json::json!([]));

    // Only account asks for decisions, only the gateway for the rest.
    let decision = format!("/internal/v1/tickets/{id}/decision");
    for (caller_and_method, path) in [
        ("gateway GET", decision.as_str()),
        ("account POST", "/internal/v1/tickets"),
        ("account GET", &rest),
        ("settlement GET", &decision),
    ] {
        let (status, refusal) = call(caller_and_method, path, &asked).await;
        assert_eq!((status, &refusal["code"]), (StatusCode::FORBIDDEN, &"caller-not-allowed".into()), "{path}");
    }
}

#[test]
fn the_shared_tables_are_those_of_the_library() {
    let migration = include_str!("../migrations/0001_tickets.sql");
    for table in [paddock_service::outbox::TABLE, paddock_service::offsets::TABLE] {
        assert!(migration.contains(table), "{table}");
    }
}
