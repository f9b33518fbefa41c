//! What the end of a Tenant takes along: workloads, routes and claims on domains. Namespaces, policies, roles and database claims
//! stay; a Tenant of the same name takes them back.

use super::apply::{end_workloads, free_domains};
use super::build::Surroundings;
use crate::controllers::Ctx;
use crate::fault::Fault;
use crate::kube::finalizer;
use paddock_crds::v1alpha1::Tenant;

/// Cleans up and lets the Tenant go. It waits for nothing: what it deleted ends by itself, also in a namespace that is terminating
/// or gone, so that a deletion cannot hang.
pub async fn finalize(ctx: &Ctx, around: &Surroundings, tenant: &Tenant) -> Result<(), Fault> {
    if !finalizer::has(tenant) {
        return Ok(());
    }
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    end_workloads(ctx, name, None).await?;
    free_domains(ctx, around, name, &[]).await?;
    finalizer::remove(ctx, tenant).await
}
