//! The evaluator against what the API's documentation says of each field.

use crate::policy::{ContainerPort, End, Labels, Pod, Port, allowed};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

const TCP_80: Port = Port { protocol: "TCP", number: 80 };

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn pod(namespace: &str, own: &[(&str, &str)], address: &str) -> Pod {
    Pod {
        namespace: namespace.into(),
        namespace_labels: labels(&[("kubernetes.io/metadata.name", namespace), ("team", namespace)]),
        labels: labels(own),
        address: address.parse().unwrap(),
        ports: vec![
            ContainerPort { name: "web".into(), protocol: "TCP".into(), number: 80 },
            ContainerPort { name: "dns".into(), protocol: "UDP".into(), number: 53 },
        ],
    }
}

/// Policies of namespace `a`, from their specs.
fn policies(specs: &[Value]) -> Vec<NetworkPolicy> {
    let policy = |spec: &Value| json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
    specs.iter().map(|spec| serde_json::from_value(policy(spec)).unwrap()).collect()
}

/// Whether `client` of namespace `a` or `b`, or an address, reaches the pod `db` of namespace `a` under policies of `a`.
fn into_db(specs: &[Value], client: &str, port: Port) -> bool {
    let db = pod("a", &[("role", "db"), ("tier", "back")], "10.0.0.1");
    let clients = [pod("a", &[("role", "web")], "10.0.0.2"), pod("b", &[("role", "web")], "10.0.1.2")];
    let from = match client {
        "a" => End::Pod(&clients[0]),
        "b" => End::Pod(&clients[1]),
        "itself" => End::Pod(&db),
        "node" => End::Node,
        address => End::Address(address.parse().unwrap()),
    };
    allowed(&policies(specs), from, End::Pod(&db), port)
}

/// Whether the pod `db` of namespace `a` reaches `server` under policies of `a`.
fn out_of_db(specs: &[Value], server: &str, port: Port) -> bool {
    let db = pod("a", &[("role", "db"), ("tier", "back")], "10.0.0.1");
    let servers = [pod("a", &[("role", "web")], "10.0.0.2"), pod("b", &[("role", "web")], "10.0.1.2")];
    let to = match server {
        "a" => End::Pod(&servers[0]),
        "b" => End::Pod(&servers[1]),
        "node" => End::Node,
        address => End::Address(address.parse().unwrap()),
    };
    allowed(&policies(specs), End::Pod(&db), to, port)
}

const OUTSIDE: &str = "203.0.113.7";

#[test]
fn isolation_is_per_direction_and_rules_add_up() {
    let nothing = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    for (what, specs, client, enters, leaves) in [
        ("no policy", vec![], "b", true, true),
        ("default deny", vec![nothing.clone()], "a", false, false),
        ("a pod that no policy selects", vec![json!({"podSelector": {"matchLabels": {"role": "x"}}})], "b", true, true),
        ("no selector selects all", vec![json!({"policyTypes": ["Ingress"]})], "b", false, true),
        ("ingress only", vec![json!({"podSelector": {}, "policyTypes": ["Ingress"]})], "b", false, true),
        ("egress only", vec![json!({"podSelector": {}, "policyTypes": ["Egress"]})], "b", true, false),
        ("no types: ingress", vec![json!({"podSelector": {}})], "b", false, true),
        ("no types, empty egress: ingress", vec![json!({"podSelector": {}, "egress": []})], "b", false, true),
        ("no types, empty list: ingress", vec![json!({"podSelector": {}, "policyTypes": []})], "b", false, true),
        (
            "no types, egress rules: both",
            vec![json!({"podSelector": {}, "egress": [{"to": [{"podSelector": {}}]}]})],
            "b",
            false,
            false,
        ),
        (
            "egress rules of a policy of type Ingress do nothing",
            vec![json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{"to": [{"podSelector": {}}]}]})],
            "b",
            false,
            true,
        ),
        ("an empty rule allows all", vec![json!({"podSelector": {}, "ingress": [{}]})], "b", true, true),
        (
            "empty from, to and ports allow all",
            vec![
                json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [], "ports": []}], "egress": [{"to": [], "ports": []}]}),
            ],
            "b",
            true,
            true,
        ),
        ("an empty list of rules allows nothing", vec![json!({"podSelector": {}, "ingress": []})], "b", false, true),
        (
            "policies add up",
            vec![
                nothing.clone(),
                json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}),
            ],
            "b",
            true,
            true,
        ),
    ] {
        assert_eq!(into_db(&specs, client, TCP_80), enters, "{what}: in");
        assert_eq!(out_of_db(&specs, client, TCP_80), leaves, "{what}: out");
    }
    // Its own node and itself are never shut out.
    assert!(
        into_db(std::slice::from_ref(&nothing), "node", TCP_80)
            && out_of_db(std::slice::from_ref(&nothing), "node", TCP_80)
    );
    assert!(into_db(std::slice::from_ref(&nothing), "itself", TCP_80));
    assert!(!into_db(&[nothing], OUTSIDE, TCP_80));
}

