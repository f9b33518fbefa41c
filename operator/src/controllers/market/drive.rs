//! The loop of the controller: namespaces that changed, each by one task at a time, under a deadline and with panics caught.

use super::book::{Books, tell};
use super::build::NAME;
use super::push::Pusher;
use crate::controllers::queue::Queue;
use crate::controllers::run::{guarded, note, publish};
use crate::controllers::{Category, Ctx, Fault, Outcome};
use crate::kube::{Cache, ChildKind};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use paddock_crds::labels;
use paddock_crds::v1alpha1::Market;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// Metric label.
const CONTROLLER: &str = "market";
/// How long a pass may take.
const DEADLINE: Duration = Duration::from_mins(1);
/// How often a namespace is looked at although nothing changed. Costs no request when all is well.
const RESYNC: Duration = Duration::from_mins(10);

type Key = ObjectRef<Namespace>;

/// Runs the controller until `stop`, then lets running passes end.
pub async fn start(ctx: Arc<Ctx>, stop: CancellationToken) {
    let books = match Pusher::new(ctx.settings.control_port) {
        Ok(pusher) => Arc::new(Books::new(pusher)),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "no client for control ports: markets are not enforced"
            );
            return;
        }
    };
    // Listen first, then list: nothing falls between.
    let mut rules = std::pin::pin!(ctx.cache.own_changes::<Market>());
    let mut changes = std::pin::pin!(changes(&ctx.cache));
    tokio::select! {
        () = stop.cancelled() => return,
        () = ctx.cache.wait_ready() => {}
    }
    let mut queue: Queue<String> = Queue::default();
    for namespace in ctx.cache.children(ChildKind::Namespace, None, &[]) {
        queue.trigger(namespace.name_any(), Instant::now());
    }
    for market in ctx.cache.list::<Market>() {
        queue.trigger(market.namespace().unwrap_or_default(), Instant::now());
    }
    let mut running: JoinSet<(String, Result<Outcome, Fault>)> = JoinSet::new();
    // By namespace that is passed: a changed rule does not wait until the statuses of all others are written.
    let mut passes: HashMap<String, CancellationToken> = HashMap::new();
    let limit = usize::from(ctx.settings.concurrency);
    loop {
        while !stop.is_cancelled() && running.len() < limit {
            let Some(namespace) = queue.take(Instant::now()) else { break };
            let superseded = CancellationToken::new();
            passes.insert(namespace.clone(), superseded.clone());
            running.spawn(pass(books.clone(), ctx.clone(), namespace, superseded));
        }
        publish(&ctx, CONTROLLER, &queue, running.len());
        if stop.is_cancelled() && running.is_empty() {
            return;
        }
        let due = queue.next_due().filter(|_| running.len() < limit && !stop.is_cancelled());
        tokio::select! {
            () = stop.cancelled(), if !stop.is_cancelled() => {}
            Some(key) = rules.next(), if !stop.is_cancelled() => {
                let namespace = key.namespace.unwrap_or_default();
                if let Some(superseded) = passes.get(&namespace) {
                    superseded.cancel();
                }
                queue.trigger(namespace, Instant::now());
            }
            Some(key) = changes.next(), if !stop.is_cancelled() => queue.trigger(key.name, Instant::now()),
            Some(ended) = running.join_next() => {
                if let Ok((namespace, result)) = ended {
                    passes.remove(&namespace);
                    settle(&ctx, &mut queue, &namespace, result);
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

/// Namespaces that changed, or whose book, pods that follow it, or token changed.
fn changes(cache: &Cache) -> impl Stream<Item = Key> + Send + 'static {
    let of = |namespace: Option<String>| namespace.map(|it| Key::new(&it)).into_iter().collect::<Vec<_>>();
    let namespaces = cache.on_child::<Namespace>(ChildKind::Namespace, |it| vec![Key::new(&it.name_any())]);
    let books = cache.on_child::<Namespace>(ChildKind::ConfigMap, move |it| {
        of(it.namespace().filter(|_| it.metadata.name.as_deref() == Some(NAME)))
    });
    let pods = cache.on_child::<Namespace>(ChildKind::Pod, move |it| {
        of(it.namespace().filter(|_| it.labels().contains_key(labels::MARKET_BOOK)))
    });
    let tokens = cache.on_secret::<Namespace>(move |secret| of(secret.namespace()));
    futures::stream::select_all([namespaces.boxed(), books.boxed(), pods.boxed(), tokens.boxed()])
}

async fn pass(
    books: Arc<Books>,
    ctx: Arc<Ctx>,
    namespace: String,
    superseded: CancellationToken,
) -> (String, Result<Outcome, Fault>) {
    let timer = ctx.metrics.reconcile_duration.with_label_values(&[CONTROLLER]).start_timer();
    let span = tracing::info_span!("reconcile", controller = CONTROLLER, object = %namespace);
    let work = guarded(async { books.reconcile(&ctx, &namespace, &superseded).await }).instrument(span);
    let result = match tokio::time::timeout(DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => Err(Fault::new(Category::Timeout, "the work on a market book took too long; it is tried again")),
    };
    drop(timer);
    if let Err(fault) = &result
        && !fault.category.is_quiet()
    {
        let told = guarded(async { tell(&ctx, &namespace, fault, &superseded).await });
        match tokio::time::timeout(DEADLINE, told).await {
            Ok(Err(error)) if !error.category.is_quiet() => {
                let error = error.chain();
                tracing::warn!(object = %namespace, error, "the fault was not written to the Markets");
            }
            Ok(_) => {}
            Err(_) => tracing::warn!(object = %namespace, "the fault was not written to the Markets in time"),
        }
    }
    (namespace, result)
}

fn settle(ctx: &Ctx, queue: &mut Queue<String>, namespace: &String, result: Result<Outcome, Fault>) {
    let now = Instant::now();
    let outcome = match result {
        Ok(Outcome::Done) => {
            queue.done(namespace, now, RESYNC);
            "done"
        }
        Ok(Outcome::Again { after }) => {
            queue.done(namespace, now, after);
            "again"
        }
        Err(fault) if fault.category.is_quiet() => {
            queue.raced(namespace, now, rand::random());
            "again"
        }
        Err(fault) => {
            let wait = queue.failed(namespace, now, rand::random());
            note(ctx, CONTROLLER, namespace.clone(), &fault, wait);
            "fault"
        }
    };
    let known = ctx.cache.child(ChildKind::Namespace, None, namespace).is_some();
    if !known && ctx.cache.list_in::<Market>(namespace).is_empty() {
        queue.forget(namespace);
    }
    ctx.metrics.reconciles.with_label_values(&[CONTROLLER, outcome]).inc();
}
