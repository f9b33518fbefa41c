//! The public stream, over a real WebSocket, with a bus made of channels.
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
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures::{SinkExt, StreamExt};
use paddock_events::Topic;
use paddock_gateway::stream::live::QUEUE;
use paddock_gateway::stream::source::{Records, Source, follow_ledger, follow_offer, follow_tickets};
use paddock_service::Readiness;
use paddock_service::kafka::{Followed, Start};
use serde_json::{Value, json};
use support::{ANN, BOB, Gateway, TOKEN, offer_line};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

/// Topics made of channels. A topic opens once.
struct FakeBus {
    topics: Mutex<HashMap<Topic, mpsc::UnboundedReceiver<Followed>>>,
}

struct FakeRecords(mpsc::UnboundedReceiver<Followed>);

#[async_trait]
impl Source for FakeBus {
    async fn open(&self, topic: Topic, start: Start) -> anyhow::Result<Box<dyn Records>> {
        assert_eq!(start, if topic == Topic::Offer { Start::Beginning } else { Start::End });
        let records = self.topics.lock().unwrap().remove(&topic);
        Ok(Box::new(FakeRecords(records.ok_or_else(|| anyhow::anyhow!("the topic was read to its end"))?)))
    }
}

#[async_trait]
impl Records for FakeRecords {
    async fn next(&mut self) -> anyhow::Result<Followed> {
        self.0.recv().await.ok_or_else(|| anyhow::anyhow!("the topic was read to its end"))
    }
}

/// A gateway that reads the fake bus, and the ends to write to.
struct World {
    gateway: Gateway,
    address: SocketAddr,
    readiness: Readiness,
    bus: &'static FakeBus,
    writers: HashMap<Topic, mpsc::UnboundedSender<Followed>>,
}

impl World {
    async fn new() -> Self {
        Self::of(Gateway::new().await).await
    }

    async fn of(gateway: Gateway) -> Self {
        let address = gateway.serve().await;
        let (mut writers, mut readers) = (HashMap::new(), HashMap::new());
        for topic in [Topic::Offer, Topic::Ledger, Topic::Tickets] {
            let (writer, reader) = mpsc::unbounded_channel();
            writers.insert(topic, writer);
            readers.insert(topic, reader);
        }
        let bus: &'static FakeBus = Box::leak(Box::new(FakeBus { topics: Mutex::new(readers) }));
        let readiness = Readiness::default();
        let filled = readiness.gate("offer", "not complete");
        for topic in [Topic::Offer, Topic::Ledger, Topic::Tickets] {
            let (live, end, filled) = (gateway.state.live.clone(), gateway.draining.clone(), filled.clone());
            tokio::spawn(async move {
                match topic {
                    Topic::Offer => follow_offer(bus, &live, &filled, &end).await,
                    Topic::Ledger => follow_ledger(bus, &live, &end).await,
                    _ => follow_tickets(bus, &live, &end).await,
                }
            });
        }
        let world = Self { gateway, address, readiness, bus, writers };
        world.beat(0, i64::MAX);
        world
    }

    /// The offer from a partition of the feed is complete up to a time.
    fn beat(&self, feed_partition: i32, at: i64) {
        let payload = json!({"feedPartitions": [feed_partition], "at": at, "bookGeneration": 1});
        self.write(Topic::Offer, 0, "heartbeat", &payload);
    }

    fn write(&self, topic: Topic, offset: i64, kind: &str, payload: &Value) {
        let value = json!({"id": Uuid::now_v7(), "type": kind, "version": 1, "occurredAt": "2026-01-01T00:00:00Z",
                           "tenant": "acme", "environment": "prod", "payload": payload});
        let value = Some(value.to_string().into_bytes());
        self.writers[&topic].send(Followed::Record { partition: 0, offset, key: String::new(), value }).unwrap();
    }

    fn line(&self, offset: i64, event: &str, sequence: i64, odds: &str) {
        let payload = offer_line(event, sequence, odds);
        self.write(Topic::Offer, offset, "line", &payload);
    }

    fn entry(&self, customer: &str, sequence: i64, available: &str) {
        let payload = json!({
            "entryId": Uuid::now_v7(), "sequence": sequence, "transferId": Uuid::now_v7(), "customerId": customer,
            "account": "player:cash", "counterAccount": "house:bets", "kind": "hold", "reason": "bet-stake", "side": "debit",
            "currency": "EUR", "amount": "1.00", "available": available, "held": "1.00", "atStake": "5.00", "bookedAt": 1,
        });
        self.write(Topic::Ledger, sequence, "ledger_entry", &payload);
    }

