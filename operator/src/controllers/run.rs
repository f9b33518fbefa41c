//! The loop of one controller: triggers in, reconciles out, each under a deadline and with its panics caught.

use super::{Ctx, Kind, Outcome, queue::Queue};
use crate::fault::{Category, Fault};
use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field::Empty};

/// How often an object is looked at although nothing changed, in case an event was missed. Costs no request when all is well.
const RESYNC: Duration = Duration::from_mins(10);
/// Faults kept for `/debug/state`.
const FAULTS_KEPT: usize = 32;

/// What one controller does right now.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Reconciles under way.
    pub active: usize,
    /// Objects that wait for a due reconcile.
    pub queued: usize,
    /// Objects whose last reconcile ended in a fault.
    pub in_backoff: usize,
    /// The last faults, newest first.
    pub last_faults: VecDeque<LastFault>,
}

/// A fault as `/debug/state` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct LastFault {
    /// When.
    pub at: jiff::Timestamp,
    /// Namespace and name of the object.
    pub object: String,
    /// Category.
    pub category: &'static str,
    /// Message for users.
    pub message: String,
}

/// What all controllers do, by name.
#[derive(Clone, Debug, Default)]
pub struct States(Arc<Mutex<BTreeMap<&'static str, State>>>);

impl States {
    /// A copy for the reader.
    pub fn snapshot(&self) -> BTreeMap<&'static str, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, controller: &'static str, change: impl FnOnce(&mut State)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(controller).or_default());
    }
}

/// How one reconcile ended.
enum Ended {
    Gone,
    Well(Outcome),
    Badly(Fault),
}

impl Ended {
    /// Value of metric label and span field `outcome`.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Well(Outcome::Done) => "done",
            Self::Well(Outcome::Again { .. }) => "again",
            Self::Badly(fault) if fault.category.is_quiet() => "again",
            Self::Badly(_) => "fault",
        }
    }
}

type Told = (Category, String);

