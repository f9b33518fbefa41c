//! Controller of DatabaseClass: opens the operator's way to its servers, asks whether they answer, and gets done what claims left
//! behind on them.

pub mod network;
pub mod pending;
pub mod server;
mod status;
pub mod validate;
pub mod writer;

use super::{Ctx, Fault, Kind, Outcome, run};
use crate::database::{DatabaseError, ServerFacts};
use crate::kube::{ChildKind, apply, write_status};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use paddock_crds::condition::READY;
use paddock_crds::v1alpha1::{DatabaseClass, DatabaseClassStatus};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often a server that answers is asked again.
const RECHECK: Duration = Duration::from_hours(1);

/// What a server answered.
pub(crate) struct Checked {
    name: String,
    result: Result<ServerFacts, DatabaseError>,
}

/// Runs the controller until `stop`.
pub fn start(ctx: Arc<Ctx>, stop: CancellationToken) -> impl Future<Output = ()> {
    let namespace = ctx.settings.operator_namespace.clone();
    ctx.cache.watch_secrets(&namespace);
    let cache = ctx.cache.clone();
    // An administrator's Secret or an authority changed: every class that names it.
    let secrets = ctx.cache.on_secret::<DatabaseClass>(move |secret| {
        let named = |class: &&Arc<DatabaseClass>| {
            secret.namespace().as_deref() == Some(&namespace) && names_secret(class, &secret.name_any())
        };
        cache.list::<DatabaseClass>().iter().filter(named).map(|class| ObjectRef::from_obj(class.as_ref())).collect()
    });
    // A release was written down.
    let releases = ctx.cache.on_child::<DatabaseClass>(ChildKind::ConfigMap, |object| {
        pending::class_of(&object.metadata).map(ObjectRef::new).into_iter().collect()
    });
    // A class that shared a server of this one no longer does.
    let cache = ctx.cache.clone();
    let sharing = ctx.cache.on::<DatabaseClass, DatabaseClass>(move |other| {
        let all = cache.list::<DatabaseClass>();
        let shares = |class: &&Arc<DatabaseClass>| validate::share(class, other);
        all.iter().filter(shares).map(|class| ObjectRef::from_obj(class.as_ref())).collect()
    });
    let triggers = futures::stream::select_all([
        Box::pin(secrets) as futures::stream::BoxStream<'static, _>,
        Box::pin(ctx.cache.subscribe::<DatabaseClass>()),
        Box::pin(releases),
        Box::pin(sharing),
    ]);
    run::<DatabaseClass>(ctx, triggers, stop)
}

fn names_secret(class: &DatabaseClass, name: &str) -> bool {
    class.spec.servers.iter().any(|server| {
        server.admin_secret.as_deref() == Some(name) || server.tls.as_ref().is_some_and(|tls| tls.ca_secret == name)
    })
}

impl Kind for DatabaseClass {
    const CONTROLLER: &'static str = "databaseclass";

    async fn reconcile(class: Arc<Self>, ctx: Arc<Ctx>) -> Result<Outcome, Fault> {
        if class.metadata.deletion_timestamp.is_some() {
            // Its policy goes with it.
            return Ok(Outcome::Done);
        }
        apply(&ctx, network::CONCERN, &network::policy(&class, &ctx.settings)).await?;
        let checked = check(&ctx, &class).await?;
        let mut after = checked.iter().filter_map(|server| Some(server.result.as_ref().err()?.retry())).min();
        if after.is_none() {
            let writer = writer::writer(&ctx).await?;
            after = pending::work_off(&ctx, &class, &writer).await?.map(|error| error.retry());
        }
        let all = ctx.cache.list::<DatabaseClass>();
        let shared = validate::shared_with(&class, &all).map(|other| other.name_any());
        let status = status::status(&class, &checked, shared.as_deref());
        tell(&ctx, &class, &status).await;
        write_status(&ctx, class.as_ref(), serde_json::to_value(&status).unwrap_or_default()).await?;
        Ok(Outcome::Again { after: after.unwrap_or(RECHECK) })
    }
}

/// Asks all servers at once: one that hangs does not hold up the others.
async fn check(ctx: &Ctx, class: &DatabaseClass) -> Result<Vec<Checked>, Fault> {
    let checks = class.spec.servers.iter().map(|server| async {
        let result = match server::handle(ctx, class, server).await? {
            Ok(handle) => handle.provisioner.check().await,
            Err(error) => Err(error),
        };
        Ok(Checked { name: server.name.clone(), result })
    });
    futures::future::try_join_all(checks).await
}

/// One event when the reason of `Ready` changes.
async fn tell(ctx: &Ctx, class: &DatabaseClass, new: &DatabaseClassStatus) {
    let old = class.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let reason = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
        conditions.iter().find(|condition| condition.type_ == READY).map(|condition| condition.reason.clone())
    };
    let Some(now) = new.conditions.iter().find(|condition| condition.type_ == READY) else { return };
    if reason(old).as_ref() == Some(&now.reason) {
        return;
    }
    if now.status == "True" {
        ctx.events.normal(class, &now.reason, "CheckServers", &now.message).await;
    } else {
        ctx.events.warning(class, &now.reason, "CheckServers", &now.message).await;
    }
}
