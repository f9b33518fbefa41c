//! This replica's own copy of the offer (rule B3).
//!
//! State changes become rows before the copy takes them in, so a commit on any replica sees what any replica has applied.

use std::collections::HashMap;
use std::str::FromStr as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use paddock_events::{CatalogueEvent, Envelope, LineKey, OfferFreshness, OfferLine, OfferMessage, Topic, decode};
use paddock_service::Gate;
use paddock_service::kafka::{Bus, Followed, Start};
use prometheus::Histogram;
use tokio_util::sync::CancellationToken;

use crate::store::{StateChange, Store};

/// Records taken in together.
const BATCH: usize = 500;
/// Between two tries after a failure.
const RETRY: Duration = Duration::from_millis(200);

/// The copy. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct OfferCopy {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: HashMap<LineKey, (i32, OfferLine)>,
    events: HashMap<String, CatalogueEvent>,
    freshness: OfferFreshness,
    last_heartbeat: Option<i64>,
    caught_up: bool,
}

/// A line as the copy has it.
#[derive(Debug, Clone)]
pub struct Copied {
    /// Line.
    pub line: OfferLine,
    /// Event.
    pub event: CatalogueEvent,
    /// At most three seconds old.
    pub fresh: bool,
}

/// A record of the offer.
#[derive(Debug, Clone)]
pub enum Record {
    /// Something is new.
    Message(i32, Box<OfferMessage>),
    /// The key is gone.
    Gone(String),
}

