//! A service's part of its DatabaseClaims: its own role and the topics that it writes.
//!
//! Several services may share a claim. Each applies its part with a field manager of its own, so that server-side apply keeps
//! the parts of the others, and takes away what this service no longer wants. A claim has no owner reference and is never pruned:
//! the data outlives the service.

use super::super::validate::{BoundNeed, Service};
use crate::kube::child::ChildKind;
use crate::kube::fields::manager;
use kube::api::{DynamicObject, ObjectMeta, TypeMeta};
use paddock_crds::labels;
use paddock_crds::v1alpha1::{Access, DatabaseClaim, Engine};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Role of migration Jobs.
pub const MIGRATE: &str = "migrate";

/// Name of the Secret that a claim publishes for a role.
pub fn binding_secret(claim: &str, role: &str) -> String {
    format!("{claim}-{role}")
}

/// Concern, and so field manager, of a service's part of its claims.
pub fn concern(service: &str) -> String {
    format!("needs-{service}")
}

/// The service's part of each claim.
pub fn claims(service: &Service) -> Vec<DynamicObject> {
    service.needs.iter().map(|need| claim(service, need)).collect()
}

fn claim(service: &Service, bound: &BoundNeed) -> DynamicObject {
    let need = &bound.need;
    let mut spec = json!({"engine": need.engine, "className": bound.class});
    let roles = match need.engine {
        Engine::PostgreSQL => {
            let access = need.access.unwrap_or(Access::ReadWrite);
            let mut roles = vec![json!({"name": service.name, "access": access})];
            if service.migration.as_ref().is_some_and(|it| it.need.claim == bound.claim) {
                roles.push(json!({"name": MIGRATE, "access": Access::Migrate}));
            }
            roles
        }
        Engine::Kafka => {
            let topics = need.topics.clone().unwrap_or_default();
            if let Some(fields) = spec.as_object_mut() {
                // The shape as far as this service says it: another may say the rest. Who writes no topic says nothing of them: an
                // empty list beside another's topics is owned by nobody, and would look unapplied in every pass.
                let shapes: Vec<Value> = topics.write.iter().map(|topic| json!(topic)).collect();
                if !shapes.is_empty() {
                    fields.insert("kafka".into(), json!({"topics": sorted(shapes)}));
                }
            }
            let write: BTreeSet<_> = topics.write.iter().map(|topic| topic.name.clone()).collect();
            let read: BTreeSet<_> = topics.read.into_iter().collect();
            let published: BTreeSet<_> = need.published.iter().cloned().collect();
            vec![json!({"name": service.name, "topics": {"write": write, "read": read, "published": published}})]
        }
    };
    if let Some(fields) = spec.as_object_mut() {
        fields.insert("roles".into(), Value::Array(roles));
    }
    let resource = ChildKind::DatabaseClaim.api_resource();
    DynamicObject {
        types: Some(TypeMeta { api_version: resource.api_version, kind: resource.kind }),
        metadata: ObjectMeta {
            name: Some(bound.claim.clone()),
            namespace: Some(service.namespace.clone()),
            // Only labels that every service of the claim agrees on.
            labels: Some(BTreeMap::from([
                (labels::MANAGED_BY.into(), labels::MANAGED_BY_PADDOCK.into()),
                (labels::PART_OF.into(), labels::PART_OF_PADDOCK.into()),
                (labels::TENANT.into(), service.values.tenant.clone()),
                (labels::ENVIRONMENT.into(), service.values.environment.clone()),
                (labels::CLAIM.into(), bound.claim.clone()),
                (labels::ORIGIN.into(), origin(service).into()),
            ])),
            ..ObjectMeta::default()
        },
        data: json!({"spec": spec}),
    }
}

