//! The loop on a clock that the test moves, over a kind whose objects say how their reconcile shall go.

use super::*;
use crate::settings::Settings;
use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, ResourceExt as _, client::Body, core::ObjectMeta};
use serde_json::{Value, json};
use std::{convert::Infallible, sync::LazyLock};
use tracing_subscriber::{fmt::format::FmtSpan, layer::SubscriberExt as _};

/// Reconciles and reports by namespace: each test has its own.
static LOG: LazyLock<Mutex<BTreeMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

fn note(object: &ConfigMap, what: &str) {
    let name = object.name_any();
    LOG.lock().unwrap().entry(object.namespace().unwrap_or_default()).or_default().push(format!("{name} {what}"));
}

fn log(namespace: &str) -> Vec<String> {
    LOG.lock().unwrap().get(namespace).cloned().unwrap_or_default()
}

impl Kind for ConfigMap {
    const CONTROLLER: &'static str = "test";

    async fn reconcile(object: Arc<Self>, ctx: Arc<Ctx>) -> Result<Outcome, Fault> {
        ctx.leader.fence()?;
        let order = object.data.as_ref().and_then(|data| data.get("do")).cloned().unwrap_or_default();
        note(&object, &order);
        match order.as_str() {
            "panic" => panic!("a defect"),
            "hang" => std::future::pending().await,
            "fail" => Err(Fault::invalid_spec("the port is taken: choose another")),
            "race" => Err(Fault::new(Category::Conflict, "raced")),
            "again" => Ok(Outcome::Again { after: Duration::from_secs(5) }),
            "slow" => {
                tokio::time::sleep(Duration::from_secs(3)).await;
                note(&object, "ended");
                Ok(Outcome::Done)
            }
            _ => Ok(Outcome::Done),
        }
    }

    async fn report(object: &Self, _: &Ctx, fault: &Fault) -> Result<(), Fault> {
        note(object, fault.category.as_str());
        Ok(())
    }
}

fn object(namespace: &str, name: &str, order: &str, version: u64) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            uid: Some(name.into()),
            resource_version: Some(version.to_string()),
            generation: i64::try_from(version).ok(),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("do".to_owned(), order.to_owned())])),
        ..ConfigMap::default()
    }
}

/// A context, and how many events were published.
fn context() -> (Arc<Ctx>, Arc<Mutex<u32>>) {
    let events = Arc::new(Mutex::new(0));
    let count = events.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        assert!(request.uri().path().contains("/events"), "{}", request.uri());
        *count.lock().unwrap() += 1;
        async { Ok::<_, Infallible>(Response::new(Body::from(b"{\"metadata\":{}}".to_vec()))) }
    });
    (Arc::new(Ctx::detached(Client::new(service, "default"), Settings::default()).unwrap()), events)
}

