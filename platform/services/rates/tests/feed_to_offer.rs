//! The simulated feed goes in, offer and results come out, over a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use paddock_events::{
    Envelope, EventStatus, FeedMessage, FeedState, LineResult, MarketStatus, OfferLine, OfferMessage, Origin,
    ProducerScope, ProducerState, ResultMessage, SuspendedBy, Topic, decode,
};
use paddock_feed::simulator::{World, WorldSettings};
use paddock_market_book::Book;
use paddock_rates::MIGRATIONS;
use paddock_rates::api::{CALLERS, EventDetail, EventsPage, app};
use paddock_rates::partition::{Outlet, Partition, PartitionError, Surroundings, heartbeat};
use paddock_rates::producers::Producers;
use paddock_service::kafka::Consumed;
use paddock_service::outbox::Outbox;
use paddock_service::postgres::Database;
use paddock_service::{CALLER_HEADER, Callers};
use paddock_test_callers::Issuer;
use paddock_test_postgres::Server;
use prometheus::IntCounter;
use sqlx::PgPool;
use tower::ServiceExt as _;

/// 2026-03-31T12:00:00Z, ms.
const NOON: i64 = 1_774_958_400_000;

fn origin() -> Origin {
    Origin { tenant: "acme".to_owned(), environment: "test".to_owned() }
}

fn outlet() -> Outlet {
    let unreadable = IntCounter::new("unreadable", "Records.").unwrap();
    Outlet { origin: origin(), outbox: Outbox::default(), unreadable }
}

fn book(generation: u64, state: &str) -> Book {
    let rules: Vec<String> = ["match-result", "double-chance", "draw-no-bet", "both-teams-to-score", "total-goals"]
        .iter()
        .map(|market| {
            format!(
                r#"{{"name":"{market}","sport":"soccer","marketType":"{market}","specifiers":[],
                "selector":{{"phases":["PreMatch","Live"]}},
                "margin":{{"method":"Power","overround":{{"preMatch":"0.05","live":"0.07"}},"ladder":"Standard"}},
                "limits":[],"betDelayMs":{{"preMatch":0,"live":5000}},"geography":{{}},"state":"{state}"}}"#
            )
        })
        .collect();
    let json = format!(r#"{{"schema":1,"generation":{generation},"rules":[{}]}}"#, rules.join(","));
    Book::from_json(json.as_bytes()).unwrap()
}

fn producers(up: bool) -> Producers {
    let producer = |product, scope| ProducerState {
        product,
        name: String::new(),
        scope,
        up,
        reason: String::new(),
        recover_from: None,
    };
    let state = FeedState {
        at: NOON,
        producers: vec![producer(1, ProducerScope::Live), producer(3, ProducerScope::PreMatch)],
        leaving: false,
    };
    Producers::at(Some(&state), NOON)
}

fn around(now: i64) -> Surroundings {
    Surroundings { book: Arc::new(book(1, "Open")), producers: producers(true), now }
}

/// What the world says in a span of time, as records of one partition.
fn records(world: &World, from: i64, to: i64, first_offset: i64) -> Vec<Consumed> {
    let said = if first_offset == 0 {
        let mut all = world.snapshot(from, 3).unwrap();
        all.extend(world.snapshot(from, 1).unwrap());
        all.extend(world.said(from, to, 0, None).unwrap());
        all
    } else {
        world.said(from, to, 0, None).unwrap()
    };
    said.into_iter()
        .zip(first_offset..)
        .map(|(said, offset)| Consumed {
            topic: Topic::Feed,
            partition: 0,
            offset,
            key: String::new(),
            value: Some(Envelope::at(&origin(), said.id, jiff::Timestamp::UNIX_EPOCH, said.message).to_json().unwrap()),
        })
        .collect()
}

async fn outbox(pool: &PgPool, topic: Topic) -> Vec<Vec<u8>> {
    sqlx::query_scalar("SELECT value FROM outbox WHERE topic = $1 AND value IS NOT NULL ORDER BY id")
        .bind(topic.name())
        .fetch_all(pool)
        .await
        .unwrap()
}

