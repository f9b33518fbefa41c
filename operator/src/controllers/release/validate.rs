//! Checks across the fields of a Release that its schema cannot make.

use crate::controllers::betting_service;
use crate::rollout::revision::claim_name;
use paddock_crds::v1alpha1::{Engine, NeedTopic, ReleaseComponent, ReleaseSpec};
use std::collections::BTreeMap;

/// Everything that keeps a Release from running, each naming the component and what to change. Empty means that it can run.
pub fn problems(release: &ReleaseSpec) -> Vec<String> {
    let mut found: Vec<String> = release.components.iter().flat_map(component).collect();
    found.extend(claims(release));
    found
}

fn component(component: &ReleaseComponent) -> Vec<String> {
    let mut found = Vec::new();
    let (name, spec) = (&component.name, &component.component);
    if let Err(fault) = betting_service::validate::component(name, spec) {
        found.push(format!("component {name}: {}", fault.message.trim_start_matches("spec.")));
    }
    if let Some((_, digest)) = spec.image.rsplit_once('@')
        && !super::super::tenant::build::services::has_digest(&spec.image)
    {
        found.push(format!("component {name}: {digest} is no digest: write sha256: and 64 hexadecimal digits"));
    }
    found
}

/// Several components may share a claim: then they must agree on what it is.
fn claims(release: &ReleaseSpec) -> Vec<String> {
    let mut found = Vec::new();
    let mut engines: BTreeMap<String, (Engine, &str)> = BTreeMap::new();
    let mut migrating: BTreeMap<String, &str> = BTreeMap::new();
    let mut topics: BTreeMap<(String, &str), (&NeedTopic, &str)> = BTreeMap::new();
    for component in &release.components {
        let name = component.name.as_str();
        for need in &component.component.needs {
            let claim = claim_name(name, need);
            let (engine, first) = *engines.entry(claim.clone()).or_insert((need.engine, name));
            if engine != need.engine {
                found.push(format!(
                    "component {name}: claim {claim} is of {engine} in component {first}, not {}: use another claim name",
                    need.engine
                ));
            }
            if component.component.migrations.as_ref().is_some_and(|m| m.need == need.name)
                && let Some(other) = migrating.insert(claim.clone(), name)
            {
                found.push(format!(
                    "component {name}: claim {claim} has the migrations of component {other} already: exactly one component migrates a claim"
                ));
            }
            for topic in need.topics.iter().flat_map(|t| &t.write) {
                let key = (claim.clone(), topic.name.as_str());
                match topics.get(&key) {
                    Some((said, first)) if has_shape(said) && has_shape(topic) && *said != topic => {
                        found.push(format!(
                            "component {name}: topic {} has another shape in component {first}: let one of them say it",
                            topic.name
                        ));
                    }
                    Some((said, _)) if has_shape(said) => {}
                    _ => {
                        topics.insert(key, (topic, name));
                    }
                }
            }
        }
    }
    found
}

