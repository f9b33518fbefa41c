//! What wakes a Tenant besides itself: what it names, what it made, claims on other servers than it names, a domain that becomes free, and
//! new keys of the token issuer.

use super::domain_claim::host_of;
use super::status::{needs_a_person, runs_as_specified};
use crate::controllers::database_claim::validate::placed;
use crate::controllers::{Ctx, run};
use crate::kube::store::Change;
use crate::kube::{Cache, ChildKind, trigger};
use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, DatabaseClass, Environment, Release, Tenant};
use paddock_crds::{labels, names};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often at most the progress of services is told in the status of their Tenants.
const PROGRESS: Duration = Duration::from_secs(2);

/// Runs the controller until `stop`.
pub fn start(ctx: Arc<Ctx>, stop: CancellationToken) -> impl Future<Output = ()> {
    let cache = &ctx.cache;
    let operator_namespace = ctx.settings.operator_namespace.clone();
    let authority = (operator_namespace.clone(), ctx.settings.domain_ca_secret.clone());
    let [releases, classes, claims, services, domains, authorities, everyone] = std::array::from_fn(|_| cache.clone());
    let triggers = futures::stream::select_all([
        Box::pin(cache.subscribe::<Tenant>()) as futures::stream::BoxStream<'static, _>,
        Box::pin(cache.on::<Release, Tenant>(move |release| of_release(&releases, &release.name_any()))),
        Box::pin(cache.on::<DatabaseClass, Tenant>(move |class| of_class(&classes, &class.name_any()))),
        Box::pin(cache.on::<DatabaseClaim, Tenant>(move |claim| of_claim(&claims, claim))),
        Box::pin(trigger::waves(cache.on::<BettingService, Tenant>(of_service), PROGRESS)),
        Box::pin(cache.on_change::<BettingService, Tenant>(move |change| of_milestone(&services, change))),
        Box::pin(cache.on_child::<Tenant>(ChildKind::ConfigMap, move |object| {
            let here = object.namespace().is_some_and(|namespace| namespace == operator_namespace);
            let name = object.name_any();
            host_of(&name).filter(|_| here).map(|host| of_host(&domains, host)).unwrap_or_default()
        })),
        Box::pin(cache.on_secret::<Tenant>(move |secret| {
            let named = authority.1.as_deref() == secret.metadata.name.as_deref();
            let here = secret.metadata.namespace.as_deref() == Some(authority.0.as_str());
            if named && here { signed_for(&authorities) } else { Vec::new() }
        })),
        ctx.issuer.changes().flat_map(move |()| futures::stream::iter(matching(&everyone, |_| true))).boxed(),
    ]);
    run::<Tenant>(ctx, triggers, stop)
}

fn matching(cache: &Cache, wants: impl Fn(&Tenant) -> bool) -> Vec<ObjectRef<Tenant>> {
    cache
        .list::<Tenant>()
        .iter()
        .filter(|tenant| wants(tenant))
        .map(|tenant| ObjectRef::from_obj(tenant.as_ref()))
        .collect()
}

/// Tenants with an environment that asks for the Release.
fn of_release(cache: &Cache, release: &str) -> Vec<ObjectRef<Tenant>> {
    matching(cache, |tenant| tenant.spec.environments.iter().any(|e| e.release == release))
}

/// Tenants with an environment that names the class, or has a claim on one of its servers.
fn of_class(cache: &Cache, class: &str) -> Vec<ObjectRef<Tenant>> {
    let claims = cache.list::<DatabaseClaim>();
    let claims = claims.iter().filter(|claim| placed(claim) && claim.spec.class_name == class);
    let namespaces: BTreeSet<String> = claims.filter_map(|claim| claim.namespace()).collect();
    matching(cache, |tenant| {
        let holds = |environment: &Environment| {
            namespaces.contains(&names::namespace(&tenant.name_any(), &environment.name))
                || environment.database_classes.iter().any(|named| named.class_name == class)
        };
        tenant.spec.environments.iter().any(holds)
    })
}

