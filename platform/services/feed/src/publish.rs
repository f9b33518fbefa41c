//! From the source to topic `feed`, and the heartbeats.

use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use jiff::Timestamp;
use paddock_events::{
    Envelope, FeedHeartbeat, FeedMessage, FeedState, FeedStateMessage, Origin, ProducerState, Topic, decode,
};
use paddock_service::kafka::{Bus, FencedError, FencedProducer, Followed, Record, Start};
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::producer::Producer;
use crate::source::{FeedSource, SourceEvent};

/// A heartbeat older than this is a dead instance's.
const HEARTBEAT_LOST: Duration = Duration::from_secs(5);
/// Time between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Greatest number of records in a transaction.
const BATCH: usize = 500;

/// Publishes while it is its turn.
pub(crate) struct Publisher {
    bus: Bus,
    origin: Origin,
    draining: CancellationToken,
    messages: IntCounter,
    active: IntGauge,
    up: IntGaugeVec,
}

/// What ended a turn.
#[derive(Debug)]
enum TurnEnd {
    Draining,
    Fenced,
    SourceLost,
    BusLost,
}

impl Publisher {
    pub(crate) fn new(
        bus: Bus,
        origin: Origin,
        registry: &Registry,
        draining: CancellationToken,
    ) -> anyhow::Result<Self> {
        let messages = IntCounter::new("paddock_feed_messages_total", "Messages published to topic feed.")?;
        let active = IntGauge::new("paddock_feed_active", "1 if this instance publishes.")?;
        let up = IntGaugeVec::new(Opts::new("paddock_feed_producer_up", "1 if the producer is up."), &["producer"])?;
        registry.register(Box::new(messages.clone()))?;
        registry.register(Box::new(active.clone()))?;
        registry.register(Box::new(up.clone()))?;
        Ok(Self { bus, origin, draining, messages, active, up })
    }

    /// Stands by, publishes, stands by again, until the pod drains.
    pub(crate) async fn run<S: FeedSource>(self, connect: impl Fn() -> S) -> anyhow::Result<()> {
        while !self.draining.is_cancelled() {
            let waited = tokio::select! {
                waited = self.stand_by() => waited,
                () = self.draining.cancelled() => break,
            };
            let ended = match waited {
                Ok(()) => self.turn(connect()).await,
                Err(error) => Err(error),
            };
            self.active.set(0);
            match ended {
                Ok(TurnEnd::Draining) => break,
                Ok(TurnEnd::Fenced) => tracing::warn!("another instance publishes; standing by"),
                Ok(TurnEnd::BusLost) => tracing::warn!("the bus did not end a transaction; connecting again"),
                Ok(TurnEnd::SourceLost) => tracing::warn!("the source is gone; connecting again"),
                Err(error) => tracing::error!(error = format!("{error:#}"), "publishing stopped, starting again"),
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {},
                () = self.draining.cancelled() => {},
            }
        }
        Ok(())
    }

