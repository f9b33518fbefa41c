//! The status of a claim: pure, but for writing it and telling about it.

use super::dereference::Found;
use super::validate::{Problem, unused};
use crate::controllers::{Ctx, Fault};
use crate::database::{DatabaseError, Identity, Observed};
use crate::kube::{Conditions, write_status};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use paddock_crds::condition::{READY, RECONCILING, STALLED};
use paddock_crds::v1alpha1::{Binding, DatabaseClaim, DatabaseClaimStatus, Engine};
use strum::IntoEnumIterator as _;

const BOUND: &str = "Bound";
const DRIFT_FREE: &str = "DriftFree";
const OWNERSHIP_CONFLICT: &str = "OwnershipConflict";
const UNUSED: &str = "Unused";

/// What a reconcile came to.
pub(super) enum Progress<'a> {
    /// A server was chosen, and nothing was made there yet.
    Chosen { server: &'a str, identity: &'a Identity },
    /// All is as wanted.
    Bound { server: &'a str, identity: &'a Identity, observed: &'a Observed },
    /// It cannot be carried out.
    Problem(&'a Problem),
}

/// The problem that a server's fault is to a claim.
pub(super) fn problem(error: &DatabaseError) -> Problem {
    Problem {
        reason: error.reason(),
        message: error.to_string(),
        stalled: error.needs_a_person(),
        again: Some(error.retry()),
    }
}

/// What the claim's status should be. Pure.
pub(super) fn status(claim: &DatabaseClaim, found: &Found, result: &Progress<'_>) -> DatabaseClaimStatus {
    let old = claim.status.clone().unwrap_or_default();
    let mut new = DatabaseClaimStatus { observed_generation: claim.metadata.generation, ..old.clone() };
    let mut conditions = Conditions::from(&old.conditions, claim.metadata.generation);
    conditions = if unused(&claim.name_any(), &found.services) {
        conditions.set(
            UNUSED,
            true,
            "NobodyNeedsIt",
            "no BettingService of this namespace needs the claim; it is kept until it is deleted",
        )
    } else {
        conditions.set(UNUSED, false, "Needed", "a BettingService of this namespace needs the claim")
    };
    conditions = match result {
        Progress::Chosen { server, identity } => {
            name_place(&mut new, claim, server, identity);
            let message = format!("making it on server {server}");
            conditions.set(BOUND, false, "Provisioning", &message).set(READY, false, "Provisioning", &message).set(
                RECONCILING,
                true,
                "Provisioning",
                &message,
            )
        }
        Progress::Bound { server, identity, observed } => {
            name_place(&mut new, claim, server, identity);
            new.binding = claim
                .spec
                .roles
                .first()
                .map(|role| Binding { name: paddock_crds::names::binding_secret(&claim.name_any(), &role.name) });
            let conditions = drift(conditions, &old.conditions, observed)
                .set(OWNERSHIP_CONFLICT, false, "Ours", "what stands on the server carries this claim's marker")
                .set(BOUND, true, "Bound", "every role has its binding Secret, and its login was tried");
            if observed.unrepaired.is_empty() {
                conditions.set(READY, true, "Bound", "in use as wanted")
            } else {
                let (reason, message) = ("DriftNotRepairable", drift_message(observed));
                conditions.set(READY, false, reason, &message).set(STALLED, true, reason, message)
            }
        }
        Progress::Problem(problem) => {
            let conflict = problem.reason == "OwnershipConflict";
            // Pods that have their binding go on using it while a server is away.
            let was_bound = is_true(&old.conditions, BOUND) && !problem.stalled;
            let conditions = if conflict {
                conditions.set(OWNERSHIP_CONFLICT, true, problem.reason, &problem.message)
            } else {
                conditions
            };
            let conditions =
                if was_bound { conditions } else { conditions.set(BOUND, false, problem.reason, &problem.message) };
            let progress = if problem.stalled { STALLED } else { RECONCILING };
            conditions.set(READY, false, problem.reason, &problem.message).set(
                progress,
                true,
                problem.reason,
                &problem.message,
            )
        }
    };
    new.conditions = conditions.build();
    new
}

fn name_place(new: &mut DatabaseClaimStatus, claim: &DatabaseClaim, server: &str, identity: &Identity) {
    new.server = Some(server.to_owned());
    new.database = Some(match claim.spec.engine {
        Engine::PostgreSQL => identity.database(),
        Engine::Kafka => identity.topic_prefix(),
    });
}

/// What was repaired stays to be read until something else is: a finding that vanished by the next look would help nobody.
fn drift(conditions: Conditions, old: &[Condition], observed: &Observed) -> Conditions {
    if !observed.unrepaired.is_empty() {
        return conditions.set(DRIFT_FREE, false, "NotRepairable", drift_message(observed));
    }
    if !observed.repaired.is_empty() {
        let message = format!("repaired what somebody changed: {}", observed.repaired.join(", "));
        return conditions.set(DRIFT_FREE, true, "Repaired", message);
    }
    match old.iter().find(|condition| condition.type_ == DRIFT_FREE && condition.reason == "Repaired") {
        Some(repaired) => conditions.set(DRIFT_FREE, true, "Repaired", repaired.message.clone()),
        None => conditions.set(DRIFT_FREE, true, "NoDrift", "the server is as wanted"),
    }
}

fn drift_message(observed: &Observed) -> String {
    format!(
        "{} differ from what is wanted and only a superuser can change them back: see the claim's roles on the server",
        observed.unrepaired.join(", ")
    )
}

pub(super) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Whether the status says that nobody needs the claim.
pub(super) fn says_unused(claim: &DatabaseClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| is_true(&status.conditions, UNUSED))
}

