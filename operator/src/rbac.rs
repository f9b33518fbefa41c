//! Every right of the operator, with its reason: the one table that the chart's roles are made from, that the operator checks at start,
//! and that tests compare with the requests it really makes.

use crate::issuer;
use std::fmt;

/// Where a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere: ClusterRole `paddock-operator`.
    Cluster,
    /// In namespaces of environments only: ClusterRole [`ENVIRONMENT_ROLE`], bound by the Tenant controller in each (rule O7).
    Environment,
    /// In the operator's own namespace only: Role `paddock-operator`.
    Own,
}

/// Name of the ClusterRole that the Tenant controller binds to the operator in each environment's namespace.
pub const ENVIRONMENT_ROLE: &str = "paddock-operator-environment";
/// Every ClusterRole that the operator may bind.
const BINDABLE: &[&str] = &crate::controllers::tenant::build::access::BOUND_ROLES;

/// Rights on one group's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub scope: Scope,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural names, with subresource after a slash.
    pub resources: &'static [&'static str],
    /// Paths of the apiserver that are no resources; a rule has these or resources.
    pub paths: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// Names of the objects that it is limited to; empty: all.
    pub names: &'static [&'static str],
    /// Why the operator needs it: comment in the chart.
    pub reason: &'static str,
}

const READ: &[&str] = &["get", "list", "watch"];
/// `create` and `patch` are server-side apply; `get` and `list`, `watch` the cache; `delete` pruning.
const OWN: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
/// As [`OWN`], for what outlives the object that asked for it.
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch"];

const fn rule(
    scope: Scope,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    reason: &'static str,
) -> Rule {
    Rule { scope, group, resources, paths: &[], verbs, names: &[], reason }
}

/// The table.
pub const RULES: &[Rule] = &[
    rule(
        Scope::Cluster,
        "paddock.bet",
        &["tenants", "releases", "markets", "databaseclasses"],
        READ,
        "reconciles them",
    ),
    rule(
        Scope::Cluster,
        "paddock.bet",
        &["tenants", "releases"],
        &["patch"],
        "adds and removes the finalizer paddock.bet/cleanup",
    ),
    rule(
        Scope::Cluster,
        "paddock.bet",
        &["bettingservices"],
        OWN,
        "reconciles them, and makes one per component of an environment",
    ),
    rule(
        Scope::Cluster,
        "paddock.bet",
        &["databaseclaims"],
        KEEP,
        "reconciles them, and makes those that services need; never deletes one",
    ),
    rule(
        Scope::Cluster,
        "paddock.bet",
        &[
            "tenants/status",
            "releases/status",
            "markets/status",
            "databaseclasses/status",
            "bettingservices/status",
            "databaseclaims/status",
        ],
        &["patch"],
        "tells what it found",
    ),
    rule(
        Scope::Cluster,
        "paddock.bet",
        &["bettingservices/finalizers", "databaseclasses/finalizers", "databaseclaims/finalizers"],
        &["update"],
        "sets owner references that block deletion",
    ),
    rule(Scope::Cluster, "", &["namespaces"], KEEP, "makes the namespaces of environments; never deletes one"),
    rule(
        Scope::Cluster,
        "",
        &["resourcequotas", "limitranges", "serviceaccounts"],
        OWN,
        "limits and identities of environments",
    ),
    rule(
        Scope::Cluster,
        "",
        &["configmaps", "services"],
        OWN,
        "configuration of revisions, the market book, and the addresses of services",
    ),
    rule(Scope::Cluster, "", &["pods"], READ, "sees whether a revision runs, and which pods follow the market book"),
    rule(
        Scope::Cluster,
        "networking.k8s.io",
        &["networkpolicies"],
        OWN,
        "isolates environments, and opens its own way to database servers",
    ),
    rule(
        Scope::Cluster,
        "rbac.authorization.k8s.io",
        &["rolebindings"],
        OWN,
        "gives a Tenant's owners, and itself, their rights in an environment",
    ),
    Rule {
        scope: Scope::Cluster,
        group: "rbac.authorization.k8s.io",
        resources: &["clusterroles"],
        paths: &[],
        verbs: &["bind"],
        names: BINDABLE,
        reason: "binds exactly these, without holding what the tenants' roles give",
    },
    rule(Scope::Cluster, "apps", &["deployments", "controllerrevisions"], OWN, "runs revisions and remembers them"),
    rule(Scope::Cluster, "autoscaling", &["horizontalpodautoscalers"], OWN, "scales revisions"),
    rule(Scope::Cluster, "policy", &["poddisruptionbudgets"], OWN, "keeps revisions up while nodes are drained"),
    rule(Scope::Cluster, "batch", &["jobs"], OWN, "runs migrations"),
    rule(
        Scope::Cluster,
        "gateway.networking.k8s.io",
        &["httproutes", "listenersets"],
        OWN,
        "domains of environments and routes of services",
    ),
    rule(
        Scope::Cluster,
        "events.k8s.io",
        &["events"],
        &["create", "patch"],
        "tells about objects; patch makes repetitions a series",
    ),
    Rule {
        scope: Scope::Cluster,
        group: "",
        resources: &[],
        paths: &[issuer::DISCOVERY, issuer::KEYS],
        verbs: &["get"],
        names: &[],
        reason: "publishes the issuer of ServiceAccount tokens to environments, whose services check each other's",
    },
    rule(
        Scope::Environment,
        "",
        &["secrets"],
        OWN,
        "bindings of claims, control tokens and certificates of the environment",
    ),
    rule(Scope::Own, "", &["secrets"], READ, "logins of database servers and the CA of domains"),
    rule(Scope::Own, "coordination.k8s.io", &["leases"], &["get", "create", "update"], "elects the leader"),
];