#[test]
fn both_ends_must_allow() {
    let (one, other) = (pod("a", &[("role", "web")], "10.0.0.2"), pod("a", &[("role", "db")], "10.0.0.1"));
    let egress = json!({"podSelector": {"matchLabels": {"role": "web"}}, "policyTypes": ["Egress"], "egress": [{}]});
    let ingress = json!({"podSelector": {"matchLabels": {"role": "db"}}, "policyTypes": ["Ingress"], "ingress": [{}]});
    let deny = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    for (specs, expected) in [
        (vec![deny.clone(), egress.clone()], false),
        (vec![deny.clone(), ingress.clone()], false),
        (vec![deny, egress, ingress], true),
    ] {
        assert_eq!(allowed(&policies(&specs), End::Pod(&one), End::Pod(&other), TCP_80), expected, "{specs:?}");
    }
}

#[test]
fn peers() {
    for (peer, own, foreign, outside) in [
        (json!({"podSelector": {}}), true, false, false),
        (json!({"podSelector": {"matchLabels": {"role": "web"}}}), true, false, false),
        (json!({"podSelector": {"matchLabels": {"role": "x"}}}), false, false, false),
        (json!({"namespaceSelector": {}}), true, true, false),
        (json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}), false, true, false),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "b"}}, "podSelector": {"matchLabels": {"role": "web"}}}),
            false,
            true,
            false,
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "b"}}, "podSelector": {"matchLabels": {"role": "x"}}}),
            false,
            false,
            false,
        ),
        (json!({"ipBlock": {"cidr": "0.0.0.0/0"}}), true, true, true),
        (json!({"ipBlock": {"cidr": "203.0.113.0/24"}}), false, false, true),
        (json!({"ipBlock": {"cidr": "203.0.113.7/32"}}), false, false, true),
        (json!({"ipBlock": {"cidr": "203.0.113.8/32"}}), false, false, false),
        (json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}), false, false, true),
        (json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/24", "203.0.113.0/29"]}}), false, true, false),
        (json!({"ipBlock": {"cidr": "::/0"}}), false, false, false),
    ] {
        let expected = (own, foreign, outside);
        let spec = json!({"podSelector": {"matchLabels": {"role": "db"}}, "policyTypes": ["Ingress"], "ingress": [{"from": [peer]}]});
        let into = |client| into_db(std::slice::from_ref(&spec), client, TCP_80);
        assert_eq!((into("a"), into("b"), into(OUTSIDE)), expected, "from {peer}");
        let spec = json!({"podSelector": {"matchLabels": {"role": "db"}}, "policyTypes": ["Egress"], "egress": [{"to": [peer]}]});
        let out = |server| out_of_db(std::slice::from_ref(&spec), server, TCP_80);
        assert_eq!((out("a"), out("b"), out(OUTSIDE)), expected, "to {peer}");
    }
    let several = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "203.0.113.0/24"}}]}]});
    let into = |client| into_db(std::slice::from_ref(&several), client, TCP_80);
    assert_eq!((into("a"), into("b"), into(OUTSIDE)), (true, false, true), "peers of a rule add up");
    assert!(!into("fe80::1"), "IPv6");
}

