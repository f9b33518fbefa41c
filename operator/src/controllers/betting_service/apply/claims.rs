//! The service's part of its DatabaseClaims.

use crate::controllers::Ctx;
use crate::controllers::betting_service::build::claims::{claims, concern, parties, withdrawn};
use crate::controllers::betting_service::build::migration::instance;
use crate::controllers::betting_service::dereference::Found;
use crate::controllers::betting_service::validate::Service;
use crate::fault::{Category, Fault, category_of};
use crate::kube::ChildKind;
use crate::kube::apply::NEVER;
use crate::kube::cache::is_ours;
use crate::kube::compare::{compare, normalise};
use crate::kube::fields::manager;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use paddock_crds::labels;
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim};
use serde_json::{Value, json};
use std::sync::Arc;

/// How often a part is applied in one pass, when others write to the claim at the same time.
const ATTEMPTS: usize = 4;

/// Applies the service's part of its claims, and finds each as it is then: what is bound must be what is wanted now. All are tried;
/// the first fault counts.
pub async fn apply_claims(ctx: &Ctx, service: &Service, found: &mut Found) -> Result<(), Fault> {
    let mut result = Ok(());
    for claim in claims(service) {
        let name = claim.metadata.name.clone().unwrap_or_default();
        match apply_claim(ctx, service, &claim).await {
            Ok(live) => {
                found.claims.insert(name, Arc::new(live));
            }
            Err(fault) => {
                found.refused.insert(name, fault.message.clone());
                result = result.and(Err(fault));
            }
        }
    }
    result
}

/// Applies the service's part of a claim, if it is not there as wanted. Not forced: what another service says differently is for
/// people to settle, not for the last writer. What is written to is what was looked at: never a claim that took its place or changed hands.
async fn apply_claim(ctx: &Ctx, service: &Service, desired: &DynamicObject) -> Result<DatabaseClaim, Fault> {
    let name = desired.metadata.name.as_deref().unwrap_or_default();
    let wanted = normalise(serde_json::to_value(desired).map_err(defect)?);
    let concern = concern(&service.name);
    let params = PatchParams::apply(&manager(&concern));
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), &service.namespace, &ChildKind::DatabaseClaim.api_resource());
    let known = ctx.cache.child(ChildKind::DatabaseClaim, Some(&service.namespace), name);
    let mut live = known.map(|live| live.as_ref().clone());
    for _ in 0..ATTEMPTS {
        let done = match &live {
            None => "created",
            Some(live) => {
                check_ours(service, live)?;
                let value = serde_json::to_value(live).map_err(defect)?;
                if compare(&concern, &wanted, &value, live.metadata.managed_fields.as_ref()).differs.is_none() {
                    count(ctx, "unchanged");
                    return read(live.clone());
                }
                "configured"
            }
        };
        ctx.leader.fence()?;
        let applied = api.patch(name, &params, &Patch::Apply(&over(wanted.clone(), live.as_ref()))).await;
        count(ctx, if applied.is_ok() { done } else { "failed" });
        let error = match applied {
            Ok(live) => return read(live),
            Err(error) => error,
        };
        let doing = || format!("applying DatabaseClaim {}/{name}", service.namespace);
        if category_of(&error) != Category::Conflict {
            return Err(Fault::of_request(&doing(), error));
        }
        if live.is_some() && is_disputed(&error) {
            return Err(Fault::invalid_spec(format!(
                "spec.needs: claim {name} is shared, and another service (or a person) says something else about the same \
                 topic or role; let one service give a topic's shape"
            ))
            .with_source(error));
        }
        live = api.get_opt(name).await.map_err(|error| Fault::of_request(&format!("reading claim {name}"), error))?;
    }
    Err(Fault::new(Category::Conflict, format!("DatabaseClaim {name} changes faster than it can be applied to")))
}

/// The part as it is applied: to exactly what was looked at, or to make a claim that is not there.
fn over(mut part: Value, live: Option<&DynamicObject>) -> Value {
    if let Some(Value::Object(meta)) = part.get_mut("metadata") {
        match live.map(|live| &live.metadata) {
            Some(live) => {
                meta.insert("uid".into(), json!(live.uid));
                meta.insert("resourceVersion".into(), json!(live.resource_version));
            }
            None => {
                meta.insert("resourceVersion".into(), NEVER.into());
            }
        }
    }
    part
}

/// Whether an apply was refused because another manager says something else, not because the object is another than was looked at.
fn is_disputed(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "FieldManagerConflict")
}

/// A claim that the service may have a part in.
fn check_ours(service: &Service, live: &DynamicObject) -> Result<(), Fault> {
    let name = live.metadata.name.as_deref().unwrap_or_default();
    if !is_ours(&live.metadata) {
        return Err(Fault::new(
            Category::NotOurs,
            format!(
                "DatabaseClaim {name} exists and was not made by the operator: name another claim in needs, or delete it"
            ),
        ));
    }
    check_origin(service, live)?;
    if live.metadata.deletion_timestamp.is_some() {
        return Err(Fault::new(
            Category::Terminating,
            format!("DatabaseClaim {name} is being deleted; it is made again when it has gone"),
        ));
    }
    Ok(())
}