fn has_shape(topic: &NeedTopic) -> bool {
    topic.partitions.is_some() || topic.cleanup.is_some() || topic.retention.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::tenant::build::fixtures::{DIGEST, release};
    use rstest::rstest;
    use serde_json::{Value, json};

    fn with(extra: Value) -> Value {
        let mut value = json!({
            "name": "rates", "image": DIGEST,
            "ports": [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}, {"name": "control", "port": 9091}],
        });
        if let (Value::Object(fields), Value::Object(extra)) = (&mut value, extra) {
            fields.extend(extra);
        }
        value
    }

    #[test]
    fn a_shared_claim_that_all_agree_on_is_fine() {
        let release = release(
            "r",
            json!([
                with(json!({
                    "marketBook": true, "probes": {"liveness": {"path": "/livez", "port": "metrics"}},
                    "needs": [
                        {"name": "db", "engine": "PostgreSQL", "claim": "shared"},
                        {"name": "bus", "engine": "Kafka", "claim": "bus", "topics": {"write": [{"name": "tickets", "partitions": 6}]}},
                    ],
                    "migrations": {"need": "db", "expand": {"command": ["/m"]}},
                })),
                with(json!({
                    "name": "settlement",
                    "needs": [
                        {"name": "db", "engine": "PostgreSQL", "claim": "shared"},
                        {"name": "bus", "engine": "Kafka", "claim": "bus", "topics": {"write": [{"name": "tickets"}]}},
                    ],
                })),
            ]),
        );
        assert_eq!(problems(&release.spec), Vec::<String>::new());
    }

    #[rstest]
    #[case::ports(json!({"ports": [{"name": "http", "port": 80}, {"name": "metrics", "port": 80}]}), "ports: http and metrics are both 80")]
    #[case::book_without_control(json!({"marketBook": true, "ports": [{"name": "http", "port": 80}]}), "port control")]
    #[case::probe(json!({"probes": {"readiness": {"path": "/", "port": "admin"}}}), "probes.readiness.port: \"admin\" is no entry")]
    #[case::migrate(json!({"needs": [{"name": "db", "engine": "PostgreSQL", "access": "Migrate"}]}), "access Migrate of db")]
    #[case::one_claim_twice(json!({"needs": [
        {"name": "a", "engine": "PostgreSQL", "claim": "c"}, {"name": "b", "engine": "PostgreSQL", "claim": "c"}
    ]}), "two needs name the claim c")]
    #[case::long_claim(
        json!({"name": "rates", "needs": [{"name": "prices-of-everything-that-was-ever-quoted", "engine": "PostgreSQL"}]}),
        "which is longer than 40 characters"
    )]
    #[case::long_drain(json!({"drain": {"period": "169h"}}), "drain.period")]
    #[case::long_deadline(json!({"strategy": {"type": "Rolling", "progressDeadline": "200h"}}), "strategy.progressDeadline")]
    #[case::long_stabilisation(
        json!({"autoscaling": {"metrics": [{"cpu": 70}], "scaleDown": {"stabilisation": "61m"}}}), "stabilisation: at most 1h"
    )]
    #[case::long_migration(
        json!({
            "needs": [{"name": "db", "engine": "PostgreSQL"}],
            "migrations": {"need": "db", "expand": {"command": ["/m"], "timeout": "200h"}}
        }),
        "migrations.expand.timeout"
    )]
    #[case::digest(json!({"image": "r.example/p@sha256:12"}), "is no digest")]
    fn a_component_at_odds_with_itself(#[case] extra: Value, #[case] says: &str) {
        let release = release("r", json!([with(extra)]));
        let found = problems(&release.spec);
        assert!(found.len() == 1 && found[0].starts_with("component rates: ") && found[0].contains(says), "{found:?}");
    }

    #[rstest]
    #[case::engine(
        json!([{"name": "x", "engine": "PostgreSQL", "claim": "c"}]), json!([{"name": "y", "engine": "Kafka", "claim": "c"}]), "use another claim name"
    )]
    #[case::derived_name(
        json!([{"name": "x", "engine": "PostgreSQL", "claim": "other-y"}]), json!([{"name": "y", "engine": "Kafka"}]), "use another claim name"
    )]
    #[case::topic(
        json!([{"name": "x", "engine": "Kafka", "claim": "c", "topics": {"write": [{"name": "t", "partitions": 1}]}}]),
        json!([{"name": "x", "engine": "Kafka", "claim": "c", "topics": {"write": [{"name": "t", "partitions": 2}]}}]),
        "topic t has another shape"
    )]
    fn components_at_odds_over_a_claim(#[case] one: Value, #[case] other: Value, #[case] says: &str) {
        let release =
            release("r", json!([with(json!({"needs": one})), with(json!({"name": "other", "needs": other}))]));
        let found = problems(&release.spec);
        assert!(found.len() == 1 && found[0].contains(says), "{found:?}");
    }

    #[test]
    fn two_migrations_of_one_claim_are_refused() {
        let part = |name: &str| {
            with(json!({
                "name": name, "needs": [{"name": "db", "engine": "PostgreSQL", "claim": "c"}],
                "migrations": {"need": "db", "expand": {"command": ["/m"]}},
            }))
        };
        let found = problems(&release("r", json!([part("a"), part("b")])).spec);
        assert!(found.len() == 1 && found[0].contains("migrations of component a already"), "{found:?}");
    }
}
