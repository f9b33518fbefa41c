//! Kind BettingService: one component running in one environment.

use super::{ComponentSpec, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A BettingService runs one component in one environment: revisions of pods with their configuration, autoscaler and
/// disruption budget, a Service, a route, and the database claims that the component needs.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "paddock.bet",
    version = "v1alpha1",
    kind = "BettingService",
    plural = "bettingservices",
    singular = "bettingservice",
    shortname = "bsvc",
    category = "betting",
    namespaced,
    status = "BettingServiceStatus",
    derive = "PartialEq",
    doc = "A BettingService runs one component in one environment: revisions, size, Service, route and database claims.",
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')").message("a BettingService's name has at most 40 lower-case letters, digits and dashes and starts with a letter: it becomes a Service's name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision"),
    printcolumn(name = "Pods", type_ = "string", json_path = ".status.summary", description = "pods ready of pods wanted"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.component == oldSelf.component").message("the component of a BettingService is immutable"))]
pub struct BettingServiceSpec {
    /// Component that runs. Immutable.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    pub component: String,
    /// Version of the Release it comes from.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"))]
    pub version: String,
    /// What runs and how.
    #[serde(flatten)]
    pub spec: ComponentSpec,
    /// Size 0; everything else stays.
    #[serde(default)]
    pub suspended: bool,
}

/// What the operator found of a BettingService.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BettingServiceStatus {
    /// The metadata.generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Hash of the revision that the spec asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub revision: Option<String>,
    /// Hash of the last revision that became available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub stable_revision: Option<String>,
    /// Version that the stable revision runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub stable_version: Option<String>,
    /// Image that the stable revision runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
    /// Available or not, in words for the eye: `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub summary: Option<String>,
    /// Resolves hash collisions of revisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    /// Revisions, newest first, at most ten.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub history: Vec<RevisionRecord>,
    /// Ready, Reconciling, Stalled, Available, ClaimsBound, MigrationsApplied.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A revision that ran.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RevisionRecord {
    /// Its hash.
    #[schemars(length(max = 63))]
    pub revision: String,
    /// Version of its Release.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Image.
    #[schemars(length(max = 512))]
    pub image: String,
    /// `Available`, `Superseded` or `Progressing`.
    #[schemars(length(max = 16))]
    pub outcome: String,
    /// Since when a Progressing revision waits for its pods; the progress deadline counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Time>,
}
