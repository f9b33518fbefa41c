//! Kind Tenant: a brand and its environments.

use super::{AutoscalingBounds, Engine, EnvironmentClass, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use strum::{Display, IntoStaticStr};

/// A Tenant is a betting brand. The operator gives each of its environments a namespace `<tenant>-<environment>` with quota,
/// limits, network isolation and roles, its domains on the Gateway, and one BettingService per component of the environment's Release.
///
/// Deleting a Tenant ends its workloads and routes; its namespaces and databases stay, and a Tenant of the same name takes them back.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "paddock.bet",
    version = "v1alpha1",
    kind = "Tenant",
    plural = "tenants",
    singular = "tenant",
    shortname = "tn",
    category = "betting",
    status = "TenantStatus",
    derive = "PartialEq",
    doc = "A Tenant is a betting brand: its environments, domains, owners and limits. `kubectl get tn` shows whether it runs.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$')").message("a Tenant's name has at most 32 lower-case letters, digits and dashes, starts with a letter and does not end with a dash"),
    validation = Rule::new("self.metadata.name != 'default' && !['kube', 'paddock', 'openshift'].exists(reserved, self.metadata.name.startsWith(reserved))").message("this name is reserved: choose one that is not default and does not start with kube, paddock or openshift"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "whether every environment is served"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Environments", type_ = "string", json_path = ".status.summary", description = "services ready of services wanted, by environment"),
    printcolumn(name = "Brand", type_ = "string", json_path = ".spec.displayName", priority = 1, description = "name of the brand as people write it"),
    printcolumn(name = "Release", type_ = "string", json_path = ".spec.environments[*].release", priority = 1, description = "release wanted, by environment"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.environments.all(e, oldSelf.environments.all(o, o.name != e.name || o.class == e.class))").message("the class of an environment is immutable: add an environment of the other class"))]
pub struct TenantSpec {
    /// Name of the brand as people write it, and as its customers see it. Services get it as PADDOCK_BRAND.
    #[schemars(length(min = 1, max = 128))]
    pub display_name: String,
    /// Licences that the brand operates under. Exactly one for now. Immutable. Customers see it; services get its name as PADDOCK_LICENCE and its jurisdiction as PADDOCK_JURISDICTION.
    #[schemars(length(min = 1, max = 1))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]), validation = Rule::new("self == oldSelf").message("licences are immutable: a brand under another licence is another Tenant"))]
    pub licences: Vec<Licence>,
    /// Currencies that customers may hold, ISO 4217 codes.
    #[schemars(length(min = 1, max = 16), inner(regex(pattern = "^[A-Z]{3}$"), length(max = 3)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub currencies: Vec<String>,
    /// Languages of the brand, BCP 47 tags; the first is the default.
    #[serde(default)]
    #[schemars(length(max = 32), inner(regex(pattern = "^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$"), length(max = 32)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub locales: Vec<String>,
    /// Who may do what in the environments: one entry for each owner and role.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into(), "role".into()]))]
    pub owners: Vec<Owner>,
    /// Runs nothing (every service at size 0) and keeps all data.
    #[serde(default)]
    pub suspended: bool,
    /// Environments of the brand: one namespace each.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub environments: Vec<Environment>,
}

/// A licence to offer bets.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Licence {
    /// Short name of the licence, for example `mga-1`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// Jurisdiction that gave it: ISO 3166 code.
    #[schemars(length(min = 2, max = 6), regex(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$"))]
    pub jurisdiction: String,
}

/// What an owner may do. Each role includes the ones before it.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display, IntoStaticStr,
)]
pub enum OwnerRole {
    /// Reads everything but Secrets.
    Viewer,
    /// Viewer, and writes Markets and own Secrets (without reading them).
    Editor,
    /// Editor, and writes own BettingServices and DatabaseClaims; exec and port-forward in NonProduction.
    Owner,
}

/// Kind of subject that an owner is.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display, IntoStaticStr,
)]
pub enum OwnerKind {
    /// A group as the cluster's authenticator names it.
    Group,
    /// A single user.
    User,
}

