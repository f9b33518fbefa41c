//! Controller of BettingServices: revisions, size, Service, route and claims of one component in one environment.
//!
//! Reads ([`dereference`]), checks ([`validate`]), sees and builds ([`observe`], [`build`], [`crate::rollout`]), writes ([`apply`]),
//! tells ([`status`]).

pub mod apply;
pub mod build;
pub mod dereference;
pub mod observe;
pub mod report;
pub mod status;
pub mod triggers;
pub mod validate;

use crate::controllers::{Category, Ctx, Fault, Kind, Outcome, run};
use crate::kube::write_status;
use crate::rollout::rolling::{Phase, step};
use jiff::Timestamp;
use paddock_crds::v1alpha1::BettingService;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

impl Kind for BettingService {
    const CONTROLLER: &'static str = "betting-service";

    async fn reconcile(object: Arc<Self>, ctx: Arc<Ctx>) -> Result<Outcome, Fault> {
        let result = bring(&object, &ctx).await;
        // Nobody is told of what only has to end first; but it may be what serves.
        if let Err(fault) = &result
            && fault.category == Category::Terminating
        {
            report::report(&object, &ctx, fault).await?;
        }
        result
    }

    async fn report(object: &Self, ctx: &Ctx, fault: &Fault) -> Result<(), Fault> {
        report::report(object, ctx, fault).await
    }
}

/// Brings a service towards its spec and writes its status.
async fn bring(object: &Arc<BettingService>, ctx: &Ctx) -> Result<Outcome, Fault> {
    if object.metadata.deletion_timestamp.is_some() {
        // Its objects have a controller reference to it and go with it; its claims stay, with their data.
        return Ok(Outcome::Done);
    }
    let mut found = dereference::dereference(&ctx.cache, object)?;
    let service = validate::validate(object, found.facts.clone())?;
    let old = object.status.clone().unwrap_or_default();
    let now = Timestamp::now();
    apply::apply_front(ctx, &service).await?;
    // Before the plan: a claim that cannot be applied holds up the new revision, not what runs.
    let claims = apply::apply_claims(ctx, &service, &mut found).await;
    let seen = observe::observe(&service, &found, &old, now);
    let plan = step(&seen.observed);
    apply::apply_plan(ctx, &service, &seen, &found, &plan).await?;
    let generation = object.metadata.generation;
    let mut status = status::status(&service, generation, &seen, &plan, &old, now);
    if let Err(fault) = &claims
        && !fault.category.is_quiet()
    {
        status = report::with_fault(status, generation, fault);
    }
    report::tell(ctx, object, &old, &status).await;
    let value = serde_json::to_value(&status).map_err(report::defect)?;
    write_status(ctx, object.as_ref(), value).await?;
    report::measure(ctx, &old, &status, now);
    // The end of a claim that is being deleted comes with a watch event.
    claims.or_else(|fault| if fault.category == Category::Terminating { Ok(()) } else { Err(fault) })?;
    Ok(match (plan.phase, plan.again) {
        (Phase::WaitingForPods, Some(after)) => Outcome::Again { after },
        _ => Outcome::Done,
    })
}

/// Runs the controller until `stop`.
pub async fn start(ctx: Arc<Ctx>, stop: CancellationToken) {
    let triggers = triggers::triggers(&ctx.cache);
    run::<BettingService>(ctx, triggers, stop).await;
}
