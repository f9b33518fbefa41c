//! The kinds of objects that the operator makes, and the key of one object.

use kube::core::{ApiResource, GroupVersionKind};
use strum::IntoEnumIterator as _;

/// A kind that the operator makes. Each has one watch in the whole process, of objects with our managed-by label.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::Display, strum::IntoStaticStr, strum::EnumIter,
)]
#[allow(missing_docs)]
pub enum ChildKind {
    Namespace,
    ResourceQuota,
    LimitRange,
    NetworkPolicy,
    ServiceAccount,
    RoleBinding,
    ConfigMap,
    /// Watched by environment namespace only, never cluster-wide (rule O7).
    Secret,
    Service,
    Deployment,
    ControllerRevision,
    HorizontalPodAutoscaler,
    PodDisruptionBudget,
    Job,
    Pod,
    HTTPRoute,
    ListenerSet,
    /// Ours by type: served from the typed watch.
    BettingService,
    /// Ours by type: served from the typed watch.
    DatabaseClaim,
}

impl ChildKind {
    /// Group, version and plural.
    fn coordinates(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Namespace => ("", "v1", "namespaces"),
            Self::ResourceQuota => ("", "v1", "resourcequotas"),
            Self::LimitRange => ("", "v1", "limitranges"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "networkpolicies"),
            Self::ServiceAccount => ("", "v1", "serviceaccounts"),
            Self::RoleBinding => ("rbac.authorization.k8s.io", "v1", "rolebindings"),
            Self::ConfigMap => ("", "v1", "configmaps"),
            Self::Secret => ("", "v1", "secrets"),
            Self::Service => ("", "v1", "services"),
            Self::Deployment => ("apps", "v1", "deployments"),
            Self::ControllerRevision => ("apps", "v1", "controllerrevisions"),
            Self::HorizontalPodAutoscaler => ("autoscaling", "v2", "horizontalpodautoscalers"),
            Self::PodDisruptionBudget => ("policy", "v1", "poddisruptionbudgets"),
            Self::Job => ("batch", "v1", "jobs"),
            Self::Pod => ("", "v1", "pods"),
            Self::HTTPRoute => ("gateway.networking.k8s.io", "v1", "httproutes"),
            Self::ListenerSet => ("gateway.networking.k8s.io", "v1", "listenersets"),
            Self::BettingService => (paddock_crds::GROUP, "v1alpha1", "bettingservices"),
            Self::DatabaseClaim => (paddock_crds::GROUP, "v1alpha1", "databaseclaims"),
        }
    }

    /// The name of the kind.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What the dynamic client needs.
    pub fn api_resource(self) -> ApiResource {
        let (group, version, plural) = self.coordinates();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, self.as_str()), plural)
    }

    /// API group; empty for the core group.
    pub fn group(self) -> &'static str {
        self.coordinates().0
    }

    /// Plural name.
    pub fn plural(self) -> &'static str {
        self.coordinates().2
    }

    /// Whether objects live in namespaces.
    pub fn namespaced(self) -> bool {
        self != Self::Namespace
    }

    /// Kinds of APIs that a cluster may lack: their watch waits, everything else works.
    pub fn optional(self) -> bool {
        matches!(self, Self::HTTPRoute | Self::ListenerSet)
    }

    /// Kinds that are custom resources of ours, served from the typed watch.
    pub fn typed(self) -> bool {
        matches!(self, Self::BettingService | Self::DatabaseClaim)
    }

    /// Kinds with one cluster-wide watch of their own.
    pub fn watched() -> impl Iterator<Item = Self> {
        Self::iter().filter(|kind| !kind.typed() && *kind != Self::Secret)
    }

    /// The kind of that group and name, whatever the version.
    pub fn of(group: &str, kind: &str) -> Option<Self> {
        Self::iter().find(|candidate| candidate.as_str() == kind && candidate.group() == group)
    }
}

/// One object that the operator makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: ChildKind,
    /// Its namespace; `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// Key of an object.
    pub fn new(kind: ChildKind, namespace: Option<&str>, name: &str) -> Self {
        Self { kind, namespace: namespace.map(Into::into), name: name.into() }
    }

    /// Key of a built object; `None` without a name or if the operator makes no such kind.
    pub fn of<T: kube::Resource<DynamicType = ()>>(object: &T) -> Option<Self> {
        let kind = ChildKind::of(&T::group(&()), &T::kind(&()))?;
        Some(Self { kind, namespace: object.meta().namespace.clone(), name: object.meta().name.clone()? })
    }

    /// Key of a dynamic object, by its own apiVersion and kind.
    pub fn of_dynamic(object: &kube::core::DynamicObject) -> Option<Self> {
        let types = object.types.as_ref()?;
        let group = types.api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = ChildKind::of(group, &types.kind)?;
        Some(Self { kind, namespace: object.metadata.namespace.clone(), name: object.metadata.name.clone()? })
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}
