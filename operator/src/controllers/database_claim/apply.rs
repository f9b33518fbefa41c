//! Making a claim: first on its server, then its binding Secrets. Each step finds what an earlier one left, so that a crash between
//! any two is harmless (rule O6).

use super::build;
use super::dereference::Found;
use super::status::problem;
use super::validate::{Choice, Problem, Wanted, choose};
use crate::controllers::database_class::{
    server,
    writer::{superseded, writer},
};
use crate::controllers::{Category, Ctx, Fault};
use crate::database::{DatabaseError, Holding, Observed, Plan};
use crate::kube::{ChildKind, ObjectKey, apply, prune};
use kube::ResourceExt as _;
use paddock_crds::labels;
use paddock_crds::v1alpha1::{DatabaseClaim, DatabaseClass, Server};
use std::collections::BTreeSet;
use std::time::Duration;

/// Field manager concern of binding Secrets.
const CONCERN: &str = "binding";
/// How long a claim waits by itself for a server that the class knows to be away.
const KNOWN: Duration = Duration::from_mins(1);

/// The server of the claim: the one it is bound to; else the one that holds its data already; else the least loaded one with room.
pub(super) async fn place<'a>(
    ctx: &Ctx,
    claim: &DatabaseClaim,
    wanted: &'a Wanted,
    found: &Found,
) -> Result<Result<&'a Server, Problem>, Fault> {
    let able = match choose(claim, &wanted.class, &found.claims) {
        Err(problem) => return Ok(Err(problem)),
        Ok(Choice::Bound(server)) => return Ok(Ok(server)),
        Ok(Choice::Among(able)) => able,
    };
    let writer = writer(ctx).await?;
    // All servers, also full ones: as long as one does not answer, its data may be there, and nothing may be made elsewhere.
    for candidate in &wanted.class.spec.servers {
        let holds = match server::handle(ctx, &wanted.class, candidate).await? {
            Ok(handle) => handle.provisioner.holds(&wanted.identity, &writer).await,
            Err(error) => Err(error),
        };
        match holds {
            Ok(Holding::Ours) => return Ok(Ok(candidate)),
            Ok(Holding::Nothing) => {}
            Err(DatabaseError::Superseded { found, .. }) => return Err(superseded(ctx, found)),
            Err(error) => return Ok(Err(fault_of(&wanted.class, candidate, &error))),
        }
    }
    able.first().copied().map(Ok).ok_or_else(|| Fault::new(Category::Panic, "no server was chosen: report this defect"))
}

/// Makes it on the server and publishes the bindings.
pub(super) async fn bind(
    ctx: &Ctx,
    claim: &DatabaseClaim,
    wanted: &Wanted,
    found: &Found,
    chosen: &Server,
) -> Result<Result<Observed, Problem>, Fault> {
    let handle = match server::handle(ctx, &wanted.class, chosen).await? {
        Ok(handle) => handle,
        Err(error) => return Ok(Err(fault_of(&wanted.class, chosen, &error))),
    };
    let logins =
        build::logins(claim, &found.secrets).map_err(|error| Fault::new(Category::ServerError, error.to_string()))?;
    let plan = Plan {
        identity: wanted.identity.clone(),
        uid: claim.uid().unwrap_or_default(),
        bound: claim.status.as_ref().is_some_and(|status| status.binding.is_some()),
        writer: writer(ctx).await?,
        logins,
        limits: wanted.limits,
        topics: wanted.topics.clone(),
    };
    let observed = match handle.provisioner.ensure(&plan).await {
        Ok(observed) => observed,
        Err(DatabaseError::Superseded { found, .. }) => return Err(superseded(ctx, found)),
        Err(error) => return Ok(Err(fault_of(&wanted.class, chosen, &error))),
    };
    let fresh = || uuid::Uuid::now_v7().to_string();
    let mut keep = BTreeSet::new();
    for secret in build::secrets(claim, wanted, &handle.address, &plan.logins, &found.secrets, fresh) {
        keep.extend(ObjectKey::of(&secret));
        apply(ctx, CONCERN, &secret).await?;
    }
    let (name, namespace) = (claim.name_any(), claim.namespace());
    prune(ctx, &[ChildKind::Secret], namespace.as_deref(), &[(labels::CLAIM, &name)], &keep).await?;
    Ok(Ok(expected(claim, observed)))
}

/// A server's fault, as a problem of the claim. When the class knows of it already its controller asks the server and wakes the
/// claims: they need not all ask too.
fn fault_of(class: &DatabaseClass, server: &Server, error: &DatabaseError) -> Problem {
    let known =
        class.status.iter().flat_map(|status| &status.servers).any(|it| it.name == server.name && !it.reachable);
    let problem = problem(error);
    let again = problem.again.map(|again| if known { again.max(KNOWN) } else { again });
    Problem { again, ..problem }
}

/// An engine without a marker cannot tell drift from a change of mind: while the spec is new, it is none.
fn expected(claim: &DatabaseClaim, observed: Observed) -> Observed {
    let seen = claim.status.as_ref().and_then(|status| status.observed_generation);
    if seen == claim.metadata.generation { observed } else { Observed { repaired: Vec::new(), ..observed } }
}
