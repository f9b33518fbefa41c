//! Controller of kind Tenant: per environment a namespace with its isolation, its domains, and one BettingService per component of
//! its Release.

pub mod apply;
pub mod build;
pub mod certificate;
pub mod dereference;
pub mod domain_claim;
pub mod finalize;
pub mod finding;
pub mod secret;
pub mod status;
pub mod triggers;
pub mod validate;

use crate::controllers::{Ctx, Kind, Outcome, report_fault};
use crate::fault::{Category, Fault};
use crate::kube::{finalizer, write_status};
use ::kube::api::DynamicObject;
use paddock_crds::v1alpha1::Tenant;
use std::sync::Arc;

impl Kind for Tenant {
    const CONTROLLER: &'static str = "tenant";

    async fn reconcile(object: Arc<Self>, ctx: Arc<Ctx>) -> Result<Outcome, Fault> {
        let around = build::Surroundings::from(ctx.settings.as_ref());
        if object.metadata.deletion_timestamp.is_some() {
            finalize::finalize(&ctx, &around, &object).await?;
            return Ok(Outcome::Done);
        }
        let tenant = with_finalizer(object, &ctx).await?;
        let references = dereference::dereference(&tenant, &ctx.cache);
        let checked = validate::validate(&tenant, &references, &around);
        let mut applied = apply::apply_all(&ctx, &around, &tenant, checked).await?;
        let status = status::status(&tenant, &applied);
        let json = serde_json::to_value(&status).map_err(|error| {
            Fault::new(Category::Panic, "a Tenant's status has no JSON form: report this defect").with_source(error)
        })?;
        write_status(&ctx, tenant.as_ref(), json).await?;
        if let Some(news) = status::news(tenant.status.as_ref(), &status) {
            ctx.events.warning(tenant.as_ref(), &news.reason, "Reconcile", news.message).await;
        }
        let retry = applied.iter_mut().find_map(|environment| environment.retry.take());
        let again = applied.iter().filter_map(|environment| environment.again).min();
        match (retry, again) {
            (Some(fault), _) => Err(fault),
            (None, Some(after)) => Ok(Outcome::Again { after }),
            (None, None) => Ok(Outcome::Done),
        }
    }

    /// A fault that passes by itself stands in the conditions of its environment already; only the others speak for the whole Tenant.
    async fn report(object: &Self, ctx: &Ctx, fault: &Fault) -> Result<(), Fault> {
        let passing = matches!(fault.category, Category::Throttled | Category::ServerError | Category::Unreachable);
        if passing { Ok(()) } else { report_fault(object, ctx, fault).await }
    }
}

/// The Tenant with its finalizer, as the apiserver has it then: nothing is made before it can be cleaned up.
async fn with_finalizer(tenant: Arc<Tenant>, ctx: &Ctx) -> Result<Arc<Tenant>, Fault> {
    if finalizer::has(tenant.as_ref()) {
        return Ok(tenant);
    }
    finalizer::add(ctx, tenant.as_ref()).await?;
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    Ok(ctx.cache.get::<Tenant>(None, name).unwrap_or(tenant))
}

pub use triggers::start;

/// What the chart installs for the owners of Tenants: their ClusterRoles, and the admission policy without which these would reach too
/// far. `operator_user` is the operator as the apiserver names it, `system:serviceaccount:<namespace>:<name>`.
pub fn for_owners(operator_user: &str) -> Vec<DynamicObject> {
    build::access::cluster_roles().into_iter().chain(build::admission::managed_objects(operator_user)).collect()
}
