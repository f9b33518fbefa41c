//! Who may do what in an environment: roles for owners, and what of it the operator itself is given there.

use super::{Identity, Surroundings, kinds, object};
use crate::rbac::ENVIRONMENT_ROLE;
use kube::api::DynamicObject;
use paddock_crds::labels;
use paddock_crds::v1alpha1::{Environment, EnvironmentClass, Owner, OwnerKind, OwnerRole};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// `ClusterRole` for exec and port-forward; bound to Owners in `NonProduction` only.
pub const DEBUGGER_ROLE: &str = "paddock-debugger";
/// `ClusterRoles` that this controller binds: its own right `bind` is limited to these names.
pub const BOUND_ROLES: [&str; 5] =
    [ENVIRONMENT_ROLE, "paddock-viewer", "paddock-editor", "paddock-owner", DEBUGGER_ROLE];

/// The `RoleBindings` of an environment: one per role that somebody has, and the operator's own.
pub fn role_bindings(
    identity: &Identity,
    environment: &Environment,
    owners: &[Owner],
    around: &Surroundings,
) -> Vec<DynamicObject> {
    let mut all = vec![operator_binding(identity, around)];
    let here: Vec<&Owner> =
        owners.iter().filter(|o| o.environments.is_empty() || o.environments.contains(&environment.name)).collect();
    for role in [OwnerRole::Viewer, OwnerRole::Editor, OwnerRole::Owner] {
        all.extend(binding(identity, role_name(role), &here, |o| o.role == role));
    }
    if environment.class == EnvironmentClass::NonProduction {
        all.extend(binding(identity, DEBUGGER_ROLE, &here, |o| o.role == OwnerRole::Owner));
    }
    all
}

/// The `RoleBinding` that lets the operator see and write Secrets of this environment.
fn operator_binding(identity: &Identity, around: &Surroundings) -> DynamicObject {
    let subject = json!({
        "kind": "ServiceAccount", "name": around.operator_service_account, "namespace": around.operator_namespace
    });
    bind(identity, ENVIRONMENT_ROLE, &[subject])
}

fn binding(identity: &Identity, role: &str, owners: &[&Owner], has: impl Fn(&Owner) -> bool) -> Option<DynamicObject> {
    let subjects: BTreeSet<(OwnerKind, &str)> =
        owners.iter().filter(|o| has(o)).map(|o| (o.kind, o.name.as_str())).collect();
    let subjects: Vec<Value> = subjects
        .into_iter()
        .map(|(kind, name)| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind.to_string(), "name": name}))
        .collect();
    (!subjects.is_empty()).then(|| bind(identity, role, &subjects))
}

/// Called like the role that it binds: a role reference cannot be changed, and so never needs to be.
fn bind(identity: &Identity, role: &str, subjects: &[Value]) -> DynamicObject {
    identity.object(
        kinds::ROLE_BINDING,
        role,
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": subjects,
        }),
    )
}

fn role_name(role: OwnerRole) -> &'static str {
    match role {
        OwnerRole::Viewer => "paddock-viewer",
        OwnerRole::Editor => "paddock-editor",
        OwnerRole::Owner => "paddock-owner",
    }
}

