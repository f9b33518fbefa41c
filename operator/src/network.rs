//! Pieces of NetworkPolicies that more than one controller writes.

use paddock_crds::v1alpha1::DatabaseClass;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Label that the apiserver puts on every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Pods with these labels in the namespace of this name; no labels means all its pods.
pub fn peer(namespace: &str, pods: &BTreeMap<String, String>) -> Value {
    let mut peer = json!({"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: namespace}}});
    if !pods.is_empty()
        && let Some(fields) = peer.as_object_mut()
    {
        fields.insert("podSelector".into(), json!({"matchLabels": pods}));
    }
    peer
}

/// A TCP port by its number.
pub fn tcp(port: i32) -> Value {
    json!({"protocol": "TCP", "port": port})
}

/// One egress rule per server of the classes, in a fixed order: two classes that share a server give one rule.
pub fn to_servers<'a>(classes: impl IntoIterator<Item = &'a DatabaseClass>) -> Vec<Value> {
    let servers: BTreeSet<_> = classes
        .into_iter()
        .flat_map(|class| &class.spec.servers)
        .map(|server| (&server.network.namespace, &server.network.pod_labels, &server.network.ports))
        .collect();
    servers
        .into_iter()
        .map(|(namespace, pods, ports)| {
            let ports: Vec<Value> = ports.iter().copied().map(tcp).collect();
            json!({"to": [peer(namespace, pods)], "ports": ports})
        })
        .collect()
}
