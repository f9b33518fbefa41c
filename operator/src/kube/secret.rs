//! One Secret by name.

use crate::controllers::Ctx;
use crate::fault::Fault;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use std::sync::Arc;

/// A Secret by name, whoever made it: as its watch showed it, else by one GET.
///
/// The watch of an environment may not have begun, holds only what is ours, and may be behind: who finds none might make a second one.
/// That of the operator's own namespace holds all, once they were listed.
///
/// # Errors
/// What the apiserver answered.
pub async fn secret(ctx: &Ctx, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, Fault> {
    if let Some(found) = ctx.cache.secret(namespace, name) {
        return Ok(Some(found));
    }
    if namespace == ctx.settings.operator_namespace && ctx.cache.secrets_ready(namespace) {
        return Ok(None);
    }
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let live = api.get_opt(name).await;
    Ok(live.map_err(|error| Fault::of_request(&format!("reading Secret {namespace}/{name}"), error))?.map(Arc::new))
}
