//! Deleting what nothing wants any more.

use super::{
    apply::api,
    child::{ChildKind, ObjectKey},
};
use crate::{
    controllers::Ctx,
    fault::{Category, Fault},
};
use kube::api::{DeleteParams, Preconditions};
use std::collections::BTreeSet;

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
    if labels.is_empty() {
        return Err(Fault::new(Category::Panic, "pruning without labels would delete everything: report this defect"));
    }
    let mut deleted = 0;
    for kind in kinds.iter().copied().filter(|kind| !matches!(kind, ChildKind::Namespace | ChildKind::DatabaseClaim)) {
        for object in ctx.cache.children(kind, namespace, labels) {
            let meta = &object.metadata;
            let Some(name) = meta.name.as_deref() else { continue };
            let key = ObjectKey::new(kind, meta.namespace.as_deref(), name);
            if keep.contains(&key) || meta.deletion_timestamp.is_some() {
                continue;
            }
            ctx.leader.fence()?;
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }),
                ..DeleteParams::background()
            };
            match api(ctx, &key).delete(name, &params).await {
                Ok(_) => {
                    tracing::info!(object = %key, "deleted: nothing wants it any more");
                    ctx.metrics.pruned.with_label_values(&[kind.as_str()]).inc();
                    deleted += 1;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(Fault::of_request(&format!("deleting {key}"), error)),
            }
        }
    }
    Ok(deleted)
}
