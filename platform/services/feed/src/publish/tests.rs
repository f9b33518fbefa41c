//! Which instance publishes, who takes its place, and what everybody is told of producers, on a broker in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use paddock_events::ProducerScope;
use paddock_service::kafka::Follower;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::source::{ProducerDescription, Recovery, SourceError};

const LONG: Duration = Duration::from_mins(1);
const PARTITIONS: i32 = 3;

/// Gives two signs of life and answers recoveries; then it is silent, or gone.
struct Script {
    says: VecDeque<SourceEvent>,
    asked: Arc<Mutex<Vec<Option<i64>>>>,
    is_gone_at_the_end: bool,
}

impl Script {
    fn from(timestamp: i64) -> Self {
        let alive = |timestamp| SourceEvent::Alive { product: 1, timestamp, subscribed: true };
        let says = [alive(timestamp), alive(timestamp + 10_000)].into();
        Self { says, asked: Arc::default(), is_gone_at_the_end: false }
    }
}

#[async_trait]
impl FeedSource for Script {
    fn producers(&self) -> Vec<ProducerDescription> {
        let (product, name, scope) = (1, "LO".to_owned(), ProducerScope::Live);
        vec![ProducerDescription { product, name, scope, recovery_window_minutes: 600 }]
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        match self.says.pop_front() {
            Some(event) => Ok(event),
            None if self.is_gone_at_the_end => Err(SourceError::Disconnected("the script is over".to_owned())),
            None => std::future::pending().await,
        }
    }

    async fn recover(&mut self, recovery: Recovery) -> Result<(), SourceError> {
        self.asked.lock().unwrap().push(recovery.after);
        let Recovery { product, request_id, .. } = recovery;
        self.says.push_back(SourceEvent::SnapshotComplete { product, request_id });
        Ok(())
    }
}

