//! The loop that owns partitions of topic `feed`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use jiff::Timestamp;
use paddock_events::{FeedMessage, FeedState, OfferFreshness, Topic};
use paddock_market_book::Book;
use paddock_service::kafka::{Bus, Consumed, GroupConsumer, Step};
use paddock_service::postgres::Database;
use paddock_service::{BookHolder, Gate};
use prometheus::{IntCounter, IntGauge, Registry};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::partition::{Outlet, Partition, PartitionError, Surroundings, heartbeat};
use crate::producers::Producers;

/// Records taken in together.
const BATCH: usize = 500;
/// How often producers, kick-offs and the feed's heartbeats are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Time between withdrawals of old events.
const WITHDRAW: Duration = Duration::from_mins(1);

/// What the worker is made of.
pub(crate) struct Worker {
    pub database: Database,
    pub feed: Bus,
    pub bus: Bus,
    pub outlet: Outlet,
    pub book: BookHolder,
    pub feed_state: watch::Receiver<Option<FeedState>>,
    pub keep_closed: Duration,
    pub ready: Gate,
    pub metrics: Metrics,
    pub draining: CancellationToken,
}

/// Metrics of the worker.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    records: IntCounter,
    failures: IntCounter,
    partitions: IntGauge,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            records: IntCounter::new("paddock_rates_feed_records_total", "Feed records taken in.")?,
            failures: IntCounter::new(
                "paddock_rates_transaction_failures_total",
                "Transactions that were tried again.",
            )?,
            partitions: IntGauge::new("paddock_rates_feed_partitions", "Feed partitions that this replica works on.")?,
        };
        registry.register(Box::new(metrics.records.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.partitions.clone()))?;
        Ok(metrics)
    }
}

