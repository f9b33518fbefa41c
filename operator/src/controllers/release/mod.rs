//! Controller of kind Release: says whether it can run and who asks for it, and keeps it while somebody does.

pub mod dereference;
pub mod status;
pub mod validate;

use crate::controllers::{Ctx, Kind, Outcome, run};
use crate::fault::{Category, Fault};
use crate::kube::cache::only_status;
use crate::kube::store::Change;
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
            if let [user, ..] = dereference::live_users(&ctx, &object.name_any()).await?.as_slice() {
                let message = format!("{user} began to use Release {} a moment ago", object.name_any());
                return Err(Fault::new(Category::Conflict, message));
            }
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
    let triggers = ctx.cache.on_change(named_by);
    run::<Release>(ctx, triggers, stop)
}

/// The Releases that a Tenant's environments name, unless the change is of nothing that is read of it here.
fn named_by(change: &Change<Tenant>) -> Vec<ObjectRef<Release>> {
    let named = |side: &Option<Arc<Tenant>>| -> BTreeSet<(String, String)> {
        let all = side.iter().flat_map(|tenant| dereference::named(tenant));
        all.map(|(environment, release)| (environment.to_owned(), release.to_owned())).collect()
    };
    let (old, new) = (named(&change.old), named(&change.new));
    if only_status(change) && old == new {
        return Vec::new();
    }
    let woken: BTreeSet<&str> = old.iter().chain(&new).map(|(_, release)| release.as_str()).collect();
    woken.into_iter().map(ObjectRef::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::tenant::build::fixtures::{DIGEST, release, tenant};
    use crate::settings::Settings;
    use http::{Method, Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;
    use std::convert::Infallible;
    use std::sync::Mutex;

    #[test]
    fn a_tenant_wakes_each_release_that_it_names_once() {
        let tenant = Arc::new(tenant(json!([
            {"name": "dev", "class": "NonProduction", "release": "b"},
            {"name": "test", "class": "NonProduction", "release": "a"},
            {"name": "prod", "class": "Production", "release": "b"},
        ])));
        let change = |old: Option<&Arc<Tenant>>, new: &Arc<Tenant>| {
            named_by(&Change { old: old.cloned(), new: Some(new.clone()) })
        };
        assert_eq!(change(None, &tenant), [ObjectRef::new("a"), ObjectRef::new("b")]);
        let told = |release: &str, ready: i32| {
            let status = json!({"environments": [{
                "name": "dev", "namespace": "acme-dev", "targetRelease": "b", "release": release, "servicesReady": ready, "servicesTotal": 2,
            }]});
            Arc::new(Tenant { status: serde_json::from_value(status).expect("status"), ..tenant.as_ref().clone() })
        };
        let [before, after] = ["b", "c"].map(ObjectRef::new);
        assert_eq!(
            change(Some(&told("b", 1)), &told("b", 2)),
            [],
            "how many services are ready is none of its business"
        );
        let woken = change(Some(&told("b", 1)), &told("c", 1));
        assert!(woken.contains(&before) && woken.contains(&after), "it runs another");
    }

    #[tokio::test]
    async fn a_release_is_not_let_go_by_a_watch_that_is_behind() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let acme = tenant(json!([{"name": "prod", "class": "Production", "release": "r"}]));
        let asked: Arc<Mutex<Vec<Method>>> = Arc::default();
        let log = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            log.lock().unwrap().push(request.method().clone());
            let list = json!({
                "apiVersion": "paddock.bet/v1alpha1", "kind": "TenantList", "metadata": {"resourceVersion": "1"}, "items": [acme],
            });
            let answer = serde_json::to_vec(&list).unwrap();
            async move { Ok::<_, Infallible>(Response::new(Body::from(answer))) }
        });
        let ctx = Arc::new(Ctx::detached(Client::new(service, "default"), Settings::default()).unwrap());
        let mut going = release("r", json!([{"name": "rates", "image": DIGEST}]));
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        going.metadata.finalizers = Some(vec!["paddock.bet/cleanup".into()]);
        let fault = Release::reconcile(Arc::new(going), ctx).await.unwrap_err();
        assert_eq!((fault.category, asked.lock().unwrap().as_slice()), (Category::Conflict, &[Method::GET][..]));
    }
}
