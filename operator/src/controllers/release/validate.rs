//! Checks across the fields of a Release that its schema cannot make.

use paddock_crds::v1alpha1::{Engine, Need, NeedTopic, Probe, ReleaseComponent, ReleaseSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that keeps a Release from running, each naming the component and what to change. Empty means that it can run.
pub fn problems(release: &ReleaseSpec) -> Vec<String> {
    let mut found: Vec<String> = release.components.iter().flat_map(component).collect();
    found.extend(claims(release));
    found
}

fn component(component: &ReleaseComponent) -> Vec<String> {
    let mut found = Vec::new();
    let (name, spec) = (&component.name, &component.component);
    let mut numbers = BTreeSet::new();
    for port in &spec.ports {
        if !numbers.insert(port.port) {
            found.push(format!("component {name}: port {} has two names: give each port its own number", port.port));
        }
    }
    let declared = |port: &str| spec.ports.iter().any(|p| p.name == port);
    if spec.market_book && !declared("control") {
        found.push(format!("component {name}: marketBook is pushed to port control: declare it in ports"));
    }
    let probes = spec.probes.iter().flat_map(|p| [("liveness", &p.liveness), ("readiness", &p.readiness)]);
    for (probe, port) in probes.filter_map(|(which, probe)| probe.as_ref().map(|Probe { port, .. }| (which, port))) {
        if !declared(port) {
            found.push(format!("component {name}: probes.{probe} asks port {port}, which ports does not declare"));
        }
    }
    if let Some((_, digest)) = spec.image.rsplit_once('@')
        && !super::super::tenant::build::services::has_digest(&spec.image)
    {
        found.push(format!("component {name}: {digest} is no digest: write sha256: and 64 hexadecimal digits"));
    }
    found
}

/// The claim of a need, named as services name it.
fn claim_name(component: &str, need: &Need) -> String {
    need.claim.clone().unwrap_or_else(|| format!("{component}-{}", need.name))
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
    #[case::ports(json!({"ports": [{"name": "http", "port": 80}, {"name": "metrics", "port": 80}]}), "port 80 has two names")]
    #[case::book_without_control(json!({"marketBook": true, "ports": [{"name": "http", "port": 80}]}), "port control")]
    #[case::probe(json!({"probes": {"readiness": {"path": "/", "port": "admin"}}}), "probes.readiness asks port admin")]
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