/// The Tenant whose network has to follow a claim: one on a server that is not among those of a class which its environment names. The
/// way to the others is open already.
fn of_claim(cache: &Cache, claim: &DatabaseClaim) -> Vec<ObjectRef<Tenant>> {
    let namespace = claim.namespace().unwrap_or_default();
    let server = claim.status.as_ref().and_then(|status| status.server.as_deref());
    let (Some(server), Some((tenant, name))) = (server, names::split_namespace(&namespace)) else { return Vec::new() };
    let Some(tenant) = cache.get::<Tenant>(None, tenant) else { return Vec::new() };
    let class = claim.spec.class_name.as_str();
    let environment = tenant.spec.environments.iter().find(|environment| environment.name == name);
    let named = |environment: &&Environment| environment.database_classes.iter().any(|named| named.class_name == class);
    let open = environment.filter(named).and_then(|_| cache.get::<DatabaseClass>(None, class));
    let follows = open.is_none_or(|class| !class.spec.servers.iter().any(|found| found.name == server));
    if environment.is_some() && follows { vec![ObjectRef::from_obj(tenant.as_ref())] } else { Vec::new() }
}

/// Tenants that want the host: one of them may have it when its claim goes.
fn of_host(cache: &Cache, host: &str) -> Vec<ObjectRef<Tenant>> {
    matching(cache, |tenant| tenant.spec.environments.iter().flat_map(|e| &e.domains).any(|domain| domain.host == host))
}

/// Tenants with a domain that the operator signs for: its authority came, changed or went.
fn signed_for(cache: &Cache) -> Vec<ObjectRef<Tenant>> {
    matching(cache, |tenant| {
        tenant.spec.environments.iter().flat_map(|e| &e.domains).any(|domain| domain.tls.is_none())
    })
}

/// The Tenant that a service was made for.
fn of_service(service: &BettingService) -> Vec<ObjectRef<Tenant>> {
    let label = |name: &str| service.labels().get(name);
    let ours = label(labels::MANAGED_BY).is_some_and(|value| value == labels::MANAGED_BY_PADDOCK);
    label(labels::TENANT).filter(|_| ours).map(|tenant| ObjectRef::new(tenant)).into_iter().collect()
}

/// The Tenant of a service that just arrived where its spec wants it, as the last of them, or that needs a person from now on: what
/// people wait for is told at once.
fn of_milestone(cache: &Cache, change: &Change<BettingService>) -> Vec<ObjectRef<Tenant>> {
    let Some(service) = change.new.as_deref() else { return Vec::new() };
    let newly = |holds: fn(&BettingService) -> bool| holds(service) && !change.old.as_deref().is_some_and(holds);
    let mine = of_service(service);
    let told = newly(needs_a_person)
        || newly(runs_as_specified)
            && mine.iter().all(|tenant| services_of(cache, &tenant.name).all(|it| runs_as_specified(&it)));
    if told { mine } else { Vec::new() }
}