/// A group or user with a role.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Group or User.
    pub kind: OwnerKind,
    /// Name as the cluster's authenticator gives it.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[^:]+(:[^:]+)*$"))]
    pub name: String,
    /// What the owner may do.
    pub role: OwnerRole,
    /// Environments in which it holds; empty means all.
    #[serde(default)]
    #[schemars(length(max = 8), inner(length(max = 15)))]
    pub environments: Vec<String>,
}

/// One isolated installation of the brand.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Name, without dashes; the namespace is `<tenant>-<name>`. Immutable.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z][a-z0-9]{0,14}$"))]
    pub name: String,
    /// Production or NonProduction. Immutable; drives defaults and which database classes may be used.
    pub class: EnvironmentClass,
    /// Name of the Release that the environment should run.
    #[schemars(length(min = 1, max = 63))]
    pub release: String,
    /// Host names of the environment, each unique over the cluster.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into()]))]
    pub domains: Vec<Domain>,
    /// Overrides by component; what is absent is as the Release says.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub services: Vec<ServiceOverride>,
    /// Limits of the whole environment. Defaults: 300 pods, 40 CPU and 80Gi of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// Defaults and maxima of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_range: Option<ContainerLimits>,
    /// Connections that leave the environment. All others are denied, both ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Database classes of the environment: one default per engine.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["engine".into()]))]
    pub database_classes: Vec<DatabaseClassRef>,
}

/// A host name of an environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// Fully qualified host name in lower case, without wildcard.
    #[schemars(
        length(min = 1, max = 200),
        regex(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$")
    )]
    pub host: String,
    /// Where its certificate comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DomainTls>,
}

/// Certificate of a domain.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DomainTls {
    /// Secret of type kubernetes.io/tls in the environment's namespace. Absent: the operator signs one with the CA of its configuration.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// What an environment changes of a component.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceOverride {
    /// Component of the Release.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// Whether the component runs at all. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Size, instead of the Release's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<AutoscalingBounds>,
    /// Configuration entries that are added to the Release's or replace them by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::config")]
    pub config: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

/// Hard limits of an environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Quota {
    /// ResourceQuota entries, for example `requests.cpu: "40"`. They replace the defaults by name.
    #[schemars(schema_with = "schema::quantities")]
    pub hard: BTreeMap<String, String>,
}

/// Defaults and maxima of a container in an environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct ContainerLimits {
    /// Limits of a container that names none.
    #[serde(default)]
    #[schemars(schema_with = "schema::quantities")]
    pub default: BTreeMap<String, String>,
    /// Most that a container may ask for.
    #[serde(default)]
    #[schemars(schema_with = "schema::quantities")]
    pub max: BTreeMap<String, String>,
}

/// Connections out of an environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Network {
    /// Allowed destinations.
    #[schemars(length(max = 64))]
    pub allow: Vec<NetworkTarget>,
}

/// A destination outside of the cluster.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct NetworkTarget {
    /// Address range, for example `203.0.113.0/24`.
    #[schemars(
        length(min = 9, max = 43),
        regex(pattern = "^([0-9]{1,3}(\\.[0-9]{1,3}){3}/([0-9]|[12][0-9]|3[0-2])|[0-9a-f:]+/[0-9]{1,3})$")
    )]
    pub cidr: String,
    /// TCP port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// The class that serves an engine in an environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseClassRef {
    /// Engine that the class serves.
    pub engine: Engine,
    /// Name of the DatabaseClass; its environmentClass must be the environment's class.
    #[schemars(length(min = 1, max = 63))]
    pub class_name: String,
}

/// What the operator found of a Tenant.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// The metadata.generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Services ready of services wanted by environment: `dev 5/5, prod 4/5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub summary: Option<String>,
    /// State by environment.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub environments: Vec<EnvironmentStatus>,
    /// Ready, Reconciling, Stalled, NamespacesReady, ServicesReady, ReleaseApplied, DatabasesReady, DomainsReady.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// State of one environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// Name of the environment.
    #[schemars(length(max = 15))]
    pub name: String,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Release that it should run.
    #[schemars(length(max = 63))]
    pub target_release: String,
    /// Last Release that all its services ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub release: Option<String>,
    /// Services that are Ready.
    pub services_ready: i32,
    /// Services that should run.
    pub services_total: i32,
}
