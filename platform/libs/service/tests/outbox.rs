//! The outbox over a real PostgreSQL and the client library's mock broker.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::time::Duration;

use paddock_events::{CustomerChanged, CustomerMessage, Envelope, Origin, Topic, decode};
use paddock_service::binding::Bindings;
use paddock_service::kafka::{Bus, Followed, Start};
use paddock_service::outbox::{self, Outbox};
use paddock_service::postgres::{Database, PoolBounds};
use paddock_test_postgres::Server;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn event(sequence: i64) -> Envelope<CustomerMessage> {
    let origin = Origin { tenant: "acme".to_owned(), environment: "test".to_owned() };
    let customer = CustomerChanged {
        customer_id: Uuid::nil(),
        sequence,
        state: "active".to_owned(),
        country: "MT".to_owned(),
        currency: "EUR".to_owned(),
        changed_at: 0,
    };
    Envelope::now(&origin, CustomerMessage::CustomerChanged(customer))
}

fn bus(folder: &Path, servers: &str) -> Bus {
    paddock_test_bus::bind(folder, servers, "t.", r#"{"customers":"customers"}"#).unwrap()
}

/// A database with an outbox, and a broker.
struct World {
    _server: Server,
    pool: PgPool,
    cluster: MockCluster<'static, DefaultProducerContext>,
    _folder: tempfile::TempDir,
    bus: Bus,
}

impl World {
    async fn start() -> Self {
        let server = Server::start().await.unwrap();
        let pool = PgPool::connect_with(server.options("postgres")).await.unwrap();
        sqlx::raw_sql(outbox::TABLE).execute(&pool).await.unwrap();
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("customers", 1, 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let bus = bus(folder.path(), &cluster.bootstrap_servers());
        Self { _server: server, pool, cluster, _folder: folder, bus }
    }

    fn relay(&self, outbox: &Outbox, end: &CancellationToken) -> JoinHandle<anyhow::Result<()>> {
        tokio::spawn(outbox.clone().relay(Database::over(self.pool.clone()), self.bus.clone(), end.clone()))
    }
}

/// A relay that was told to end does.
async fn ended(relay: JoinHandle<anyhow::Result<()>>) {
    timeout(Duration::from_secs(20), relay).await.unwrap().unwrap().unwrap();
}

/// Committed events come, in order and each at least once; what was rolled back never does; two relays do not disturb.
#[tokio::test(flavor = "multi_thread")]
async fn committed_events_come_in_order() {
    let world = World::start().await;
    let (pool, bus) = (&world.pool, &world.bus);

    let (outbox, end) = (Outbox::default(), CancellationToken::new());
    let relays = [world.relay(&outbox, &end), world.relay(&outbox, &end)];
    for number in 1..=60 {
        let mut transaction = pool.begin().await.unwrap();
        outbox.add(&mut transaction, &event(number)).await.unwrap();
        if number % 3 == 0 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
            outbox.committed();
        }
    }
    let mut connection = pool.acquire().await.unwrap();
    outbox.forget(&mut connection, Topic::Customers, "gone", "gone").await.unwrap();
    drop(connection);

    let mut follower = bus.follow(Topic::Customers, Start::Beginning).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let step = timeout(Duration::from_mins(1), follower.next()).await.unwrap().unwrap();
        let Followed::Record { key, value, .. } = step else { continue };
        let Some(value) = value else {
            assert_eq!(key, "gone");
            break;
        };
        let CustomerMessage::CustomerChanged(customer) = decode::<CustomerMessage>(&value).unwrap().unwrap().body;
        seen.push(customer.sequence);
    }
    let expected: Vec<i64> = (1..=60).filter(|number| number % 3 != 0).collect();
    assert_eq!(seen, expected);
    end.cancel();
    for relay in relays {
        ended(relay).await;
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(pool).await.unwrap();
    assert_eq!(left, 0);
}

/// What the broker has not committed is not gone from here: a transaction that somebody else's takeover aborts is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn rows_go_when_the_broker_has_committed_them() {
    let world = World::start().await;
    let (pool, bus) = (&world.pool, &world.bus);
    let (outbox, end) = (Outbox::default(), CancellationToken::new());
    let relay = world.relay(&outbox, &end);
    let add = async |number| {
        let mut connection = pool.acquire().await.unwrap();
        outbox.add(&mut connection, &event(number)).await.unwrap();
        outbox.committed();
    };
    let gone = async || {
        let started = std::time::Instant::now();
        loop {
            let left: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(pool).await.unwrap();
            if left == 0 {
                return started.elapsed();
            }
            assert!(started.elapsed().as_secs() < 60, "{left} rows are not sent");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    add(1).await;
    gone().await;
    // The client asks again after 5 ms to 1 s, longer each time.
    let away = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
    world.cluster.request_errors(RDKafkaApiKey::EndTxn, &[away; 10]);
    add(2).await;
    assert!(gone().await > Duration::from_millis(900));
    // Another relay has taken over: this one takes over again, and what it could not send comes once.
    let fenced = RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
    world.cluster.request_errors(RDKafkaApiKey::AddPartitionsToTxn, &[fenced]);
    add(3).await;
    gone().await;
    end.cancel();
    ended(relay).await;
    let mut follower = bus.follow(Topic::Customers, Start::Beginning).await.unwrap();
    let mut seen = Vec::new();
    while let Followed::Record { value, .. } = timeout(Duration::from_mins(1), follower.next()).await.unwrap().unwrap()
    {
        let CustomerMessage::CustomerChanged(customer) =
            decode::<CustomerMessage>(&value.unwrap()).unwrap().unwrap().body;
        seen.push(customer.sequence);
    }
    assert_eq!(seen, [1, 2, 3]);
}

/// Under load there is always a next batch: a relay that is told to end leaves it to the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_ends_under_load() {
    let world = World::start().await;
    let pool = &world.pool;
    sqlx::raw_sql(
        "INSERT INTO outbox (topic, record_key, partition_key, value)
         SELECT 'customers', number::text, number::text, '{}' FROM generate_series(1, 50000) AS number",
    )
    .execute(pool)
    .await
    .unwrap();
    let end = CancellationToken::new();
    let relay = world.relay(&Outbox::default(), &end);
    let left = async || {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(pool).await.unwrap();
        left
    };
    let begun = async {
        while left().await == 50_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_mins(1), begun).await.unwrap();
    end.cancel();
    ended(relay).await;
    assert!(left().await > 0, "everything was sent first");
}

/// The session that relays holds a lock. If its node dies without a word, the server must notice within seconds, or no event
/// leaves this database until the kernel's two hours are over.
#[tokio::test]
async fn the_server_looks_after_silent_sessions() {
    let server = Server::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let need = folder.path().join("db");
    std::fs::create_dir(&need).unwrap();
    let port = server.port().to_string();
    let files = [
        ("type", "postgresql"),
        ("host", "127.0.0.1"),
        ("port", port.as_str()),
        ("database", "postgres"),
        ("username", "postgres"),
        ("password", "none"),
        ("sslmode", "disable"),
        ("version", "1"),
    ];
    for (name, text) in files {
        std::fs::write(need.join(name), text).unwrap();
    }
    let binding = Bindings::new(folder.path().to_owned()).watch("db").unwrap();
    let database = Database::connect(&binding.borrow().clone(), PoolBounds::default()).unwrap();
    let mut seconds = Vec::new();
    for name in ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"] {
        let value: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(&database.pool()).await.unwrap();
        seconds.push(value.parse::<u32>().unwrap());
    }
    let [idle, interval, count] = seconds[..] else { panic!("three settings") };
    assert!(idle + interval * count <= 30, "{seconds:?}");
}