/// A partition with what this loop knows of it.
struct Owned {
    partition: Partition,
    /// The group's offset was put where ours is.
    placed: bool,
    /// Up to when readers were told that it is complete, ms.
    vouched: Option<i64>,
    /// That has been long ago.
    silent: bool,
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

impl Worker {
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let draining = self.draining.clone();
        while !draining.is_cancelled() {
            let ended = tokio::select! {
                ended = self.work() => ended,
                () = draining.cancelled() => Ok(()),
            };
            if let Err(error) = ended {
                self.metrics.failures.inc();
                tracing::error!(error = format!("{error:#}"), "work on the feed starts again");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {},
                    () = draining.cancelled() => {},
                }
            }
            self.metrics.partitions.set(0);
        }
        Ok(())
    }

    async fn work(&mut self) -> anyhow::Result<()> {
        let mut books = self.book.changes();
        let book = books.wait_for(Option::is_some).await.context("the market book's holder is gone")?.clone();
        let mut book = book.context("no market book")?;
        // Which producer is live and which is not must be known before the first record.
        self.ready.close("no heartbeat of the feed was seen yet");
        let first = self.feed_state.wait_for(Option::is_some).await.map(|_seen| ());
        first.context("the feed's heartbeat is not followed any more")?;
        let offer_partitions = self.bus.partitions(Topic::Offer).await?;
        let consumer = self.feed.group("rates", &[Topic::Feed])?;
        let mut assigned = consumer.assigned();
        let mut owned: BTreeMap<i32, Owned> = BTreeMap::new();
        let mut producers = Producers::at(self.feed_state.borrow().as_ref(), now());
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut withdraw_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                changed = assigned.changed() => {
                    changed.context("the consumer is gone")?;
                    let now: BTreeSet<i32> = assigned.borrow_and_update().iter().map(|(_, number)| *number).collect();
                    owned.retain(|number, _| now.contains(number));
                    // What stays is read from the group's offset as well.
                    for it in owned.values_mut() {
                        it.placed = false;
                    }
                    for number in now {
                        if let Entry::Vacant(place) = owned.entry(number) {
                            place.insert(self.load(number, &around(&book, &producers)).await?);
                        }
                    }
                    self.metrics.partitions.set(i64::try_from(owned.len()).unwrap_or(0));
                    tracing::info!(partitions = ?owned.keys().collect::<Vec<_>>(), "feed partitions assigned");
                    self.ready.open();
                },
                changed = books.changed() => {
                    changed.context("the market book's holder is gone")?;
                    let newest = books.borrow_and_update().clone();
                    if let Some(newest) = newest {
                        book = newest;
                        self.refresh(&mut owned, &around(&book, &producers)).await?;
                    }
                },
                _ = looks.tick() => {
                    let seen = Producers::at(self.feed_state.borrow().as_ref(), now());
                    let around = around(&book, &seen);
                    if seen != producers {
                        tracing::info!(producers = ?seen, "producers changed");
                        producers = seen;
                        self.refresh(&mut owned, &around).await?;
                    }
                    self.begun(&mut owned, &around).await?;
                    self.beat(&mut owned, &around, offer_partitions).await?;
                    if withdraw_at <= Instant::now() {
                        withdraw_at = Instant::now() + WITHDRAW;
                        let before = now() - i64::try_from(self.keep_closed.as_millis()).unwrap_or(i64::MAX);
                        for it in owned.values() {
                            it.partition.withdraw(&self.database.pool(), &self.outlet, before).await?;
                        }
                    }
                },
                step = consumer.step() => {
                    self.take(&consumer, step?, &mut owned, &around(&book, &producers)).await?;
                },
            }
        }
    }

    /// Loads a partition and brings its offers up to the present surroundings: they may have changed while nobody had it.
    async fn load(&self, number: i32, around: &Surroundings) -> Result<Owned, PartitionError> {
        let pool = self.database.pool();
        let mut partition = Partition::load(&pool, number).await?;
        partition.refresh(&pool, &self.outlet, around).await?;
        Ok(Owned { partition, placed: false, vouched: None, silent: false })
    }

    async fn take(
        &self,
        consumer: &GroupConsumer,
        first: Step,
        owned: &mut BTreeMap<i32, Owned>,
        around: &Surroundings,
    ) -> anyhow::Result<()> {
        let mut records: BTreeMap<i32, Vec<Consumed>> = BTreeMap::new();
        let mut ends: BTreeSet<i32> = BTreeSet::new();
        let mut step = Some(first);
        let mut count = 0;
        while let Some(now) = step {
            match now {
                Step::End(number) => {
                    ends.insert(number);
                }
                Step::Record(record) => {
                    ends.remove(&record.partition);
                    records.entry(record.partition).or_default().push(record);
                    count += 1;
                }
            }
            step = if count < BATCH { consumer.step().now_or_never().transpose()? } else { None };
        }
        // Each partition costs a transaction: what customers see does not wait for those in which the feed only says that it is there.
        let said_nothing = |records: &[Consumed]| records.iter().all(|record| record.key == FeedMessage::HEARTBEAT);
        let mut records: Vec<(i32, Vec<Consumed>)> = records.into_iter().collect();
        records.sort_by_key(|(_, records)| said_nothing(records));
        for (number, records) in records {
            let Some(it) = owned.get_mut(&number) else { continue };
            let first = records.first().map_or(0, |record| record.offset);
            if !std::mem::replace(&mut it.placed, true) && first != it.partition.next_offset() {
                consumer.seek(Topic::Feed, number, it.partition.next_offset())?;
                ends.remove(&number);
                continue;
            }
            let last = records.last().map_or(0, |record| record.offset);
            let pool = self.database.pool();
            if first < it.partition.next_offset() {
                // Sought for and not there: the topic ends before what was taken in of it, so it was made anew, or its end was lost.
                // To take in again what is known changes nothing; to wait for the old offset would be to hear nothing for long.
                tracing::error!(
                    partition = number,
                    stored = it.partition.next_offset(),
                    first,
                    "topic feed begins anew"
                );
                it.partition.begin_anew(&pool, first).await?;
            }
            let taken = it.partition.take_what_can_be_stored(&pool, &self.outlet, around, &records).await;
            let left_out = taken.with_context(|| format!("feed partition {number} at offset {first}"))?;
            self.metrics.records.inc_by(records.len() as u64);
            self.outlet.unreadable.inc_by(left_out.len() as u64);
            // The effects are committed: that the group cannot be told, because it is being arranged anew, is no failure.
            if let Err(error) = consumer.done(Topic::Feed, number, last) {
                tracing::debug!(partition = number, %error, "the group is not told of an offset");
            }
        }
        for number in ends {
            let Some(it) = owned.get_mut(&number) else { continue };
            if !std::mem::replace(&mut it.placed, true) {
                // Nothing is left from the group's offset on; ours may stand before it, after a restore.
                consumer.seek(Topic::Feed, number, it.partition.next_offset())?;
            }
        }
        Ok(())
    }

    async fn refresh(&self, owned: &mut BTreeMap<i32, Owned>, around: &Surroundings) -> Result<(), PartitionError> {
        for it in owned.values_mut() {
            it.partition.refresh(&self.database.pool(), &self.outlet, around).await?;
        }
        Ok(())
    }

    async fn begun(&self, owned: &mut BTreeMap<i32, Owned>, around: &Surroundings) -> Result<(), PartitionError> {
        for it in owned.values_mut() {
            it.partition.refresh_begun(&self.database.pool(), &self.outlet, around).await?;
        }
        Ok(())
    }

    /// Vouches for partitions up to what was heard in each of them: that the others are heard, or that nothing fails, proves nothing.
    async fn beat(
        &self,
        owned: &mut BTreeMap<i32, Owned>,
        around: &Surroundings,
        offer_partitions: i32,
    ) -> Result<(), PartitionError> {
        let states = owned.iter().map(|(number, it)| (*number, it.partition.complete_until(), it.vouched));
        for (until, numbers) in to_vouch_for(states, around.now) {
            let partitions: Vec<&Partition> =
                numbers.iter().filter_map(|number| owned.get(number)).map(|it| &it.partition).collect();
            heartbeat(&self.database.pool(), &self.outlet, around, &partitions, until, offer_partitions).await?;
            for number in numbers {
                if let Some(it) = owned.get_mut(&number) {
                    (it.vouched, it.silent) = (Some(until), false);
                }
            }
        }
        for (number, it) in owned {
            if it.vouched.is_some_and(|until| !is_recent(until, around.now)) && !std::mem::replace(&mut it.silent, true)
            {
                tracing::warn!(
                    partition = number,
                    "no recent heartbeat of the feed in this partition: no bets are taken on its events; if other partitions \
                     are heard, look at the broker that leads this one"
                );
            }
        }
        Ok(())
    }
}

