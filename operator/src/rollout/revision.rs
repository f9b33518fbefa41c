//! What a revision is: code, configuration, needs, resources and probes, hashed over what the user wrote (rule R4).
//!
//! What is rendered from it may change with the operator's version; the hash must not, or an upgrade of the operator would
//! restart every pod. So the identity is written down in a canonical form of its own: keys sorted, absent and empty values
//! left out. A field that a later version adds to a kind changes nobody's hash until somebody uses it.

use paddock_crds::v1alpha1::ComponentSpec;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Characters of a hash: 50 bits, in lower-case base32.
const HASH_LENGTH: usize = 10;

/// Revisions that are kept beside the running ones, newest first.
pub const KEPT: usize = 10;

/// Values of the environment that every pod gets as variables; they are part of what a revision is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentValues {
    /// Tenant; empty outside of environments.
    pub tenant: String,
    /// Environment; empty outside of environments.
    pub environment: String,
    /// `Production` or `NonProduction`.
    pub class: String,
    /// The brand's name as people write it.
    pub brand: String,
    /// Name of the licence.
    pub licence: String,
    /// Jurisdiction that gave it.
    pub jurisdiction: String,
    /// Currencies, as the Tenant lists them.
    pub currencies: Vec<String>,
    /// Locales, as the Tenant lists them.
    pub locales: Vec<String>,
}

/// The claim that a need binds: the one that it names, else `<service>-<need>`.
pub fn claim_name(service: &str, need: &paddock_crds::v1alpha1::Need) -> String {
    need.claim.clone().unwrap_or_else(|| format!("{service}-{}", need.name))
}

/// Everything that makes a revision of the service, in canonical form. Size, autoscaling, strategy, migrations, the path of
/// the route and the version's name are not part of it: changing them restarts nothing.
pub fn identity(service: &str, spec: &ComponentSpec, environment: &EnvironmentValues) -> Value {
    let mut ports: Vec<_> = spec.ports.iter().map(|port| (port.name.clone(), port.port)).collect();
    ports.sort();
    let mut needs: Vec<_> =
        spec.needs.iter().map(|need| (need.name.clone(), need.engine.to_string(), claim_name(service, need))).collect();
    needs.sort();
    let mut calls = spec.calls.clone();
    calls.sort();
    let identity = json!({
        "image": spec.image,
        "command": spec.command,
        "args": spec.args,
        "config": spec.config,
        "ports": ports,
        "needs": needs,
        "calls": calls,
        "resources": spec.resources,
        "probes": spec.probes,
        "drain": spec.drain,
        "marketBook": spec.market_book,
        "routed": spec.route.is_some(),
        "environment": {
            "tenant": environment.tenant,
            "environment": environment.environment,
            "class": environment.class,
            "brand": environment.brand,
            "licence": environment.licence,
            "jurisdiction": environment.jurisdiction,
            "currencies": environment.currencies,
            "locales": environment.locales,
        },
    });
    canonical(identity).unwrap_or(Value::Null)
}

/// The hash of an identity; `collisions` counts the revisions that had the same hash and another identity.
pub fn hash(identity: &Value, collisions: i32) -> String {
    short_hash(&format!("{identity}\n{collisions}"))
}

/// A name's suffix from any text: ten characters of `a`–`z` and `2`–`7`.
pub fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    data_encoding::BASE32_NOPAD.encode(&digest).to_lowercase().chars().take(HASH_LENGTH).collect()
}

