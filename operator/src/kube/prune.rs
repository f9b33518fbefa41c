//! Deleting what nothing wants any more.

use super::{
    apply::api,
    child::{ChildKind, ObjectKey},
};
use crate::{
    controllers::Ctx,
    fault::{Category, Fault},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Preconditions},
    core::DynamicObject,
};
use paddock_crds::labels;
use std::{collections::BTreeSet, sync::Arc};

/// Deletes objects of ours of `kinds` that carry all of `labels` and are not in `keep`, each by uid, so that an object that was
/// replaced meanwhile stays. Returns how many. Namespaces and DatabaseClaims outlive what asked for them: they are never pruned.
///
/// # Errors
/// `Panic` for a call without labels, `NotLeader`, or what the apiserver answered.
pub async fn prune(
    ctx: &Ctx,
    kinds: &[ChildKind],
    namespace: Option<&str>,
    labels: &[(&str, &str)],
    keep: &BTreeSet<ObjectKey>,
) -> Result<usize, Fault> {
    let mut deleted = 0;
    for (kind, object) in unwanted(ctx, kinds, namespace, labels, keep)? {
        deleted += usize::from(delete(ctx, kind, &object).await?);
    }
    Ok(deleted)
}

/// What [`prune`] would delete, as the cache shows it.
///
/// # Errors
/// `Panic` for a call without labels.
pub fn unwanted(
    ctx: &Ctx,
    kinds: &[ChildKind],
    namespace: Option<&str>,
    labels: &[(&str, &str)],
    keep: &BTreeSet<ObjectKey>,
) -> Result<Vec<(ChildKind, Arc<DynamicObject>)>, Fault> {
    let of_kind = |kind| ctx.cache.children(kind, namespace, labels).into_iter().map(move |object| (kind, object));
    let goes = |(kind, object): &(ChildKind, Arc<DynamicObject>)| {
        let key = key(*kind, object);
        key.is_some_and(|key| !keep.contains(&key)) && object.metadata.deletion_timestamp.is_none()
    };
    Ok(prunable(kinds, labels)?.flat_map(of_kind).filter(goes).collect())
}

fn key(kind: ChildKind, object: &DynamicObject) -> Option<ObjectKey> {
    Some(ObjectKey::new(kind, object.metadata.namespace.as_deref(), object.metadata.name.as_deref()?))
}

/// Deletes all objects of ours of `kinds` that carry all of `labels`, as [`prune`] does, but of those that the apiserver has at this
/// moment. For an end that comes once: what a cache that is behind does not show yet would be left for ever.
///
/// # Errors
/// As [`prune`].
pub async fn end(
    ctx: &Ctx,
    kinds: &[ChildKind],
    namespace: Option<&str>,
    labels: &[(&str, &str)],
) -> Result<(), Fault> {
    for kind in prunable(kinds, labels)? {
        for object in live(ctx, kind, namespace, labels).await? {
            delete(ctx, kind, &object).await?;
        }
    }
    Ok(())
}

/// Objects of ours as the apiserver has them at this moment; none of a kind that is not installed.
async fn live(
    ctx: &Ctx,
    kind: ChildKind,
    namespace: Option<&str>,
    labels: &[(&str, &str)],
) -> Result<Vec<DynamicObject>, Fault> {
    let resource = kind.api_resource();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(ctx.client.clone(), namespace, &resource),
        None => Api::all_with(ctx.client.clone(), &resource),
    };
    let ours = [(labels::MANAGED_BY, labels::MANAGED_BY_PADDOCK)];
    let selector: Vec<String> = ours.iter().chain(labels).map(|(name, value)| format!("{name}={value}")).collect();
    match api.list(&ListParams::default().labels(&selector.join(","))).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(Fault::of_request(&format!("listing kind {kind}"), error)),
    }
}

fn prunable(kinds: &[ChildKind], labels: &[(&str, &str)]) -> Result<impl Iterator<Item = ChildKind>, Fault> {
    if labels.is_empty() {
        return Err(Fault::new(Category::Panic, "pruning without labels would delete everything: report this defect"));
    }
    Ok(kinds.iter().copied().filter(|kind| !matches!(kind, ChildKind::Namespace | ChildKind::DatabaseClaim)))
}

/// Deletes one object, unless it ends already; says whether it did.
async fn delete(ctx: &Ctx, kind: ChildKind, object: &DynamicObject) -> Result<bool, Fault> {
    let meta = &object.metadata;
    let Some(key) = key(kind, object).filter(|_| meta.deletion_timestamp.is_none()) else { return Ok(false) };
    ctx.leader.fence()?;
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }),
        ..DeleteParams::background()
    };
    match api(ctx, &key).delete(&key.name, &params).await {
        Ok(_) => {
            tracing::info!(object = %key, "deleted: nothing wants it any more");
            ctx.metrics.pruned.with_label_values(&[kind.as_str()]).inc();
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(Fault::of_request(&format!("deleting {key}"), error)),
    }
}