    fn ticket(&self, offset: i64, customer: &str, status: &str) {
        let payload = json!({
            "ticketId": Uuid::nil(), "customerId": customer, "sequence": offset, "status": status, "currency": "EUR",
            "totalStake": "1.00", "potentialPayout": "2.00", "receivedAt": 1, "bets": [],
        });
        self.write(Topic::Tickets, offset, "ticket_decided", &payload);
    }

    /// The reader of a topic breaks; the next one begins with what comes then.
    fn break_reader(&mut self, topic: Topic) {
        let (writer, reader) = mpsc::unbounded_channel();
        self.bus.topics.lock().unwrap().insert(topic, reader);
        self.writers.insert(topic, writer);
    }

    async fn client(&self) -> Client {
        let url = format!("ws://{}/api/v1/stream", self.address);
        Client { socket: tokio_tungstenite::connect_async(url).await.unwrap().0 }
    }
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    async fn say(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn subscribe(&mut self, channel: &str) {
        self.say(json!({"type": "subscribe", "channel": channel})).await;
    }

    async fn message(&mut self) -> Message {
        let next = async {
            loop {
                match self.socket.next().await.unwrap().unwrap() {
                    Message::Ping(_) => {}
                    message => return message,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), next).await.expect("a message within 20 s")
    }

    async fn frame(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("a text frame, not {other:?}"),
        }
    }

    /// The close code; frames before it are dropped.
    async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame.unwrap().code.into();
            }
        }
    }
}

#[tokio::test]
async fn an_event_comes_as_snapshot_and_then_as_deltas() {
    let world = World::new().await;
    world.line(10, "m:1", 1, "2.10");
    assert_eq!(world.readiness.missing(), ["offer: not complete"]);
    world.writers[&Topic::Offer].send(Followed::CaughtUp).unwrap();
    let mut client = world.client().await;
    // The bus is read beside us: the snapshot has the line, or is empty and the delta follows.
    client.subscribe("event:m:1").await;
    let mut frame = client.frame().await;
    assert_eq!((frame["type"].as_str(), frame["channel"].as_str()), (Some("snapshot"), Some("event:m:1")));
    if frame["sequence"] == -1 {
        frame = client.frame().await;
    }
    assert_eq!(frame["sequence"], 10);
    assert_eq!(
        frame["payload"]["lines"][0]["outcomes"][0],
        json!({"id": "1", "name": "Home", "active": true, "odds": "2.10"})
    );
    world.line(11, "m:2", 1, "3.00");
    world.line(12, "m:1", 2, "2.20");
    let delta = client.frame().await;
    assert_eq!((delta["type"].as_str(), delta["sequence"].as_i64()), (Some("delta"), Some(12)));
    assert!(world.readiness.missing().is_empty(), "the copy is complete");

    client.say(json!({"type": "unsubscribe", "channel": "event:m:1"})).await;
    client.subscribe("event:m:2").await;
    let other = client.frame().await;
    assert_eq!((other["channel"].as_str(), other["sequence"].as_i64()), (Some("event:m:2"), Some(11)));
}

#[tokio::test]
async fn a_customer_sees_only_own_money_and_tickets() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.say(json!({"type": "authenticate", "token": TOKEN})).await;
    client.subscribe("wallet").await;
    let snapshot = client.frame().await;
    assert_eq!((snapshot["type"].as_str(), snapshot["sequence"].as_i64()), (Some("snapshot"), Some(3)));
    client.subscribe("tickets").await;
    assert_eq!(client.frame().await["payload"], json!({"tickets": []}));

    world.entry(ANN, 3, "77.00");
    world.entry(BOB, 8, "1000.00");
    world.entry(ANN, 4, "9.00");
    let delta = client.frame().await;
    assert_eq!(delta["sequence"], 4, "what the snapshot contains is not told again");
    let wallet = json!({"currency": "EUR", "available": "9.00", "held": "1.00", "atStake": "5.00"});
    assert_eq!(delta["payload"], json!({"sequence": 4, "wallets": [wallet]}));

    world.ticket(20, BOB, "accepted");
    world.ticket(21, ANN, "pending_delay");
    let delta = client.frame().await;
    assert_eq!((delta["channel"].as_str(), delta["sequence"].as_i64()), (Some("tickets"), Some(21)));
    let ticket = &delta["payload"]["tickets"][0];
    assert_eq!(ticket["status"], "pending", "as the REST API shows it");
    assert_eq!(
        (ticket.get("context"), ticket.get("customerId")),
        (None, None),
        "what is known of the caller stays inside"
    );
}

