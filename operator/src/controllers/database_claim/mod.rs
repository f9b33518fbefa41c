//! Controller of DatabaseClaim: a database or topics on a server of its class, a login and a binding Secret for each role.

mod apply;
pub mod build;
pub mod dereference;
mod release;
mod status;
mod triggers;
pub mod validate;

use super::{Ctx, Fault, Kind, Outcome};
use crate::kube::finalizer;
use kube::ResourceExt as _;
use paddock_crds::v1alpha1::DatabaseClaim;
use status::{Progress, status};
use std::{sync::Arc, time::Duration};
pub use triggers::start;
use validate::Problem;

/// How often drift is looked for when nothing happens.
const RECHECK: Duration = Duration::from_hours(1);

impl Kind for DatabaseClaim {
    const CONTROLLER: &'static str = "databaseclaim";

    async fn reconcile(claim: Arc<Self>, ctx: Arc<Ctx>) -> Result<Outcome, Fault> {
        if claim.metadata.deletion_timestamp.is_some() {
            return release::release(&ctx, &claim).await;
        }
        let found = dereference::dereference(&ctx, &claim).await?;
        let wanted = match validate::validate(&claim, &found) {
            Ok(wanted) => wanted,
            Err(problem) => return stop(&ctx, &claim, &found, &problem).await,
        };
        finalizer::add(&ctx, claim.as_ref()).await?;
        let mut claim = fresh(&ctx, claim);
        let server = match apply::place(&ctx, &claim, &wanted, &found).await? {
            Ok(server) => server,
            Err(problem) => return stop(&ctx, &claim, &found, &problem).await,
        };
        if claim.status.as_ref().and_then(|status| status.server.as_ref()) != Some(&server.name) {
            // Before anything is made there: after a crash it must be found again.
            let chosen = Progress::Chosen { server: &server.name, identity: &wanted.identity };
            status::write(&ctx, &claim, status(&claim, &found, &chosen)).await?;
            claim = fresh(&ctx, claim);
        }
        let observed = match apply::bind(&ctx, &claim, &wanted, &found, server).await? {
            Ok(observed) => observed,
            Err(problem) => return stop(&ctx, &claim, &found, &problem).await,
        };
        let bound = Progress::Bound { server: &server.name, identity: &wanted.identity, observed: &observed };
        status::write(&ctx, &claim, status(&claim, &found, &bound)).await?;
        Ok(Outcome::Again { after: RECHECK })
    }
}

async fn stop(
    ctx: &Ctx,
    claim: &DatabaseClaim,
    found: &dereference::Found,
    problem: &Problem,
) -> Result<Outcome, Fault> {
    status::write(ctx, claim, status(claim, found, &Progress::Problem(problem))).await?;
    Ok(problem.again.map_or(Outcome::Done, |after| Outcome::Again { after }))
}

/// The claim as our last write left it.
fn fresh(ctx: &Ctx, claim: Arc<DatabaseClaim>) -> Arc<DatabaseClaim> {
    ctx.cache.get::<DatabaseClaim>(claim.namespace().as_deref(), &claim.name_any()).unwrap_or(claim)
}

#[cfg(test)]
mod apiserver_tests;
#[cfg(test)]
mod life_tests;