/// The `ClusterRoles` for owners, as the chart installs them. Nobody gets write on Namespace, quota, limits, `NetworkPolicy`, RBAC,
/// Gateway API objects, pods or workloads.
pub fn cluster_roles() -> Vec<DynamicObject> {
    let read = ["get", "list", "watch"].as_slice();
    let write = ["create", "update", "patch", "delete"].as_slice();
    let viewer = vec![
        rule(
            "",
            &[
                "pods",
                "pods/log",
                "services",
                "endpoints",
                "configmaps",
                "serviceaccounts",
                "resourcequotas",
                "limitranges",
                "persistentvolumeclaims",
                "events",
            ],
            read,
        ),
        rule("events.k8s.io", &["events"], read),
        rule("apps", &["deployments", "replicasets", "statefulsets", "controllerrevisions"], read),
        rule("autoscaling", &["horizontalpodautoscalers"], read),
        rule("policy", &["poddisruptionbudgets"], read),
        rule("batch", &["jobs"], read),
        rule("networking.k8s.io", &["networkpolicies"], read),
        rule("discovery.k8s.io", &["endpointslices"], read),
        rule("gateway.networking.k8s.io", &["httproutes", "listenersets"], read),
        rule("rbac.authorization.k8s.io", &["roles", "rolebindings"], read),
        rule("metrics.k8s.io", &["pods"], read),
        rule(paddock_crds::GROUP, &["bettingservices", "markets", "databaseclaims"], read),
    ];
    let mut editor = viewer.clone();
    editor.push(rule(paddock_crds::GROUP, &["markets"], write));
    // Not patch: its answer is the whole Secret, which would be a way to read it.
    editor.push(rule("", &["secrets"], &["create", "update", "delete"]));
    let mut owner = editor.clone();
    owner.push(rule(paddock_crds::GROUP, &["bettingservices", "databaseclaims"], write));
    let debugger = vec![rule("", &["pods/exec", "pods/portforward"], &["create", "get"])];
    vec![
        cluster_role("paddock-viewer", &viewer),
        cluster_role("paddock-editor", &editor),
        cluster_role("paddock-owner", &owner),
        cluster_role(DEBUGGER_ROLE, &debugger),
    ]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn cluster_role(name: &str, rules: &[Value]) -> DynamicObject {
    let labels = BTreeMap::from([(labels::PART_OF.to_owned(), labels::PART_OF_PADDOCK.to_owned())]);
    object(("rbac.authorization.k8s.io/v1", "ClusterRole"), None, name, labels, json!({"rules": rules}))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{from, identity, surroundings};
    use super::*;

    fn owners() -> Vec<Owner> {
        from(json!([
            {"kind": "Group", "name": "leads", "role": "Owner"},
            {"kind": "User", "name": "ann", "role": "Viewer", "environments": ["dev"]},
            {"kind": "Group", "name": "traders", "role": "Editor", "environments": ["prod"]},
            {"kind": "Group", "name": "traders", "role": "Editor", "environments": ["dev", "prod"]},
        ]))
    }

    fn bindings(environment: Value, class: EnvironmentClass) -> BTreeMap<String, Value> {
        let environment: Environment = from(environment);
        let identity = Identity { environment: environment.name.clone(), class, ..identity() };
        role_bindings(&identity, &environment, &owners(), &surroundings())
            .into_iter()
            .map(|b| (b.metadata.name.clone().unwrap_or_default(), b.data))
            .collect()
    }

    #[test]
    fn roles_hold_in_the_environments_that_they_name() {
        let prod =
            bindings(json!({"name": "prod", "class": "Production", "release": "r"}), EnvironmentClass::Production);
        assert_eq!(
            prod.keys().map(String::as_str).collect::<Vec<_>>(),
            ["paddock-editor", "paddock-operator-environment", "paddock-owner"]
        );
        assert_eq!(
            prod["paddock-editor"]["subjects"],
            json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "traders"}])
        );
        assert_eq!(
            prod[ENVIRONMENT_ROLE]["subjects"],
            json!([{"kind": "ServiceAccount", "name": "paddock-operator", "namespace": "paddock-system"}])
        );
    }

    #[test]
    fn exec_is_for_owners_outside_of_production_only() {
        let prod =
            bindings(json!({"name": "prod", "class": "Production", "release": "r"}), EnvironmentClass::Production);
        assert!(!prod.contains_key(DEBUGGER_ROLE));
        let dev =
            bindings(json!({"name": "dev", "class": "NonProduction", "release": "r"}), EnvironmentClass::NonProduction);
        assert_eq!(
            dev[DEBUGGER_ROLE]["subjects"],
            json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "leads"}])
        );
    }

    #[test]
    fn every_binding_is_of_a_role_that_may_be_bound() {
        let dev =
            bindings(json!({"name": "dev", "class": "NonProduction", "release": "r"}), EnvironmentClass::NonProduction);
        for (name, binding) in dev {
            assert!(BOUND_ROLES.contains(&name.as_str()));
            assert_eq!(binding["roleRef"]["name"], json!(name));
        }
    }

    #[test]
    fn no_role_reads_secrets_or_writes_what_isolates() {
        let harmless = ["get", "list", "watch"];
        for role in cluster_roles() {
            for rule in role.data["rules"].as_array().expect("rules") {
                let verbs: Vec<&str> =
                    rule["verbs"].as_array().expect("verbs").iter().filter_map(Value::as_str).collect();
                for resource in rule["resources"].as_array().expect("resources").iter().filter_map(Value::as_str) {
                    if resource == "secrets" {
                        assert!(verbs.iter().all(|v| ["create", "update", "delete"].contains(v)), "{verbs:?}");
                    } else if !["markets", "bettingservices", "databaseclaims", "pods/exec", "pods/portforward"]
                        .contains(&resource)
                    {
                        assert!(verbs.iter().all(|v| harmless.contains(v)), "{resource}: {verbs:?}");
                    }
                }
            }
        }
    }
}
