//! Server-side apply of objects that are wholly ours: silent at rest (O1), never a takeover (O9), drift removed.

use super::{
    child::{ChildKind, ObjectKey},
    compare::{Verdict, compare, normalise, removal},
    fields::manager,
};
use crate::{
    controllers::Ctx,
    fault::{Category, Fault},
};
use kube::{
    Api, Resource as _,
    api::{Patch, PatchParams, ValidationDirective},
    core::{DynamicObject, Status},
};
use serde::Serialize;
use serde_json::Value;

/// A resourceVersion that no object has: versions are revisions of etcd, whose first is that of the empty store. An apply that names it
/// makes an object or is refused; it never touches one that exists.
pub(crate) const NEVER: &str = "1";

/// Makes the object what `desired` says and returns it as it is then.
///
/// - Equal to the cached object: no request.
/// - Not in the cache: made, unless an object of that name exists; one without our managed-by label is left alone.
/// - Fields that only managers outside the operator own are removed in the same pass.
///
/// `desired` carries apiVersion, kind, name and the labels of [`super::owner::labels`]. Of several concerns on one object each applies its own fields.
///
/// # Errors
/// `NotOurs`, `Terminating`, `KindMissing`, `NotLeader`, or what the apiserver answered.
pub async fn apply<T: Serialize>(ctx: &Ctx, concern: &'static str, desired: &T) -> Result<DynamicObject, Fault> {
    let desired = serde_json::to_value(desired).map_err(|error| {
        Fault::new(Category::Panic, "a built object has no JSON form: report this defect").with_source(error)
    })?;
    let desired = normalise(desired);
    let key = key_of(&desired)?;
    let result = run(ctx, concern, &key, &desired).await;
    let label = match &result {
        Ok((_, done)) => *done,
        Err(_) => "failed",
    };
    ctx.metrics.applies.with_label_values(&[key.kind.as_str(), label]).inc();
    result.map(|(object, _)| object)
}

async fn run(
    ctx: &Ctx,
    concern: &'static str,
    key: &ObjectKey,
    desired: &Value,
) -> Result<(DynamicObject, &'static str), Fault> {
    installed(ctx, key.kind)?;
    let api = api(ctx, key);
    let mut live = match ctx.cache.object(key) {
        Some(live) => live.as_ref().clone(),
        None => match make(ctx, &api, concern, key, desired).await? {
            Made::New(created) => return Ok((created, "created")),
            Made::Exists(live) => live,
        },
    };
    if !super::cache::is_ours(&live.metadata) {
        return Err(Fault::new(
            Category::NotOurs,
            format!(
                "{key} exists and was not made by the operator: rename or delete it, or label it app.kubernetes.io/managed-by=paddock to hand it over"
            ),
        ));
    }
    if live.metadata.deletion_timestamp.is_some() {
        return Err(Fault::new(
            Category::Terminating,
            format!("{key} is being deleted; it is made again when it has gone"),
        ));
    }
    let mut verdict = judge(concern, desired, &live)?;
    let mut done = "unchanged";
    if !verdict.drift.is_empty() {
        live = remove_drift(ctx, &api, concern, key, &verdict, &live).await?;
        verdict = judge(concern, desired, &live)?;
        done = "drift_removed";
    }
    if let Some(place) = &verdict.differs {
        tracing::debug!(object = %key, concern, place, "applying");
        // Of this very object: by its name alone it could be somebody else's by now, and force would take it over.
        live = patch(ctx, &api, concern, key, &with(desired, "uid", live.metadata.uid.as_deref()), true).await?;
        done = if done == "drift_removed" { done } else { "configured" };
        if let Some(place) = judge(concern, desired, &live)?.differs {
            // A form of ours that the apiserver rewrites costs one request per pass for ever: a defect of what we build or compare.
            tracing::warn!(object = %key, concern, place, "the apiserver keeps another form of this field than was applied");
            done = "unsettled";
        }
    }
    Ok((live, done))
}

/// The kind is installed and listed: what the cache has of it is all there is.
///
/// # Errors
/// `KindMissing` if it is not.
pub fn installed(ctx: &Ctx, kind: ChildKind) -> Result<(), Fault> {
    if ctx.cache.available(kind) {
        return Ok(());
    }
    let group = kind.group();
    let message = format!(
        "kind {kind} of {group} is not installed: install the Gateway API, or take the domains out of the spec"
    );
    Err(Fault::new(Category::KindMissing, message))
}

/// What came of making an object.
enum Made {
    New(DynamicObject),
    Exists(DynamicObject),
}

/// Makes an object that the cache does not have; one that exists is answered as it is, untouched.
async fn make(
    ctx: &Ctx,
    api: &Api<DynamicObject>,
    concern: &'static str,
    key: &ObjectKey,
    desired: &Value,
) -> Result<Made, Fault> {
    let reading = |error| Fault::of_request(&format!("reading {key}"), error);
    // The Secrets of a namespace are listed when its Tenant has been looked at: until then the cache cannot know.
    let unlisted =
        key.kind == ChildKind::Secret && !ctx.cache.secrets_ready(key.namespace.as_deref().unwrap_or_default());
    if unlisted && let Some(live) = api.get_opt(&key.name).await.map_err(reading)? {
        return Ok(Made::Exists(live));
    }
    match patch(ctx, api, concern, key, &with(desired, "resourceVersion", Some(NEVER)), false).await {
        Ok(created) => Ok(Made::New(created)),
        Err(fault) if fault.category == Category::Conflict => match api.get_opt(&key.name).await.map_err(reading)? {
            Some(live) => Ok(Made::Exists(live)),
            None => Err(Fault::new(Category::Conflict, format!("{key} appeared while it was being made, and went"))),
        },
        Err(fault) => Err(fault),
    }
}