impl OfferCopy {
    /// The line and its event, if both are known.
    pub fn line(&self, key: &LineKey, now: i64) -> Option<Copied> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let (partition, line) = inner.lines.get(key)?;
        let event = inner.events.get(&key.event_id)?.clone();
        Some(Copied { line: line.clone(), event, fresh: inner.freshness.is_fresh(*partition, line, now) })
    }

    /// Whether the topic was read to its end.
    pub fn is_caught_up(&self) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).caught_up
    }

    /// Time since the newest heartbeat, ms; `None` before the first.
    pub fn age(&self, now: i64) -> Option<i64> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.last_heartbeat.map(|at| now.saturating_sub(at).max(0))
    }

    /// The state changes that records bring: to be rows before [`OfferCopy::apply`].
    pub fn changes(&self, records: &[Record]) -> Vec<StateChange> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let mut changes: HashMap<String, StateChange> = HashMap::new();
        for record in records {
            let Record::Message(_, message) = record else { continue };
            let (key, sequence, status, known): (String, i64, &'static str, Option<&'static str>) =
                match message.as_ref() {
                    OfferMessage::Line(line) => {
                        let known = inner.lines.get(&line.line_key()).map(|(_, known)| known.status.into());
                        (line.line_key().to_string(), line.sequence, line.status.into(), known)
                    }
                    OfferMessage::Event(event) => {
                        let known = inner.events.get(&event.event_id).map(|known| known.status.into());
                        (event.event_id.clone(), event.sequence, event.status.into(), known)
                    }
                    OfferMessage::Heartbeat(_) => continue,
                };
            let earlier = changes.get(&key);
            let before = earlier.map(|change| change.status).or(known);
            if before != Some(status) && earlier.is_none_or(|earlier| earlier.sequence < sequence) {
                // What is seen for the first time may have had this state all along.
                let witnessed = before.is_some();
                changes.insert(key.clone(), StateChange { key, sequence, status, witnessed });
            }
        }
        let mut changes: Vec<StateChange> = changes.into_values().collect();
        changes.sort_by(|one, other| one.key.cmp(&other.key));
        changes
    }

    /// Takes records in; one with a lower sequence than already seen is old.
    pub fn apply(&self, records: Vec<Record>) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            match record {
                Record::Message(partition, message) => match *message {
                    OfferMessage::Line(line) => {
                        let key = line.line_key();
                        if inner.lines.get(&key).is_none_or(|(_, known)| known.sequence <= line.sequence) {
                            inner.lines.insert(key, (partition, line));
                        }
                    }
                    OfferMessage::Event(event) => {
                        if inner.events.get(&event.event_id).is_none_or(|known| known.sequence <= event.sequence) {
                            inner.events.insert(event.event_id.clone(), event);
                        }
                    }
                    OfferMessage::Heartbeat(beat) => {
                        inner.freshness.heartbeat(partition, &beat);
                        inner.last_heartbeat = inner.last_heartbeat.max(Some(beat.at));
                    }
                },
                Record::Gone(key) => {
                    inner.events.remove(&key);
                    if let Ok(key) = LineKey::from_str(&key) {
                        inner.lines.remove(&key);
                    }
                }
            }
        }
    }

    /// Everything that is kept has been read.
    pub fn caught_up(&self) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).caught_up = true;
    }

    /// Follows topic `offer` until told to end; `written` is told how long state changes take.
    pub async fn follow(
        self,
        bus: Bus,
        store: Store,
        gate: Gate,
        written: Histogram,
        end: CancellationToken,
    ) -> anyhow::Result<()> {
        while !end.is_cancelled() {
            let followed = tokio::select! {
                followed = self.follow_once(&bus, &store, &gate, &written) => followed,
                () = end.cancelled() => return Ok(()),
            };
            if let Err(error) = followed {
                tracing::warn!(error = format!("{error:#}"), "the offer is followed anew");
            }
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    async fn follow_once(&self, bus: &Bus, store: &Store, gate: &Gate, written: &Histogram) -> anyhow::Result<()> {
        let mut follower = bus.follow(Topic::Offer, Start::Beginning).await?;
        loop {
            let mut next = Some(follower.next().await?);
            let (mut records, mut caught_up) = (Vec::new(), false);
            while let Some(followed) = next.take() {
                match followed {
                    Followed::Record { partition, key, value, .. } => records.extend(read(partition, key, value)),
                    Followed::CaughtUp => caught_up = true,
                }
                if records.len() < BATCH {
                    next = follower.next().now_or_never().transpose()?;
                }
            }
            let (changes, received) = (self.changes(&records), Instant::now());
            while let Err(error) = store.change_states(&changes).await {
                // Meanwhile no heartbeat is applied, so the copy gets old and nothing is accepted.
                tracing::warn!(%error, "state changes are written again");
                tokio::time::sleep(RETRY).await;
            }
            if !changes.is_empty() {
                written.observe(received.elapsed().as_secs_f64());
            }
            self.apply(records);
            if caught_up {
                self.caught_up();
                gate.open();
            }
        }
    }
}

fn read(partition: i32, key: String, value: Option<Vec<u8>>) -> Option<Record> {
    let Some(value) = value else { return Some(Record::Gone(key)) };
    match decode::<OfferMessage>(&value) {
        Ok(Some(Envelope { body, .. })) => Some(Record::Message(partition, Box::new(body))),
        Ok(None) => None,
        Err(error) => {
            tracing::error!(key, %error, "a record of the offer is skipped");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use paddock_events::{EventStatus, MarketStatus, OfferHeartbeat};

    use super::*;
    use crate::testing;

    fn message(message: OfferMessage) -> Record {
        Record::Message(0, Box::new(message))
    }

    #[test]
    fn prices_are_no_state_changes_but_every_new_status_is() {
        let copy = OfferCopy::default();
        let line = |odds, sequence, status| message(OfferMessage::Line(testing::line(odds, sequence, status)));
        let first = vec![
            line("2.10", 1, MarketStatus::Active),
            message(OfferMessage::Event(testing::event(EventStatus::NotStarted, testing::NOW + 1000))),
        ];
        assert_eq!(copy.changes(&first).len(), 2, "what is new has a state");
        copy.apply(first);
        assert!(copy.changes(&[line("2.20", 2, MarketStatus::Active)]).is_empty());
        let both = [line("2.20", 2, MarketStatus::Suspended), line("2.20", 3, MarketStatus::Active)];
        assert_eq!(copy.changes(&both)[0].sequence, 3, "a suspension within a batch leaves a trace");
        copy.apply(vec![line("2.30", 3, MarketStatus::Active), line("9.00", 2, MarketStatus::Active)]);
        let copied = copy.line(&testing::key(), testing::NOW).unwrap();
        assert_eq!((copied.line.sequence, copied.fresh), (3, false));
    }

    #[test]
    fn a_heartbeat_makes_fresh_and_a_tombstone_removes() {
        let copy = OfferCopy::default();
        copy.apply(vec![
            message(OfferMessage::Line(testing::line("2.10", 1, MarketStatus::Active))),
            message(OfferMessage::Event(testing::event(EventStatus::NotStarted, testing::NOW + 1000))),
            message(OfferMessage::Heartbeat(OfferHeartbeat {
                feed_partitions: vec![0],
                at: testing::NOW,
                book_generation: 1,
            })),
        ]);
        assert!(copy.line(&testing::key(), testing::NOW + 3000).unwrap().fresh);
        assert!(!copy.line(&testing::key(), testing::NOW + 3001).unwrap().fresh);
        assert_eq!(copy.age(testing::NOW + 5), Some(5));
        copy.apply(vec![Record::Gone(testing::key().to_string())]);
        assert!(copy.line(&testing::key(), testing::NOW).is_none());
    }
}