    /// Returns when no other instance has given a sign of life for a while.
    async fn stand_by(&self) -> anyhow::Result<()> {
        let mut follower = self.bus.follow(Topic::FeedState, Start::Tail(20)).await?;
        // When the newest sign of life was given; a last word is none.
        let mut newest = i64::MIN / 2;
        let mut filled = false;
        loop {
            let age = Timestamp::now().as_millisecond().saturating_sub(newest);
            let lost = i64::try_from(HEARTBEAT_LOST.as_millis()).unwrap_or(i64::MAX);
            if filled && age > lost {
                return Ok(());
            }
            match timeout(HEARTBEAT, follower.next()).await {
                Err(_silence) => {}
                Ok(Ok(Followed::CaughtUp)) => filled = true,
                Ok(Ok(Followed::Record { value, .. })) => {
                    if let Some(state) = value.as_deref().and_then(read_state) {
                        newest = if state.leaving { i64::MIN / 2 } else { newest.max(state.at) };
                    }
                }
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// The last word of the instance before us; read after it was fenced, so that nothing follows it.
    async fn last_word(&self) -> anyhow::Result<Vec<ProducerState>> {
        let mut follower = self.bus.follow(Topic::FeedState, Start::Tail(20)).await?;
        let mut last: Option<FeedState> = None;
        loop {
            let next = timeout(Duration::from_secs(20), follower.next());
            match next.await.context("topic feed.state cannot be read to its end; check the broker")?? {
                Followed::CaughtUp => return Ok(last.map(|state| state.producers).unwrap_or_default()),
                Followed::Record { value, .. } => last = value.as_deref().and_then(read_state).or(last),
            }
        }
    }

    async fn turn(&self, mut source: impl FeedSource) -> anyhow::Result<TurnEnd> {
        let mut bus = self.bus.fenced_producer("feed")?;
        bus.take_over().await?;
        let before = self.last_word().await?;
        let partitions = self.bus.partitions(Topic::Feed).await?;
        let recover_from =
            |product| before.iter().find(|state| state.product == product).and_then(|state| state.recover_from);
        let mut producers: Vec<Producer> = source
            .producers()
            .into_iter()
            .map(|description| {
                let from = recover_from(description.product);
                Producer::new(description, from)
            })
            .collect();
        tracing::info!("publishing");
        self.active.set(1);
        let mut beats = interval(HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pending: Vec<Record> = Vec::new();
        let mut told: Vec<bool> = Vec::new();
        let mut requests = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        loop {
            let beat = tokio::select! {
                biased;
                () = self.draining.cancelled() => {
                    self.beat(&producers, partitions, true, &mut pending)?;
                    // One try: whoever takes over recovers what was not said.
                    let _said = bus.publish(&pending).await;
                    return Ok(TurnEnd::Draining);
                },
                _ = beats.tick() => true,
                event = source.next() => {
                    let Ok(event) = event else {
                        // The states that the others see must change before we go.
                        producers.iter_mut().for_each(Producer::disconnected);
                        self.beat(&producers, partitions, false, &mut pending)?;
                        return Ok(match bus.publish(&pending).await {
                            Err(FencedError::Fenced) => TurnEnd::Fenced,
                            _ => TurnEnd::SourceLost,
                        });
                    };
                    self.take(event, &mut producers, &mut source, &mut requests, &mut pending).await?;
                    false
                },
            };
            // What is there at once goes into the same transaction.
            while pending.len() < BATCH
                && let Some(Ok(event)) = source.next().now_or_never()
            {
                self.take(event, &mut producers, &mut source, &mut requests, &mut pending).await?;
            }
            let messages = pending.len() as u64;
            // A producer that came up or went down is told at once.
            let ups: Vec<bool> = producers.iter().map(Producer::is_up).collect();
            if beat || ups != told {
                told = ups;
                let now = Timestamp::now().as_millisecond();
                for producer in &mut producers {
                    producer.tick(now);
                }
                self.beat(&producers, partitions, false, &mut pending)?;
            }
            if pending.is_empty() {
                continue;
            }
            if let Some(end) = self.publish(&mut bus, &pending).await {
                return Ok(end);
            }
            self.messages.inc_by(messages);
            pending.clear();
        }
    }

    async fn take(
        &self,
        event: SourceEvent,
        producers: &mut [Producer],
        source: &mut impl FeedSource,
        requests: &mut u64,
        pending: &mut Vec<Record>,
    ) -> anyhow::Result<()> {
        let now = Timestamp::now().as_millisecond();
        match event {
            SourceEvent::Message { id, message } => {
                let said_at = message.head().and_then(|head| Timestamp::from_millisecond(head.timestamp).ok());
                let at = said_at.unwrap_or(Timestamp::UNIX_EPOCH);
                pending.push(Record::of(&Envelope::at(&self.origin, id, at, *message))?);
            }
            SourceEvent::SnapshotComplete { product, request_id } => {
                if let Some(producer) = producers.iter_mut().find(|producer| producer.product() == product) {
                    producer.snapshot_complete(request_id);
                    tracing::info!(product, up = producer.is_up(), "recovery complete");
                }
            }
            SourceEvent::Alive { product, timestamp, subscribed } => {
                let Some(producer) = producers.iter_mut().find(|producer| producer.product() == product) else {
                    return Ok(());
                };
                *requests += 1;
                if let Some(recovery) = producer.alive(now, timestamp, subscribed, *requests) {
                    tracing::info!(product, after = recovery.after, "recovery requested");
                    if let Err(error) = source.recover(recovery).await {
                        tracing::warn!(%error, "recovery refused");
                        producer.refused(recovery.request_id);
                    }
                }
            }
        }
        Ok(())
    }

    /// Publishes until it is done or the turn is over; what was aborted is tried again, so nothing is lost, and said twice only if
    /// the bus leaves it open whether it was said.
    async fn publish(&self, bus: &mut FencedProducer, records: &[Record]) -> Option<TurnEnd> {
        loop {
            match bus.publish(records).await {
                Ok(()) => return None,
                Err(FencedError::Fenced) => return Some(TurnEnd::Fenced),
                // What was not said, recovery says again.
                Err(FencedError::Unknown(error)) => {
                    tracing::warn!(%error, "the bus is left");
                    return Some(TurnEnd::BusLost);
                }
                Err(FencedError::Aborted(error)) => tracing::warn!(%error, "transaction aborted, trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(500)) => {},
                () = self.draining.cancelled() => return Some(TurnEnd::Draining),
            }
        }
    }

    /// Adds the states of all producers, and to each partition of `feed` that everything said so far stands before this.
    fn beat(
        &self,
        producers: &[Producer],
        partitions: i32,
        leaving: bool,
        pending: &mut Vec<Record>,
    ) -> anyhow::Result<()> {
        let states: Vec<ProducerState> = producers.iter().map(Producer::state).collect();
        for state in &states {
            self.up.with_label_values(&[&state.name]).set(i64::from(state.up));
        }
        let at = Timestamp::now().as_millisecond();
        let state = FeedStateMessage::FeedState(FeedState { at, producers: states, leaving });
        pending.push(Record::of(&Envelope::now(&self.origin, state))?);
        for number in 0..partitions {
            let heartbeat = Envelope::now(&self.origin, FeedMessage::Heartbeat(FeedHeartbeat { at }));
            pending.push(Record { partition: Some(number), ..Record::of(&heartbeat)? });
        }
        Ok(())
    }
}

fn read_state(value: &[u8]) -> Option<FeedState> {
    let FeedStateMessage::FeedState(state) = decode::<FeedStateMessage>(value).ok().flatten()?.body;
    Some(state)
}

#[cfg(test)]
mod tests;