/// Takes back the service's part of claims that it needs no more, when only what does not need them runs: a pod that still has a
/// binding goes on using it.
pub async fn withdraw_dropped(ctx: &Ctx, service: &Service, found: &Found, target: &str) -> Result<(), Fault> {
    let of_target = |pod: &DynamicObject| {
        pod.metadata.labels.as_ref().and_then(|labels| labels.get(labels::REVISION)).is_some_and(|it| it == target)
    };
    if !found.pods.iter().all(|pod| of_target(pod)) {
        return Ok(());
    }
    for claim in ctx.cache.list_in::<DatabaseClaim>(&service.namespace) {
        let needed = service.needs.iter().any(|need| Some(&need.claim) == claim.metadata.name.as_ref());
        if !needed && parties(&claim).contains(&service.name) && !is_withdrawn(&claim, &service.name)? {
            withdraw(ctx, &claim, &service.name).await?;
        }
    }
    Ok(())
}

/// Takes back the parts of services that do not exist any more; says whether some still have pods.
pub async fn withdraw_ended(ctx: &Ctx, namespace: &str) -> Result<bool, Fault> {
    let mut waits = false;
    for claim in ctx.cache.list_in::<DatabaseClaim>(namespace) {
        for name in parties(&claim) {
            let known = ctx.cache.get::<BettingService>(Some(namespace), &name).is_some();
            if known || is_withdrawn(&claim, &name)? {
                continue;
            }
            let pods =
                |instance: &str| ctx.cache.children(ChildKind::Pod, Some(namespace), &[(labels::INSTANCE, instance)]);
            if !pods(&name).is_empty() || !pods(&instance(&name)).is_empty() {
                waits = true;
                continue;
            }
            // The cache may be behind a service that was just made, or not be able to read it: the apiserver decides.
            let resource = ChildKind::BettingService.api_resource();
            let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), namespace, &resource);
            let live = api.get_metadata_opt(&name).await;
            if live.map_err(|error| Fault::of_request(&format!("reading BettingService {name}"), error))?.is_none() {
                withdraw(ctx, &claim, &name).await?;
            }
        }
    }
    Ok(waits)
}

fn is_withdrawn(claim: &DatabaseClaim, service: &str) -> Result<bool, Fault> {
    let wanted = normalise(serde_json::to_value(withdrawn(claim)).map_err(defect)?);
    let live = serde_json::to_value(claim).map_err(defect)?;
    Ok(compare(&concern(service), &wanted, &live, claim.metadata.managed_fields.as_ref()).differs.is_none())
}

async fn withdraw(ctx: &Ctx, claim: &DatabaseClaim, service: &str) -> Result<(), Fault> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let (name, namespace) = (claim.name_any(), claim.namespace().unwrap_or_default());
    ctx.leader.fence()?;
    let resource = ChildKind::DatabaseClaim.api_resource();
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &namespace, &resource);
    // An apply would make a claim that has gone again: the uid says which one is meant.
    let mut part = withdrawn(claim);
    part.metadata.uid.clone_from(&claim.metadata.uid);
    let applied = api.patch(&name, &PatchParams::apply(&manager(&concern(service))), &Patch::Apply(&part)).await;
    count(ctx, if applied.is_ok() { "configured" } else { "failed" });
    match applied {
        Ok(_) => {
            tracing::info!(
                claim = name,
                namespace,
                service,
                "withdrew the part of a service that needs the claim no more"
            );
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(Fault::of_request(&format!("withdrawing from DatabaseClaim {namespace}/{name}"), error)),
    }
}

/// Counts an apply as those of [`crate::kube::apply`] are.
fn count(ctx: &Ctx, result: &str) {
    ctx.metrics.applies.with_label_values(&[ChildKind::DatabaseClaim.as_str(), result]).inc();
}

fn defect(error: serde_json::Error) -> Fault {
    Fault::new(Category::Panic, "a claim has no JSON form: report this defect").with_source(error)
}

fn read(claim: DynamicObject) -> Result<DatabaseClaim, Fault> {
    let name = claim.metadata.name.clone().unwrap_or_default();
    claim.try_parse().map_err(|error| {
        let message =
            format!("DatabaseClaim {name} cannot be read by this operator: install the one that knows its fields");
        Fault::new(Category::Rejected, message).with_source(error)
    })
}

/// Data of the Release's components is not for services that people made by hand, nor the other way round.
fn check_origin(service: &Service, claim: &DynamicObject) -> Result<(), Fault> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let origin = claim.metadata.labels.as_ref().and_then(|labels| labels.get(labels::ORIGIN)).map(String::as_str);
    match (service.of_release, origin) {
        (true, Some(labels::ORIGIN_HAND)) => Err(Fault::new(
            Category::NotOurs,
            format!(
                "DatabaseClaim {name} was made for a service that somebody made by hand: name another claim in needs, or delete it"
            ),
        )),
        (false, origin) if origin != Some(labels::ORIGIN_HAND) => Err(Fault::invalid_spec(format!(
            "spec.needs: claim {name} belongs to components of a Release; name another: a service made by hand has claims of its own"
        ))),
        _ => Ok(()),
    }
}
