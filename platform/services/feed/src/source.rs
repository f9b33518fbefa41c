//! Where events, prices and results come from.

use async_trait::async_trait;
use paddock_events::{FeedMessage, ProducerScope};
use uuid::Uuid;

/// A producer of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerDescription {
    /// Id.
    pub product: u32,
    /// Name.
    pub name: String,
    /// What it prices.
    pub scope: ProducerScope,
    /// How far back a recovery may reach, in minutes.
    pub recovery_window_minutes: u32,
}

/// What a source says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// The producer lives.
    Alive {
        /// Producer.
        product: u32,
        /// Its time, ms.
        timestamp: i64,
        /// Whether it sends us data; `false`: it was restarted and must be recovered.
        subscribed: bool,
    },
    /// A message for topic `feed`.
    Message {
        /// The same id for the same message, also when a recovery sends it again.
        id: Uuid,
        /// The message.
        message: Box<FeedMessage>,
    },
    /// All messages of a recovery were sent.
    SnapshotComplete {
        /// Producer.
        product: u32,
        /// The recovery.
        request_id: u64,
    },
}

/// A request to send again what was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Producer.
    pub product: u32,
    /// Everything after this producer's time, ms; `None`: the present state of everything.
    pub after: Option<i64>,
    /// Chosen by us; comes back in [`SourceEvent::SnapshotComplete`].
    pub request_id: u64,
}

/// The source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The connection is gone; make a new source.
    #[error("the feed source is gone: {0}; it is connected again")]
    Disconnected(String),
    /// The source refused a request.
    #[error("the feed source refused a recovery of producer {product}: {reason}; it is asked again later")]
    Refused {
        /// Producer.
        product: u32,
        /// Why.
        reason: String,
    },
}

/// A feed in UOF semantics: messages of an event come in order; nothing survives a disconnect, so recovery is part of it.
#[async_trait]
pub trait FeedSource: Send {
    /// Its producers.
    fn producers(&self) -> Vec<ProducerDescription>;
    /// The next thing it says. Cancelling it loses nothing; once disconnected it stays so.
    async fn next(&mut self) -> Result<SourceEvent, SourceError>;
    /// Asks for a recovery.
    async fn recover(&mut self, recovery: Recovery) -> Result<(), SourceError>;
}