/// The newest published line of each key; sequences must rise.
async fn lines(pool: &PgPool) -> BTreeMap<String, OfferLine> {
    let mut newest: BTreeMap<String, OfferLine> = BTreeMap::new();
    for value in outbox(pool, Topic::Offer).await {
        if let OfferMessage::Line(line) = decode::<OfferMessage>(&value).unwrap().unwrap().body {
            let key = line.line_key().to_string();
            let before = newest.get(&key).map_or(0, |line| line.sequence);
            assert!(line.sequence > before, "{key}");
            newest.insert(key, line);
        }
    }
    newest
}

async fn results(pool: &PgPool) -> BTreeMap<String, LineResult> {
    let mut newest = BTreeMap::new();
    for value in outbox(pool, Topic::Results).await {
        let ResultMessage::LineResult(result) = decode::<ResultMessage>(&value).unwrap().unwrap().body;
        newest.insert(result.line_key().to_string(), result);
    }
    newest
}

/// Offsets and effects are one: records that come again, to whomever, change nothing; one that lost the partition commits
/// nothing.
#[tokio::test]
async fn each_record_counts_once() {
    let server = Server::start().await.unwrap();
    let pool = server.database(&MIGRATIONS).await.unwrap();
    let world = World::new(WorldSettings::default()).unwrap();
    let records = records(&world, NOON, NOON + 60_000, 0);
    let (half, around) = (records.len() / 2, around(NOON + 60_000));

    let mut first = Partition::load(&pool, 0).await.unwrap();
    first.take(&pool, &outlet(), &around, &records[..half]).await.unwrap();
    let mut second = Partition::load(&pool, 0).await.unwrap();
    assert_eq!(second.next_offset(), i64::try_from(half).unwrap());
    // Repeated from the beginning by the group, as after a crash before its commit.
    second.take(&pool, &outlet(), &around, &records).await.unwrap();
    let (offers, facts) = (outbox(&pool, Topic::Offer).await.len(), outbox(&pool, Topic::Results).await.len());
    assert!(offers > 100, "{offers}");

    let lost = first.take(&pool, &outlet(), &around, &records[half..]).await;
    assert!(matches!(lost, Err(PartitionError::Lost)), "{lost:?}");
    let lost = heartbeat(&pool, &outlet(), &around, &[&first], NOON, 3).await;
    assert!(matches!(lost, Err(PartitionError::Lost)), "{lost:?}");
    second.take(&pool, &outlet(), &around, &records).await.unwrap();
    assert_eq!(outbox(&pool, Topic::Offer).await.len(), offers);
    assert_eq!(outbox(&pool, Topic::Results).await.len(), facts);

    heartbeat(&pool, &outlet(), &around, &[&second], NOON, 3).await.unwrap();
    assert_eq!(outbox(&pool, Topic::Offer).await.len(), offers + 3, "one on each partition of the offer");
}

