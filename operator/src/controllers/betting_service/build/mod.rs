//! What should exist for a service: pure functions from a validated service to objects.

pub mod claims;
pub mod front;
pub mod migration;
pub mod revision;
pub mod template;

use super::validate::Service;
use crate::kube::child::ChildKind;
use kube::api::{DynamicObject, ObjectMeta, TypeMeta};
use paddock_crds::labels;
use serde_json::Value;
use std::collections::BTreeMap;

impl Service {
    /// Labels of every object of the service.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            (labels::MANAGED_BY.into(), labels::MANAGED_BY_PADDOCK.into()),
            (labels::PART_OF.into(), labels::PART_OF_PADDOCK.into()),
            (labels::NAME.into(), self.spec.component.clone()),
            (labels::APP_COMPONENT.into(), self.spec.component.clone()),
            (labels::COMPONENT.into(), self.spec.component.clone()),
            (labels::INSTANCE.into(), self.name.clone()),
        ]);
        if self.in_environment() {
            all.insert(labels::TENANT.into(), self.values.tenant.clone());
            all.insert(labels::ENVIRONMENT.into(), self.values.environment.clone());
        }
        all
    }

    /// Labels of an object of one revision.
    pub fn revision_labels(&self, hash: &str) -> BTreeMap<String, String> {
        let mut all = self.labels();
        all.insert(labels::REVISION.into(), hash.into());
        all
    }

    /// Selector of exactly the objects of the service: what pruning looks at.
    pub fn selector(&self) -> [(&str, &str); 3] {
        selector(&self.name, &self.spec.component)
    }

    /// An object of the service, owned by it. `body` holds everything but type and metadata.
    pub fn object(&self, kind: ChildKind, name: &str, labels: BTreeMap<String, String>, body: Value) -> DynamicObject {
        let resource = kind.api_resource();
        DynamicObject {
            types: Some(TypeMeta { api_version: resource.api_version, kind: resource.kind }),
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            data: body,
        }
    }
}

/// Labels that select exactly the objects of a service in its namespace. What the environment has beside its services is of no
/// component, whatever its instance is called.
pub fn selector<'a>(service: &'a str, component: &'a str) -> [(&'a str, &'a str); 3] {
    [(labels::MANAGED_BY, labels::MANAGED_BY_PADDOCK), (labels::INSTANCE, service), (labels::COMPONENT, component)]
}

/// Name of what belongs to one revision.
pub fn revision_name(service: &str, hash: &str) -> String {
    format!("{service}-{hash}")
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! A service that tests start from.
    use crate::controllers::betting_service::validate::{EnvironmentFacts, Service, validate};
    use paddock_crds::v1alpha1::{BettingService, Tenant};
    use serde_json::{Value, json};

    pub const IMAGE: &str = "r.example/p@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    pub fn betting_service(more: Value) -> BettingService {
        let mut spec = json!({
            "component": "rates", "version": "1.0", "image": IMAGE, "command": ["/paddock-rates"],
            "ports": [
                {"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}, {"name": "control", "port": 9091}
            ],
            "replicas": {"min": 2, "max": 2},
        });
        merge(&mut spec, more);
        serde_json::from_value(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService",
            "metadata": {
                "name": "odds", "namespace": "acme-prod", "uid": "u-odds", "generation": 3,
                "labels": {
                    "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "prod",
                },
            },
            "spec": spec
        }))
        .expect("a service of the right shape")
    }

    fn merge(base: &mut Value, more: Value) {
        match (base.as_object_mut(), more) {
            (Some(base), Value::Object(more)) => base.extend(more),
            (_, more) => assert!(more.is_null(), "an object or nothing"),
        }
    }

    pub fn tenant() -> Tenant {
        serde_json::from_value(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": "acme"},
            "spec": {
                "displayName": "Acme Bet", "licences": [{"name": "mga-1", "jurisdiction": "MT"}],
                "currencies": ["EUR", "SEK"], "locales": ["en"],
                "environments": [{
                    "name": "prod", "class": "Production", "release": "r",
                    "databaseClasses": [
                        {"engine": "PostgreSQL", "className": "pg-prod"}, {"engine": "Kafka", "className": "bus-prod"}
                    ]
                }],
            }
        }))
        .expect("a tenant of the right shape")
    }

    pub fn facts() -> Option<EnvironmentFacts> {
        EnvironmentFacts::of(&tenant(), "prod")
    }

    pub fn service(more: Value) -> Service {
        validate(&betting_service(more), facts()).expect("a valid service")
    }
}