/// Sorted keys, without nulls, `false` and what is empty (but for empty texts, which are values). `None` if nothing is left.
fn canonical(value: Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Array(items) if items.is_empty() => None,
        // Items keep their place, so an item that says nothing stays as it is.
        Value::Array(items) => {
            Some(Value::Array(items.into_iter().map(|item| canonical(item.clone()).unwrap_or(item)).collect()))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> =
                fields.into_iter().filter_map(|(key, value)| Some((key, canonical(value)?))).collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            let fields: Map<String, Value> = fields.into_iter().collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn component(yaml: Value) -> ComponentSpec {
        let mut base = json!({"image": "registry.example/rates@sha256:00", "ports": [{"name": "http", "port": 8080}]});
        if let (Some(base), Value::Object(more)) = (base.as_object_mut(), yaml) {
            base.extend(more);
        }
        serde_json::from_value(base).unwrap()
    }

    fn hash_of(spec: &ComponentSpec) -> String {
        hash(&identity("rates", spec, &EnvironmentValues::default()), 0)
    }

    #[test]
    fn the_hash_is_frozen() {
        // If this fails, the next version of the operator restarts every pod of every tenant.
        let spec = component(json!({
            "config": {"LOG_LEVEL": "info", "EMPTY": ""}, "marketBook": true,
            "needs": [{"name": "db", "engine": "PostgreSQL"}, {"name": "bus", "engine": "Kafka", "claim": "bus"}],
            "resources": {"requests": {"cpu": "100m"}}, "drain": {"period": "30s"},
        }));
        let environment = EnvironmentValues {
            tenant: "acme".into(),
            environment: "prod".into(),
            class: "Production".into(),
            brand: "Acme Bet".into(),
            licence: "mga-1".into(),
            jurisdiction: "MT".into(),
            currencies: vec!["EUR".into(), "SEK".into()],
            locales: vec!["en".into()],
        };
        let identity = identity("rates", &spec, &environment);
        assert_eq!(
            identity.to_string(),
            concat!(
                r#"{"config":{"EMPTY":"","LOG_LEVEL":"info"},"drain":{"period":"30s"},"#,
                r#""environment":{"brand":"Acme Bet","class":"Production","currencies":["EUR","SEK"],"environment":"prod","jurisdiction":"MT","licence":"mga-1","locales":["en"],"tenant":"acme"},"#,
                r#""image":"registry.example/rates@sha256:00","marketBook":true,"#,
                r#""needs":[["bus","Kafka","bus"],["db","PostgreSQL","rates-db"]],"ports":[["http",8080]],"resources":{"requests":{"cpu":"100m"}}}"#
            )
        );
        assert_eq!(hash(&identity, 0), "gdsvuqcn2x");
    }

    #[test]
    fn a_change_of_what_runs_is_another_revision() {
        let base = hash_of(&component(json!({})));
        for change in [
            json!({"image": "registry.example/rates@sha256:01"}),
            json!({"command": ["/rates"]}),
            json!({"args": ["--fast"]}),
            json!({"config": {"A": ""}}),
            json!({"ports": [{"name": "http", "port": 8081}]}),
            json!({"needs": [{"name": "db", "engine": "PostgreSQL"}]}),
            json!({"calls": ["account"]}),
            json!({"resources": {"limits": {"memory": "1Gi"}}}),
            json!({"probes": {"liveness": {"path": "/livez", "port": "http"}}}),
            json!({"drain": {"period": "31s"}}),
            json!({"marketBook": true}),
            json!({"route": {"path": "/"}}),
        ] {
            assert_ne!(hash_of(&component(change.clone())), base, "{change}");
        }
    }

    #[test]
    fn size_route_and_migrations_are_no_revision() {
        let needs = json!([{"name": "db", "engine": "PostgreSQL"}]);
        let base = hash_of(&component(json!({"route": {"path": "/"}, "needs": needs})));
        for change in [
            json!({"replicas": {"min": 3, "max": 9}}),
            json!({"autoscaling": {"metrics": [{"cpu": 50}]}}),
            json!({"strategy": {"type": "Rolling"}}),
            json!({"migrations": {"need": "db", "expand": {"command": ["/rates", "migrate"]}}}),
            json!({"route": {"path": "/other", "webSocket": true}}),
        ] {
            let mut change = change;
            change["needs"] = needs.clone();
            if change.get("route").is_none() {
                change["route"] = json!({"path": "/"});
            }
            assert_eq!(hash_of(&component(change.clone())), base, "{change}");
        }
    }

    #[test]
    fn a_collision_gets_another_hash() {
        let identity = identity("rates", &component(json!({})), &EnvironmentValues::default());
        assert_ne!(hash(&identity, 0), hash(&identity, 1));
    }

    proptest! {
        #[test]
        fn a_hash_fits_names_and_labels(text in ".*") {
            let hash = short_hash(&text);
            prop_assert_eq!(hash.len(), HASH_LENGTH);
            prop_assert!(hash.bytes().all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte)));
        }

        #[test]
        fn the_order_of_named_things_is_no_revision(shuffled in Just(vec![
            json!({"name": "http", "port": 8080}), json!({"name": "metrics", "port": 9090}), json!({"name": "control", "port": 9091}),
        ]).prop_shuffle()) {
            let sorted = json!({"ports": [{"name": "control", "port": 9091}, {"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}]});
            prop_assert_eq!(hash_of(&component(json!({"ports": shuffled}))), hash_of(&component(sorted)));
        }
    }
}