fn bus(folder: &Path, servers: &str) -> Bus {
    paddock_test_bus::bind(folder, servers, "t.", r#"{"feed":"feed","feed.state":"feed.state"}"#).unwrap()
}

struct World {
    cluster: MockCluster<'static, DefaultProducerContext>,
    _folder: tempfile::TempDir,
    bus: Bus,
    states: Follower,
    last: Option<FeedState>,
}

impl World {
    async fn start() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("feed", PARTITIONS, 1).unwrap();
        cluster.create_topic("feed.state", 1, 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let bus = bus(folder.path(), &cluster.bootstrap_servers());
        let states = bus.follow(Topic::FeedState, Start::Beginning).await.unwrap();
        Self { cluster, _folder: folder, bus, states, last: None }
    }

    fn publisher(&self) -> Publisher {
        let origin = Origin { tenant: "platform".to_owned(), environment: "test".to_owned() };
        Publisher::new(self.bus.clone(), origin, &Registry::new(), CancellationToken::new()).unwrap()
    }

    /// The next heartbeat, with the time since the one before, ms.
    async fn next(&mut self) -> (FeedState, i64) {
        loop {
            let Followed::Record { value, .. } = timeout(LONG, self.states.next()).await.unwrap().unwrap() else {
                continue;
            };
            let state = read_state(&value.unwrap()).unwrap();
            let waited = self.last.as_ref().map_or(0, |last| state.at - last.at);
            self.last = Some(state.clone());
            return (state, waited);
        }
    }

    async fn until(&mut self, is_wanted: impl Fn(&FeedState) -> bool) -> (FeedState, i64) {
        loop {
            let (state, waited) = self.next().await;
            if is_wanted(&state) {
                return (state, waited);
            }
        }
    }
}

fn is_up(state: &FeedState) -> bool {
    state.producers.iter().all(|producer| producer.up)
}

/// One instance publishes. Another one that stands by takes its place when it is silent for too long, or says that it goes, and
/// recovers what nobody has heard since the last alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_publishes_and_the_next_goes_on_where_it_ended() {
    let mut world = World::start().await;
    let start = |world: &World, timestamp| {
        let publisher = world.publisher();
        let (active, draining) = (publisher.active.clone(), publisher.draining.clone());
        let asked: Arc<Mutex<Vec<Option<i64>>>> = Arc::default();
        let ours = Arc::clone(&asked);
        let connect = move || Script { asked: Arc::clone(&ours), ..Script::from(timestamp) };
        (tokio::spawn(publisher.run(connect)), active, draining, asked)
    };
    let (first, first_is_active, _, asked) = start(&world, 1_000_000);
    let (said, _) = world.until(is_up).await;
    assert_eq!((said.producers[0].recover_from, said.leaving), (Some(1_010_000), false));
    assert_eq!(*asked.lock().unwrap(), [None], "nobody has heard anything");
    let (second, second_is_active, second_drains, asked) = start(&world, 2_000_000);
    // A change is told at once, whenever the last heartbeat was.
    world.next().await;
    for _ in 0..3 {
        let (told, waited) = world.next().await;
        assert!(is_up(&told) && (500..5_000).contains(&waited), "{told:?} after {waited} ms");
    }
    assert_eq!((first_is_active.get(), second_is_active.get()), (1, 0));

    // It falls silent without a last word.
    first.abort();
    let (told, waited) = world.until(|told| told.producers != said.producers).await;
    assert!(waited > 5_000, "{told:?} after {waited} ms");
    let (told, _) = world.until(is_up).await;
    assert_eq!((second_is_active.get(), told.producers[0].recover_from), (1, Some(2_010_000)));
    assert_eq!(*asked.lock().unwrap(), [Some(1_010_000)]);

    // It drains.
    let (third, third_is_active, third_drains, asked) = start(&world, 3_000_000);
    world.next().await;
    assert_eq!(third_is_active.get(), 0);
    second_drains.cancel();
    world.until(|told| told.leaving).await;
    let (told, waited) = world.next().await;
    assert!(!told.leaving && waited < 5_000, "{told:?} after {waited} ms");
    world.until(is_up).await;
    assert_eq!(*asked.lock().unwrap(), [Some(2_010_000)]);
    third_drains.cancel();
    for ended in [second, third] {
        timeout(LONG, ended).await.unwrap().unwrap().unwrap();
    }

    // Each heartbeat stands in every partition of the feed.
    let (last, _) = world.until(|told| told.leaving).await;
    let mut feed = world.bus.follow(Topic::Feed, Start::Beginning).await.unwrap();
    let mut beats: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
    while let Followed::Record { partition, value, .. } = timeout(LONG, feed.next()).await.unwrap().unwrap() {
        let Some(FeedMessage::Heartbeat(beat)) = decode(&value.unwrap()).unwrap().map(|envelope| envelope.body) else {
            panic!("the script has no messages")
        };
        beats.entry(partition).or_default().insert(beat.at);
    }
    assert_eq!(beats.keys().copied().collect::<Vec<_>>(), (0..PARTITIONS).collect::<Vec<_>>());
    assert!(beats.values().all(|at| *at == beats[&0] && at.contains(&last.at) && at.len() > 6), "{beats:?}");
}

/// The mock broker knows no epochs of producers, so it is told to refuse as a real one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_instance_ends_its_turn_without_a_last_word() {
    let mut world = World::start().await;
    let publisher = world.publisher();
    let turn = tokio::spawn(async move { publisher.turn(Script::from(1_000_000)).await });
    world.until(is_up).await;
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
    world.cluster.request_errors(RDKafkaApiKey::AddPartitionsToTxn, &[refusal; 3]);
    let ended = timeout(LONG, turn).await.unwrap().unwrap();
    assert!(matches!(ended, Ok(TurnEnd::Fenced)), "{ended:?}");
    world.cluster.clear_request_errors(RDKafkaApiKey::AddPartitionsToTxn);
    let (last, next) = (world.last.clone().unwrap(), world.publisher());
    let before = next.last_word().await.unwrap();
    assert!(before[0].up && before[0].recover_from == last.producers[0].recover_from, "{before:?}");
}

/// Everybody learns that a producer is down before the source is connected again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_source_takes_its_producers_down() {
    let mut world = World::start().await;
    let script = Script { is_gone_at_the_end: true, ..Script::from(1_000_000) };
    let ended = timeout(LONG, world.publisher().turn(script)).await.unwrap();
    assert!(matches!(ended, Ok(TurnEnd::SourceLost)), "{ended:?}");
    world.until(is_up).await;
    let (last, _) = world.until(|told| !is_up(told)).await;
    let told = (last.producers[0].reason.as_str(), last.producers[0].recover_from, last.leaving);
    assert_eq!(told, ("connection_down", Some(1_010_000), false));
}
