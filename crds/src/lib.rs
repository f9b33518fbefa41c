//! The kinds of `paddock.bet`: types, validation rules and names. No Kubernetes client.
//!
//! One file per kind in [`v1alpha1`]; a field's doc comment is its text in `kubectl explain`.

pub mod condition;
pub mod duration;
pub mod labels;
pub mod names;
pub mod v1alpha1;

/// API group of every kind.
pub const GROUP: &str = "paddock.bet";

/// Every custom resource definition, in the order in which they are installed.
pub fn all() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt as _;
    vec![
        v1alpha1::Tenant::crd(),
        v1alpha1::Release::crd(),
        v1alpha1::BettingService::crd(),
        v1alpha1::Market::crd(),
        v1alpha1::DatabaseClass::crd(),
        v1alpha1::DatabaseClaim::crd(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    /// Names that users type and that other charts refer to: frozen.
    #[test]
    fn names_are_frozen() {
        let names: Vec<(String, String)> = super::all()
            .into_iter()
            .map(|crd| (crd.spec.names.plural, crd.spec.names.short_names.unwrap_or_default().join(",")))
            .collect();
        let expected = [
            ("tenants", "tn"),
            ("releases", "rel"),
            ("bettingservices", "bsvc"),
            ("markets", "mkt"),
            ("databaseclasses", "dbclass"),
            ("databaseclaims", "dbc"),
        ];
        assert_eq!(names, expected.map(|(plural, short)| (plural.to_owned(), short.to_owned())));
    }

    /// What a schema says of no maximum, or of no key in a list of named things.
    fn unbounded(path: &str, schema: &Value, found: &mut Vec<String>) {
        let has = |field: &str| schema.get(field).is_some();
        match schema["type"].as_str() {
            Some("string") if !has("maxLength") && !has("enum") && !has("format") => found.push(path.to_owned()),
            Some("array") => {
                if !has("maxItems") {
                    found.push(path.to_owned());
                }
                let named = schema.pointer("/items/properties/name").is_some();
                if named && schema["x-kubernetes-list-type"] != "map" {
                    found.push(format!("{path}: no list-map"));
                }
                unbounded(&format!("{path}[]"), &schema["items"], found);
            }
            _ => {
                if has("additionalProperties") {
                    if !has("maxProperties") {
                        found.push(path.to_owned());
                    }
                    unbounded(&format!("{path}.*"), &schema["additionalProperties"], found);
                }
                for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                    unbounded(&format!("{path}.{name}"), field, found);
                }
            }
        }
    }

    #[test]
    fn every_list_of_named_things_is_a_map_and_everything_has_a_maximum() {
        let mut found = Vec::new();
        for crd in super::all() {
            for version in &crd.spec.versions {
                let schema = serde_json::to_value(&version.schema).unwrap();
                for part in ["spec", "status"] {
                    let path = format!("{}.{part}", crd.spec.names.kind);
                    unbounded(&path, &schema["openAPIV3Schema"]["properties"][part], &mut found);
                }
            }
        }
        // Text of the server, which nobody bounds: a status that holds it must not be refused.
        assert_eq!(found, ["DatabaseClass.status.servers[].version"]);
    }

    /// The API server refuses an object whose last-applied annotation is too large, and etcd has a limit.
    #[test]
    fn definitions_are_small() {
        for crd in super::all() {
            let size = serde_json::to_vec(&crd).unwrap().len();
            assert!(size < 200_000, "{} has {size} bytes", crd.spec.names.kind);
        }
    }
}
