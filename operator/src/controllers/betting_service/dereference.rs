//! Reads: everything that a decision on a service depends on, from the cache.

use super::build::claims::{MIGRATE, binding_secret};
use super::build::front::LISTENER_SET;
use super::build::migration;
use super::build::revision::Record;
use super::build::selector;
use super::status::CLAIMS_BOUND;
use super::validate::EnvironmentFacts;
use crate::fault::{Category, Fault};
use crate::kube::{Cache, ChildKind};
use crate::rollout::revision::claim_name;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use paddock_crds::labels;
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, Tenant};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What there is.
#[derive(Debug, Default)]
pub struct Found {
    /// Facts of the environment; `None` in a namespace that is none.
    pub facts: Option<EnvironmentFacts>,
    /// The revisions that are kept.
    pub records: Vec<Record>,
    /// Deployments of revisions.
    pub deployments: Vec<Arc<DynamicObject>>,
    /// Pods of revisions.
    pub pods: Vec<Arc<DynamicObject>>,
    /// Migration Jobs.
    pub jobs: Vec<Arc<DynamicObject>>,
    /// Their pods.
    pub job_pods: Vec<Arc<DynamicObject>>,
    /// The environment's domains on the Gateway.
    pub listeners: Option<Arc<DynamicObject>>,
    /// Whether routes and domains were listed before they were read: else that there are none says nothing.
    pub routes_listed: bool,
    /// Claims that the needs name, as far as they exist.
    pub claims: BTreeMap<String, Arc<DatabaseClaim>>,
    /// Claims that could not be made as the needs want them, with why.
    pub refused: BTreeMap<String, String>,
    /// Binding Secrets that the needs and the migration take, and whether each is there.
    pub bindings: BTreeMap<String, bool>,
}

/// Reads from the cache alone.
pub fn dereference(cache: &Cache, object: &BettingService) -> Result<Found, Fault> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let namespace = object.metadata.namespace.as_deref();
    let children = |kind| cache.children(kind, namespace, &selector(name, &object.spec.component));
    let instance = migration::instance(name);
    let migrating = |kind| cache.children(kind, namespace, &migration::selector(&instance, &object.spec.component));
    let spec = &object.spec.spec;
    // A process that just began lists the Secrets of a namespace when it has looked at its Tenant. Until then what was told holds.
    let listed = cache.secrets_ready(namespace.unwrap_or_default());
    let assumed = !listed && told_bound(object);
    // Nobody waits for kinds that a cluster may lack: a process that just began may not have listed them yet, and a listing may end
    // between two reads. So this comes before what it vouches for.
    let routes_listed = [ChildKind::HTTPRoute, ChildKind::ListenerSet].into_iter().all(|kind| cache.available(kind));
    let mut found = Found {
        facts: facts(cache, object, namespace.unwrap_or_default())?,
        records: children(ChildKind::ControllerRevision).iter().filter_map(|it| Record::read(it)).collect(),
        deployments: children(ChildKind::Deployment),
        pods: children(ChildKind::Pod),
        jobs: migrating(ChildKind::Job),
        job_pods: migrating(ChildKind::Pod),
        listeners: cache.child(ChildKind::ListenerSet, namespace, LISTENER_SET),
        routes_listed,
        ..Found::default()
    };
    for need in &spec.needs {
        let claim = claim_name(name, need);
        if let Some(live) = cache.get::<DatabaseClaim>(namespace, &claim) {
            found.claims.insert(claim.clone(), live);
        }
        let mut secrets = vec![binding_secret(&claim, name)];
        if spec.migrations.as_ref().is_some_and(|it| it.need == need.name) {
            secrets.push(binding_secret(&claim, MIGRATE));
        }
        for secret in secrets {
            // Names of two claims and roles can meet in one: the Secret must be this claim's.
            let live = cache.secret(namespace.unwrap_or_default(), &secret);
            let exists = assumed || live.is_some_and(|it| it.labels().get(labels::CLAIM) == Some(&claim));
            found.bindings.insert(secret, exists);
        }
    }
    Ok(found)
}

/// Whether the status says of the present spec that every claim has published its binding.
fn told_bound(object: &BettingService) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    let mut bound = conditions.filter(|condition| condition.type_ == CLAIMS_BOUND && condition.status == "True");
    bound.any(|condition| condition.observed_generation == object.metadata.generation)
}

/// The facts of the environment that a namespace is, by its labels; only namespaces of ours are in the cache.
fn facts(cache: &Cache, object: &BettingService, namespace: &str) -> Result<Option<EnvironmentFacts>, Fault> {
    let found = cache.child(ChildKind::Namespace, None, namespace);
    let label = |name: &str| found.as_ref()?.metadata.labels.as_ref()?.get(name).cloned();
    let environment = label(labels::TENANT).zip(label(labels::ENVIRONMENT));
    if let Some(made_for) = made_for(object)
        && environment.as_ref() != Some(&made_for)
    {
        return Err(elsewhere(object, &made_for, found.is_some()));
    }
    let Some((tenant, environment)) = environment else { return Ok(None) };
    let facts = cache.get::<Tenant>(None, &tenant).and_then(|it| EnvironmentFacts::of(&it, &environment));
    let Some(facts) = facts else {
        return Err(Fault::reference_not_found(if cache.is_unreadable::<Tenant>(None, &tenant) {
            format!(
                "Tenant {tenant} cannot be read by this operator: correct it, or install the operator that knows its fields"
            )
        } else {
            format!(
                "namespace {namespace} belongs to environment {environment} of Tenant {tenant}, which does not exist any more; \
                 apply the Tenant again or delete this service"
            )
        }));
    };
    // A namespace keeps its class, and so do the pods in it: what the Tenant says of another class is refused there, and not begun here.
    match label(labels::CLASS) {
        Some(class) if class != facts.class() => Err(Fault::reference_not_found(format!(
            "namespace {namespace} was made for class {class}, and environment {environment} of Tenant {tenant} is {} now; \
             see condition NamespacesReady of the Tenant",
            facts.class()
        ))),
        _ => Ok(Some(facts)),
    }
}

