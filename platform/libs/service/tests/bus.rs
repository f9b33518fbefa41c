//! Producers and consumers over the client library's own mock broker.
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

use paddock_events::{Body, CustomerChanged, CustomerMessage, Envelope, Origin, Topic, decode};
use paddock_service::kafka::{Bus, FencedError, Followed, GroupConsumer, Record, Start, Step};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::time::timeout;
use uuid::Uuid;

const LONG: Duration = Duration::from_mins(1);

fn bus(folder: &Path, servers: &str) -> Bus {
    paddock_test_bus::bind(folder, servers, "t.abc.", r#"{"customers":"t.abc.customers","feed":"feed"}"#).unwrap()
}

fn event(sequence: i64, customer: Uuid) -> Envelope<CustomerMessage> {
    let origin = Origin { tenant: "acme".to_owned(), environment: "test".to_owned() };
    let customer = CustomerChanged {
        customer_id: customer,
        sequence,
        state: "active".to_owned(),
        country: "MT".to_owned(),
        currency: "EUR".to_owned(),
        changed_at: 0,
    };
    Envelope::now(&origin, CustomerMessage::CustomerChanged(customer))
}

fn sequence(value: &[u8]) -> i64 {
    let CustomerMessage::CustomerChanged(customer) = decode::<CustomerMessage>(value).unwrap().unwrap().body;
    customer.sequence
}

async fn read(group: &GroupConsumer, count: usize) -> Vec<(i32, i64, i64)> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Step::Record(record) = timeout(LONG, group.step()).await.unwrap().unwrap() {
            all.push((record.partition, record.offset, sequence(&record.value.unwrap())));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_followed_and_shared_in_order() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t.abc.customers", 3, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path(), &cluster.bootstrap_servers());
    let mut producer = bus.fenced_producer("customers").unwrap();
    timeout(LONG, producer.take_over()).await.unwrap().unwrap();
    let customers: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
    let records: Vec<Record> =
        (0..100).map(|number| Record::of(&event(number, customers[number as usize % 20])).unwrap()).collect();
    producer.publish(&records).await.unwrap();

    let mut follower = bus.follow(Topic::Customers, Start::Beginning).await.unwrap();
    let mut read_back: Vec<(i32, i64)> = Vec::new();
    loop {
        match timeout(LONG, follower.next()).await.unwrap().unwrap() {
            Followed::CaughtUp => break,
            Followed::Record { partition, value, key, .. } => {
                let number = sequence(&value.unwrap());
                assert_eq!(key, customers[number as usize % 20].to_string());
                read_back.push((partition, number));
            }
        }
    }
    assert_eq!(read_back.len(), 100);
    for customer in 0..20 {
        let of_customer: Vec<_> = read_back.iter().filter(|(_, number)| number % 20 == customer).collect();
        assert!(of_customer.is_sorted_by_key(|(_, number)| *number), "one customer stays in order");
        let key = event(0, customers[customer as usize]).body.partition_key();
        let expected = i32::try_from(paddock_events::partition_of(&key, 3)).unwrap();
        assert!(of_customer.iter().all(|(partition, _)| *partition == expected));
    }
    producer.publish(&[Record::of(&event(100, customers[0])).unwrap()]).await.unwrap();
    let Followed::Record { value, .. } = timeout(LONG, follower.next()).await.unwrap().unwrap() else {
        panic!("caught up is said once")
    };
    assert_eq!(sequence(&value.unwrap()), 100);

    let group = bus.group("audit", &[Topic::Customers]).unwrap();
    let mut all = read(&group, 101).await;
    assert_eq!(group.assigned().borrow().len(), 3);
    // Back to where the data's own offset says.
    all.sort_unstable();
    let (partition, offset, number) = all[0];
    group.seek(Topic::Customers, partition, offset).unwrap();
    let again = read(&group, 1).await;
    assert_eq!(again, [(partition, offset, number)]);
}

/// The mock broker knows no epochs of producers, so it is told to refuse as a real one does.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_producer_knows_it() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t.abc.customers", 1, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path(), &cluster.bootstrap_servers());
    let record = |number| Record::of(&event(number, Uuid::nil())).unwrap();
    let mut producer = bus.fenced_producer("feed").unwrap();
    timeout(LONG, producer.take_over()).await.unwrap().unwrap();
    timeout(LONG, producer.publish(&[record(1), record(2)])).await.unwrap().unwrap();
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
    cluster.request_errors(RDKafkaApiKey::AddPartitionsToTxn, &[refusal; 3]);
    let refused = timeout(LONG, producer.publish(&[record(3)])).await.unwrap();
    assert!(matches!(refused, Err(FencedError::Fenced)), "{refused:?}");
    cluster.clear_request_errors(RDKafkaApiKey::AddPartitionsToTxn);
    let refused = timeout(LONG, producer.publish(&[record(4)])).await.unwrap();
    assert!(matches!(refused, Err(FencedError::Fenced)), "for good: {refused:?}");
}

/// A coordinator that is away for longer than a step of a transaction: the end is asked for again, not given up half done.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_takes_long_is_waited_for() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t.abc.customers", 1, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path(), &cluster.bootstrap_servers());
    let record = |number| Record::of(&event(number, Uuid::nil())).unwrap();
    let mut producer = bus.fenced_producer("feed").unwrap();
    timeout(LONG, producer.take_over()).await.unwrap().unwrap();
    // The client asks again after 5 ms to 1 s, longer each time: all of them take longer than the ten seconds of a step.
    let away = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
    cluster.request_errors(RDKafkaApiKey::EndTxn, &[away; 20]);
    let asked = std::time::Instant::now();
    timeout(LONG, producer.publish(&[record(1)])).await.unwrap().unwrap();
    assert!(asked.elapsed() > Duration::from_secs(10), "no step has timed out: the test proved nothing");
    timeout(LONG, producer.publish(&[record(2)])).await.unwrap().unwrap();
    let mut follower = bus.follow(Topic::Customers, Start::Beginning).await.unwrap();
    let mut seen = Vec::new();
    while let Followed::Record { value, .. } = timeout(LONG, follower.next()).await.unwrap().unwrap() {
        seen.push(sequence(&value.unwrap()));
    }
    assert_eq!(seen, [1, 2], "each once");
}

#[tokio::test]
async fn a_topic_that_is_not_in_the_binding_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path(), "127.0.0.1:1");
    assert!(bus.topic(Topic::Offer).unwrap_err().to_string().contains("topic offer is not in the bus binding"));
    assert_eq!(bus.topic(Topic::Feed).unwrap(), "feed");
    assert_eq!(bus.prefixed("rates").unwrap(), "t.abc.rates");
}
