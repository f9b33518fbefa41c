//! The loop that owns partitions of topic `feed`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use jiff::Timestamp;
use paddock_events::{FeedState, Topic};
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
/// How often producers and kick-offs are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Time between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
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
    /// Everything in it was taken in.
    complete: bool,
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
        let (mut beat_at, mut withdraw_at) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                biased;
                changed = assigned.changed() => {
                    changed.context("the consumer is gone")?;
                    let now: BTreeSet<i32> = assigned.borrow_and_update().iter().map(|(_, number)| *number).collect();
                    owned.retain(|number, _| now.contains(number));
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
                    if beat_at <= Instant::now() {
                        beat_at = Instant::now() + HEARTBEAT;
                        self.beat(&owned, &around, offer_partitions).await?;
                    }
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
        Ok(Owned { partition, placed: false, complete: false })
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
        for (number, records) in records {
            let Some(it) = owned.get_mut(&number) else { continue };
            it.complete = false;
            let first = records.first().map_or(0, |record| record.offset);
            if !std::mem::replace(&mut it.placed, true) && first > it.partition.next_offset() {
                consumer.seek(Topic::Feed, number, it.partition.next_offset())?;
                ends.remove(&number);
                continue;
            }
            let last = records.last().map_or(0, |record| record.offset);
            let taken = it.partition.take_what_can_be_stored(&self.database.pool(), &self.outlet, around, &records).await;
            let left_out = taken.with_context(|| format!("feed partition {number} at offset {first}"))?;
            self.metrics.records.inc_by(records.len() as u64);
            self.outlet.unreadable.inc_by(left_out.len() as u64);
            consumer.done(Topic::Feed, number, last)?;
        }
        for number in ends {
            if let Some(it) = owned.get_mut(&number) {
                it.complete = true;
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

    /// A partition that is behind is not vouched for.
    async fn beat(
        &self,
        owned: &BTreeMap<i32, Owned>,
        around: &Surroundings,
        offer_partitions: i32,
    ) -> Result<(), PartitionError> {
        let complete: Vec<&Partition> = owned.values().filter(|it| it.complete).map(|it| &it.partition).collect();
        if complete.is_empty() {
            return Ok(());
        }
        heartbeat(&self.database.pool(), &self.outlet, around, &complete, around.now, offer_partitions).await
    }
}

fn around(book: &Arc<Book>, producers: &Producers) -> Surroundings {
    Surroundings { book: Arc::clone(book), producers: producers.clone(), now: now() }
}
