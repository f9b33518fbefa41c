//! Strategy Rolling: the new revision becomes available beside the old one, then the old one goes to zero.
//!
//! [`step`] is level-triggered: it looks at what is there and says what should be, so a crash after any single write ends in
//! the same place. It holds rules R1 (a Service is never left without pods that serve) and R5 (a superseded revision goes
//! away at once; traffic goes from stable to the newest, never through a half-tested one).

use crate::rollout::revision::KEPT;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is there now.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Hash of the revision that the spec asks for.
    pub target: String,
    /// Hash of the last revision that became available.
    pub stable: Option<String>,
    /// The spec asks for size 0.
    pub suspended: bool,
    /// Smallest and largest size.
    pub bounds: Bounds,
    /// How long the target may wait for its pods.
    pub deadline: Duration,
    /// How long it has waited so far; `None` if it does not wait for pods yet.
    pub waited: Option<Duration>,
    /// Whether every claim that the target needs has published its binding.
    pub claims_bound: bool,
    /// The target's migration.
    pub migration: Migration,
    /// Every revision that is kept, by hash. The target may be missing.
    pub revisions: BTreeMap<String, Revision>,
}

/// Smallest and largest size of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest pods.
    pub min: i32,
    /// Most pods. Equal to `min`: no autoscaler.
    pub max: i32,
}

/// A kept revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// Counts up with every revision that becomes the newest.
    pub number: i64,
    /// Size that its Deployment has now; `None` without a Deployment.
    pub size: Option<i32>,
    /// Pods that serve; 0 while the Deployment's status is older than its spec.
    pub available: i32,
}

impl Revision {
    fn runs(&self) -> bool {
        self.size.is_some_and(|size| size > 0)
    }
}

/// Where the target's migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// Applied, or there is none.
    Done,
    /// Not started.
    Due,
    /// Its Job runs, or one of an older revision still does.
    Running,
    /// Its Job gave up.
    Failed,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Size 0 was asked for.
    Suspended,
    /// The target's claims are not bound yet.
    WaitingForClaims,
    /// The migration has not ended.
    Migrating,
    /// The migration failed; the target does not start.
    MigrationFailed,
    /// The target's pods start.
    WaitingForPods,
    /// They did not become available in time. What served before goes on serving; the target keeps trying.
    DeadlineExceeded,
    /// The target is what runs.
    Settled,
}

/// Size of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// No pods.
    Zero,
    /// Exactly so many.
    Fixed(i32),
    /// An autoscaler owns it. It is given this size only if it has none, because an autoscaler leaves size 0 alone.
    Autoscaled {
        /// Size to start from.
        from: i32,
    },
}

/// What should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where the rollout stands.
    pub phase: Phase,
    /// The stable revision from now on.
    pub stable: Option<String>,
    /// Size of every revision that should have a Deployment; of the others the Deployment stays as it is.
    pub sizes: BTreeMap<String, Size>,
    /// Whether to start the target's migration.
    pub migrate: bool,
    /// Revisions that are kept; the others are deleted.
    pub keep: BTreeSet<String>,
    /// When to look again if nothing happens: the rest of the deadline.
    pub again: Option<Duration>,
}

/// Decides. `observed.waited` must grow only while the phase is [`Phase::WaitingForPods`] or [`Phase::DeadlineExceeded`].
pub fn step(observed: &Observed) -> Plan {
    let target = observed.revisions.get(&observed.target).copied().unwrap_or_default();
    // What is recorded as stable may be lost, or be at zero because its successor took over and nobody could record that: neither must
    // take away what serves. Then the newest that serves counts.
    let recorded = observed.stable.as_ref().filter(|stable| observed.revisions.contains_key(*stable));
    let runs = |hash: &String| observed.revisions.get(hash).is_some_and(Revision::runs);
    let serving = observed.revisions.iter().filter(|(hash, it)| **hash != observed.target && it.available > 0);
    let newest = serving.max_by_key(|(_, it)| it.number).map(|(hash, _)| hash);
    let stable = recorded.filter(|hash| runs(hash)).or(newest).or(recorded).cloned();
    let mut plan = Plan {
        phase: Phase::Settled,
        stable: stable.clone(),
        sizes: observed
            .revisions
            .iter()
            .filter(|(_, it)| it.size.is_some())
            .map(|(hash, _)| (hash.clone(), Size::Zero))
            .collect(),
        migrate: false,
        keep: BTreeSet::new(),
        again: None,
    };
    if observed.suspended {
        plan.phase = Phase::Suspended;
    } else if stable.as_ref() == Some(&observed.target) {
        plan.sizes.insert(observed.target.clone(), full(observed.bounds));
        migrate(observed.migration, &mut plan);
    } else {
        if let Some(stable) = &stable {
            plan.sizes.insert(stable.clone(), full(observed.bounds));
        }
        roll(observed, target, &mut plan);
    }
    plan.keep = keep(observed, &plan);
    plan
}

/// Brings up a target that is not stable yet.
fn roll(observed: &Observed, target: Revision, plan: &mut Plan) {
    if !target.runs() {
        // Before the first pod; a target that runs already is not taken down because a claim flickers.
        if !observed.claims_bound {
            plan.phase = Phase::WaitingForClaims;
            return;
        }
        migrate(observed.migration, plan);
        if observed.migration != Migration::Done {
            return;
        }
    }
    let Bounds { min, max } = observed.bounds;
    let stable = plan.stable.as_ref().and_then(|stable| observed.revisions.get(stable));
    let serving = stable.filter(|it| it.runs()).and_then(|it| it.size);
    // Without a stable one that runs, a target that already does keeps its size: only the record of it may be lost.
    let wanted = serving.or(target.size).unwrap_or(min).clamp(min, max.max(min));
    if target.size == Some(wanted) && target.available >= wanted {
        for size in plan.sizes.values_mut() {
            *size = Size::Zero;
        }
        plan.sizes.insert(observed.target.clone(), full(observed.bounds));
        plan.stable = Some(observed.target.clone());
        plan.phase = Phase::Settled;
        return;
    }
    plan.sizes.insert(observed.target.clone(), Size::Fixed(wanted));
    let left = observed.deadline.saturating_sub(observed.waited.unwrap_or_default());
    if left.is_zero() {
        plan.phase = Phase::DeadlineExceeded;
    } else {
        plan.phase = Phase::WaitingForPods;
        plan.again = Some(left);
    }
}

fn migrate(migration: Migration, plan: &mut Plan) {
    match migration {
        Migration::Done => {}
        Migration::Due => {
            plan.migrate = true;
            plan.phase = Phase::Migrating;
        }
        Migration::Running => plan.phase = Phase::Migrating,
        Migration::Failed => plan.phase = Phase::MigrationFailed,
    }
}

fn full(bounds: Bounds) -> Size {
    if bounds.min >= bounds.max { Size::Fixed(bounds.min) } else { Size::Autoscaled { from: bounds.min } }
}

/// The target, the stable one, the newest ones, and whatever still has pods.
fn keep(observed: &Observed, plan: &Plan) -> BTreeSet<String> {
    let mut newest: Vec<_> = observed.revisions.iter().collect();
    newest.sort_by_key(|(_, it)| std::cmp::Reverse(it.number));
    let kept = newest.iter().take(KEPT).map(|(hash, _)| (*hash).clone());
    let running = newest.iter().filter(|(_, it)| it.runs() || it.available > 0).map(|(hash, _)| (*hash).clone());
    kept.chain(running).chain(plan.stable.clone()).chain([observed.target.clone()]).collect()
}

#[cfg(test)]
mod tests;
