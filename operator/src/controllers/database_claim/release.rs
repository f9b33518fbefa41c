//! The end of a claim: its logins are shut, its data stays, and the object goes within seconds, also when the server is away.

use super::dereference::environment;
use crate::controllers::database_class::{
    pending, server,
    writer::{superseded, writer},
};
use crate::controllers::{Category, Ctx, Fault, Outcome};
use crate::database::{DatabaseError, Identity};
use crate::kube::finalizer;
use kube::ResourceExt as _;
use paddock_crds::v1alpha1::{DatabaseClaim, DatabaseClass};
use std::time::Duration;

/// How long the server may take before the release is left to the class's controller.
const PATIENCE: Duration = Duration::from_secs(8);

/// Releases and lets go.
pub(super) async fn release(ctx: &Ctx, claim: &DatabaseClaim) -> Result<Outcome, Fault> {
    if !finalizer::has(claim) {
        return Ok(Outcome::Done);
    }
    // The server is written into the status before anything is made there.
    if let (Some(server), Some(identity)) =
        (claim.status.as_ref().and_then(|status| status.server.clone()), identity(ctx, claim))
    {
        let release = pending::Pending {
            class: claim.spec.class_name.clone(),
            server,
            identity,
            uid: claim.uid().unwrap_or_default(),
        };
        match tokio::time::timeout(PATIENCE, shut(ctx, &release)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) if fault.category == Category::NotLeader => return Err(fault),
            outcome => {
                let why = match outcome {
                    Ok(Err(fault)) => fault.message,
                    _ => format!("server {} does not answer in time", release.server),
                };
                pending::record(ctx, &release).await?;
                let note = format!("its logins are shut later, its data is kept: {why}");
                ctx.events.warning(claim, "ReleasePending", "Release", note).await;
            }
        }
    }
    finalizer::remove(ctx, claim).await?;
    super::status::count(ctx);
    Ok(Outcome::Done)
}

fn identity(ctx: &Ctx, claim: &DatabaseClaim) -> Option<Identity> {
    let namespace = claim.namespace()?;
    if let Some(found) = environment(ctx, &namespace) {
        return Some(Identity::new(found.tenant, found.name, claim.name_any()));
    }
    // A namespace may lose its labels before its claims are gone; its name says the same.
    let (tenant, environment) = paddock_crds::names::split_namespace(&namespace)?;
    Some(Identity::new(tenant, environment, claim.name_any()))
}

async fn shut(ctx: &Ctx, release: &pending::Pending) -> Result<(), Fault> {
    let later = |message: String| Fault::new(Category::DatabaseUnreachable, message);
    let class = ctx
        .cache
        .get::<DatabaseClass>(None, &release.class)
        .ok_or_else(|| later(format!("DatabaseClass {} does not exist", release.class)))?;
    let server = class
        .spec
        .servers
        .iter()
        .find(|server| server.name == release.server)
        .ok_or_else(|| later(format!("class {} no longer names server {}", release.class, release.server)))?;
    let handle = server::handle(ctx, &class, server).await?.map_err(|error| later(error.to_string()))?;
    match handle.provisioner.release(&release.identity, &release.uid, &writer(ctx).await?).await {
        // What stands there is not the claim's: nothing to shut.
        Ok(()) | Err(DatabaseError::OwnershipConflict { .. }) => Ok(()),
        Err(DatabaseError::Superseded { found, .. }) => Err(superseded(ctx, found)),
        Err(error) => Err(later(error.to_string())),
    }
}
