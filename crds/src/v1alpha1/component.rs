//! What a component is: shared by Release and BettingService.

use super::{Need, schema};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use strum::{Display, IntoStaticStr};

/// What a component is: shared by Release and BettingService.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.migrations) || self.needs.exists(n, n.name == self.migrations.need && n.engine == 'PostgreSQL')").message("migrations.need must name a PostgreSQL entry of needs"))]
#[x_kube(validation = Rule::new("!has(self.route) || self.ports.exists(p, p.name == 'http')").message("a component with a route declares a port named http"))]
pub struct ComponentSpec {
    /// Image reference; by digest (`…@sha256:…`) in Production.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// Entry point, instead of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::command")]
    pub command: Vec<String>,
    /// Arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::command")]
    pub args: Vec<String>,
    /// Ports of the container; the Service serves the same numbers. `http`, `internal`, `metrics` and `control` have the meaning of the service contract; `control` is for components of a Release only.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<Port>,
    /// Environment variables. Never credentials: those come as files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::config")]
    pub config: BTreeMap<String, String>,
    /// Databases and topics that it needs; each becomes (part of) a DatabaseClaim and a folder under /bindings.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub needs: Vec<Need>,
    /// Services of its environment that it calls; its pods get a token for each, at /tokens/<service>/token. Only for components of a Release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 40), regex(pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub calls: Vec<String>,
    /// Command that prepares the database before the first pod of a revision starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<Migrations>,
    /// Follows the compiled market book: pods are Ready only with it, and the operator pushes changes to the control port. Only for
    /// components of a Release.
    #[serde(default)]
    pub market_book: bool,
    /// Resources of a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Probes; default GET /livez and /readyz on port `metrics` if declared, else `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// How a pod ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Fewest and most pods; default one. With `min == max` there is no autoscaler: the operator owns the size.
    #[serde(default)]
    pub replicas: AutoscalingBounds,
    /// What moves the size between min and max. Default: CPU at 70 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// How a new revision takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Route through the Gateway, for front doors only. Only for components of a Release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
}

/// A port of a component.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Port {
    /// Name: http, internal, metrics, control or another.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// Number, the same on container and Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// Migrations of a component.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Migrations {
    /// The PostgreSQL need that they change. Of several services on one claim exactly one has migrations; the others wait.
    #[schemars(length(min = 1, max = 20))]
    pub need: String,
    /// Runs once as a Job, with the claim's Migrate login, before the first pod of the revision.
    pub expand: MigrationStep,
}

/// One migration command.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct MigrationStep {
    /// Command line in the component's image.
    #[schemars(schema_with = "schema::command")]
    pub command: Vec<String>,
    /// How long it may take. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<String>,
}

/// Requests and limits of a pod.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// What is reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: BTreeMap<String, String>,
    /// What is the most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: BTreeMap<String, String>,
}

/// Probes of a pod.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Probes {
    /// Whether the process is alive; a pod that fails is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Probe>,
    /// Whether it can serve; a pod that fails gets no requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Probe>,
}

/// An HTTP GET on a declared port.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Probe {
    /// Path.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^/"))]
    pub path: String,
    /// Name of the port.
    #[schemars(length(min = 1, max = 15))]
    pub port: String,
}

/// How a pod ends.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Drain {
    /// Time that a pod gets to finish what it does; its grace period is this and 10 s. Default 30s.
    #[schemars(schema_with = "schema::duration")]
    pub period: String,
}

/// Size of a service. `min == max`: no autoscaler, the operator owns the size.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("self.min <= self.max").message("replicas.min must not exceed replicas.max"))]
pub struct AutoscalingBounds {
    /// Fewest pods.
    #[schemars(range(min = 1, max = 1000))]
    pub min: i32,
    /// Most pods.
    #[schemars(range(min = 1, max = 1000))]
    pub max: i32,
}

impl Default for AutoscalingBounds {
    fn default() -> Self {
        Self { min: 1, max: 1 }
    }
}

/// What moves the size.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Targets; the one that asks for most pods wins.
    #[schemars(length(min = 1, max = 4))]
    pub metrics: Vec<AutoscalingMetric>,
    /// Scaling down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScaleDown>,
}

/// One target of the autoscaler.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct AutoscalingMetric {
    /// Average CPU use in percent of the request.
    #[schemars(range(min = 1, max = 500))]
    pub cpu: i32,
}

/// Scaling down.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct ScaleDown {
    /// How long the highest recent recommendation holds. Default 5m.
    #[schemars(schema_with = "schema::duration")]
    pub stabilisation: String,
}

/// How a new revision takes over.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// Rolling: the new revision becomes available, then the old one goes to zero.
    #[serde(rename = "type")]
    pub type_: StrategyType,
    /// How long a revision may wait for its pods before it counts as failed. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub progress_deadline: Option<String>,
}

/// Kind of rollout.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr)]
pub enum StrategyType {
    /// New pods, then no old ones.
    Rolling,
}

/// Route of a front door.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Path prefix. Default `/`.
    #[serde(default = "root_path")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^/"))]
    pub path: String,
    /// Whether long-lived WebSocket connections pass: no request timeout. Default false.
    #[serde(default)]
    pub web_socket: bool,
}

fn root_path() -> String {
    "/".into()
}
