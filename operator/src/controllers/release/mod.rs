//! Controller of kind Release: says whether it can run and who asks for it, and keeps it while somebody does.

pub mod dereference;
pub mod status;
pub mod validate;

use crate::controllers::{Ctx, Kind, Outcome, run};
use crate::fault::{Category, Fault};
use crate::kube::{finalizer, write_status};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use paddock_crds::v1alpha1::{Release, Tenant};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

impl Kind for Release {
    const CONTROLLER: &'static str = "release";

    async fn reconcile(object: Arc<Self>, ctx: Arc<Ctx>) -> Result<Outcome, Fault> {
        let users = dereference::users(&ctx.cache, &object.name_any());
        if object.metadata.deletion_timestamp.is_some() && users.is_empty() {
            finalizer::remove(&ctx, object.as_ref()).await?;
            return Ok(Outcome::Done);
        }
        let release = with_finalizer(object, &ctx).await?;
        let status = status::status(&release, &users, &validate::problems(&release.spec));
        let json = serde_json::to_value(&status).map_err(|error| {
            Fault::new(Category::Panic, "a Release's status has no JSON form: report this defect").with_source(error)
        })?;
        write_status(&ctx, release.as_ref(), json).await?;
        Ok(Outcome::Done)
    }
}

/// The Release with its finalizer, as the apiserver has it then.
async fn with_finalizer(release: Arc<Release>, ctx: &Ctx) -> Result<Arc<Release>, Fault> {
    if finalizer::has(release.as_ref()) || release.metadata.deletion_timestamp.is_some() {
        return Ok(release);
    }
    finalizer::add(ctx, release.as_ref()).await?;
    Ok(ctx.cache.get::<Release>(None, &release.name_any()).unwrap_or(release))
}

/// Runs the controller until `stop`.
pub fn start(ctx: Arc<Ctx>, stop: CancellationToken) -> impl Future<Output = ()> {
    let triggers = ctx.cache.on::<Tenant, Release>(named_by);
    run::<Release>(ctx, triggers, stop)
}

/// The Releases that a Tenant's environments ask for.
fn named_by(tenant: &Tenant) -> Vec<ObjectRef<Release>> {
    let names: BTreeSet<&str> = tenant.spec.environments.iter().map(|e| e.release.as_str()).collect();
    names.into_iter().map(ObjectRef::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::tenant::build::fixtures::tenant;
    use serde_json::json;

    #[test]
    fn a_tenant_wakes_each_release_that_it_names_once() {
        let tenant = tenant(json!([
            {"name": "dev", "class": "NonProduction", "release": "b"},
            {"name": "test", "class": "NonProduction", "release": "a"},
            {"name": "prod", "class": "Production", "release": "b"},
        ]));
        assert_eq!(named_by(&tenant), [ObjectRef::new("a"), ObjectRef::new("b")]);
    }
}
