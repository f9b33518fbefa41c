//! Writes: makes the cluster what the plan says, in an order in which a crash after any write is harmless.

mod claims;

pub use claims::{apply_claims, withdraw_dropped, withdraw_ended};

use super::build::revision::Record;
use super::build::{front, migration, revision_name};
use super::dereference::Found;
use super::observe::Observation;
use super::validate::Service;
use crate::controllers::Ctx;
use crate::fault::{Category, Fault};
use crate::kube::fields::manager;
use crate::kube::{ChildKind, ObjectKey, apply, prune};
use crate::rollout::rolling::{Phase, Plan, Size};
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use paddock_crds::labels;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Field manager concern of everything but sizes.
const CONCERN: &str = "service";
/// Field manager concern of sizes: never the one of the Deployment, so that an autoscaler's size is not reset (rule O3).
const SIZE: &str = "size";
/// Kinds that a revision consists of.
const OF_A_REVISION: [ChildKind; 5] = [
    ChildKind::HorizontalPodAutoscaler,
    ChildKind::PodDisruptionBudget,
    ChildKind::Deployment,
    ChildKind::ConfigMap,
    ChildKind::ControllerRevision,
];

/// Applies what does not depend on the rollout: account and Service.
pub async fn apply_front(ctx: &Ctx, service: &Service) -> Result<(), Fault> {
    apply(ctx, CONCERN, &front::service_account(service)).await?;
    if let Some(object) = front::service(service) {
        apply(ctx, CONCERN, &object).await?;
    }
    Ok(())
}

/// Applies the plan: first what starts, then what ends.
pub async fn apply_plan(
    ctx: &Ctx,
    service: &Service,
    seen: &Observation,
    found: &Found,
    plan: &Plan,
) -> Result<(), Fault> {
    let kept: Vec<&Record> = seen.records.values().filter(|record| plan.keep.contains(&record.hash)).collect();
    for record in &kept {
        apply(ctx, CONCERN, &record.config_map(service)).await?;
        apply(ctx, CONCERN, &record.controller_revision(service)).await?;
    }
    if plan.migrate
        && let Some(wanted) = &service.migration
    {
        migrate(ctx, service, &migration::job(service, wanted, &seen.observed.target)).await?;
    }
    let mut autoscalers = BTreeSet::new();
    for record in &kept {
        let size = plan.sizes.get(&record.hash).copied().unwrap_or(Size::Zero);
        if size == Size::Zero {
            continue;
        }
        apply(ctx, CONCERN, &record.disruption_budget(service)).await?;
        let live = apply(ctx, CONCERN, &record.deployment(service)).await?;
        resize(ctx, &live, size).await?;
        if matches!(size, Size::Autoscaled { .. }) {
            apply(ctx, CONCERN, &record.autoscaler(service)).await?;
            autoscalers.insert(key(service, ChildKind::HorizontalPodAutoscaler, &record.hash));
        }
    }
    // An autoscaler goes before its size does, or it would give it back.
    prune(ctx, &[ChildKind::HorizontalPodAutoscaler], Some(&service.namespace), &service.selector(), &autoscalers)
        .await?;
    let ended: BTreeSet<&str> =
        plan.sizes.iter().filter(|(_, size)| **size == Size::Zero).map(|(hash, _)| hash.as_str()).collect();
    for live in &found.deployments {
        let hash = live.metadata.labels.as_ref().and_then(|labels| labels.get(labels::REVISION));
        if hash.is_some_and(|hash| ended.contains(hash.as_str())) {
            resize(ctx, live, Size::Zero).await?;
        }
    }
    apply_route(ctx, service, found).await?;
    prune_ended(ctx, service, seen, found, plan, autoscalers).await?;
    if matches!(plan.phase, Phase::Settled | Phase::Suspended) {
        withdraw_dropped(ctx, service, found, &seen.observed.target).await?;
    }
    Ok(())
}

/// Starts a migration, unless another of the service runs: the cache may not have seen the one of the spec before.
async fn migrate(ctx: &Ctx, service: &Service, job: &DynamicObject) -> Result<(), Fault> {
    let instance = migration::instance(&service.name);
    let [instance, component] =
        migration::selector(&instance, &service.spec.component).map(|(name, value)| format!("{name}={value}"));
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), &service.namespace, &ChildKind::Job.api_resource());
    let of_service = ListParams::default().labels(&format!("{instance},{component}"));
    let live = api.list(&of_service).await;
    let live = live.map_err(|error| Fault::of_request(&format!("listing migrations of {}", service.name), error))?;
    let mut others = live.items.iter().filter(|it| it.metadata.name != job.metadata.name);
    if others.any(|it| migration::run(it) == migration::Run::Going) {
        let message = format!("another migration of {} was just begun; this one follows it", service.name);
        return Err(Fault::new(Category::Conflict, message));
    }
    apply(ctx, CONCERN, job).await?;
    Ok(())
}

/// The route, or none. It is written after the first size, so that it never points to a Service that has not been made.
async fn apply_route(ctx: &Ctx, service: &Service, found: &Found) -> Result<(), Fault> {
    // A route would go for want of a domain that is there.
    if !found.routes_listed {
        return Ok(());
    }
    let mut keep = BTreeSet::new();
    if let Some(route) = front::route(service, found.listeners.as_deref()) {
        apply(ctx, CONCERN, &route).await?;
        keep.insert(ObjectKey::new(ChildKind::HTTPRoute, Some(&service.namespace), &service.name));
    }
    prune(ctx, &[ChildKind::HTTPRoute], Some(&service.namespace), &service.selector(), &keep).await?;
    Ok(())
}