#[test]
fn selectors() {
    for (selector, selected) in [
        (json!({}), true),
        (json!({"matchLabels": {"role": "db", "tier": "back"}}), true),
        (json!({"matchLabels": {"role": "db", "tier": "front"}}), false),
        (json!({"matchExpressions": [{"key": "role", "operator": "In", "values": ["x", "db"]}]}), true),
        (json!({"matchExpressions": [{"key": "role", "operator": "In", "values": ["x"]}]}), false),
        (json!({"matchExpressions": [{"key": "absent", "operator": "In", "values": ["x"]}]}), false),
        (json!({"matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["x"]}]}), true),
        (json!({"matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["db"]}]}), false),
        (json!({"matchExpressions": [{"key": "absent", "operator": "NotIn", "values": ["x"]}]}), true),
        (json!({"matchExpressions": [{"key": "role", "operator": "Exists"}]}), true),
        (json!({"matchExpressions": [{"key": "absent", "operator": "Exists"}]}), false),
        (json!({"matchExpressions": [{"key": "role", "operator": "DoesNotExist"}]}), false),
        (json!({"matchExpressions": [{"key": "absent", "operator": "DoesNotExist"}]}), true),
        (json!({"matchLabels": {"role": "db"}, "matchExpressions": [{"key": "absent", "operator": "Exists"}]}), false),
    ] {
        let specs = [json!({"podSelector": selector, "policyTypes": ["Ingress"]})];
        assert_eq!(!into_db(&specs, "b", TCP_80), selected, "{selector}");
    }
}

#[test]
fn ports() {
    let port = |protocol, number| Port { protocol, number };
    for (rule, connection, expected) in [
        (json!({"port": 80}), TCP_80, true),
        (json!({"port": 80}), port("UDP", 80), false),
        (json!({"port": 81}), TCP_80, false),
        (json!({"protocol": "UDP", "port": 53}), port("UDP", 53), true),
        (json!({"protocol": "UDP", "port": 53}), port("TCP", 53), false),
        (json!({"protocol": "TCP"}), TCP_80, true),
        (json!({"protocol": "TCP"}), port("SCTP", 80), false),
        (json!({}), TCP_80, true),
        (json!({}), port("UDP", 80), false),
        (json!({"port": 80, "endPort": 90}), TCP_80, true),
        (json!({"port": 80, "endPort": 90}), port("TCP", 90), true),
        (json!({"port": 80, "endPort": 90}), port("TCP", 91), false),
        (json!({"port": 70, "endPort": 79}), TCP_80, false),
        (json!({"port": "web"}), TCP_80, true),
        (json!({"port": "web"}), port("TCP", 81), false),
        (json!({"protocol": "UDP", "port": "web"}), port("UDP", 80), false),
        (json!({"protocol": "UDP", "port": "dns"}), port("UDP", 53), true),
        (json!({"port": "dns"}), port("TCP", 53), false),
        (json!({"port": "other"}), TCP_80, false),
    ] {
        let specs = [json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [rule]}]})];
        assert_eq!(into_db(&specs, "b", connection), expected, "in {rule} {connection:?}");
        let specs = [json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [rule]}]})];
        assert_eq!(out_of_db(&specs, "b", connection), expected, "out {rule} {connection:?}");
    }
    let specs = [json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "web"}]}]})];
    assert!(!out_of_db(&specs, OUTSIDE, TCP_80), "only pods have named ports");
    let specs = [json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
        {"from": [{"podSelector": {}}], "ports": [{"port": 81}]}, {"from": [{"namespaceSelector": {}}], "ports": [{"port": 80}]},
    ]})];
    assert!(
        into_db(&specs, "b", TCP_80) && !into_db(&specs, "b", port("TCP", 81)),
        "peers and ports of one rule go together"
    );
    assert!(into_db(&specs, "a", port("TCP", 81)));
}
