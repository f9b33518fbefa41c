//! What the end of a Tenant takes along: workloads, routes and claims on domains. Namespaces, policies, roles and database claims
//! stay; a Tenant of the same name takes them back.

use super::build::{OWNED_NAME, Surroundings};
use crate::controllers::Ctx;
use crate::fault::Fault;
use crate::kube::{ChildKind, end, finalizer};
use paddock_crds::labels;
use paddock_crds::v1alpha1::Tenant;

/// Cleans up and lets the Tenant go. It waits for nothing: what it deleted ends by itself, also in a namespace that is terminating
/// or gone, so that a deletion cannot hang. The apiserver is asked what there is: after this nobody looks again, so that what the
/// cache does not show yet (made a moment ago, perhaps by the process before this one) would stay for ever.
pub async fn finalize(ctx: &Ctx, around: &Surroundings, tenant: &Tenant) -> Result<(), Fault> {
    if !finalizer::has(tenant) {
        return Ok(());
    }
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    let owned = [(labels::TENANT, name), (labels::NAME, OWNED_NAME)];
    end(ctx, &[ChildKind::BettingService], None, &[(labels::TENANT, name)]).await?;
    end(ctx, &[ChildKind::HTTPRoute, ChildKind::ListenerSet], None, &owned).await?;
    end(ctx, &[ChildKind::ConfigMap], Some(&around.operator_namespace), &owned).await?;
    finalizer::remove(ctx, tenant).await
}