async fn prune_ended(
    ctx: &Ctx,
    service: &Service,
    seen: &Observation,
    found: &Found,
    plan: &Plan,
    mut keep: BTreeSet<ObjectKey>,
) -> Result<(), Fault> {
    for hash in &plan.keep {
        for kind in [ChildKind::Deployment, ChildKind::ConfigMap, ChildKind::ControllerRevision] {
            keep.insert(key(service, kind, hash));
        }
        if plan.sizes.get(hash).is_some_and(|size| *size != Size::Zero) {
            keep.insert(key(service, ChildKind::PodDisruptionBudget, hash));
        }
    }
    if !matches!(plan.phase, Phase::Settled | Phase::Suspended) {
        keep.extend(unrecorded(service, seen, found));
    }
    prune(ctx, &OF_A_REVISION, Some(&service.namespace), &service.selector(), &keep).await?;
    let has_service = !service.spec.spec.ports.is_empty();
    let only = |kind| BTreeSet::from([ObjectKey::new(kind, Some(&service.namespace), &service.name)]);
    let keep = if has_service { only(ChildKind::Service) } else { BTreeSet::new() };
    prune(ctx, &[ChildKind::Service], Some(&service.namespace), &service.selector(), &keep).await?;
    // Jobs that have ended go, but for the one of this revision, whose log is of use unless it ran nothing. One that runs is never
    // cut short.
    let instance = migration::instance(&service.name);
    let jobs = migration::selector(&instance, &service.spec.component);
    let keep = ctx
        .cache
        .children(ChildKind::Job, Some(&service.namespace), &jobs)
        .iter()
        .filter(|job| {
            let of_target = job.metadata.name == seen.migration_job && !seen.migration_lapsed;
            of_target || migration::run(job) == migration::Run::Going
        })
        .filter_map(|job| ObjectKey::of_dynamic(job))
        .collect();
    prune(ctx, &[ChildKind::Job], Some(&service.namespace), &jobs, &keep).await?;
    Ok(())
}

/// What belongs to Deployments whose record is lost: they may be what serves, and go when the target does (rule R1).
fn unrecorded(service: &Service, seen: &Observation, found: &Found) -> Vec<ObjectKey> {
    let revisions = found.deployments.iter().filter_map(|live| live.metadata.labels.as_ref()?.get(labels::REVISION));
    let kinds = [ChildKind::Deployment, ChildKind::ConfigMap, ChildKind::PodDisruptionBudget];
    revisions
        .filter(|hash| !seen.records.contains_key(*hash))
        .flat_map(|hash| kinds.map(|kind| key(service, kind, hash)))
        .collect()
}

fn key(service: &Service, kind: ChildKind, hash: &str) -> ObjectKey {
    ObjectKey::new(kind, Some(&service.namespace), &revision_name(&service.name, hash))
}

/// The size to write, if one must be. An autoscaler's size is left alone unless it is 0, which autoscalers never leave.
fn new_size(live: &DynamicObject, wanted: Size) -> Option<i32> {
    let size = live.data.pointer("/spec/replicas").and_then(serde_json::Value::as_i64).unwrap_or(1);
    let wanted = match wanted {
        Size::Zero => 0,
        Size::Fixed(wanted) => wanted,
        Size::Autoscaled { from } if size == 0 => from,
        Size::Autoscaled { .. } => return None,
    };
    (size != i64::from(wanted)).then_some(wanted)
}

/// Sets a Deployment's size, and nothing else of it.
async fn resize(ctx: &Ctx, live: &DynamicObject, wanted: Size) -> Result<(), Fault> {
    let Some(size) = new_size(live, wanted) else { return Ok(()) };
    let meta = &live.metadata;
    let (Some(name), Some(namespace)) = (meta.name.as_deref(), meta.namespace.as_deref()) else { return Ok(()) };
    ctx.leader.fence()?;
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), namespace, &ChildKind::Deployment.api_resource());
    // The uid makes the apiserver refuse an object that took the place of the one that was decided on.
    let body = json!({"metadata": {"uid": meta.uid}, "spec": {"replicas": size}});
    let params = PatchParams { field_manager: Some(manager(SIZE)), ..PatchParams::default() };
    match api.patch(name, &params, &Patch::Merge(&body)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(Fault::of_request(&format!("sizing Deployment {namespace}/{name}"), error)),
    }
}

/// Sizes as the machine's plan ends in them: for the status.
pub fn wanted(plan: &Plan, seen: &Observation) -> BTreeMap<String, i32> {
    let live = |hash: &String, from: i32| match seen.pods.get(hash).map_or(0, |count| count.size) {
        0 => from,
        size => size,
    };
    plan.sizes
        .iter()
        .map(|(hash, size)| {
            let size = match *size {
                Size::Zero => 0,
                Size::Fixed(size) => size,
                Size::Autoscaled { from } => live(hash, from),
            };
            (hash.clone(), size)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_size_that_is_ours_is_written() {
        for (live, wanted, written) in [
            (Some(2), Size::Fixed(2), None),
            (None, Size::Fixed(1), None),
            (Some(2), Size::Fixed(3), Some(3)),
            (Some(2), Size::Zero, Some(0)),
            (Some(0), Size::Zero, None),
            (Some(7), Size::Autoscaled { from: 2 }, None),
            (Some(0), Size::Autoscaled { from: 2 }, Some(2)),
        ] {
            let live: DynamicObject =
                serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"replicas": live}})).unwrap();
            assert_eq!(new_size(&live, wanted), written, "{live:?} {wanted:?}");
        }
    }
}
