//! From topics into [`Live`].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use paddock_events::{LedgerMessage, OfferMessage, TicketMessage, Topic, decode};
use paddock_service::Gate;
use paddock_service::kafka::{Bus, Followed, Follower, Start};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::live::Live;

/// Before a broken reader is made anew.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the age of the offer is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A copy of the offer whose reader broke so long ago is not complete any more.
const BROKEN: Duration = Duration::from_secs(5);

/// Opens readers of topics: the edge to the bus, so that tests need none.
#[async_trait]
pub trait Source: Send + Sync {
    /// A reader of a topic.
    async fn open(&self, topic: Topic, start: Start) -> anyhow::Result<Box<dyn Records>>;
}

/// A reader of a topic.
#[async_trait]
pub trait Records: Send {
    /// The next record. Cancelling it loses nothing. After an error open a new reader.
    async fn next(&mut self) -> anyhow::Result<Followed>;
}

#[async_trait]
impl Source for Bus {
    async fn open(&self, topic: Topic, start: Start) -> anyhow::Result<Box<dyn Records>> {
        Ok(Box::new(self.follow(topic, start).await?))
    }
}

#[async_trait]
impl Records for Follower {
    async fn next(&mut self) -> anyhow::Result<Followed> {
        Ok(Self::next(self).await?)
    }
}

/// Fills and follows the offer. The gate opens when the copy is complete. A reader that breaks starts from the beginning, and what it
/// reads again is known by its sequence; the gate closes if that takes long. Lines are shown as open while heartbeats come.
pub async fn follow_offer(source: &dyn Source, live: &Live, filled: &Gate, end: &CancellationToken) {
    let broken: Mutex<Option<Instant>> = Mutex::new(None);
    let broken = || broken.lock().unwrap_or_else(PoisonError::into_inner);
    let looking = async {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            live.look(Timestamp::now().as_millisecond());
            if broken().is_some_and(|since| since.elapsed() > BROKEN) {
                filled.close("the copy of the offer is read anew");
            }
        }
    };
    let reading = follow(
        source,
        Topic::Offer,
        Start::Beginning,
        end,
        || {},
        || {
            broken().get_or_insert_with(Instant::now);
        },
        |step| match step {
            Followed::Record { partition, offset, value: Some(value), .. } => match decode::<OfferMessage>(&value) {
                Ok(Some(envelope)) => {
                    let is_heartbeat = matches!(envelope.body, OfferMessage::Heartbeat(_));
                    live.offer(partition, offset, envelope.body);
                    if is_heartbeat {
                        live.look(Timestamp::now().as_millisecond());
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(offset, %error, "record of offer skipped"),
            },
            Followed::Record { key, value: None, .. } => live.offer_gone(&key),
            Followed::CaughtUp => {
                *broken() = None;
                filled.open();
            }
        },
    );
    tokio::select! { () = reading => {}, () = looking => {} }
}

/// Follows what is new in the ledger. Between two readers something may be written: those who follow are told.
pub async fn follow_ledger(source: &dyn Source, live: &Live, end: &CancellationToken) {
    follow(
        source,
        Topic::Ledger,
        Start::End,
        end,
        || live.ledger_gap(),
        || {},
        |step| {
            let Followed::Record { offset, value: Some(value), .. } = step else { return };
            match decode::<LedgerMessage>(&value) {
                Ok(Some(envelope)) => {
                    let LedgerMessage::LedgerEntry(entry) = envelope.body;
                    live.ledger(entry);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(offset, %error, "record of ledger skipped"),
            }
        },
    )
    .await;
}

/// Follows what is new of tickets. Between two readers something may be written: those who follow are told.
pub async fn follow_tickets(source: &dyn Source, live: &Live, end: &CancellationToken) {
    follow(
        source,
        Topic::Tickets,
        Start::End,
        end,
        || live.tickets_gap(),
        || {},
        |step| {
            let Followed::Record { offset, value: Some(value), .. } = step else { return };
            match decode::<TicketMessage>(&value) {
                Ok(Some(envelope)) => {
                    let (TicketMessage::TicketDecided(ticket) | TicketMessage::TicketSettled(ticket)) = envelope.body;
                    live.ticket(offset, ticket);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(offset, %error, "record of tickets skipped"),
            }
        },
    )
    .await;
}

async fn follow(
    source: &dyn Source,
    topic: Topic,
    start: Start,
    end: &CancellationToken,
    opened: impl Fn() + Send,
    broke: impl Fn() + Send,
    mut take: impl FnMut(Followed) + Send,
) {
    let reading = async {
        loop {
            match source.open(topic, start).await {
                Ok(mut records) => {
                    opened();
                    loop {
                        match records.next().await {
                            Ok(step) => take(step),
                            Err(error) => {
                                tracing::warn!(%topic, error = format!("{error:#}"), "reader broke, a new one is opened");
                                break;
                            }
                        }
                    }
                }
                Err(error) => tracing::warn!(%topic, error = format!("{error:#}"), "topic cannot be read yet"),
            }
            broke();
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! { () = reading => {}, () = end.cancelled() => {} }
}
