//! The loop of one controller: triggers in, reconciles out, each under a deadline and with its panics caught.

use super::{Ctx, Kind, Outcome, queue::Queue};
use crate::fault::{Category, Fault};
use crate::kube::Cache;
use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::{Resource, runtime::reflector::ObjectRef};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    marker::PhantomData,
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
type Key<W> = ObjectRef<<W as Work>::Unit>;

/// What a controller works on, by units that are reconciled by one task at a time: the objects of a kind, or what several of them make
/// together.
pub(super) trait Work: Send + Sync + 'static {
    /// Name of the controller: metric label and log field.
    const CONTROLLER: &'static str;
    /// How long one reconcile may take.
    const DEADLINE: Duration;
    /// The kind that units are.
    type Unit: Resource<DynamicType = ()> + 'static;
    /// What a reconcile is given of a unit.
    type Item: Send + Sync;

    /// Every unit.
    fn all(&self, cache: &Cache) -> Vec<Key<Self>>;

    /// A unit that is about to be reconciled; `None` when it is gone, and what was remembered of it with it.
    fn find(&self, cache: &Cache, key: &Key<Self>) -> Option<Self::Item>;

    /// Brings it towards what is wanted and tells how it is.
    fn reconcile(&self, ctx: &Arc<Ctx>, item: &Self::Item) -> impl Future<Output = Result<Outcome, Fault>> + Send;

    /// Puts a fault where people look.
    fn report(&self, ctx: &Ctx, item: &Self::Item, fault: &Fault) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Publishes an event for a fault that is news.
    fn warn(&self, ctx: &Ctx, item: &Self::Item, fault: &Fault) -> impl Future<Output = ()> + Send;
}

/// The objects of a kind, each by itself.
struct Objects<K>(PhantomData<fn() -> K>);

impl<K: Kind> Work for Objects<K> {
    const CONTROLLER: &'static str = K::CONTROLLER;
    const DEADLINE: Duration = K::DEADLINE;
    type Unit = K;
    type Item = Arc<K>;

    fn all(&self, cache: &Cache) -> Vec<ObjectRef<K>> {
        cache.list::<K>().iter().map(|object| ObjectRef::from_obj(object.as_ref())).collect()
    }

    fn find(&self, cache: &Cache, key: &ObjectRef<K>) -> Option<Arc<K>> {
        cache.get::<K>(key.namespace.as_deref(), &key.name)
    }

    async fn reconcile(&self, ctx: &Arc<Ctx>, object: &Arc<K>) -> Result<Outcome, Fault> {
        K::reconcile(object.clone(), ctx.clone()).await
    }

    async fn report(&self, ctx: &Ctx, object: &Arc<K>, fault: &Fault) -> Result<(), Fault> {
        K::report(object, ctx, fault).await
    }

    async fn warn(&self, ctx: &Ctx, object: &Arc<K>, fault: &Fault) {
        ctx.events.warning(object.as_ref(), fault.category.as_str(), "Reconcile", fault.message.clone()).await;
    }
}

/// Reconciles the objects of a kind until `stop`. Follows changes of the objects themselves (but for their status) and `triggers`.
pub async fn run<K: Kind>(
    ctx: Arc<Ctx>,
    triggers: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    stop: CancellationToken,
) {
    let changes = futures::stream::select(ctx.cache.own_changes::<K>(), triggers);
    drive(ctx, Arc::new(Objects::<K>(PhantomData)), changes, stop).await;
}