/// The services that were made for a Tenant.
fn services_of(cache: &Cache, tenant: &str) -> impl Iterator<Item = Arc<BettingService>> {
    let known = cache.get::<Tenant>(None, tenant);
    let environments = known.iter().flat_map(|tenant| &tenant.spec.environments);
    let namespaces: Vec<String> = environments.map(|environment| names::namespace(tenant, &environment.name)).collect();
    let all = namespaces.into_iter().flat_map(|namespace| cache.list_in::<BettingService>(&namespace));
    all.filter(|service| !of_service(service).is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::{DIGEST, class, from, tenant};
    use super::*;
    use serde_json::json;

    #[test]
    fn tenants_are_found_by_what_they_name() {
        let cache = Cache::new();
        cache.observe(tenant(json!([{
            "name": "prod", "class": "Production", "release": "r1", "domains": [{"host": "a.example"}],
            "databaseClasses": [{"engine": "Kafka", "className": "k1"}],
        }])));
        let acme = vec![ObjectRef::<Tenant>::new("acme")];
        assert_eq!(of_release(&cache, "r1"), acme);
        assert_eq!(of_release(&cache, "r2"), []);
        assert_eq!(of_class(&cache, "k1"), acme);
        assert_eq!(of_class(&cache, "k2"), []);
        assert_eq!(of_host(&cache, "a.example"), acme);
        assert_eq!(of_host(&cache, "b.example"), []);
        assert_eq!(signed_for(&cache), acme);
    }

    #[test]
    fn a_claim_on_a_server_that_is_not_named_wakes_its_tenant() {
        let cache = Cache::new();
        cache.observe(tenant(json!([{
            "name": "prod", "class": "Production", "release": "r1",
            "databaseClasses": [{"engine": "PostgreSQL", "className": "pg"}],
        }])));
        cache.observe(class("pg", "PostgreSQL", "Production"));
        let claim = |namespace: &str, class: &str, server: Option<&str>| {
            from::<DatabaseClaim>(json!({
                "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim",
                "metadata": {"name": "db", "namespace": namespace},
                "spec": {"engine": "PostgreSQL", "className": class}, "status": {"server": server},
            }))
        };
        let acme = [ObjectRef::<Tenant>::new("acme")];
        for (why, claim, woken) in [
            ("of another class", claim("acme-prod", "old", Some("old")), &acme[..]),
            ("of a server that left its class", claim("acme-prod", "pg", Some("old")), &acme[..]),
            ("as named", claim("acme-prod", "pg", Some("pg")), &[]),
            ("without a server", claim("acme-prod", "old", None), &[]),
            ("of no environment", claim("acme-dev", "old", Some("old")), &[]),
            ("of no Tenant", claim("zenith-prod", "old", Some("old")), &[]),
        ] {
            assert_eq!(of_claim(&cache, &claim), woken, "{why}");
        }
        assert_eq!(of_class(&cache, "old"), []);
        cache.observe(claim("acme-prod", "old", None));
        assert_eq!(of_class(&cache, "old"), []);
        cache.observe(claim("acme-prod", "old", Some("old")));
        assert_eq!(of_class(&cache, "old"), acme);
    }

    #[test]
    fn only_services_that_we_made_wake_a_tenant() {
        let service = |labels: serde_json::Value| {
            from::<BettingService>(json!({
                "apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService",
                "metadata": {"name": "rates", "namespace": "acme-prod", "labels": labels},
                "spec": {"component": "rates", "version": "1", "image": DIGEST}
            }))
        };
        let ours = service(json!({"app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme"}));
        assert_eq!(of_service(&ours), [ObjectRef::new("acme")]);
        assert_eq!(of_service(&service(json!({"paddock.bet/tenant": "acme"}))), []);
    }

    #[test]
    fn the_last_service_to_arrive_and_one_that_stalls_wake_their_tenant_at_once() {
        let service = |name: &str, namespace: &str, stable: &str| {
            from::<BettingService>(json!({
                "apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService",
                "metadata": {
                    "name": name, "namespace": namespace, "generation": 1,
                    "labels": {"app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme"},
                },
                "spec": {"component": name, "version": "1", "image": DIGEST},
                "status": {
                    "observedGeneration": 1, "revision": "b", "stableRevision": stable, "stableVersion": "1",
                    "conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                }
            }))
        };
        let change = |old: Option<&BettingService>, new: &BettingService| Change {
            old: old.cloned().map(Arc::new),
            new: Some(Arc::new(new.clone())),
        };
        let cache = Cache::new();
        cache.observe(tenant(json!([
            {"name": "prod", "class": "Production", "release": "r"}, {"name": "dev", "class": "NonProduction", "release": "r"},
        ])));
        let (before, rates) = (service("rates", "acme-prod", "a"), service("rates", "acme-prod", "b"));
        cache.observe(rates.clone());
        cache.observe(service("account", "acme-dev", "a"));
        let arrives = change(Some(&before), &rates);
        assert_eq!(of_milestone(&cache, &arrives), [], "account is on its way");
        cache.observe(service("account", "acme-dev", "b"));
        assert_eq!(of_milestone(&cache, &arrives), [ObjectRef::new("acme")]);
        assert_eq!(of_milestone(&cache, &change(Some(&rates), &rates)), [], "it had arrived before");

        let mut stalled = before.clone();
        let condition = json!({
            "type": "Stalled", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"
        });
        stalled.status.as_mut().expect("status").conditions.push(from(condition));
        assert_eq!(of_milestone(&cache, &change(Some(&before), &stalled)), [ObjectRef::new("acme")]);
        assert_eq!(of_milestone(&cache, &change(Some(&stalled), &stalled)), []);
    }
}