/// Of each partition: its number, up to when it is complete, and up to when readers know that. Those of which there is news, by the
/// time; a partition that is far behind is not worth a word.
fn to_vouch_for(
    partitions: impl Iterator<Item = (i32, Option<i64>, Option<i64>)>,
    now: i64,
) -> BTreeMap<i64, Vec<i32>> {
    let mut by_time: BTreeMap<i64, Vec<i32>> = BTreeMap::new();
    for (number, complete_until, vouched) in partitions {
        if let Some(until) = complete_until
            && complete_until > vouched
            && is_recent(until, now)
        {
            by_time.entry(until).or_default().push(number);
        }
    }
    by_time
}

const fn is_recent(at: i64, now: i64) -> bool {
    now.saturating_sub(at) <= OfferFreshness::LIMIT_MS
}

fn around(book: &Arc<Book>, producers: &Producers) -> Surroundings {
    Surroundings { book: Arc::clone(book), producers: producers.clone(), now: now() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use paddock_events::{Envelope, FeedHeartbeat, FeedMessage, OfferMessage, Origin, decode};
    use paddock_service::Readiness;
    use paddock_service::kafka::Record;
    use paddock_service::outbox::Outbox;
    use rdkafka::mocking::MockCluster;
    use sqlx::PgPool;

    use super::*;

    fn bus(folder: &Path, servers: &str) -> Bus {
        paddock_test_bus::bind(folder, servers, "t.", r#"{"feed":"feed","offer":"offer"}"#).unwrap()
    }

    fn origin() -> Origin {
        Origin { tenant: "platform".to_owned(), environment: "test".to_owned() }
    }

    fn fixture(number: usize) -> Record {
        let named = |id: &str| serde_json::json!({ "id": id, "name": id });
        let message: FeedMessage = serde_json::from_value(serde_json::json!({ "type": "fixture", "payload": {
            "product": 3, "eventId": format!("sim:match:{number}"), "timestamp": 1, "startTime": 1, "sport": named("s"),
            "category": named("c"), "tournament": named("t"), "competitors": [], "status": "not_started" } }))
        .unwrap();
        Record::of(&Envelope::now(&origin(), message)).unwrap()
    }

    fn beats(partitions: std::ops::Range<i32>) -> Vec<Record> {
        let beat = Envelope::now(&origin(), FeedMessage::Heartbeat(FeedHeartbeat { at: now() }));
        partitions.map(|number| Record { partition: Some(number), ..Record::of(&beat).unwrap() }).collect()
    }

    async fn told(pool: &PgPool) -> Vec<OfferMessage> {
        let values: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT value FROM outbox ORDER BY id").fetch_all(pool).await.unwrap();
        values.iter().map(|value| decode::<OfferMessage>(value).unwrap().unwrap().body).collect()
    }

    /// Up to when each partition of the feed is vouched for.
    async fn vouched(pool: &PgPool) -> BTreeMap<i32, i64> {
        let mut vouched = BTreeMap::new();
        for message in told(pool).await {
            if let OfferMessage::Heartbeat(beat) = message {
                vouched.extend(beat.feed_partitions.iter().map(|number| (*number, beat.at)));
            }
        }
        vouched
    }

    /// Lets the feed give a sign of life in partitions of its topic until what rates vouches for is as wanted.
    async fn beat_until(
        pool: &PgPool,
        bus: &Bus,
        partitions: std::ops::Range<i32>,
        is_wanted: impl Fn(&BTreeMap<i32, i64>) -> bool,
    ) {
        let mut producer = bus.fenced_producer("feed").unwrap();
        producer.take_over().await.unwrap();
        let started = Instant::now();
        loop {
            let vouched = vouched(pool).await;
            if is_wanted(&vouched) {
                return;
            }
            assert!(started.elapsed().as_secs() < 60, "vouched for: {vouched:?}");
            producer.publish(&beats(partitions.clone())).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until_known(pool: &PgPool, events: i64) {
        let started = Instant::now();
        loop {
            let known: i64 = sqlx::query_scalar("SELECT count(*) FROM event").fetch_one(pool).await.unwrap();
            if known == events {
                return;
            }
            assert!(started.elapsed().as_secs() < 60, "{known} of {events} events are known");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn start(pool: &PgPool, bus: &Bus) -> (CancellationToken, tokio::task::JoinHandle<anyhow::Result<()>>) {
        let book = BookHolder::new(Readiness::default().gate("market-book", "not loaded"));
        book.put(br#"{"schema":1,"generation":1,"rules":[]}"#).await.unwrap();
        let (_state, feed_state) = watch::channel(Some(FeedState { at: now(), producers: Vec::new(), leaving: false }));
        let unreadable = IntCounter::new("unreadable", "Records.").unwrap();
        let draining = CancellationToken::new();
        let worker = Worker {
            database: Database::over(pool.clone()),
            feed: bus.clone(),
            bus: bus.clone(),
            outlet: Outlet { origin: origin(), outbox: Outbox::default(), unreadable },
            book,
            feed_state,
            keep_closed: Duration::from_hours(1),
            ready: Readiness::default().gate("feed", "not assigned"),
            metrics: Metrics::register(&Registry::new()).unwrap(),
            draining: draining.clone(),
        };
        (draining, tokio::spawn(worker.run()))
    }

    /// The sequence of each event as it was told.
    async fn run_until_known(pool: &PgPool, bus: &Bus, events: i64) -> BTreeMap<String, i64> {
        let (draining, worker) = start(pool, bus).await;
        until_known(pool, events).await;
        beat_until(pool, bus, 0..2, |vouched| vouched.len() == 2).await;
        draining.cancel();
        worker.await.unwrap().unwrap();
        let mut sequences = BTreeMap::new();
        for message in told(pool).await {
            if let OfferMessage::Event(event) = message {
                sequences.insert(event.event_id, event.sequence);
            }
        }
        sqlx::query("DELETE FROM outbox").execute(pool).await.unwrap();
        sequences
    }

    async fn say(bus: &Bus, records: &[Record]) {
        let mut producer = bus.fenced_producer("feed").unwrap();
        producer.take_over().await.unwrap();
        producer.publish(records).await.unwrap();
    }

    /// The stored offset rules, wherever the group stands and whatever became of the topic. It must never make this replica deaf, least
    /// of all while it says that it hears everything.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_of_the_feed_is_missed() {
        let server = paddock_test_postgres::Server::start().await.unwrap();
        let pool = server.database(&crate::MIGRATIONS).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let made = |events: std::ops::Range<usize>| {
            let cluster = MockCluster::new(1).unwrap();
            cluster.create_topic("feed", 2, 1).unwrap();
            cluster.create_topic("offer", 1, 1).unwrap();
            let bus = bus(folder.path(), &cluster.bootstrap_servers());
            (cluster, bus, events.map(fixture).collect::<Vec<_>>())
        };
        let (_cluster, bus, records) = made(0..30);
        say(&bus, &records).await;
        let before = run_until_known(&pool, &bus, 30).await;
        assert_eq!(before.len(), 30);
        // The database comes back from yesterday's backup; the group's offsets are of today, and nothing new is said.
        sqlx::raw_sql("DELETE FROM event; UPDATE consumer_offset SET next_offset = 0").execute(&pool).await.unwrap();
        let after = run_until_known(&pool, &bus, 30).await;
        assert!(
            before.iter().all(|(event, sequence)| after[event] > *sequence),
            "readers know {before:?}, now {after:?}"
        );
        // The topic is made anew and shorter.
        let (_cluster, bus, records) = made(30..38);
        say(&bus, &records).await;
        run_until_known(&pool, &bus, 38).await;
    }

    /// A fetch that hangs brings no record, no end and no error.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_partition_that_is_not_heard_is_not_vouched_for() {
        let server = paddock_test_postgres::Server::start().await.unwrap();
        let pool = server.database(&crate::MIGRATIONS).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("feed", 2, 1).unwrap();
        cluster.create_topic("offer", 1, 1).unwrap();
        let bus = bus(folder.path(), &cluster.bootstrap_servers());
        let (draining, worker) = start(&pool, &bus).await;
        beat_until(&pool, &bus, 0..2, |vouched| vouched.len() == 2).await;
        let silent_since = now();
        beat_until(&pool, &bus, 0..1, |vouched| vouched[&0] > silent_since + 1_000).await;
        let vouched = vouched(&pool).await;
        assert!(vouched[&1] <= silent_since, "{vouched:?}, silent since {silent_since}");
        draining.cancel();
        worker.await.unwrap().unwrap();
    }

    #[test]
    fn each_partition_is_vouched_for_up_to_its_own_time_and_once() {
        let now = 100_000;
        let partitions = [
            (0, Some(99_000), Some(98_000)),
            (1, Some(99_000), None),
            (2, Some(97_500), Some(96_500)),
            (3, Some(99_000), Some(99_000)),
            (4, None, None),
            (5, Some(96_999), Some(90_000)),
        ];
        let expected = BTreeMap::from([(97_500, vec![2]), (99_000, vec![0, 1])]);
        assert_eq!(to_vouch_for(partitions.into_iter(), now), expected);
    }
}
