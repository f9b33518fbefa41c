//! The finalizer `paddock.bet/cleanup` on objects of ours.

use super::{cache::Typed, fields::manager};
use crate::{
    controllers::Ctx,
    fault::{Category, Fault},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use paddock_crds::labels::FINALIZER;
use serde_json::{Value, json};

/// Whether the object carries the finalizer.
pub fn has<K: Typed>(object: &K) -> bool {
    object.meta().finalizers.iter().flatten().any(|name| name == FINALIZER)
}

/// Adds the finalizer, before anything is made that needs cleaning up. Does nothing if it is there or the object is being deleted.
///
/// # Errors
/// `Conflict` if the object moved on, `NotLeader`, or what the apiserver answered.
pub async fn add<K: Typed>(ctx: &Ctx, object: &K) -> Result<(), Fault> {
    if has(object) || object.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    let operation = match &object.meta().finalizers {
        None => json!({"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]}),
        Some(_) => json!({"op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER}),
    };
    patch(ctx, object, operation).await
}

/// Removes the finalizer, when everything is cleaned up. An object that has gone is no error.
///
/// # Errors
/// `Conflict` if the object moved on, `NotLeader`, or what the apiserver answered.
pub async fn remove<K: Typed>(ctx: &Ctx, object: &K) -> Result<(), Fault> {
    let place = object.meta().finalizers.iter().flatten().position(|name| name == FINALIZER);
    match place {
        Some(place) => {
            patch(ctx, object, json!({"op": "remove", "path": format!("/metadata/finalizers/{place}")})).await
        }
        None => Ok(()),
    }
}

async fn patch<K: Typed>(ctx: &Ctx, object: &K, operation: Value) -> Result<(), Fault> {
    ctx.leader.fence()?;
    let meta = object.meta();
    let (kind, name) = (K::kind(&()), meta.name.as_deref().unwrap_or_default());
    let resource = kube::core::ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = match meta.namespace.as_deref() {
        Some(namespace) => Api::namespaced_with(ctx.client.clone(), namespace, &resource),
        None => Api::all_with(ctx.client.clone(), &resource),
    };
    let guard = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": meta.resource_version});
    let operations = serde_json::from_value(json!([guard, operation])).map_err(|error| {
        Fault::new(Category::Panic, "a patch could not be built: report this defect").with_source(error)
    })?;
    let params = PatchParams { field_manager: Some(manager("finalizer")), ..PatchParams::default() };
    match api.patch(name, &params, &Patch::<()>::Json(operations)).await {
        Ok(changed) => {
            // After the removal of the last finalizer the answer is the deleted object: the watch takes it out.
            if changed.metadata.deletion_timestamp.is_none()
                && let Ok(changed) = changed.try_parse::<K>()
            {
                ctx.cache.written_typed(changed);
            }
            Ok(())
        }
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(error) => Err(Fault::of_request(&format!("writing the finalizer of {kind} {name}"), error)),
    }
}