/// A service's part of a claim that it needs no more: what the claim cannot be without, no login and no topic.
pub fn withdrawn(claim: &DatabaseClaim) -> DynamicObject {
    let resource = ChildKind::DatabaseClaim.api_resource();
    let kept =
        [labels::MANAGED_BY, labels::PART_OF, labels::TENANT, labels::ENVIRONMENT, labels::CLAIM, labels::ORIGIN];
    let live = claim.metadata.labels.iter().flatten();
    DynamicObject {
        types: Some(TypeMeta { api_version: resource.api_version, kind: resource.kind }),
        metadata: ObjectMeta {
            name: claim.metadata.name.clone(),
            namespace: claim.metadata.namespace.clone(),
            labels: Some(
                live.filter(|(name, _)| kept.contains(&name.as_str()))
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        data: json!({"spec": {"engine": claim.spec.engine, "className": claim.spec.class_name}}),
    }
}

/// The services that have applied a part of a claim.
pub fn parties(claim: &DatabaseClaim) -> BTreeSet<String> {
    let entries = claim.metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    entries.filter_map(|entry| entry.manager.as_deref()?.strip_prefix(&manager(&concern("")))).map(Into::into).collect()
}

/// Who may have a login of the service's claims.
pub fn origin(service: &Service) -> &'static str {
    if service.of_release { labels::ORIGIN_RELEASE } else { labels::ORIGIN_HAND }
}

fn sorted(mut named: Vec<Value>) -> Vec<Value> {
    named.sort_by(|one, other| name_of(one).cmp(name_of(other)));
    named
}

fn name_of(value: &Value) -> &str {
    value.get("name").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::service;
    use super::*;

    fn bus() -> Service {
        service(json!({"needs": [{
            "name": "bus", "engine": "Kafka", "claim": "bus",
            "topics": {"write": [{"name": "results"}, {"name": "offer", "cleanup": "Compact"}], "read": ["tickets"]}
        }]}))
    }

    #[test]
    fn a_service_applies_its_own_role_and_topics_only() {
        let all = claims(&bus());
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].metadata.name.as_deref(), Some("bus"));
        assert!(all[0].metadata.owner_references.is_none());
        assert_eq!(
            all[0].data["spec"],
            json!({
                "engine": "Kafka", "className": "bus-prod",
                "kafka": {"topics": [{"name": "offer", "cleanup": "Compact"}, {"name": "results"}]},
                "roles": [{"name": "odds", "topics": {"write": ["offer", "results"], "read": ["tickets"], "published": []}}],
            })
        );
    }

    #[test]
    fn who_only_reads_says_nothing_of_topics() {
        let all = claims(&service(json!({"needs": [{
            "name": "bus", "engine": "Kafka", "claim": "bus", "topics": {"read": ["offer"]}
        }]})));
        assert_eq!(
            all[0].data["spec"],
            json!({
                "engine": "Kafka", "className": "bus-prod",
                "roles": [{"name": "odds", "topics": {"write": [], "read": ["offer"], "published": []}}],
            })
        );
    }

    #[test]
    fn migrations_add_a_role_that_no_pod_gets() {
        let all = claims(&service(json!({
            "needs": [{"name": "db", "engine": "PostgreSQL"}],
            "migrations": {"need": "db", "expand": {"command": ["m"]}},
        })));
        assert_eq!(all[0].metadata.name.as_deref(), Some("odds-db"));
        assert_eq!(
            all[0].data["spec"]["roles"],
            json!([{"name": "odds", "access": "ReadWrite"}, {"name": "migrate", "access": "Migrate"}])
        );
    }

    #[test]
    fn a_withdrawn_part_keeps_the_claim_and_names_its_party() {
        let mut claim: DatabaseClaim =
            serde_json::from_value(serde_json::to_value(&claims(&bus())[0]).unwrap()).unwrap();
        claim.metadata.managed_fields = serde_json::from_value(json!([
            {"manager": "paddock/needs-odds", "operation": "Apply"}, {"manager": "paddock/claims", "operation": "Apply"},
            {"manager": "someone", "operation": "Update"},
        ]))
        .unwrap();
        assert_eq!(parties(&claim), BTreeSet::from(["odds".to_owned()]));
        let part = withdrawn(&claim);
        assert_eq!(part.metadata.labels, claim.metadata.labels);
        assert_eq!(part.data["spec"], json!({"engine": "Kafka", "className": "bus-prod"}));
    }
}