fn start(ctx: &Arc<Ctx>) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(run::<ConfigMap>(ctx.clone(), futures::stream::pending(), stop)))
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_object_never_stops_the_others() {
    let (ctx, events) = context();
    for (name, order) in [("a", "panic"), ("b", "hang"), ("c", "fail"), ("d", "ok")] {
        ctx.cache.observe(object("bad", name, order, 1));
    }
    let (stop, running) = start(&ctx);
    seconds(30).await;
    ctx.cache.observe(object("bad", "e", "ok", 1));
    seconds(1).await;
    let seen = log("bad");
    for expected in ["a Panic", "c InvalidSpec", "d ok", "e ok"] {
        assert!(seen.iter().any(|line| line == expected), "{expected}: {seen:?}");
    }
    seconds(40).await;
    assert!(log("bad").iter().any(|line| line == "b Timeout"));
    assert_eq!(*events.lock().unwrap(), 3, "one event per fault, however often it repeats");
    let state = ctx.states.snapshot().remove("test").unwrap();
    assert_eq!(state.in_backoff, 3);
    assert!(state.last_faults.iter().any(|fault| fault.object == "bad/a" && fault.category == "Panic"));
    assert!(ctx.metrics.reconcile_errors.with_label_values(&["test", "Panic"]).get() > 1, "it is tried again");
    assert_eq!(ctx.metrics.reconcile_errors.with_label_values(&["test", "Timeout"]).get(), 1);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waits_grow_and_a_mended_object_is_done_at_once() {
    let (ctx, events) = context();
    ctx.cache.observe(object("wait", "a", "fail", 1));
    let (stop, running) = start(&ctx);
    seconds(60).await;
    let tries = log("wait").iter().filter(|line| *line == "a fail").count();
    assert!((5..=7).contains(&tries), "1, 2, 4, 8, 16, 32 s: {tries}");
    ctx.cache.observe(object("wait", "a", "ok", 2));
    seconds(1).await;
    assert_eq!(log("wait").last().map(String::as_str), Some("a ok"));
    assert_eq!(ctx.states.snapshot()["test"].in_backoff, 0);
    ctx.cache.observe(object("wait", "a", "fail", 3));
    seconds(1).await;
    assert_eq!(*events.lock().unwrap(), 2, "the same fault after a success is news");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lost_races_are_repeated_in_silence_and_again_means_again() {
    let (ctx, events) = context();
    ctx.cache.observe(object("race", "a", "race", 1));
    ctx.cache.observe(object("race", "b", "again", 1));
    let (stop, running) = start(&ctx);
    seconds(3).await;
    assert!(log("race").iter().filter(|line| *line == "a race").count() >= 4);
    assert!(!log("race").iter().any(|line| line.contains("Conflict")));
    ctx.cache.observe(object("race", "a", "ok", 2));
    seconds(20).await;
    assert!((4..=5).contains(&log("race").iter().filter(|line| *line == "b again").count()), "{:?}", log("race"));
    assert_eq!(*events.lock().unwrap(), 0);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_running_reconciles_end_and_starts_none() {
    let (ctx, _) = context();
    ctx.cache.observe(object("stop", "a", "slow", 1));
    let (stop, running) = start(&ctx);
    seconds(1).await;
    stop.cancel();
    ctx.cache.observe(object("stop", "b", "ok", 1));
    running.await.unwrap();
    assert_eq!(log("stop"), ["a slow", "a ended"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reconciled_without_the_lease_and_status_alone_wakes_nobody() {
    let (ctx, _) = context();
    ctx.cache.observe(object("calm", "a", "ok", 1));
    let (stop, running) = start(&ctx);
    seconds(1).await;
    let mut touched = object("calm", "a", "ok", 2);
    touched.metadata.generation = Some(1);
    ctx.cache.observe(touched);
    seconds(1).await;
    assert_eq!(log("calm"), ["a ok"], "the resourceVersion alone changed");
    stop.cancel();
    running.await.unwrap();
    let deposed = Arc::new(Ctx { leader: crate::leader::Leadership::new(), ..Arc::into_inner(ctx).unwrap() });
    let (stop, running) = start(&deposed);
    seconds(5).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(log("calm"), ["a ok"]);
}

/// What a subscriber writes.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_is_a_span_that_says_how_it_ended() {
    let written = Written::default();
    let writer = written.clone();
    let lines = tracing_subscriber::fmt::layer().json().with_span_events(FmtSpan::CLOSE);
    let lines = lines.with_writer(move || writer.clone());
    let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines));
    let (ctx, _) = context();
    for (name, order) in [("a", "ok"), ("b", "again"), ("c", "race"), ("d", "fail")] {
        ctx.cache.observe(object("span", name, order, 1));
    }
    let (stop, running) = start(&ctx);
    seconds(1).await;
    stop.cancel();
    running.await.unwrap();
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let spans: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (name, outcome, category) in
        [("a", "done", None), ("b", "again", None), ("c", "again", None), ("d", "fault", Some("InvalidSpec"))]
    {
        let mut wanted = json!({
            "name": "reconcile", "controller": "test", "kind": "ConfigMap", "object": format!("span/{name}"), "outcome": outcome,
        });
        if let Some(category) = category {
            wanted["category"] = category.into();
            wanted["otel.status_code"] = "ERROR".into();
        }
        assert!(spans.iter().any(|line| line["span"] == wanted), "{wanted}: {text}");
    }
}

/// Work whose units cannot be found at first, by a defect.
#[derive(Default)]
struct Stumbles(Mutex<u32>);

impl Work for Stumbles {
    const CONTROLLER: &'static str = "stumbles";
    const DEADLINE: Duration = Duration::from_secs(1);
    type Unit = ConfigMap;
    type Item = ();

    fn all(&self, _: &Cache) -> Vec<Key<Self>> {
        vec![ObjectRef::new("a")]
    }

    fn find(&self, _: &Cache, _: &Key<Self>) -> Option<()> {
        let looks = {
            let mut looks = self.0.lock().unwrap();
            *looks += 1;
            *looks
        };
        assert!(looks > 2, "a defect");
        Some(())
    }

    async fn reconcile(&self, _: &Arc<Ctx>, (): &()) -> Result<Outcome, Fault> {
        Ok(Outcome::Done)
    }

    async fn report(&self, _: &Ctx, (): &(), _: &Fault) -> Result<(), Fault> {
        Ok(())
    }

    async fn warn(&self, _: &Ctx, (): &(), _: &Fault) {}
}

#[tokio::test(start_paused = true)]
async fn a_panic_outside_of_the_reconcile_is_a_fault_too() {
    let (ctx, _) = context();
    ctx.cache.set_ready();
    let (stop, work) = (CancellationToken::new(), Arc::new(Stumbles::default()));
    let running = tokio::spawn(drive(ctx.clone(), work, futures::stream::pending(), stop.clone()));
    seconds(10).await;
    let told = |category| ctx.metrics.reconcile_errors.with_label_values(&["stumbles", category]).get();
    assert_eq!(told("Panic"), 2);
    assert_eq!(ctx.metrics.reconciles.with_label_values(&["stumbles", "done"]).get(), 1, "it is tried again");
    stop.cancel();
    running.await.unwrap();
}
