//! NetworkPolicies of an environment: nothing passes, either way, but what table 5a of the architecture lists.

use super::cidr::{Cidr, METADATA};
use super::{Identity, Surroundings, kinds};
use crate::network::{peer, tcp, to_servers};
use kube::api::DynamicObject;
use paddock_crds::labels;
use paddock_crds::v1alpha1::{DatabaseClass, Engine, Environment};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Every policy of the environment. `classes` are the database classes that it may use.
pub fn policies(
    identity: &Identity,
    environment: &Environment,
    classes: &[Arc<DatabaseClass>],
    around: &Surroundings,
) -> Vec<DynamicObject> {
    let policy = |name: &str, spec: Value| identity.object(kinds::NETWORK_POLICY, name, json!({"spec": spec}));
    let operator = BTreeMap::from([(labels::NAME.to_owned(), around.operator_name.clone())]);
    let mut all = vec![
        policy("default-deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
        policy("allow-dns", egress(&json!([{"to": [dns(around)], "ports": [udp(53), tcp(53)]}]))),
        policy(
            "allow-same-environment",
            json!({
                "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"podSelector": {}}], "ports": [named("http")]}],
                "egress": [{"to": [{"podSelector": {}}], "ports": [named("http")]}],
            }),
        ),
        policy(
            "allow-gateway",
            json!({
                "podSelector": {"matchExpressions": [{"key": labels::ROUTED, "operator": "Exists"}]},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [peer(&around.proxy_namespace, &around.proxy_labels)], "ports": [named("http")]}],
            }),
        ),
        policy(
            "allow-operator",
            ingress(&json!([{
                "from": [peer(&around.operator_namespace, &operator)], "ports": [named("control")]
            }])),
        ),
        policy(
            "allow-metrics",
            ingress(&json!([{
                "from": [peer(&around.prometheus_namespace, &around.prometheus_labels)], "ports": [named("metrics")]
            }])),
        ),
    ];
    let engines: BTreeSet<Engine> = classes.iter().map(|class| class.spec.engine).collect();
    for engine in engines {
        let servers = to_servers(classes.iter().map(Arc::as_ref).filter(|class| class.spec.engine == engine));
        all.push(policy(
            &format!("allow-{}", engine.to_string().to_lowercase()),
            json!({
                "podSelector": {"matchExpressions": [{"key": labels::needs(engine), "operator": "Exists"}]},
                "policyTypes": ["Egress"], "egress": servers,
            }),
        ));
    }
    let targets = target_rules(environment, around);
    if !targets.is_empty() {
        all.push(policy("allow-network", egress(&Value::Array(targets))));
    }
    all
}

/// Egress to the address ranges that the environment names, never into the cluster or to where clouds tell credentials of the node.
fn target_rules(environment: &Environment, around: &Surroundings) -> Vec<Value> {
    let never: Vec<Cidr> =
        around.cluster_subnets.iter().map(String::as_str).chain(METADATA).filter_map(Cidr::parse).collect();
    let targets: BTreeSet<_> =
        environment.network.iter().flat_map(|n| &n.allow).map(|target| (&target.cidr, target.port)).collect();
    targets
        .into_iter()
        .filter_map(|(cidr, port)| {
            let range = Cidr::parse(cidr)?;
            let except: Vec<String> = never.iter().filter(|n| range.contains(n)).map(ToString::to_string).collect();
            let mut block = json!({"cidr": range.to_string()});
            if !except.is_empty()
                && let Some(fields) = block.as_object_mut()
            {
                fields.insert("except".into(), json!(except));
            }
            // A range inside of the cluster is refused by `validate`; it must not stand here in any case.
            let inside = never.iter().any(|n| n.contains(&range));
            (!inside).then(|| json!({"to": [{"ipBlock": block}], "ports": [tcp(port)]}))
        })
        .collect()
}

fn ingress(rules: &Value) -> Value {
    json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules})
}

fn egress(rules: &Value) -> Value {
    json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules})
}

fn dns(around: &Surroundings) -> Value {
    peer(&around.dns_namespace, &BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())]))
}

fn udp(port: i32) -> Value {
    json!({"protocol": "UDP", "port": port})
}