/// A record that the database refuses stops neither its partition nor its neighbours, and is told of.
#[tokio::test]
async fn what_cannot_be_stored_stops_nobody() {
    let server = Server::start().await.unwrap();
    let pool = server.database(&MIGRATIONS).await.unwrap();
    let world = World::new(WorldSettings::default()).unwrap();
    let good = records(&world, NOON, NOON, 0);
    let around = around(NOON);
    let poison = |change: fn(&mut serde_json::Value)| {
        let fixture = good.iter().map(|record| serde_json::from_slice(record.value.as_ref().unwrap()).unwrap());
        let mut value: serde_json::Value =
            fixture.into_iter().find(|it: &serde_json::Value| it["type"] == "fixture").unwrap();
        value["payload"]["eventId"] = "sim:match:poison".into();
        change(&mut value);
        Some(serde_json::to_vec(&value).unwrap())
    };
    let unknown = serde_json::json!({ "product": 1, "eventId": "sim:match:poison", "timestamp": 1, "certainty": 2,
        "markets": [{ "marketId": u32::MAX, "outcomes": [] }] });
    let poisons = [
        poison(|it| it["payload"]["competitors"][0]["name"] = "A\0B".into()),
        poison(|it| {
            let digits = (1..2_000_u64).map(|number| format!("{:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            it["payload"]["eventId"] = digits.collect::<String>().into();
        }),
        poison(|it| it["type"] = "bet_settlement".into()),
        Some(b"no JSON".to_vec()),
    ];
    let mut all = Vec::new();
    let mut payloads = good.iter().map(|record| record.value.clone()).collect::<Vec<_>>();
    for (at, poison) in poisons.into_iter().enumerate() {
        payloads.insert(3 + 5 * at, poison);
    }
    let mut settlement: serde_json::Value = serde_json::from_slice(payloads[0].as_ref().unwrap()).unwrap();
    (settlement["type"], settlement["payload"]) = ("bet_settlement".into(), unknown);
    payloads.insert(7, Some(serde_json::to_vec(&settlement).unwrap()));
    for (value, offset) in payloads.into_iter().zip(0..) {
        all.push(Consumed { offset, value, ..good[0].clone() });
    }

    let mut partition = Partition::load(&pool, 0).await.unwrap();
    let outlet = outlet();
    let left_out = partition.take_what_can_be_stored(&pool, &outlet, &around, &all).await.unwrap();
    assert_eq!(left_out, [3, 7, 9], "the name, the market, the long id");
    assert_eq!(outlet.unreadable.get(), 2, "what is no JSON and what is no settlement");
    assert_eq!(partition.next_offset(), i64::try_from(all.len()).unwrap());

    let alone = server.database(&MIGRATIONS).await.unwrap();
    let mut undisturbed = Partition::load(&alone, 0).await.unwrap();
    undisturbed.take(&alone, &outlet, &around, &good).await.unwrap();
    let offered = async |pool: &PgPool| {
        let lines = lines(pool).await.into_iter();
        lines.map(|(key, line)| (key, (line.status, line.outcomes))).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(offered(&pool).await, offered(&alone).await);
    assert!(offered(&pool).await.len() > 100);
}

/// Records of one partition.
fn said(messages: &[(&str, serde_json::Value)], first_offset: i64) -> Vec<Consumed> {
    messages
        .iter()
        .zip(first_offset..)
        .map(|((kind, payload), offset)| {
            let message: FeedMessage =
                serde_json::from_value(serde_json::json!({ "type": kind, "payload": payload })).unwrap();
            let value = Envelope::now(&origin(), message).to_json().unwrap();
            Consumed { topic: Topic::Feed, partition: 0, offset, key: String::new(), value: Some(value) }
        })
        .collect()
}

/// However many records are taken in at once, readers see each time that an open line is closed: who waits out a delay must know.
#[tokio::test]
async fn a_stop_is_told_also_if_it_ends_at_once() {
    let server = Server::start().await.unwrap();
    let pool = server.database(&MIGRATIONS).await.unwrap();
    let named = |id: &str, name: &str| serde_json::json!({ "id": id, "name": name });
    let event = "sim:match:1";
    let fixture = serde_json::json!({ "product": 3, "eventId": event, "timestamp": 1, "startTime": NOON + 3_600_000,
        "sport": named("sr:sport:1", "Soccer"), "category": named("c:1", "England"),
        "tournament": named("t:1", "Premier League"), "competitors": [], "status": "not_started" });
    let priced = |timestamp: i64| {
        let outcome = |id: &str| serde_json::json!({ "id": id, "active": true, "probability": "0.5" });
        let market = serde_json::json!({ "marketId": 18, "specifiers": "total=2.5", "status": "active",
            "outcomes": [outcome("12"), outcome("13")] });
        serde_json::json!({ "product": 3, "eventId": event, "timestamp": timestamp, "markets": [market] })
    };
    let stop = |timestamp: i64| {
        serde_json::json!({ "product": 3, "eventId": event, "timestamp": timestamp, "groups": ["all"],
            "marketStatus": "suspended" })
    };
    let mut partition = Partition::load(&pool, 0).await.unwrap();
    let mut take = async |messages: &[(&str, serde_json::Value)]| {
        let records = said(messages, partition.next_offset());
        partition.take(&pool, &outlet(), &around(NOON), &records).await.unwrap();
        let mut statuses = Vec::new();
        for value in outbox(&pool, Topic::Offer).await {
            if let OfferMessage::Line(line) = decode::<OfferMessage>(&value).unwrap().unwrap().body {
                statuses.push((line.sequence, line.status));
            }
        }
        sqlx::query("DELETE FROM outbox").execute(&pool).await.unwrap();
        assert!(statuses.is_sorted_by(|one, next| one.0 < next.0), "{statuses:?}");
        statuses.into_iter().map(|(_, status)| status).collect::<Vec<_>>()
    };
    let (open, closed) = (MarketStatus::Active, MarketStatus::Suspended);
    // Nobody could bet on what was closed before it was offered.
    let unseen = [("fixture", fixture), ("odds_change", priced(2)), ("bet_stop", stop(3)), ("odds_change", priced(4))];
    assert_eq!(take(&unseen).await, [open]);
    assert_eq!(take(&[("bet_stop", stop(5)), ("odds_change", priced(6))]).await, [closed, open]);
    assert_eq!(take(&[("odds_change", priced(7)), ("odds_change", priced(8))]).await, []);
    // A second stop closes what readers see as closed.
    let twice =
        [("bet_stop", stop(9)), ("odds_change", priced(10)), ("bet_stop", stop(11)), ("odds_change", priced(12))];
    assert_eq!(take(&twice).await, [closed, open]);
}

/// Up to when a partition is complete is what the feed says in it, and no later than our own clock.
#[tokio::test]
async fn heartbeats_of_the_feed_say_up_to_when_a_partition_is_complete() {
    let server = Server::start().await.unwrap();
    let pool = server.database(&MIGRATIONS).await.unwrap();
    let mut partition = Partition::load(&pool, 0).await.unwrap();
    assert_eq!(partition.complete_until(), None);
    for (at, complete_until) in [(NOON - 700, NOON - 700), (NOON - 900, NOON - 700), (NOON + 5_000, NOON)] {
        let records = said(&[("heartbeat", serde_json::json!({ "at": at }))], partition.next_offset());
        partition.take(&pool, &outlet(), &around(NOON), &records).await.unwrap();
        assert_eq!(partition.complete_until(), Some(complete_until));
    }
    assert_eq!(outbox(&pool, Topic::Offer).await.len(), 0);
    assert_eq!(Partition::load(&pool, 0).await.unwrap().complete_until(), None, "who loads it has heard nothing");
}

/// Ids of the outbox follow commits: a transaction that waits for another replica's has added nothing yet.
#[tokio::test]
async fn who_waits_for_the_partition_has_published_nothing() {
    let server = Server::start().await.unwrap();
    let pool = server.database(&MIGRATIONS).await.unwrap();
    let world = World::new(WorldSettings::default()).unwrap();
    let mut partition = Partition::load(&pool, 0).await.unwrap();
    partition.take(&pool, &outlet(), &around(NOON), &records(&world, NOON, NOON, 0)).await.unwrap();
    let last = async || -> i64 {
        sqlx::query_scalar("SELECT last_value FROM pg_sequences WHERE sequencename = 'outbox_id_seq'")
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    let before = last().await;
    let mut other = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM consumer_offset FOR UPDATE").execute(&mut *other).await.unwrap();
    let (waiting, down) = (pool.clone(), Surroundings { producers: producers(false), ..around(NOON) });
    let refresh = tokio::spawn(async move { partition.refresh(&waiting, &outlet(), &down).await });
    let asked = std::time::Instant::now();
    loop {
        let waits: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
            .fetch_one(&pool)
            .await
            .unwrap();
        if waits {
            break;
        }
        assert!(asked.elapsed().as_secs() < 30, "the refresh waits for the partition");
        tokio::task::yield_now().await;
    }
    assert_eq!(last().await, before);
    other.rollback().await.unwrap();
    refresh.await.unwrap().unwrap();
    assert!(last().await > before + 100);
}

/// Cutting the feed into other pieces, with restarts between them, ends in the same offer and results.
#[tokio::test]
async fn restarts_change_nothing() {
    let server = Server::start().await.unwrap();
    let world = World::new(WorldSettings::default()).unwrap();
    let end = NOON + 400_000;
    let records = records(&world, NOON, end, 0);
    let around = around(end);
    let mut ends = Vec::new();
    for piece in [records.len(), 97] {
        let pool = server.database(&MIGRATIONS).await.unwrap();
        for part in records.chunks(piece) {
            let mut partition = Partition::load(&pool, 0).await.unwrap();
            partition.take(&pool, &outlet(), &around, part).await.unwrap();
        }
        let offered: BTreeMap<String, OfferLine> =
            lines(&pool).await.into_iter().map(|(key, line)| (key, OfferLine { sequence: 0, ..line })).collect();
        let decided: BTreeMap<String, LineResult> =
            results(&pool).await.into_iter().map(|(key, result)| (key, LineResult { sequence: 0, ..result })).collect();
        ends.push((offered, decided));
    }
    let (whole, pieces) = (&ends[0], &ends[1]);
    assert_eq!(whole.1, pieces.1);
    for (key, line) in &pieces.0 {
        let other = &whole.0[key];
        assert_eq!((other.status, &other.outcomes), (line.status, &line.outcomes), "{key}");
    }

    // Every match that ended has all its seven lines confirmed, and none of them can be bet on.
    let over: BTreeSet<String> = world
        .said(NOON, end, 0, None)
        .unwrap()
        .into_iter()
        .filter_map(|said| match said.message {
            FeedMessage::BetSettlement(settled) if settled.certainty == 2 => Some(settled.head.event_id),
            _ => None,
        })
        .collect();
    assert!(over.len() >= 5, "{over:?}");
    for event in over {
        let confirmed = whole.1.values().filter(|result| result.event_id == event && result.certainty == Some(2));
        assert_eq!(confirmed.count(), 7);
        let open = whole.0.values().filter(|line| line.event_id == event && line.status == MarketStatus::Active);
        assert_eq!(open.count(), 0);
    }
}

#[tokio::test]
async fn producers_and_book_reach_every_line_at_once() {
    let server = Server::start().await.unwrap();
    let pool = server.database(&MIGRATIONS).await.unwrap();
    let world = World::new(WorldSettings::default()).unwrap();
    let mut partition = Partition::load(&pool, 0).await.unwrap();
    let up = around(NOON);
    partition.take(&pool, &outlet(), &up, &records(&world, NOON, NOON, 0)).await.unwrap();
    let active = |lines: &BTreeMap<String, OfferLine>| {
        lines.values().filter(|line| line.status == MarketStatus::Active).map(OfferLine::line_key).collect::<Vec<_>>()
    };
    let before = active(&lines(&pool).await);
    assert!(before.len() > 100, "{}", before.len());
    for line in lines(&pool).await.values().filter(|line| line.status == MarketStatus::Active) {
        let priced = line.outcomes.iter().filter(|outcome| outcome.active);
        assert!(priced.clone().count() >= 1 && priced.clone().all(|outcome| outcome.odds.is_some()), "{line:?}");
    }

    let down = Surroundings { producers: producers(false), ..up.clone() };
    partition.refresh(&pool, &outlet(), &down).await.unwrap();
    let silent = lines(&pool).await;
    assert_eq!(active(&silent), []);
    assert!(before.iter().all(|key| silent[&key.to_string()].suspended_by == Some(SuspendedBy::Producer)));

    partition.refresh(&pool, &outlet(), &up).await.unwrap();
    assert_eq!(active(&lines(&pool).await), before);

    let suspended = Surroundings { book: Arc::new(book(2, "Suspended")), ..up.clone() };
    partition.refresh(&pool, &outlet(), &suspended).await.unwrap();
    let closed = lines(&pool).await;
    assert!(before.iter().all(|key| {
        let line = &closed[&key.to_string()];
        line.suspended_by == Some(SuspendedBy::Rule) && line.source.book_generation == 2
    }));

    // A kick-off that passes without a word of the live producer suspends what was priced before it.
    partition.refresh(&pool, &outlet(), &up).await.unwrap();
    let later = Surroundings { now: NOON + 61_000, ..up.clone() };
    partition.refresh_begun(&pool, &outlet(), &later).await.unwrap();
    let begun = lines(&pool).await;
    assert!(begun.values().any(|line| line.suspended_by == Some(SuspendedBy::Event)));
}

#[tokio::test]
async fn the_api_pages_and_details() {
    let server = Server::start().await.unwrap();
    let pool = server.database(&MIGRATIONS).await.unwrap();
    let world = World::new(WorldSettings::default()).unwrap();
    let mut partition = Partition::load(&pool, 0).await.unwrap();
    partition.take(&pool, &outlet(), &around(NOON), &records(&world, NOON, NOON, 0)).await.unwrap();
    let (issuer, folder) = (Issuer::new("k1").unwrap(), tempfile::tempdir().unwrap());
    issuer.publish(folder.path()).unwrap();
    let callers = Callers::new("rates", "acme-test", CALLERS);
    callers.load(folder.path()).unwrap();
    let app = app(Database::over(pool.clone()), &callers);
    let get_as = async |caller: &str, path: &str| {
        let token = issuer.token("acme-test", caller, "rates").unwrap();
        let request = Request::get(path).header(CALLER_HEADER, token).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
    };
    let get = async |path: &str| get_as("gateway", path).await;
    let (status, sports) = get("/internal/v1/sports").await;
    assert_eq!((status, &sports["sports"][0]["id"]), (200, &"sr:sport:1".into()));

    let (mut seen, mut path) = (Vec::new(), "/internal/v1/events?limit=7".to_owned());
    loop {
        let (status, page) = get(&path).await;
        assert_eq!(status, 200);
        let page: EventsPage = serde_json::from_value(page).unwrap();
        assert!(page.events.is_sorted_by_key(|event| event.start_time));
        seen.extend(page.events.into_iter().map(|event| event.event_id));
        match page.next {
            Some(cursor) => path = format!("/internal/v1/events?limit=7&cursor={cursor}"),
            None => break,
        }
    }
    let unique: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len());
    assert_eq!(seen.len() as u64, sports["sports"][0]["events"].as_u64().unwrap());

    let (_, live) = get("/internal/v1/events?status=live").await;
    let live: EventsPage = serde_json::from_value(live).unwrap();
    assert!(!live.events.is_empty() && live.events.iter().all(|event| event.status == EventStatus::Live));
    let (status, detail) = get(&format!("/internal/v1/events/{}", live.events[0].event_id)).await;
    let detail: EventDetail = serde_json::from_value(detail).unwrap();
    assert_eq!((status, detail.lines.len()), (200, 7));

    assert_eq!(get("/internal/v1/events/sim:match:0").await.0, 404);
    let (status, problem) = get("/internal/v1/events?cursor=x").await;
    assert_eq!((status, &problem["code"]), (400, &"bad-cursor".into()));
    for path in ["/internal/v1/events?sport=%00", "/internal/v1/events/%00"] {
        let (status, problem) = get(path).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("value-not-storable")), "{path}");
    }
    for path in ["/internal/v1/sports", "/internal/v1/events", "/internal/v1/events/sim:match:0"] {
        let (status, problem) = get_as("settlement", path).await;
        assert_eq!((status, &problem["code"]), (403, &"caller-not-allowed".into()));
    }
}