/// One right: a verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// API group.
    pub group: &'static str,
    /// Resource, with subresource after a slash; or a path that is no resource, which starts with one.
    pub resource: &'static str,
    /// Verb.
    pub verb: &'static str,
    /// Name of the object that it is limited to.
    pub name: Option<&'static str>,
    /// Whether it holds in the operator's own namespace only.
    pub own_namespace: bool,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = self.name {
            write!(f, " {name}")?;
        }
        if self.own_namespace {
            write!(f, " in the operator's namespace")?;
        }
        Ok(())
    }
}

/// Every right that the operator must have before it starts. Those in environments come when their namespaces are made.
pub fn own_rights() -> Vec<Right> {
    let mut rights = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.scope != Scope::Environment) {
        let names: Vec<Option<&'static str>> =
            if rule.names.is_empty() { vec![None] } else { rule.names.iter().copied().map(Some).collect() };
        for &resource in rule.resources.iter().chain(rule.paths) {
            for &verb in rule.verbs {
                rights.extend(names.iter().map(|&name| Right {
                    group: rule.group,
                    resource,
                    verb,
                    name,
                    own_namespace: rule.scope == Scope::Own,
                }));
            }
        }
    }
    rights
}

/// Whether the table allows a request.
pub fn allows(scope: Scope, group: &str, resource: &str, verb: &str) -> bool {
    RULES.iter().any(|rule| {
        (rule.scope == scope || rule.scope == Scope::Cluster)
            && rule.group == group
            && rule.resources.contains(&resource)
            && rule.verbs.contains(&verb)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::ChildKind;
    use strum::IntoEnumIterator as _;

    #[test]
    fn every_kind_that_we_make_can_be_watched_applied_and_pruned() {
        for kind in ChildKind::iter() {
            let scope = if kind == ChildKind::Secret { Scope::Environment } else { Scope::Cluster };
            let mut verbs = vec!["get", "list", "watch"];
            if kind != ChildKind::Pod {
                verbs.extend(["create", "patch"]);
            }
            if !matches!(kind, ChildKind::Pod | ChildKind::Namespace | ChildKind::DatabaseClaim) {
                verbs.push("delete");
            }
            for verb in verbs {
                assert!(allows(scope, kind.group(), kind.plural(), verb), "{verb} {kind}");
            }
        }
    }

    #[test]
    fn no_secret_is_read_cluster_wide_and_nothing_precious_deleted() {
        for verb in ["get", "list", "watch", "create", "patch", "update", "delete", "*"] {
            assert!(!allows(Scope::Cluster, "", "secrets", verb), "{verb}");
        }
        for (group, resource) in [("", "namespaces"), ("paddock.bet", "databaseclaims"), ("paddock.bet", "tenants")] {
            assert!(!allows(Scope::Cluster, group, resource, "delete"), "{resource}");
        }
    }

    #[test]
    fn nothing_is_a_wildcard_and_binding_is_by_name() {
        for rule in RULES {
            assert_ne!(rule.resources.is_empty(), rule.paths.is_empty(), "{rule:?}");
            let words = rule.resources.iter().chain(rule.paths).chain(rule.verbs).chain([&rule.group]);
            assert!(words.into_iter().all(|word| !word.contains('*')), "{rule:?}");
            assert!(!rule.reason.is_empty());
            assert!(!rule.verbs.contains(&"escalate") && !rule.verbs.contains(&"impersonate"));
            assert_eq!(rule.verbs.contains(&"bind"), !rule.names.is_empty(), "{rule:?}");
        }
        assert!(BINDABLE.contains(&ENVIRONMENT_ROLE));
        assert!(
            own_rights()
                .iter()
                .any(|right| right.to_string() == "bind clusterroles.rbac.authorization.k8s.io paddock-owner")
        );
    }
}