/// Reconciles until `stop`, then lets running reconciles end. Starts with every unit, then follows `changes`, which listens already:
/// nothing falls between.
pub(super) async fn drive<W: Work>(
    ctx: Arc<Ctx>,
    work: Arc<W>,
    changes: impl Stream<Item = Key<W>> + Send + 'static,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = ctx.cache.wait_ready() => {}
    }
    let mut changes = std::pin::pin!(changes);
    let mut queue: Queue<Key<W>> = Queue::default();
    let all = |queue: &mut Queue<Key<W>>| {
        for key in work.all(&ctx.cache) {
            queue.trigger(key, Instant::now());
        }
    };
    all(&mut queue);
    let mut restored = ctx.readiness.rights_restored();
    let mut running: JoinSet<(Key<W>, Ended)> = JoinSet::new();
    let mut told: HashMap<Key<W>, Told> = HashMap::new();
    let limit = usize::from(ctx.settings.concurrency);
    tracing::info!(controller = W::CONTROLLER, objects = queue.depth(Instant::now()), "controller started");
    loop {
        while !stop.is_cancelled() && running.len() < limit {
            let Some(key) = queue.take(Instant::now()) else { break };
            let before = told.get(&key).cloned();
            let attempt = attempt(ctx.clone(), work.clone(), key.clone(), before);
            running.spawn(async move {
                let ended = guarded(async { Ok(attempt.await) }).await;
                (key, ended.unwrap_or_else(Ended::Badly))
            });
        }
        publish(&ctx, W::CONTROLLER, &queue, running.len());
        if stop.is_cancelled() && running.is_empty() {
            break;
        }
        let due = queue.next_due().filter(|_| running.len() < limit && !stop.is_cancelled());
        tokio::select! {
            () = stop.cancelled(), if !stop.is_cancelled() => {}
            Some(key) = changes.next(), if !stop.is_cancelled() => queue.trigger(key, Instant::now()),
            Ok(()) = restored.changed(), if !stop.is_cancelled() => all(&mut queue),
            Some(ended) = running.join_next() => {
                if let Ok((key, ended)) = ended {
                    settle::<W>(&ctx, &mut queue, &mut told, &key, ended);
                }
            }
            () = sleep_until(due), if due.is_some() => {}
        }
    }
    tracing::info!(controller = W::CONTROLLER, "controller stopped");
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// Shows how far a controller is.
fn publish<K: std::hash::Hash + Eq + Clone>(ctx: &Ctx, controller: &'static str, queue: &Queue<K>, active: usize) {
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

/// Takes the end of a reconcile into the queue, and remembers what was told about the unit.
fn settle<W: Work>(ctx: &Ctx, queue: &mut Queue<Key<W>>, told: &mut HashMap<Key<W>, Told>, key: &Key<W>, ended: Ended) {
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
            if fault.category == Category::Forbidden {
                ctx.readiness.doubt_rights();
            }
            let wait = queue.failed(key, now, rand::random());
            note(ctx, W::CONTROLLER, name_of(key), &fault, wait);
            told.insert(key.clone(), (fault.category, fault.message));
        }
    }
    ctx.metrics.reconciles.with_label_values(&[W::CONTROLLER, outcome]).inc();
}

/// Shows a fault to those who run the operator.
fn note(ctx: &Ctx, controller: &'static str, object: String, fault: &Fault, wait: Duration) {
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

fn name_of<K: Resource<DynamicType = ()>>(key: &ObjectRef<K>) -> String {
    match &key.namespace {
        Some(namespace) => format!("{namespace}/{}", key.name),
        None => key.name.clone(),
    }
}

/// Up to a tenth more, so that objects do not move in step.
fn spread(time: Duration) -> Duration {
    time + time.mul_f64(rand::random::<f64>() / 10.0)
}

/// One reconcile of one unit.
async fn attempt<W: Work>(ctx: Arc<Ctx>, work: Arc<W>, key: Key<W>, before: Option<Told>) -> Ended {
    let Some(item) = work.find(&ctx.cache, &key) else { return Ended::Gone };
    if let Err(fault) = ctx.leader.fence() {
        return Ended::Badly(fault);
    }
    let span = tracing::info_span!(
        "reconcile",
        controller = W::CONTROLLER,
        kind = %W::Unit::kind(&()),
        object = %name_of(&key),
        outcome = Empty,
        category = Empty,
        otel.status_code = Empty,
    );
    let timer = ctx.metrics.reconcile_duration.with_label_values(&[W::CONTROLLER]).start_timer();
    let reconcile = guarded(async { work.reconcile(&ctx, &item).await });
    let result = match tokio::time::timeout(W::DEADLINE, reconcile.instrument(span.clone())).await {
        Ok(result) => result,
        Err(_) => Err(Fault::new(
            Category::Timeout,
            format!("the work on this object took longer than {} s; it is tried again", W::DEADLINE.as_secs()),
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
        tell(&ctx, work.as_ref(), &key, &item, fault, before.as_ref()).await;
    }
    ended
}

/// Runs a future and turns its panic into a fault: one that ended its task would leave its unit running for ever.
async fn guarded<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
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

/// Puts a fault onto the unit: the condition always (silent if it stands there already), an event when it is news.
async fn tell<W: Work>(ctx: &Ctx, work: &W, key: &Key<W>, item: &W::Item, fault: &Fault, before: Option<&Told>) {
    let report = guarded(async { work.report(ctx, item, fault).await });
    match tokio::time::timeout(W::DEADLINE, report).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.category.is_quiet() => {}
        Ok(Err(error)) => {
            tracing::warn!(object = name_of(key), error = error.chain(), "the fault was not written to the status");
        }
        Err(_) => tracing::warn!(object = name_of(key), "the fault was not written to the status in time"),
    }
    let news = before.is_none_or(|(category, message)| *category != fault.category || *message != fault.message);
    if news {
        work.warn(ctx, item, fault).await;
    }
}

#[cfg(test)]
mod tests;
