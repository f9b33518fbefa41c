//! What a component needs of databases and topics.

use super::{Engine, schema};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

/// What a login of a claim may do.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display, IntoStaticStr,
)]
pub enum Access {
    /// Reads.
    ReadOnly,
    /// Reads and writes rows; owns nothing.
    ReadWrite,
    /// Changes the schema; for migration Jobs, never for pods.
    Migrate,
}

/// A database or topics that a component needs.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.engine == 'PostgreSQL' ? (!has(self.topics) && !has(self.published)) : (self.engine == 'Kafka' ? !has(self.access) : true)").message("access belongs to PostgreSQL, topics and published to Kafka"))]
#[x_kube(validation = Rule::new("!has(self.access) || self.access != 'Migrate'").message("access Migrate is for migration Jobs: use ReadWrite or ReadOnly"))]
pub struct Need {
    /// Name; the binding is at /bindings/<name>.
    #[schemars(length(min = 1, max = 20), regex(pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// Engine.
    pub engine: Engine,
    /// Claim in this namespace; default `<service>-<need>`. The same name in several services is one claim, with a login for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$"))]
    pub claim: Option<String>,
    /// PostgreSQL: ReadWrite (default) or ReadOnly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Kafka: topics of the environment that it writes and reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<NeedTopics>,
    /// Kafka: topics that Tenant `platform` publishes for this class, read-only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub published: Vec<String>,
}

/// Topics of a Kafka need.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
pub struct NeedTopics {
    /// Topics that it writes, with their shape. A topic that several services write has one shape, said by one of them.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub write: Vec<NeedTopic>,
    /// Names of topics that it reads.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    pub read: Vec<String>,
}

/// A topic and its shape, as its writer wants it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct NeedTopic {
    /// Logical name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([a-z0-9.-]*[a-z0-9])?$"))]
    pub name: String,
    /// Partitions. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200))]
    pub partitions: Option<i32>,
    /// Delete by age, or Compact by key. Default Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<Cleanup>,
    /// How long messages stay at least. Default 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub retention: Option<String>,
}

/// Cleanup policy of a topic.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr)]
pub enum Cleanup {
    /// Messages go by age.
    Delete,
    /// The last message of each key stays.
    Compact,
}