/// Money that moves between two readers of the ledger must not stay unseen: those who follow start again with a snapshot.
#[tokio::test]
async fn a_gap_in_the_ledger_or_in_tickets_ends_in_a_new_snapshot() {
    let mut world = World::new().await;
    for (topic, channel) in [(Topic::Ledger, "wallet"), (Topic::Tickets, "tickets")] {
        let mut client = world.client().await;
        client.say(json!({"type": "authenticate", "token": TOKEN})).await;
        client.subscribe(channel).await;
        assert_eq!(client.frame().await["type"], "snapshot");
        let mut other = world.client().await;
        other.subscribe("event:m:1").await;
        other.frame().await;
        world.break_reader(topic);
        assert_eq!(client.frame().await, json!({"type": "reconnect"}), "{channel}");
        assert_eq!(client.closed().await, 1012);
        other.subscribe("event:m:1").await;
        assert_eq!(other.frame().await["type"], "snapshot", "who follows something else stays");
    }
}

#[tokio::test]
async fn without_a_session_there_is_no_wallet() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.subscribe("wallet").await;
    assert_eq!(client.frame().await["code"], "unauthorized");
    client.subscribe("nonsense").await;
    assert_eq!(client.frame().await["code"], "unknown-channel");
    client.socket.send(Message::text("nonsense")).await.unwrap();
    assert_eq!(client.frame().await["code"], "malformed-frame");
    let mut wrong = world.client().await;
    wrong.say(json!({"type": "authenticate", "token": "wrong"})).await;
    assert_eq!(wrong.closed().await, 4401);
}

/// A customer's prices do not wait for account or calculations, neither at a beat nor when a channel is subscribed to.
#[tokio::test]
async fn slow_components_hold_up_no_prices() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.say(json!({"type": "authenticate", "token": TOKEN})).await;
    client.subscribe("event:m:1").await;
    assert_eq!(client.frame().await["type"], "snapshot");
    let behind = world.gateway.behind.clone();
    let stands = behind.slow.write().await;
    let asked = behind.count("/sessions/current");
    let beat = async {
        while behind.count("/sessions/current") == asked {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), beat).await.expect("a beat asks for the session");
    client.subscribe("tickets").await;
    let read = async {
        while behind.count("/tickets?") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Long before the component that does not answer is given up: after 8 s.
    let meanwhile = Duration::from_secs(5);
    tokio::time::timeout(meanwhile, read).await.expect("subscribing goes on");
    world.line(10, "m:1", 1, "2.10");
    let price = tokio::time::timeout(meanwhile, client.frame()).await.expect("prices go on");
    assert_eq!((price["channel"].as_str(), price["sequence"].as_i64()), (Some("event:m:1"), Some(10)));

    world.ticket(20, ANN, "accepted");
    world.line(11, "m:1", 2, "2.20");
    assert_eq!(client.frame().await["sequence"], 11, "what is told of tickets waits for their snapshot");
    drop(stands);
    let kinds = [client.frame().await, client.frame().await].map(|frame| {
        assert_eq!(frame["channel"], "tickets");
        frame["type"].as_str().unwrap().to_owned()
    });
    assert_eq!(kinds, ["snapshot", "delta"]);
}

/// Rates is away, or the broker: calculations takes no bets any more, and nobody is shown that it does.
#[tokio::test]
async fn prices_that_nobody_vouches_for_are_suspended() {
    let world = World::new().await;
    world.write(Topic::Offer, 1, "event", &support::catalogue_event("m:1", 1));
    let mut line = offer_line("m:1", 1, "2.10");
    line["source"]["feedPartition"] = 1.into();
    let now = || jiff::Timestamp::now().as_millisecond();
    world.beat(1, now());
    world.write(Topic::Offer, 2, "line", &line);
    let mut client = world.client().await;
    client.subscribe("event:m:1").await;
    let mut status = async || loop {
        let frame = client.frame().await;
        if let Some(line) = frame["payload"]["lines"].get(0) {
            return (line["status"].as_str().unwrap().to_owned(), line["suspendedBy"].clone());
        }
    };
    let open = ("active".to_owned(), Value::Null);
    assert_eq!(status().await, open);
    assert_eq!(status().await, ("suspended".to_owned(), "producer".into()));
    world.beat(1, now());
    assert_eq!(status().await, open);
}

