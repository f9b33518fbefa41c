//! Kind DatabaseClaim: a database or topics wanted by services.

use super::{Access, Cleanup, Engine, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A DatabaseClaim is a database (or topics) on a shared server, with a login and a binding Secret `<claim>-<role>` for each role. It
/// outlives what asked for it; deleting it shuts its logins and keeps the data.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "paddock.bet",
    version = "v1alpha1",
    kind = "DatabaseClaim",
    plural = "databaseclaims",
    singular = "databaseclaim",
    shortname = "dbc",
    category = "betting",
    namespaced,
    status = "DatabaseClaimStatus",
    derive = "PartialEq",
    doc = "A DatabaseClaim is a database or a set of topics on a shared server, with logins and binding Secrets for services. An environment has at most 12.",
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')").message("a DatabaseClaim's name has at most 40 lower-case letters, digits and dashes and starts with a letter"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Engine", type_ = "string", json_path = ".spec.engine"),
    printcolumn(name = "Server", type_ = "string", json_path = ".status.server"),
    printcolumn(name = "Database", type_ = "string", json_path = ".status.database"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.engine == oldSelf.engine && self.className == oldSelf.className").message("engine and className are immutable: create another claim"))]
#[x_kube(validation = Rule::new("self.engine == 'Kafka' || !has(self.kafka)").message("kafka belongs to engine Kafka"))]
#[x_kube(validation = Rule::new("self.engine == 'Kafka' || self.roles.all(r, !has(r.topics) && has(r.access))").message("a PostgreSQL role has an access and no topics"))]
#[x_kube(validation = Rule::new("self.engine != 'Kafka' || self.roles.all(r, !has(r.access))").message("a Kafka role has no access: its topics say what it writes and reads; remove roles[].access"))]
pub struct DatabaseClaimSpec {
    /// Engine; equals the class's. Immutable.
    pub engine: Engine,
    /// DatabaseClass to provision from. Immutable.
    #[schemars(length(min = 1, max = 63))]
    pub class_name: String,
    /// Kafka: the topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaClaim>,
    /// Logins; each has a binding Secret `<claim>-<role>`.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub roles: Vec<ClaimRole>,
}

/// Topics of a claim.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
pub struct KafkaClaim {
    /// Topics, each created with its shape. A topic that is no longer listed keeps its data.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub topics: Vec<Topic>,
}

/// A topic.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Topic {
    /// Logical name; the name on the broker is derived.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([a-z0-9.-]*[a-z0-9])?$"))]
    pub name: String,
    /// Partitions. Default 3. May grow, never shrink.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 200))]
    pub partitions: i32,
    /// Delete by age, or Compact by key. Default Delete.
    #[serde(default = "delete")]
    pub cleanup: Cleanup,
    /// How long messages stay at least. Default 168h.
    #[serde(default = "week")]
    #[schemars(schema_with = "schema::duration")]
    pub retention: String,
}

fn three() -> i32 {
    3
}

fn delete() -> Cleanup {
    Cleanup::Delete
}

fn week() -> String {
    "168h".into()
}

/// A login of a claim.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct ClaimRole {
    /// Name, by convention the service that uses it.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// PostgreSQL: ReadWrite, ReadOnly or Migrate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Kafka: what it writes and reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<RoleTopics>,
}

/// Topics of a role, by logical name.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
pub struct RoleTopics {
    /// Topics that it writes.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub write: Vec<String>,
    /// Topics that it reads.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub read: Vec<String>,
    /// Published topics of the class that it reads.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub published: Vec<String>,
}

/// What the operator found of a DatabaseClaim.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseClaimStatus {
    /// The metadata.generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The servicebinding.io binding: the Secret of the first role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// Server of the class that holds it; it stays there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub server: Option<String>,
    /// Name of the database, or prefix of the topics, on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub database: Option<String>,
    /// Ready, Reconciling, Stalled, Bound, DriftFree, OwnershipConflict, Unused.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A binding Secret.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Binding {
    /// Name of the Secret.
    #[schemars(length(max = 253))]
    pub name: String,
}
