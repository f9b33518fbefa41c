//! Kind Release: an immutable bundle of components.

use super::{ComponentSpec, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Release is what an environment runs: a version of every component, with its image, configuration, needs and size.
/// Its spec never changes; a change is a new Release.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "paddock.bet",
    version = "v1alpha1",
    kind = "Release",
    plural = "releases",
    singular = "release",
    shortname = "rel",
    category = "betting",
    status = "ReleaseStatus",
    derive = "PartialEq",
    doc = "A Release is an immutable bundle of components that environments run: images by digest, configuration, needs, size.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("a Release's name has at most 63 characters: it becomes a label"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Environments", type_ = "integer", json_path = ".status.environmentCount", description = "environments that ask for it"),
    printcolumn(name = "Commit", type_ = "string", json_path = ".spec.source.commit", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a Release is immutable: create another one and point the environment at it"))]
pub struct ReleaseSpec {
    /// Version as people write it, for example `2026.11.1`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"))]
    pub version: String,
    /// Where it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ReleaseSource>,
    /// Components of the Release.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub components: Vec<ReleaseComponent>,
}

/// Origin of a Release; shown, never interpreted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseSource {
    /// Source repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub repository: Option<String>,
    /// Commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub commit: Option<String>,
    /// Pipeline that built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub pipeline: Option<String>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub author: Option<String>,
}

/// One component of a Release.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseComponent {
    /// Name of the component: its BettingService, Service and pods are called so.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    pub name: String,
    /// What runs and how.
    #[serde(flatten)]
    pub component: ComponentSpec,
}

/// What the operator found of a Release.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// The metadata.generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many environments ask for this Release; while it is above 0 a deletion waits.
    #[serde(default)]
    pub environment_count: i32,
    /// Ready.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