/// Reconciles the objects of a kind until `stop`, then lets running reconciles end. Starts with every object, then follows changes of
/// the objects themselves (but for their status) and `triggers`.
pub async fn run<K: Kind>(
    ctx: Arc<Ctx>,
    triggers: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    stop: CancellationToken,
) {
    // Listen first, then list: nothing falls between.
    let own = ctx.cache.own_changes::<K>();
    tokio::select! {
        () = stop.cancelled() => return,
        () = ctx.cache.wait_ready() => {}
    }
    let mut changes = std::pin::pin!(futures::stream::select(own, triggers));
    let mut queue: Queue<ObjectRef<K>> = Queue::default();
    for object in ctx.cache.list::<K>() {
        queue.trigger(ObjectRef::from_obj(object.as_ref()), Instant::now());
    }
    let mut running: JoinSet<(ObjectRef<K>, Ended)> = JoinSet::new();
    let mut told: HashMap<ObjectRef<K>, Told> = HashMap::new();
    let limit = usize::from(ctx.settings.concurrency);
    tracing::info!(controller = K::CONTROLLER, objects = queue.depth(Instant::now()), "controller started");
    loop {
        while !stop.is_cancelled() && running.len() < limit {
            let Some(key) = queue.take(Instant::now()) else { break };
            let before = told.get(&key).cloned();
            running.spawn(attempt(ctx.clone(), key, before));
        }
        publish(&ctx, K::CONTROLLER, &queue, running.len());
        if stop.is_cancelled() && running.is_empty() {
            break;
        }
        let due = queue.next_due().filter(|_| running.len() < limit && !stop.is_cancelled());
        tokio::select! {
            () = stop.cancelled(), if !stop.is_cancelled() => {}
            Some(key) = changes.next(), if !stop.is_cancelled() => queue.trigger(key, Instant::now()),
            Some(ended) = running.join_next() => {
                if let Ok((key, ended)) = ended {
                    settle(&ctx, &mut queue, &mut told, &key, ended);
                }
            }
            () = sleep_until(due), if due.is_some() => {}
        }
    }
    tracing::info!(controller = K::CONTROLLER, "controller stopped");
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// Shows how far a controller is.
pub(super) fn publish<K: std::hash::Hash + Eq + Clone>(
    ctx: &Ctx,
    controller: &'static str,
    queue: &Queue<K>,
    active: usize,
) {
    let queued = queue.depth(Instant::now());
    let in_backoff = queue.in_backoff();
    let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    ctx.metrics.reconcile_active.with_label_values(&[controller]).set(gauge(active));
    ctx.metrics.queue_depth.with_label_values(&[controller]).set(gauge(queued));
    ctx.metrics.objects_in_backoff.with_label_values(&[controller]).set(gauge(in_backoff));
    ctx.states.update(controller, |state| {
        state.active = active;
        state.queued = queued;
        state.in_backoff = in_backoff;
    });
}

/// Takes the end of a reconcile into the queue, and remembers what was told about the object.
fn settle<K: Kind>(
    ctx: &Ctx,
    queue: &mut Queue<ObjectRef<K>>,
    told: &mut HashMap<ObjectRef<K>, Told>,
    key: &ObjectRef<K>,
    ended: Ended,
) {
    let now = Instant::now();
    let outcome = ended.outcome();
    match ended {
        Ended::Gone => {
            queue.forget(key);
            told.remove(key);
            return;
        }
        Ended::Well(outcome) => {
            told.remove(key);
            let after = match outcome {
                Outcome::Done => RESYNC,
                Outcome::Again { after } => after,
            };
            queue.done(key, now, spread(after));
        }
        Ended::Badly(fault) if fault.category.is_quiet() => queue.raced(key, now, rand::random()),
        Ended::Badly(fault) => {
            let wait = queue.failed(key, now, rand::random());
            note(ctx, K::CONTROLLER, name_of(key), &fault, wait);
            told.insert(key.clone(), (fault.category, fault.message));
        }
    }
    ctx.metrics.reconciles.with_label_values(&[K::CONTROLLER, outcome]).inc();
}

/// Shows a fault to those who run the operator.
pub(super) fn note(ctx: &Ctx, controller: &'static str, object: String, fault: &Fault, wait: Duration) {
    tracing::warn!(controller, object, category = %fault.category, ?wait, error = fault.chain(), "reconcile failed");
    ctx.metrics.reconcile_errors.with_label_values(&[controller, fault.category.as_str()]).inc();
    ctx.states.update(controller, |state| {
        state.last_faults.push_front(LastFault {
            at: jiff::Timestamp::now(),
            object,
            category: fault.category.as_str(),
            message: fault.message.clone(),
        });
        state.last_faults.truncate(FAULTS_KEPT);
    });
}

fn name_of<K: Kind>(key: &ObjectRef<K>) -> String {
    match &key.namespace {
        Some(namespace) => format!("{namespace}/{}", key.name),
        None => key.name.clone(),
    }
}

/// Up to a tenth more, so that objects do not move in step.
fn spread(time: Duration) -> Duration {
    time + time.mul_f64(rand::random::<f64>() / 10.0)
}

/// One reconcile of one object. Nothing that happens in it ends the controller.
async fn attempt<K: Kind>(ctx: Arc<Ctx>, key: ObjectRef<K>, before: Option<Told>) -> (ObjectRef<K>, Ended) {
    let Some(object) = ctx.cache.get::<K>(key.namespace.as_deref(), &key.name) else { return (key, Ended::Gone) };
    if let Err(fault) = ctx.leader.fence() {
        return (key, Ended::Badly(fault));
    }
    let span = tracing::info_span!(
        "reconcile",
        controller = K::CONTROLLER,
        kind = %K::kind(&()),
        object = %name_of(&key),
        outcome = Empty,
        category = Empty,
        otel.status_code = Empty,
    );
    let timer = ctx.metrics.reconcile_duration.with_label_values(&[K::CONTROLLER]).start_timer();
    let work = guarded(async { K::reconcile(object.clone(), ctx.clone()).await });
    let result = match tokio::time::timeout(K::DEADLINE, work.instrument(span.clone())).await {
        Ok(result) => result,
        Err(_) => Err(Fault::new(
            Category::Timeout,
            format!("the work on this object took longer than {} s; it is tried again", K::DEADLINE.as_secs()),
        )),
    };
    drop(timer);
    let ended = result.map_or_else(Ended::Badly, Ended::Well);
    span.record("outcome", ended.outcome());
    if let Ended::Badly(fault) = &ended
        && !fault.category.is_quiet()
    {
        span.record("category", fault.category.as_str()).record("otel.status_code", "ERROR");
        drop(span);
        tell(&ctx, object.as_ref(), fault, before.as_ref()).await;
    }
    (key, ended)
}

/// Runs a future and turns its panic into a fault.
pub(super) async fn guarded<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Err(Fault::new(
                Category::Panic,
                "a defect of the operator stopped the work on this object: report it with the operator's log",
            )
            .with_source(text))
        }
    }
}

/// Puts a fault onto the object: the condition always (silent if it stands there already), an event when it is news.
async fn tell<K: Kind>(ctx: &Ctx, object: &K, fault: &Fault, before: Option<&Told>) {
    let report = guarded(async { K::report(object, ctx, fault).await });
    match tokio::time::timeout(K::DEADLINE, report).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.category.is_quiet() => {}
        Ok(Err(error)) => {
            tracing::warn!(
                object = object.name_any(),
                error = error.chain(),
                "the fault was not written to the status"
            );
        }
        Err(_) => tracing::warn!(object = object.name_any(), "the fault was not written to the status in time"),
    }
    let news = before.is_none_or(|(category, message)| *category != fault.category || *message != fault.message);
    if news {
        ctx.events.warning(object, fault.category.as_str(), "Reconcile", fault.message.clone()).await;
    }
}

#[cfg(test)]
mod tests;
