//! What wakes a claim besides itself: its Secrets, its class, its namespace, and who needs it.

use super::{status, validate};
use crate::controllers::{Ctx, run};
use crate::kube::{Cache, ChildKind};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, DatabaseClass};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs the controller until `stop`.
pub fn start(ctx: Arc<Ctx>, stop: CancellationToken) -> impl Future<Output = ()> {
    let cache = &ctx.cache;
    let (classes, namespaces, services) = (cache.clone(), cache.clone(), cache.clone());
    let triggers = futures::stream::select_all([
        Box::pin(cache.subscribe::<DatabaseClaim>()) as futures::stream::BoxStream<'static, _>,
        Box::pin(cache.on::<DatabaseClass, DatabaseClaim>(move |class| of_class(&classes, &class.name_any()))),
        Box::pin(cache.on_child::<DatabaseClaim>(ChildKind::Namespace, move |namespace| {
            let claims = namespaces.list_in::<DatabaseClaim>(&namespace.name_any());
            claims.iter().map(|claim| ObjectRef::from_obj(claim.as_ref())).collect()
        })),
        Box::pin(cache.on::<BettingService, DatabaseClaim>(move |service| of_service(&services, service))),
    ]);
    run::<DatabaseClaim>(ctx, triggers, stop)
}

fn of_class(cache: &Cache, class: &str) -> Vec<ObjectRef<DatabaseClaim>> {
    let all = cache.list::<DatabaseClaim>();
    all.iter().filter(|claim| claim.spec.class_name == class).map(|claim| ObjectRef::from_obj(claim.as_ref())).collect()
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
