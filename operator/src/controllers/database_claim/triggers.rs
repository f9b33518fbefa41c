//! What wakes a claim besides itself: its Secrets, its class, its namespace, its Tenant, and who needs it.

use super::{status, validate};
use crate::controllers::{Ctx, run};
use crate::kube::{Cache, ChildKind};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, DatabaseClass, Tenant};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs the controller until `stop`.
pub fn start(ctx: Arc<Ctx>, stop: CancellationToken) -> impl Future<Output = ()> {
    let cache = &ctx.cache;
    let [classes, namespaces, tenants, services] = std::array::from_fn(|_| cache.clone());
    let triggers = futures::stream::select_all([
        Box::pin(cache.subscribe::<DatabaseClaim>()) as futures::stream::BoxStream<'static, _>,
        Box::pin(cache.on::<DatabaseClass, DatabaseClaim>(move |class| of_class(&classes, &class.name_any()))),
        Box::pin(cache.on_child::<DatabaseClaim>(ChildKind::Namespace, move |namespace| {
            let claims = namespaces.list_in::<DatabaseClaim>(&namespace.name_any());
            claims.iter().map(|claim| ObjectRef::from_obj(claim.as_ref())).collect()
        })),
        Box::pin(cache.on_intent::<Tenant, DatabaseClaim>(move |tenant| of_tenant(&tenants, tenant))),
        Box::pin(cache.on::<BettingService, DatabaseClaim>(move |service| of_service(&services, service))),
    ]);
    run::<DatabaseClaim>(ctx, triggers, stop)
}

fn of_class(cache: &Cache, class: &str) -> Vec<ObjectRef<DatabaseClaim>> {
    let all = cache.list::<DatabaseClaim>();
    all.iter().filter(|claim| claim.spec.class_name == class).map(|claim| ObjectRef::from_obj(claim.as_ref())).collect()
}

/// Claims of the Tenant's environments that have no server yet: which classes they may take is the Tenant's to say. The others keep theirs.
fn of_tenant(cache: &Cache, tenant: &Tenant) -> Vec<ObjectRef<DatabaseClaim>> {
    let namespace = |name: &str| paddock_crds::names::namespace(&tenant.name_any(), name);
    let environments = tenant.spec.environments.iter();
    let claims = environments.flat_map(|environment| cache.list_in::<DatabaseClaim>(&namespace(&environment.name)));
    claims.filter(|claim| !validate::placed(claim)).map(|claim| ObjectRef::from_obj(claim.as_ref())).collect()
}

/// Claims beside the service whose status no longer tells whether they are needed. Most changes of a service are none of a claim's
/// business: each look at a claim asks its server.
fn of_service(cache: &Cache, service: &BettingService) -> Vec<ObjectRef<DatabaseClaim>> {
    let namespace = service.namespace().unwrap_or_default();
    let services = cache.list_in::<BettingService>(&namespace);
    let claims = cache.list_in::<DatabaseClaim>(&namespace);
    let outdated =
        |claim: &&Arc<DatabaseClaim>| validate::unused(&claim.name_any(), &services) != status::says_unused(claim);
    claims.iter().filter(outdated).map(|claim| ObjectRef::from_obj(claim.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_tenant_wakes_the_claims_of_its_environments_that_have_no_server() {
        let cache = Cache::new();
        for (namespace, name, server) in [
            ("acme-prod", "new", Value::Null),
            ("acme-prod", "old", json!("a")),
            ("acme-dev", "gone", Value::Null),
            ("zenith-prod", "other", Value::Null),
        ] {
            let claim = json!({
                "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "metadata": {"name": name, "namespace": namespace},
                "spec": {"engine": "PostgreSQL", "className": "pg"}, "status": {"server": server}
            });
            cache.observe::<DatabaseClaim>(serde_json::from_value(claim).unwrap());
        }
        let tenant: Tenant = serde_json::from_value(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": "acme"},
            "spec": {
                "displayName": "Acme", "licences": [], "currencies": [],
                "environments": [{"name": "prod", "class": "Production", "release": "r"}]
            }
        }))
        .unwrap();
        assert_eq!(of_tenant(&cache, &tenant), [ObjectRef::new("new").within("acme-prod")]);
    }
}