/// Writes the status, tells about what changed, and counts claims.
pub(super) async fn write(ctx: &Ctx, claim: &DatabaseClaim, status: DatabaseClaimStatus) -> Result<(), Fault> {
    let old = claim.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let news = news(old, &status.conditions);
    let json = serde_json::to_value(&status).unwrap_or_default();
    write_status(ctx, claim, json).await?;
    for condition in news {
        let (reason, note) = (condition.reason.as_str(), condition.message.as_str());
        if condition.status == "True" && reason != "Repaired" {
            ctx.events.normal(claim, reason, "Provision", note).await;
        } else {
            ctx.events.warning(claim, reason, "Provision", note).await;
        }
    }
    count(ctx);
    Ok(())
}

/// Conditions worth an event: another reason of `Ready`, and each repair.
fn news<'a>(old: &[Condition], new: &'a [Condition]) -> Vec<&'a Condition> {
    let before = |type_: &str| old.iter().find(|condition| condition.type_ == type_);
    new.iter()
        .filter(|condition| match condition.type_.as_str() {
            READY => {
                condition.reason != "Provisioning" && before(READY).map(|old| &old.reason) != Some(&condition.reason)
            }
            DRIFT_FREE => {
                condition.reason == "Repaired" && before(DRIFT_FREE).map(|old| &old.message) != Some(&condition.message)
            }
            _ => false,
        })
        .collect()
}

/// Sets the gauge of claims by engine and phase.
pub(super) fn count(ctx: &Ctx) {
    let claims = ctx.cache.list::<DatabaseClaim>();
    for engine in Engine::iter() {
        for phase in ["bound", "pending", "stalled"] {
            let in_it = |claim: &DatabaseClaim| {
                let conditions = claim.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
                let of = match (is_true(conditions, READY), is_true(conditions, STALLED)) {
                    (true, _) => "bound",
                    (false, true) => "stalled",
                    (false, false) => "pending",
                };
                claim.spec.engine == engine && of == phase
            };
            let number = claims.iter().filter(|claim| in_it(claim)).count();
            let label: &'static str = engine.into();
            ctx.metrics
                .database_claims
                .with_label_values(&[label, phase])
                .set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // json!(…) as an argument
#[path = "status_tests.rs"]
mod tests;