/// Tenant and environment whose Release a service is a component of, as it says itself.
fn made_for(object: &BettingService) -> Option<(String, String)> {
    let label = |name: &str| object.labels().get(name).cloned();
    let ours = label(labels::MANAGED_BY).is_some_and(|it| it == labels::MANAGED_BY_PADDOCK);
    label(labels::TENANT).zip(label(labels::ENVIRONMENT)).filter(|_| ours)
}

/// A Release's service in a namespace that is not known as its environment: it must not go on as a service of none, which would
/// start a revision that knows no tenant and take its route away.
fn elsewhere(object: &BettingService, (tenant, environment): &(String, String), known: bool) -> Fault {
    let namespace = object.namespace().unwrap_or_default();
    let message = format!(
        "this service is of environment {environment} of Tenant {tenant}, and namespace {namespace} does not say so in its labels: \
         what runs stays as it is until it does; see condition NamespacesReady of the Tenant"
    );
    // Of both just made, the namespace may be seen last.
    let early = !known && object.status.is_none();
    Fault::new(if early { Category::Conflict } else { Category::ReferenceNotFound }, message)
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::{betting_service, tenant};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_does_not_follow_its_environment_into_another_class() {
        let cache = Cache::new();
        cache.observe(tenant());
        let namespace = |class: &str| {
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme-prod", "labels": {
                    "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "prod",
                    "paddock.bet/class": class
                }}
            }))
            .unwrap()
        };
        let service = betting_service(json!({}));
        cache.observe_child(ChildKind::Namespace, namespace("Production"));
        assert!(dereference(&cache, &service).unwrap().facts.is_some());
        cache.observe_child(ChildKind::Namespace, namespace("NonProduction"));
        let fault = dereference(&cache, &service).unwrap_err();
        assert!(fault.message.contains("made for class NonProduction"), "{}", fault.message);
    }

    #[test]
    fn a_service_of_a_release_never_runs_as_one_of_no_environment() {
        let labelled = |more: serde_json::Value| {
            let mut labels = json!({"app.kubernetes.io/managed-by": "paddock"});
            labels.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme-prod", "labels": labels}});
            let cache = Cache::new();
            cache.observe(tenant());
            cache.observe_child(ChildKind::Namespace, serde_json::from_value(namespace).unwrap());
            cache
        };
        let unlabelled = Cache::new();
        unlabelled.observe(tenant());
        let mut service = betting_service(json!({}));
        let refusal = |cache: &Cache, service: &BettingService| dereference(cache, service).unwrap_err();
        assert_eq!(refusal(&unlabelled, &service).category, Category::Conflict, "its namespace may be on its way");
        service.status = Some(paddock_crds::v1alpha1::BettingServiceStatus::default());
        for cache in [
            unlabelled.clone(),
            labelled(json!({})),
            labelled(json!({"paddock.bet/tenant": "acme"})),
            labelled(json!({"paddock.bet/tenant": "acme", "paddock.bet/environment": "test"})),
        ] {
            let fault = refusal(&cache, &service);
            assert_eq!(fault.category, Category::ReferenceNotFound);
            assert!(fault.message.contains("namespace acme-prod does not say so"), "{}", fault.message);
        }
        let prod = labelled(json!({"paddock.bet/tenant": "acme", "paddock.bet/environment": "prod"}));
        assert!(dereference(&prod, &service).unwrap().facts.is_some());
        service.metadata.labels = None;
        assert!(dereference(&unlabelled, &service).unwrap().facts.is_none(), "somebody's own");
    }

    #[test]
    fn a_listing_that_ends_after_the_read_does_not_vouch_for_it() {
        let cache = Cache::new();
        let mut service = betting_service(json!({}));
        service.metadata.labels = None;
        let before = dereference(&cache, &service).unwrap();
        cache.set_ready();
        assert!(!before.routes_listed);
        assert!(dereference(&cache, &service).unwrap().routes_listed);
    }

    #[test]
    fn before_secrets_are_listed_what_was_told_of_bindings_holds() {
        let cache = Cache::new();
        cache.observe(tenant());
        let needs = json!({"needs": [{"name": "db", "engine": "PostgreSQL"}]});
        let mut service = betting_service(needs);
        service.metadata.labels = None;
        service.metadata.generation = Some(2);
        let mut exists = |generation: i64| {
            let status = json!({"conditions": [{
                "type": "ClaimsBound", "status": "True", "reason": "Bound", "message": "", "observedGeneration": generation,
                "lastTransitionTime": "2026-01-01T00:00:00Z"
            }]});
            service.status = Some(serde_json::from_value(status).unwrap());
            let found = dereference(&cache, &service).unwrap();
            found.bindings.into_values().collect::<Vec<_>>()
        };
        assert_eq!((exists(2), exists(1)), (vec![true], vec![false]));
        cache.observe_child(ChildKind::Secret, serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "acme-prod", "labels": {"app.kubernetes.io/managed-by": "paddock"}}
        })).unwrap());
        cache.set_ready();
        assert_eq!(exists(2), [false], "listed, and not there");
    }
}
