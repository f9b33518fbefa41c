//! From topics into [`Live`].

use std::time::Duration;

use async_trait::async_trait;
use paddock_events::{LedgerMessage, OfferMessage, TicketMessage, Topic, decode};
use paddock_service::Gate;
use paddock_service::kafka::{Bus, Followed, Follower, Start};
use tokio_util::sync::CancellationToken;

use super::live::Live;

/// Before a broken reader is made anew.
const PAUSE: Duration = Duration::from_secs(1);

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

/// Fills and follows the offer. The gate opens when the copy is complete, and stays: a reader that breaks starts from the
/// beginning, and what it reads again is known by its sequence.
pub async fn follow_offer(source: &dyn Source, live: &Live, filled: &Gate, end: &CancellationToken) {
    follow(
        source,
        Topic::Offer,
        Start::Beginning,
        end,
        || {},
        |step| match step {
            Followed::Record { offset, value: Some(value), .. } => match decode::<OfferMessage>(&value) {
                Ok(Some(envelope)) => live.offer(offset, envelope.body),
                Ok(None) => {}
                Err(error) => tracing::warn!(offset, %error, "record of offer skipped"),
            },
            Followed::Record { key, value: None, .. } => live.offer_gone(&key),
            Followed::CaughtUp => filled.open(),
        },
    )
    .await;
}

/// Follows what is new in the ledger. Between two readers something may be written: those who follow are told.
pub async fn follow_ledger(source: &dyn Source, live: &Live, end: &CancellationToken) {
    follow(
        source,
        Topic::Ledger,
        Start::End,
        end,
        || live.ledger_gap(),
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
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! { () = reading => {}, () = end.cancelled() => {} }
}
