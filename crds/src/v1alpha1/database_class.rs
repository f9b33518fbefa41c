//! Kind DatabaseClass: where claims of an engine are provisioned.

use super::{Engine, EnvironmentClass, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use strum::{Display, IntoStaticStr};

/// A DatabaseClass names the servers on which claims of one engine and one environment class are provisioned. Its administrator
/// Secrets live in the operator's namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "paddock.bet",
    version = "v1alpha1",
    kind = "DatabaseClass",
    plural = "databaseclasses",
    singular = "databaseclass",
    shortname = "dbclass",
    category = "betting",
    status = "DatabaseClassStatus",
    derive = "PartialEq",
    doc = "A DatabaseClass names the shared servers on which DatabaseClaims of one engine and environment class are provisioned.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("a DatabaseClass's name has at most 63 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Engine", type_ = "string", json_path = ".spec.engine"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.environmentClass"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.engine == oldSelf.engine && self.environmentClass == oldSelf.environmentClass").message("engine and environmentClass are immutable: create another class"))]
#[x_kube(validation = Rule::new("self.engine == 'PostgreSQL' ? self.servers.all(s, has(s.adminSecret)) : true").message("a PostgreSQL server needs adminSecret"))]
#[x_kube(validation = Rule::new("self.engine != 'Kafka' || self.servers.all(s, !has(s.adminSecret))").message("servers[].adminSecret belongs to engine PostgreSQL: the operator reaches a Kafka broker without a login; remove it"))]
#[x_kube(validation = Rule::new("self.engine != 'PostgreSQL' || self.servers.all(s, has(s.tls))").message("a PostgreSQL server needs tls: mode VerifyFull and a caSecret"))]
#[x_kube(validation = Rule::new("self.engine != 'Kafka' || self.servers.all(s, !has(s.tls))").message("servers[].tls belongs to engine PostgreSQL: the operator and services speak to a Kafka broker without TLS; remove it"))]
#[x_kube(validation = Rule::new("self.engine == 'Kafka' || !has(self.published)").message("published belongs to engine Kafka"))]
#[x_kube(validation = Rule::new("self.engine != 'Kafka' || !has(self.limits)").message("limits belongs to engine PostgreSQL: a Kafka broker has no logins that they could bound; remove it"))]
pub struct DatabaseClassSpec {
    /// Engine of the servers. Immutable.
    pub engine: Engine,
    /// Environments that may use it. Immutable: a server belongs to classes of one environment class.
    pub environment_class: EnvironmentClass,
    /// Servers. A claim stays on the one it was bound to.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub servers: Vec<Server>,
    /// Kafka: topics that Tenant `platform` publishes; every claim of this class may read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63), regex(pattern = "^[a-z]([a-z0-9.-]*[a-z0-9])?$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub published: Vec<String>,
    /// PostgreSQL: limits of every login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LoginLimits>,
}

/// A database server or broker.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Name, unique in the class.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// PostgreSQL, required there: Secret in the operator's namespace with keys username and password of an administrator that is not a
    /// superuser. It needs LOGIN, CREATEDB, CREATEROLE, pg_signal_backend WITH ADMIN OPTION and, where PUBLIC may not connect to database
    /// postgres, CONNECT on it WITH GRANT OPTION (docs/database-servers.md); the operator works with logins that it makes by it, one
    /// for each term of leadership.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub admin_secret: Option<String>,
    /// Addresses.
    pub endpoints: Endpoints,
    /// How pods reach it: NetworkPolicies let out to it the operator, and the pods that need its engine in environments that name the class or have claims on it.
    pub network: ServerNetwork,
    /// TLS. PostgreSQL: required. Kafka: absent, which means a plain connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// How much it may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
}

/// Addresses of a server, `host:port`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Where reads and writes go: `host:port`.
    #[schemars(length(min = 3, max = 260), regex(pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?:[0-9]{1,5}$"))]
    pub read_write: String,
}

/// Pods of a server in the cluster.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServerNetwork {
    /// Namespace of the server's pods.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Labels of the server's pods.
    #[schemars(schema_with = "schema::labels")]
    pub pod_labels: BTreeMap<String, String>,
    /// TCP ports.
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,
}

/// How a server's certificate is checked.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr)]
pub enum TlsMode {
    /// Chain and host name.
    VerifyFull,
}

/// TLS of a server.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    /// VerifyFull.
    pub mode: TlsMode,
    /// Secret in the operator's namespace with key ca.crt.
    #[schemars(length(min = 1, max = 253))]
    pub ca_secret: String,
}

/// Bounds of a server.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Capacity {
    /// Most claims on this server.
    #[schemars(range(min = 1, max = 10000))]
    pub claims: i32,
}

/// Limits of every login on a PostgreSQL server.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LoginLimits {
    /// Longest statement. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub statement_timeout: Option<String>,
    /// Longest idle transaction. Default 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub idle_in_transaction: Option<String>,
    /// Connections of one login. Default 40. All logins of a claim together have at most four times as many, which more than four share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub connections_per_role: Option<i32>,
}

/// What the operator found of a DatabaseClass.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseClassStatus {
    /// The metadata.generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State by server.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub servers: Vec<ServerStatus>,
    /// Ready, Stalled.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// State of a server.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct ServerStatus {
    /// Name of the server.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Whether the administrator could log in when it was last tried.
    pub reachable: bool,
    /// Version that the server tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Epoch of the last term of the operator's leadership that began there; its login is the only one that may work on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
}
