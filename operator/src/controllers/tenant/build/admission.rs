//! The admission policy that keeps tenants off what the operator made. RBAC cannot tell objects apart by label; this can, and it
//! holds while the operator is stopped (rule T2).

use super::object;
use kube::api::DynamicObject;
use paddock_crds::labels;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Name of the policy and of its binding.
pub const NAME: &str = "paddock-managed-objects";

/// Controllers of Kubernetes have ServiceAccounts of their own, or all of them the name of their manager.
const NOT_A_CONTROLLER: &str = "!('system:serviceaccounts:kube-system' in request.userInfo.groups) && request.userInfo.username != 'system:kube-controller-manager'";

/// The policy and its binding, as the chart installs them together with the roles of [`super::access::cluster_roles`]: in an
/// environment's namespace nobody but the operator (`system:serviceaccount:<namespace>:<name>`), Kubernetes' own controllers and
/// whoever may change Tenants writes an object labelled `managed-by: paddock`, or puts that label on one. Whoever may change Tenants
/// may have the operator write it anyway; what groups a cluster's administrators are in differs from one distribution to the next.
pub fn managed_objects(operator_user: &str) -> Vec<DynamicObject> {
    let managed = |o: &str| {
        format!(
            "({o} != null && has({o}.metadata.labels) && '{key}' in {o}.metadata.labels && {o}.metadata.labels['{key}'] == '{value}')",
            key = labels::MANAGED_BY,
            value = labels::MANAGED_BY_PADDOCK,
        )
    };
    let resources = |group: &str, names: &[&str]| json!({"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"], "resources": names});
    let policy = json!({"spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": {"matchExpressions": [{"key": labels::TENANT, "operator": "Exists"}]},
            "resourceRules": [
                resources("", &["secrets"]),
                resources(paddock_crds::GROUP, &["bettingservices", "databaseclaims", "markets"]),
            ],
        },
        "matchConditions": [
            {"name": "not-the-operator", "expression": format!("request.userInfo.username != '{operator_user}'")},
            {"name": "not-a-controller", "expression": NOT_A_CONTROLLER},
            {"name": "not-an-administrator", "expression": format!("!authorizer.group('{}').resource('tenants').check('update').allowed()", paddock_crds::GROUP)},
        ],
        "validations": [{
            "expression": format!("!{} && !{}", managed("object"), managed("oldObject")),
            "message": "this object is made by the Paddock operator (label app.kubernetes.io/managed-by=paddock): change the Tenant, or use an object and name of your own without that label",
            "reason": "Forbidden",
        }],
    }});
    let binding = json!({"spec": {"policyName": NAME, "validationActions": ["Deny"]}});
    vec![
        cluster_object("ValidatingAdmissionPolicy", policy),
        cluster_object("ValidatingAdmissionPolicyBinding", binding),
    ]
}

fn cluster_object(kind: &str, body: Value) -> DynamicObject {
    let labels = BTreeMap::from([(labels::PART_OF.to_owned(), labels::PART_OF_PADDOCK.to_owned())]);
    object(("admissionregistration.k8s.io/v1", kind), None, NAME, labels, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::tenant::build::access;

    #[test]
    fn whatever_a_role_writes_is_guarded() {
        let built = managed_objects("system:serviceaccount:paddock-system:paddock-operator");
        let guarded = built[0].data["spec"]["matchConstraints"]["resourceRules"].to_string();
        for role in access::cluster_roles() {
            for rule in role.data["rules"].as_array().expect("rules") {
                let writes = rule["verbs"].as_array().expect("verbs").contains(&json!("update"));
                for resource in rule["resources"].as_array().expect("resources") {
                    assert!(!writes || guarded.contains(&resource.to_string()), "{resource} is not guarded");
                }
            }
        }
    }

    #[test]
    fn binding_and_policy_have_one_name_and_deny() {
        let built = managed_objects("system:serviceaccount:a:b");
        assert_eq!(built[1].data["spec"], json!({"policyName": NAME, "validationActions": ["Deny"]}));
        assert!(built[0].data.to_string().contains("request.userInfo.username != 'system:serviceaccount:a:b'"));
    }
}
