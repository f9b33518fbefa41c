//! Controller of kind Tenant: per environment a namespace with its isolation, its domains, and one BettingService per component of
//! its Release.

pub mod apply;
pub mod build;
pub mod certificate;
mod confirmed;
pub mod dereference;
mod domain_claim;
pub mod finalize;
pub mod finding;
pub mod secret;
pub mod status;
pub mod triggers;
pub mod validate;

use crate::controllers::{Ctx, Kind, Outcome, report_fault};
use crate::fault::{Category, Fault};
use crate::kube::cache::is_ours;
use crate::kube::{finalizer, write_status};
use ::kube::api::DynamicObject;
use paddock_crds::v1alpha1::{BettingService, Tenant};
use std::error::Error as StdError;
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
        if applied.iter().flat_map(|environment| &environment.findings).any(finding::Finding::is_forbidden) {
            ctx.readiness.doubt_rights();
        }
        let status = status::status(&tenant, &applied);
        let json = serde_json::to_value(&status).map_err(|error| {
            Fault::new(Category::Panic, "a Tenant's status has no JSON form: report this defect").with_source(error)
        })?;
        write_status(&ctx, tenant.as_ref(), json).await?;
        if let Some(news) = status::news(tenant.status.as_ref(), &status) {
            ctx.events.warning(tenant.as_ref(), &news.reason, "Reconcile", news.message).await;
        }
        let retry = applied.iter_mut().find_map(|environment| {
            let fault = environment.retry.take()?;
            Some(OfEnvironment::mark(environment.identity.environment.clone(), fault))
        });
        let again = applied.iter().filter_map(|environment| environment.again).min();
        match (retry, again) {
            (Some(fault), _) => Err(fault),
            (None, Some(after)) => Ok(Outcome::Again { after }),
            (None, None) => Ok(Outcome::Done),
        }
    }

    /// A fault of an environment stands in the conditions already. Any other speaks for the whole Tenant; what serves goes on serving, so
    /// that `Ready` stays true as long as all that it was said of serves.
    async fn report(object: &Self, ctx: &Ctx, fault: &Fault) -> Result<(), Fault> {
        if OfEnvironment::marks(fault) {
            return Ok(());
        }
        // As it is now: the reconcile may have written it before it failed.
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let Some(object) = ctx.cache.get::<Self>(None, name) else { return Ok(()) };
        let services = |namespace: &str| {
            let all = ctx.cache.list_in::<BettingService>(namespace);
            all.into_iter().filter(|service| is_ours(&service.metadata)).collect()
        };
        report_fault(object.as_ref(), ctx, fault, status::serves_still(&object, services)).await
    }
}

/// Marks a fault of an environment: the pass over it was made to its end, and the Tenant's conditions tell what came of it.
#[derive(Debug, thiserror::Error)]
#[error("in environment {environment}")]
struct OfEnvironment {
    environment: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl OfEnvironment {
    fn mark(environment: String, fault: Fault) -> Fault {
        Fault::new(fault.category, fault.message).with_source(Self { environment, source: fault.source })
    }

    fn marks(fault: &Fault) -> bool {
        fault.source.as_ref().is_some_and(|source| source.is::<Self>())
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