fn named(port: &str) -> Value {
    json!({"protocol": "TCP", "port": port})
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{class, from, identity, surroundings};
    use super::*;

    fn environment() -> Environment {
        from(json!({
            "name": "prod", "class": "Production", "release": "r",
            "network": {"allow": [{"cidr": "203.0.113.0/24", "port": 443}, {"cidr": "203.0.113.0/24", "port": 443}]}
        }))
    }

    fn built(around: &Surroundings) -> BTreeMap<String, Value> {
        let classes = [
            Arc::new(class("pg", "PostgreSQL", "Production")),
            Arc::new(class("kafka", "Kafka", "Production")),
            Arc::new(class("pg", "PostgreSQL", "Production")),
        ];
        policies(&identity(), &environment(), &classes, around)
            .into_iter()
            .map(|p| (p.metadata.name.clone().unwrap_or_default(), p.data))
            .collect()
    }

    #[test]
    fn everything_is_denied_both_ways_first() {
        let all = built(&surroundings());
        assert_eq!(all["default-deny"], json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}));
    }

    #[test]
    fn each_row_of_the_table_is_one_policy() {
        let all = built(&surroundings());
        assert_eq!(
            all.keys().map(String::as_str).collect::<Vec<_>>(),
            [
                "allow-dns",
                "allow-gateway",
                "allow-kafka",
                "allow-metrics",
                "allow-network",
                "allow-operator",
                "allow-postgresql",
                "allow-same-environment",
                "default-deny"
            ]
        );
        assert_eq!(
            all["allow-gateway"]["spec"]["podSelector"],
            json!({"matchExpressions": [{"key": "paddock.bet/routed", "operator": "Exists"}]})
        );
        assert_eq!(
            all["allow-operator"]["spec"]["ingress"],
            json!([{
                "from": [{
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "paddock-system"}},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "paddock-operator"}}
                }],
                "ports": [{"protocol": "TCP", "port": "control"}]
            }])
        );
    }

    #[test]
    fn a_rule_that_is_asked_for_twice_stands_once() {
        let all = built(&surroundings());
        assert_eq!(
            all["allow-postgresql"]["spec"],
            json!({
                "podSelector": {"matchExpressions": [{"key": "paddock.bet/needs-postgresql", "operator": "Exists"}]},
                "policyTypes": ["Egress"],
                "egress": [{
                    "to": [{
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "databases"}},
                        "podSelector": {"matchLabels": {"app": "pg"}}
                    }],
                    "ports": [{"protocol": "TCP", "port": 5432}]
                }],
            })
        );
        assert_eq!(all["allow-kafka"]["spec"]["egress"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            all["allow-network"]["spec"]["egress"],
            json!([{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]}])
        );
    }

    #[test]
    fn a_wide_range_leaves_out_the_cluster_and_metadata() {
        let open: Environment = from(json!({
            "name": "prod", "class": "Production", "release": "r",
            "network": {"allow": [
                {"cidr": "0.0.0.0/0", "port": 443}, {"cidr": "10.244.3.0/24", "port": 443},
                {"cidr": "::ffff:a9fe:a9fe/128", "port": 80},
            ]}
        }));
        assert_eq!(
            target_rules(&open, &surroundings()),
            [json!({
                "to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [
                    "10.244.0.0/16", "10.96.0.0/16", "169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"
                ]}}],
                "ports": [{"protocol": "TCP", "port": 443}]
            })]
        );
    }

    #[test]
    fn nothing_to_reach_makes_no_policy() {
        let plain: Environment = from(json!({"name": "prod", "class": "Production", "release": "r"}));
        let names: Vec<_> =
            policies(&identity(), &plain, &[], &surroundings()).into_iter().filter_map(|p| p.metadata.name).collect();
        assert_eq!(
            names,
            ["default-deny", "allow-dns", "allow-same-environment", "allow-gateway", "allow-operator", "allow-metrics"]
        );
    }

    #[test]
    fn no_rule_is_without_peer_or_port() {
        // an empty `from`, `to` or `ports` would mean "everything"
        for (name, policy) in built(&surroundings()) {
            for (direction, side) in [("ingress", "from"), ("egress", "to")] {
                for rule in policy["spec"][direction].as_array().unwrap_or(&Vec::new()) {
                    assert!(rule[side].as_array().is_some_and(|peers| !peers.is_empty()), "{name}: {rule}");
                    assert!(rule["ports"].as_array().is_some_and(|ports| !ports.is_empty()), "{name}: {rule}");
                }
            }
        }
    }
}
