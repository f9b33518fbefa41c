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

/// Servers of one engine that pods with a need for it may reach.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    /// Classes whose servers they are. Of a class that claims alone hold on to, no other servers than theirs are in it.
    pub classes: Vec<Arc<DatabaseClass>>,
    /// There may be more, and nobody can say now which: what the live policy opens stays open.
    pub uncertain: bool,
}

/// Every policy of the environment. `databases` says what it may reach of each engine, `live` gives its policies as they are now by name.
pub fn policies(
    identity: &Identity,
    environment: &Environment,
    databases: &BTreeMap<Engine, Reach>,
    live: impl Fn(&str) -> Option<Arc<DynamicObject>>,
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
    for (engine, reach) in databases {
        let name = format!("allow-{}", engine.to_string().to_lowercase());
        let mut servers = to_servers(reach.classes.iter().map(Arc::as_ref));
        if reach.uncertain {
            let kept = live(&name).map(|policy| opened(&policy)).unwrap_or_default();
            let kept: Vec<Value> = kept.into_iter().filter(|rule| !servers.contains(rule)).collect();
            servers.extend(kept);
        }
        if !servers.is_empty() {
            let spec = json!({
                "podSelector": {"matchExpressions": [{"key": labels::needs(*engine), "operator": "Exists"}]},
                "policyTypes": ["Egress"], "egress": servers,
            });
            all.push(policy(&name, spec));
        }
    }
    let targets = target_rules(environment, around);
    if !targets.is_empty() {
        all.push(policy("allow-network", egress(&Value::Array(targets))));
    }
    all
}

/// What a live policy opens to servers. A rule of any other form was not made from a class: somebody added it, and it goes.
fn opened(policy: &DynamicObject) -> Vec<Value> {
    let rules = policy.data.pointer("/spec/egress").and_then(Value::as_array);
    rules.into_iter().flatten().filter(|rule| leads_to_a_server(rule)).cloned().collect()
}

/// Whether a rule is one of those that [`to_servers`] makes.
fn leads_to_a_server(rule: &Value) -> bool {
    let namespace = rule.pointer("/to/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name");
    let pods = rule.pointer("/to/0/podSelector/matchLabels").cloned().unwrap_or_default();
    let pods = serde_json::from_value(pods).unwrap_or_default();
    let ports = rule.get("ports").and_then(Value::as_array).into_iter().flatten();
    let ports = ports.filter_map(|port| i32::try_from(port.get("port")?.as_i64()?).ok()).map(tcp);
    let ports: Vec<Value> = ports.collect();
    namespace
        .and_then(Value::as_str)
        .is_some_and(|namespace| !ports.is_empty() && *rule == json!({"to": [peer(namespace, &pods)], "ports": ports}))
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
        let pg = Arc::new(class("pg", "PostgreSQL", "Production"));
        let databases = BTreeMap::from([
            (Engine::PostgreSQL, Reach { classes: vec![pg.clone(), pg], uncertain: false }),
            (Engine::Kafka, reach(&["kafka"], false)),
        ]);
        policies(&identity(), &environment(), &databases, |_| None, around)
            .into_iter()
            .map(|p| (p.metadata.name.clone().unwrap_or_default(), p.data))
            .collect()
    }

    fn reach(classes: &[&str], uncertain: bool) -> Reach {
        let classes = classes.iter().map(|name| Arc::new(class(name, "Kafka", "Production"))).collect();
        Reach { classes, uncertain }
    }

    /// The rules of `allow-kafka`, where a live one has `live`.
    fn kafka(reach: Reach, live: &Value) -> Option<Value> {
        let live = identity().object(kinds::NETWORK_POLICY, "allow-kafka", json!({"spec": {"egress": live}}));
        let live = |name: &str| (name == "allow-kafka").then(|| Arc::new(live.clone()));
        let databases = BTreeMap::from([(Engine::Kafka, reach)]);
        let all = policies(&identity(), &environment(), &databases, live, &surroundings());
        let found = all.into_iter().find(|policy| policy.metadata.name.as_deref() == Some("allow-kafka"));
        found.map(|policy| policy.data["spec"]["egress"].clone())
    }

    fn to(server: &str) -> Value {
        json!({
            "to": [{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "databases"}},
                "podSelector": {"matchLabels": {"app": server}}
            }],
            "ports": [{"protocol": "TCP", "port": 5432}]
        })
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
    fn what_is_open_stays_open_while_nobody_can_say_what_should_be() {
        let live = json!([to("a"), to("b")]);
        assert_eq!(kafka(reach(&["b"], false), &live), Some(json!([to("b")])), "known: narrowed");
        assert_eq!(kafka(reach(&[], false), &live), None, "nothing: pruned");
        assert_eq!(kafka(reach(&[], true), &live), Some(live.clone()));
        let widened = json!([to("c"), to("a"), to("b")]);
        assert_eq!(kafka(reach(&["c"], true), &live), Some(widened.clone()), "what is known comes on top");
        assert_eq!(kafka(reach(&["c"], true), &widened), Some(widened), "and at rest it is the same");
        assert_eq!(kafka(reach(&[], true), &json!([])), None);
    }

    #[test]
    fn nothing_else_that_stands_in_a_live_policy_is_kept() {
        let mut all_pods = to("a");
        all_pods["to"][0].as_object_mut().expect("a peer").remove("podSelector");
        let mut everywhere = to("a");
        everywhere["to"][0].as_object_mut().expect("a peer").remove("namespaceSelector");
        let mut two = to("a");
        two["to"].as_array_mut().expect("peers").push(json!({"ipBlock": {"cidr": "0.0.0.0/0"}}));
        let mut range = to("a");
        range["ports"][0]["endPort"] = json!(65535);
        let mut udp = to("a");
        udp["ports"][0]["protocol"] = json!("UDP");
        let mut open = to("a");
        open.as_object_mut().expect("a rule").remove("ports");
        let mut chosen = to("a");
        chosen["to"][0]["podSelector"]["matchExpressions"] = json!([{"key": "app", "operator": "Exists"}]);
        let to_all = json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]});
        for added in [json!({}), to_all, everywhere, two, range, udp, open, chosen] {
            assert_eq!(kafka(reach(&[], true), &json!([added])), None, "{added}");
        }
        assert_eq!(kafka(reach(&[], true), &json!([all_pods])), Some(json!([all_pods])), "a class may name no labels");
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
        let names: Vec<_> = policies(
            &identity(),
            &plain,
            &BTreeMap::from([(Engine::Kafka, Reach::default())]),
            |_| None,
            &surroundings(),
        )
        .into_iter()
        .filter_map(|p| p.metadata.name)
        .collect();
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
