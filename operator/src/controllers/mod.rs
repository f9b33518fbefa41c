//! The controllers, and what they share: context, outcome and the wrapper that drives every reconcile.

mod phases;
mod queue;
mod run;

pub mod betting_service;
pub mod database_claim;
pub mod database_class;
pub mod market;
pub mod release;
pub mod tenant;

pub use crate::database::postgres::Terms;
pub use crate::fault::{Category, Fault};
pub use phases::measure;
pub use run::{States, run};

use crate::{
    issuer::Issuer,
    kube::{Cache, Conditions, Events, cache::Typed, write_status},
    leader::Leadership,
    metrics::Metrics,
    readiness::Readiness,
    settings::Settings,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paddock_crds::condition::{READY, RECONCILING, STALLED};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{sync::OnceCell, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// What every reconcile may use.
pub struct Ctx {
    /// Client with metrics, timeouts and a bounded retry.
    pub client: kube::Client,
    /// Configuration.
    pub settings: Arc<Settings>,
    /// Every read at rest comes from here: no polling GETs (rule O1).
    pub cache: Cache,
    /// Events on objects; a publish that fails never fails a reconcile.
    pub events: Events,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// `leader.fence()?` before any write outside the apiserver; the functions of [`crate::kube`] ask it themselves.
    pub leader: Leadership,
    /// The uid of namespace `kube-system`, by which database servers know the cluster. It never changes: it is asked for once.
    pub cluster: OnceCell<String>,
    /// The logins of this process's term on database servers.
    pub terms: Terms,
    /// The issuer of ServiceAccount tokens, for the environments.
    pub issuer: Issuer,
    /// What the controllers do, for `/debug/state`.
    pub states: States,
    /// What is missing, and where to say that a right may be.
    pub readiness: Readiness,
}

impl Ctx {
    /// A context whose cache is empty, complete and fed by the caller, and which leads alone: for tests.
    ///
    /// # Errors
    /// See [`Metrics::new`].
    pub fn detached(client: kube::Client, settings: Settings) -> Result<Self, prometheus::Error> {
        let metrics = Arc::new(Metrics::new()?);
        let (cache, leader) = (Cache::new(), Leadership::alone(1));
        cache.set_ready();
        Ok(Self {
            events: Events::new(client.clone(), &settings.pod_name, metrics.clone()),
            client,
            settings: Arc::new(settings),
            readiness: Readiness::new(cache.clone(), leader.clone()),
            cache,
            metrics,
            leader,
            cluster: OnceCell::new(),
            terms: Terms::default(),
            issuer: Issuer::default(),
            states: States::default(),
        })
    }
}

/// What a reconcile ends in. The status was already written by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until something changes.
    Done,
    /// Look again later: only for waiting on what sends no watch event, such as a server that cannot be reached, or time itself.
    Again {
        /// How long to wait.
        after: Duration,
    },
}

/// A kind with a controller.
pub trait Kind: Typed {
    /// Name of the controller: metric label and log field.
    const CONTROLLER: &'static str;
    /// How long one reconcile may take.
    const DEADLINE: Duration = Duration::from_mins(1);

    /// Brings one object towards its spec and writes its status.
    fn reconcile(object: Arc<Self>, ctx: Arc<Ctx>) -> impl Future<Output = Result<Outcome, Fault>> + Send;

    /// Puts a fault into the object's status. The default sets `Ready` to False with the category as reason, and `Stalled` when only
    /// a person can help, `Reconciling` otherwise; everything else in the status stays.
    fn report(object: &Self, ctx: &Ctx, fault: &Fault) -> impl Future<Output = Result<(), Fault>> + Send {
        report_fault(object, ctx, fault, false)
    }
}

/// Runs every controller until `stop`, then lets what runs come to its end.
///
/// # Errors
/// A controller that ended by itself.
pub async fn work(ctx: &Arc<Ctx>, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut controllers = start(ctx, stop);
    tokio::select! {
        // In this order: controllers that end because of `stop` are no defect.
        biased;
        () = stop.cancelled() => {}
        _ = controllers.join_next() => anyhow::bail!("a controller ended by itself: this is a defect"),
    }
    ctx.readiness.stopping();
    let drained = async { while controllers.join_next().await.is_some() {} };
    if tokio::time::timeout(ctx.settings.drain, drained).await.is_err() {
        tracing::warn!("reconciles are cut off: the next leader does them again");
    }
    Ok(())
}

/// Starts every controller and what they wait for. Each ends after `stop`, when its running reconciles are through.
fn start(ctx: &Arc<Ctx>, stop: &CancellationToken) -> JoinSet<()> {
    let mut controllers = JoinSet::new();
    controllers.spawn(ctx.issuer.clone().follow(ctx.client.clone(), stop.clone()));
    controllers.spawn(follow_rights(ctx.clone(), stop.clone()));
    controllers.spawn(tenant::start(ctx.clone(), stop.clone()));
    controllers.spawn(release::start(ctx.clone(), stop.clone()));
    controllers.spawn(betting_service::start(ctx.clone(), stop.clone()));
    controllers.spawn(market::start(ctx.clone(), stop.clone()));
    controllers.spawn(database_class::start(ctx.clone(), stop.clone()));
    controllers.spawn(database_claim::start(ctx.clone(), stop.clone()));
    controllers
}

async fn follow_rights(ctx: Arc<Ctx>, stop: CancellationToken) {
    ctx.readiness.follow_rights(&ctx.client, &ctx.settings.operator_namespace, &ctx.metrics, &stop).await;
}

/// Writes a fault into the status. `serves` leaves a `Ready` that is True as it is.
async fn report_fault<K: Kind>(object: &K, ctx: &Ctx, fault: &Fault, serves: bool) -> Result<(), Fault> {
    let live = serde_json::to_value(object).map_err(|error| {
        Fault::new(Category::Panic, "an object has no JSON form: report this defect").with_source(error)
    })?;
    let status = with_fault(live.get("status"), object.meta().generation, fault, serves);
    write_status(ctx, object, status).await
}

/// The status with the conditions of a fault.
fn with_fault(status: Option<&Value>, generation: Option<i64>, fault: &Fault, serves: bool) -> Value {
    let mut status = status.and_then(Value::as_object).cloned().unwrap_or_default();
    let old: Vec<Condition> =
        status.get("conditions").and_then(|list| serde_json::from_value(list.clone()).ok()).unwrap_or_default();
    let reason = fault.category.as_str();
    let progress = if fault.category.waits_for_a_person() { STALLED } else { RECONCILING };
    let mut conditions = Conditions::from(&old, generation).set(progress, true, reason, &fault.message);
    let was_ready = old.iter().any(|condition| condition.type_ == READY && condition.status == "True");
    if !(serves && was_ready) {
        conditions = conditions.set(READY, false, reason, &fault.message);
    }
    status.insert("conditions".into(), serde_json::to_value(conditions.build()).unwrap_or_default());
    if let Some(generation) = generation {
        status.insert("observedGeneration".into(), generation.into());
    }
    Value::Object(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_fault_keeps_the_rest_of_the_status() {
        let status = json!({"summary": "2/2", "conditions": [
            {"type": "Available", "status": "True", "reason": "Available", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Reconciling", "status": "True", "reason": "Progressing", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let changed =
            with_fault(Some(&status), Some(3), &Fault::invalid_spec("the port is taken: choose another"), false);
        let types: Vec<_> =
            changed["conditions"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["Available", "Ready", "Stalled"]);
        assert_eq!((&changed["summary"], &changed["observedGeneration"]), (&json!("2/2"), &json!(3)));
        assert_eq!(changed["conditions"][1]["reason"], "InvalidSpec");
        let fault = Fault::new(Category::ServerError, "later");
        let changed = with_fault(None, None, &fault, true);
        assert_eq!(changed["conditions"][1]["type"], "Reconciling");
        assert_eq!(changed["conditions"][0]["status"], "False", "it never was ready");
    }

    #[test]
    fn a_fault_does_not_say_that_what_serves_does_not() {
        let ready = json!({"conditions": [
            {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let told = |category, serves| {
            let changed = with_fault(Some(&ready), Some(3), &Fault::new(category, "later"), serves);
            let conditions: Vec<Condition> = serde_json::from_value(changed["conditions"].clone()).unwrap();
            conditions.iter().map(|it| format!("{}={}/{}", it.type_, it.status, it.reason)).collect::<Vec<_>>()
        };
        assert_eq!(told(Category::Timeout, true), ["Ready=True/Ready", "Reconciling=True/Timeout"]);
        assert_eq!(told(Category::Rejected, true), ["Ready=True/Ready", "Stalled=True/Rejected"]);
        assert_eq!(told(Category::Timeout, false), ["Ready=False/Timeout", "Reconciling=True/Timeout"]);
    }
}
