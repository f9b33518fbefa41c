//! The operator's own way to the servers of a class. Its chart cannot open it: which servers there are, classes say.

use crate::kube::owner::{self, Purpose};
use crate::network::to_servers;
use crate::settings::Settings;
use kube::ResourceExt as _;
use paddock_crds::labels;
use paddock_crds::v1alpha1::DatabaseClass;
use serde_json::{Value, json};

/// Field manager concern.
pub(super) const CONCERN: &str = "class-network";

/// A NetworkPolicy of the operator's namespace, called like the class, that lets the operator's pods out to exactly these servers. It
/// goes with the class.
pub fn policy(class: &DatabaseClass, settings: &Settings) -> Value {
    let name = class.name_any();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {
            "name": name, "namespace": settings.operator_namespace,
            "labels": owner::labels(&Purpose::default()),
            "ownerReferences": owner::controller_reference(class).into_iter().collect::<Vec<_>>(),
        },
        "spec": {
            "podSelector": {"matchLabels": {labels::NAME: settings.operator_name}},
            "policyTypes": ["Egress"],
            "egress": to_servers([class]),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_the_servers_of_the_class_to_the_operator_alone() {
        let class: DatabaseClass = serde_json::from_value(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass", "metadata": {"name": "pg", "uid": "u-pg"},
            "spec": {"engine": "PostgreSQL", "environmentClass": "Production", "servers": [{
                "name": "a", "adminSecret": "a", "endpoints": {"readWrite": "a.db.svc:5432"},
                "network": {"namespace": "db", "podLabels": {"app": "a"}, "ports": [5432, 6432]}
            }]}
        }))
        .unwrap();
        let policy = policy(&class, &Settings::default());
        assert_eq!(
            (&policy["metadata"]["name"], &policy["metadata"]["namespace"]),
            (&json!("pg"), &json!("paddock-system"))
        );
        assert_eq!(policy["metadata"]["ownerReferences"][0]["uid"], "u-pg");
        assert_eq!(
            policy["spec"],
            json!({
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "paddock-operator"}},
                "policyTypes": ["Egress"],
                "egress": [{
                    "to": [{
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "db"}},
                        "podSelector": {"matchLabels": {"app": "a"}}
                    }],
                    "ports": [{"protocol": "TCP", "port": 5432}, {"protocol": "TCP", "port": 6432}]
                }],
            })
        );
    }
}
