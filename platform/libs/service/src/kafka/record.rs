//! What is sent.

use paddock_events::{Body, Envelope};

/// A record for the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Logical name of the topic.
    pub topic: String,
    /// Record key.
    pub key: String,
    /// What decides the partition.
    pub partition_key: String,
    /// A given partition instead.
    pub partition: Option<i32>,
    /// Value; `None` is a tombstone: the key leaves a compacted topic.
    pub value: Option<Vec<u8>>,
}

impl Record {
    /// The record of an envelope.
    pub fn of<B: Body>(event: &Envelope<B>) -> Result<Self, serde_json::Error> {
        Ok(Self {
            topic: B::TOPIC.name().to_owned(),
            key: event.body.key(),
            partition_key: event.body.partition_key(),
            partition: None,
            value: Some(event.to_json()?),
        })
    }
}