/// A copy whose reader broke and is not there again is not complete.
#[tokio::test]
async fn a_copy_that_cannot_be_read_anew_is_not_ready() {
    let mut world = World::new().await;
    let until = async |world: &World, ready: bool| {
        let reached = async {
            while world.readiness.missing().is_empty() != ready {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("within 20 s");
    };
    world.writers[&Topic::Offer].send(Followed::CaughtUp).unwrap();
    until(&world, true).await;
    world.writers.remove(&Topic::Offer);
    until(&world, false).await;
    world.break_reader(Topic::Offer);
    world.writers[&Topic::Offer].send(Followed::CaughtUp).unwrap();
    until(&world, true).await;
}

/// What a frame asks of a component counts like a request.
#[tokio::test]
async fn a_stream_asks_components_no_more_often_than_its_session_may() {
    let world = World::of(Gateway::limited(1000, 2, 10).await).await;
    let mut client = world.client().await;
    client.say(json!({"type": "authenticate", "token": TOKEN})).await;
    let (mut snapshots, mut refused) = (0, 0);
    for _ in 0..20 {
        client.subscribe("tickets").await;
        match client.frame().await {
            frame if frame["type"] == "snapshot" => snapshots += 1,
            frame => {
                assert_eq!(frame["code"], "too-many-requests");
                refused += 1;
            }
        }
    }
    assert!(snapshots >= 3 && refused >= 10, "{snapshots} of {refused}: the burst, and two a second");
    assert_eq!(world.gateway.behind.count("/tickets?"), snapshots);
    client.subscribe("event:m:1").await;
    assert_eq!(client.frame().await["type"], "snapshot", "what is in memory is not counted");
}

#[tokio::test]
async fn an_address_and_a_customer_have_so_many_connections() {
    let ours = support::OUR_TOKENS.map(|(_, token)| token);
    let world = World::of(Gateway::with_tokens(ours, (1000, 1000), Gateway::places(100, 3, 2)).await).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = world.client().await;
        client.say(json!({"type": "authenticate", "token": TOKEN})).await;
        client.subscribe("wallet").await;
        assert_eq!(client.frame().await["type"], "snapshot");
        clients.push(client);
    }
    let mut third = world.client().await;
    let url = format!("ws://{}/api/v1/stream", world.address);
    let Err(tokio_tungstenite::tungstenite::Error::Http(refused)) = tokio_tungstenite::connect_async(&url).await else {
        panic!("a fourth connection of the address")
    };
    assert_eq!(refused.status(), 429);
    third.say(json!({"type": "authenticate", "token": TOKEN})).await;
    assert_eq!(third.closed().await, 4429);
    drop((third, clients));
    let again = async {
        while tokio_tungstenite::connect_async(&url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("places of those who left are free");
}

#[tokio::test]
async fn a_revoked_session_loses_its_stream() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.say(json!({"type": "authenticate", "token": TOKEN})).await;
    client.subscribe("wallet").await;
    client.frame().await;
    *world.gateway.behind.revoked.lock().unwrap() = true;
    assert_eq!(client.closed().await, 4401);
}

#[tokio::test]
async fn a_draining_replica_sends_its_clients_on() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.subscribe("event:m:1").await;
    client.frame().await;
    world.gateway.draining.cancel();
    assert_eq!(client.frame().await, json!({"type": "reconnect"}));
    assert_eq!(client.closed().await, 1012);
    world.gateway.state.connections.close();
    tokio::time::timeout(Duration::from_secs(5), world.gateway.state.connections.wait()).await.expect("all have left");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_others_are_served() {
    let world = World::new().await;
    let mut slow = world.client().await;
    slow.subscribe("event:m:1").await;
    slow.frame().await;
    let mut quick = world.client().await;
    quick.subscribe("event:m:2").await;
    quick.frame().await;
    // More than the queue and the sockets' buffers hold: 32 MB.
    let name = "x".repeat(1000);
    let frames = i64::try_from(8 * QUEUE).unwrap();
    for sequence in 1..=frames {
        let payload = json!({
            "eventId": "m:1", "marketId": 2, "marketType": name, "specifiers": "", "sequence": sequence, "status": "active",
            "phase": "live", "outcomes": [],
            "source": {"product": 1, "timestamp": 1, "feedPartition": 0, "feedOffset": 1, "bookGeneration": 1},
        });
        world.write(Topic::Offer, sequence, "line", &payload);
    }
    world.line(frames + 1, "m:2", 1, "3.00");
    assert_eq!(quick.frame().await["sequence"], frames + 1, "others are served meanwhile");
    let dropped = async {
        while world.gateway.state.live.followed() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), dropped).await.expect("the slow client is dropped");
}
