//! What of a class can be judged without asking its servers.

use kube::ResourceExt as _;
use paddock_crds::v1alpha1::{DatabaseClass, Server};
use std::sync::Arc;

/// Another class of the other environment class that names a server of this one: Production and NonProduction would meet on it.
pub fn shared_with<'a>(class: &DatabaseClass, all: &'a [Arc<DatabaseClass>]) -> Option<&'a Arc<DatabaseClass>> {
    all.iter().find(|other| share(class, other))
}

/// Whether two classes of different environment classes name the same server.
pub fn share(one: &DatabaseClass, other: &DatabaseClass) -> bool {
    let named = |server: &Server| other.spec.servers.iter().any(|theirs| same(server, theirs));
    one.name_any() != other.name_any()
        && one.spec.environment_class != other.spec.environment_class
        && one.spec.servers.iter().any(named)
}

/// Two servers are the same by their address, or by the pods that NetworkPolicies are opened to: one address may be spelled in many ways.
fn same(one: &Server, other: &Server) -> bool {
    let (pods, others) = (&one.network, &other.network);
    one.endpoints.read_write == other.endpoints.read_write
        || (pods.namespace == others.namespace
            && pods.pod_labels == others.pod_labels
            && pods.ports.iter().any(|port| others.ports.contains(port)))
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // json!(…) as an argument
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn class(name: &str, environment_class: &str, endpoint: &str, labels: Value, ports: Value) -> DatabaseClass {
        serde_json::from_value(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass", "metadata": {"name": name},
            "spec": {"engine": "PostgreSQL", "environmentClass": environment_class, "servers": [{
                "name": "a", "adminSecret": "a", "endpoints": {"readWrite": endpoint},
                "network": {"namespace": "db", "podLabels": labels, "ports": ports}
            }]}
        }))
        .unwrap()
    }

    #[test]
    fn a_server_is_the_same_however_its_address_is_spelled() {
        let one = class("prod", "Production", "pg.db.svc:5432", json!({"app": "pg"}), json!([5432]));
        let spelled = |endpoint: &str, labels, ports| class("dev", "NonProduction", endpoint, labels, ports);
        let fqdn = "pg.db.svc.cluster.local:5432";
        assert!(share(&one, &spelled(fqdn, json!({"app": "pg"}), json!([6432, 5432]))));
        assert!(share(&one, &spelled("pg.db.svc:5432", json!({"app": "other"}), json!([1]))));
        assert!(!share(&one, &spelled(fqdn, json!({"app": "other"}), json!([5432]))), "other pods");
        assert!(!share(&one, &spelled(fqdn, json!({"app": "pg"}), json!([5433]))), "another process");
        let both = class("other", "Production", fqdn, json!({"app": "pg"}), json!([5432]));
        assert!(!share(&one, &both), "classes of one environment class may share");
    }
}