/// The object with a precondition in its metadata.
fn with(desired: &Value, field: &str, wanted: Option<&str>) -> Value {
    let mut object = desired.clone();
    if let (Some(Value::Object(meta)), Some(wanted)) = (object.get_mut("metadata"), wanted) {
        meta.insert(field.into(), wanted.into());
    }
    object
}

fn judge(concern: &str, desired: &Value, live: &DynamicObject) -> Result<Verdict, Fault> {
    let value = serde_json::to_value(live).map_err(|error| {
        Fault::new(Category::Panic, "a live object has no JSON form: report this defect").with_source(error)
    })?;
    Ok(compare(concern, desired, &value, live.metadata.managed_fields.as_ref()))
}

async fn remove_drift(
    ctx: &Ctx,
    api: &Api<DynamicObject>,
    concern: &str,
    key: &ObjectKey,
    verdict: &Verdict,
    live: &DynamicObject,
) -> Result<DynamicObject, Fault> {
    ctx.leader.fence()?;
    let paths: Vec<String> = verdict.drift.iter().map(|path| super::fields::pointer(path)).collect();
    tracing::info!(object = %key, ?paths, "removing fields that others added");
    let version = live.metadata.resource_version.as_deref().unwrap_or_default();
    let operations = serde_json::from_value(removal(&verdict.drift, version)).map_err(|error| {
        Fault::new(Category::Panic, "a patch could not be built: report this defect").with_source(error)
    })?;
    let params = PatchParams { field_manager: Some(manager(concern)), ..PatchParams::default() };
    let doing = format!("removing foreign fields from {key}");
    let changed = api
        .patch(&key.name, &params, &Patch::<()>::Json(operations))
        .await
        .map_err(|error| Fault::of_request(&doing, error))?;
    ctx.cache.written(key.kind, changed.clone());
    // Paths name fields, never values.
    let note = format!(
        "removed what others added to an object of the operator's: {}; ask for it in the object's owner instead",
        paths.join(", ")
    );
    let reference = changed.object_ref(&key.kind.api_resource());
    ctx.events.warning_in_background(reference, "DriftRemoved", "Apply", note);
    Ok(changed)
}

async fn patch(
    ctx: &Ctx,
    api: &Api<DynamicObject>,
    concern: &str,
    key: &ObjectKey,
    desired: &Value,
    force: bool,
) -> Result<DynamicObject, Fault> {
    ctx.leader.fence()?;
    let params = PatchParams {
        field_manager: Some(manager(concern)),
        force,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let applied = api.patch(&key.name, &params, &Patch::Apply(desired)).await.map_err(|error| match &error {
        kube::Error::Api(status) if is_another(status) => {
            Fault::new(Category::Conflict, format!("another object has the name of {key} by now")).with_source(error)
        }
        _ => Fault::of_request(&format!("applying {key}"), error),
    })?;
    ctx.cache.written(key.kind, applied.clone());
    Ok(applied)
}

/// Whether the apiserver refused because the object has another uid than the one that was named. It calls that an invalid change.
fn is_another(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 && causes.into_iter().any(|cause| cause.field == "metadata.uid")
}

/// A client for the object's kind and namespace.
pub(super) fn api(ctx: &Ctx, key: &ObjectKey) -> Api<DynamicObject> {
    let resource = key.kind.api_resource();
    match &key.namespace {
        Some(namespace) => Api::namespaced_with(ctx.client.clone(), namespace, &resource),
        None => Api::all_with(ctx.client.clone(), &resource),
    }
}

fn key_of(desired: &Value) -> Result<ObjectKey, Fault> {
    let defect = |what: &str| Fault::new(Category::Panic, format!("an object was built {what}: report this defect"));
    let text = |pointer: &str| desired.pointer(pointer).and_then(Value::as_str);
    let group = text("/apiVersion").unwrap_or_default().split_once('/').map_or("", |(group, _)| group);
    let kind = ChildKind::of(group, text("/kind").unwrap_or_default())
        .ok_or_else(|| defect("of a kind that the operator does not make"))?;
    let name = text("/metadata/name").ok_or_else(|| defect("without a name"))?;
    let namespace = text("/metadata/namespace");
    if namespace.is_some() != kind.namespaced() {
        return Err(defect("with the wrong scope"));
    }
    if text("/metadata/labels/app.kubernetes.io~1managed-by") != Some(paddock_crds::labels::MANAGED_BY_PADDOCK) {
        return Err(defect("without the label that says it is ours"));
    }
    Ok(ObjectKey::new(kind, namespace, name))
}

#[cfg(test)]
mod tests;
