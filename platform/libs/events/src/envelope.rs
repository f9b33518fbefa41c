//! The envelope of every record.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Topic;

/// What a topic carries: an enum, serialised as `{"type": …, "payload": …}`.
pub trait Body: Serialize + DeserializeOwned + JsonSchema {
    /// The topic.
    const TOPIC: Topic;
    /// The types that this version knows.
    const TYPES: &'static [&'static str];
    /// The record key.
    fn key(&self) -> String;
    /// What decides the partition: records of one partition key keep their order.
    fn partition_key(&self) -> String;
}

/// Who writes: goes into every envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Tenant.
    pub tenant: String,
    /// Environment.
    pub environment: String,
}

/// One record's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<B> {
    /// UUID v7; readers deduplicate by it.
    #[schemars(with = "String")]
    pub id: Uuid,
    /// Version of the type's payload: 1, raised when fields are added.
    pub version: u32,
    /// When it happened for the writer, RFC 3339.
    #[schemars(with = "String")]
    pub occurred_at: Timestamp,
    /// Tenant of the writer.
    pub tenant: String,
    /// Environment of the writer.
    pub environment: String,
    /// W3C trace context of the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// `type` and `payload`.
    #[serde(flatten)]
    pub body: B,
}

/// A record that is no envelope of its topic.
#[derive(Debug, thiserror::Error)]
#[error(
    "a record of topic {topic} cannot be read: {source}; its writer is newer than its schema or no service of this platform"
)]
pub struct DecodeError {
    topic: Topic,
    #[source]
    source: serde_json::Error,
}

impl<B: Body> Envelope<B> {
    /// A new envelope that happens now.
    pub fn now(origin: &Origin, body: B) -> Self {
        Self::at(origin, Uuid::now_v7(), Timestamp::now(), body)
    }

    /// An envelope with a given id, for writers whose ids derive from what they write.
    pub fn at(origin: &Origin, id: Uuid, occurred_at: Timestamp, body: B) -> Self {
        Self {
            id,
            version: 1,
            occurred_at,
            tenant: origin.tenant.clone(),
            environment: origin.environment.clone(),
            traceparent: None,
            body,
        }
    }

    /// The record's value.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// Reads a record's value; `None` for a type that this version does not know.
pub fn decode<B: Body>(value: &[u8]) -> Result<Option<Envelope<B>>, DecodeError> {
    #[derive(Deserialize)]
    struct Header<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    let fail = |source| DecodeError { topic: B::TOPIC, source };
    let header: Header<'_> = serde_json::from_slice(value).map_err(fail)?;
    if !B::TYPES.contains(&header.kind.as_ref()) {
        return Ok(None);
    }
    serde_json::from_slice(value).map(Some).map_err(fail)
}
