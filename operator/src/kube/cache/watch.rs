//! The watches that fill the [`Cache`].

mod remains;

use super::{Cache, Typed};
use crate::{
    kube::{child::ChildKind, events::Events, store::Store},
    metrics::Metrics,
};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicObject, ObjectMeta},
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, DefaultBackoff, Event, watcher},
    },
};
use paddock_crds::labels;
use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How long the apiserver may need to learn of rights that were just bound: those to the Secrets of a new environment.
const RIGHTS_SETTLE: Duration = Duration::from_secs(10);
/// Between two tries meanwhile, and how many of them.
const QUICK: (Duration, u32) = (Duration::from_millis(200), 10);

/// What every watch needs.
#[derive(Clone)]
pub(super) struct Watching {
    client: Client,
    metrics: Arc<Metrics>,
    events: Events,
    operator_namespace: String,
    stop: CancellationToken,
}

fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGED_BY_PADDOCK))
}

impl Cache {
    /// Starts every watch; they end with `stop`. A watch that fails goes on trying, with backoff, for ever. One that ends by a defect cancels
    /// `stop`: nothing may be decided by what the cache holds then.
    pub fn start(
        &self,
        client: &Client,
        operator_namespace: &str,
        metrics: &Arc<Metrics>,
        events: &Events,
        stop: &CancellationToken,
    ) {
        let watching = Watching {
            client: client.clone(),
            metrics: metrics.clone(),
            events: events.clone(),
            operator_namespace: operator_namespace.to_owned(),
            stop: stop.clone(),
        };
        *self.inner.watching.write().unwrap_or_else(PoisonError::into_inner) = Some(watching.clone());
        for typed in &self.inner.typed {
            (typed.watch)(self, &watching);
        }
        for kind in ChildKind::watched() {
            let Some(store) = self.child_store(kind) else { continue };
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.api_resource());
            let stream = begun_when_listed(watcher(api, ours()))
                .default_backoff()
                .map(move |event| event.map(|event| event_map(event, |object| super::with_types(object, kind))));
            self.spawn(kind.as_str().to_owned(), stream, store, &watching, stop.clone(), Duration::ZERO);
        }
        self.watch_secrets(operator_namespace);
    }

    /// Begins to watch the Secrets of a namespace: those with our label in environments, all in the operator's own namespace, where
    /// administrators put logins of servers. Repeated calls do nothing. The operator needs its rights in the namespace first.
    pub fn watch_secrets(&self, namespace: &str) {
        let watching = self.inner.watching.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (store, stop, new) = self.add_secret_store(namespace);
        let Some(watching) = watching.filter(|_| new) else { return };
        let api: Api<Secret> = Api::namespaced(watching.client.clone(), namespace);
        let (config, settle) = if namespace == watching.operator_namespace {
            (watcher::Config::default(), Duration::ZERO)
        } else {
            (ours(), RIGHTS_SETTLE)
        };
        let stream = begun_when_listed(watcher(api, config)).backoff(QuickFirst::default());
        self.spawn(format!("Secret in {namespace}"), stream, store, &watching, stop, settle);
    }

    pub(super) fn watch_typed<K: Typed>(&self, watching: &Watching) {
        let Some(store) = self.typed_store::<K>() else { return };
        let api: Api<DynamicObject> = Api::all_with(watching.client.clone(), &ApiResource::erase::<K>(&()));
        let events = watching.events.clone();
        let metrics = watching.metrics.clone();
        let known = store.clone();
        let stream = begun_when_listed(watcher(api, watcher::Config::default()));
        let stream = stream.default_backoff().filter_map(move |event| {
            let decoded = match event {
                Ok(event) => match decode::<K>(event) {
                    Ok(event) => Some(Ok(event)),
                    Err(unreadable) if unreadable.seen == Seen::Deleted => {
                        known.forget(&unreadable.raw.metadata);
                        None
                    }
                    Err(unreadable) => take_unreadable(&unreadable, &known, &events, &metrics).map(Ok),
                },
                Err(error) => Some(Err(error)),
            };
            std::future::ready(decoded)
        });
        self.spawn(K::kind(&()).into_owned(), stream, store, watching, watching.stop.clone(), Duration::ZERO);
    }

    fn spawn<T>(
        &self,
        kind: String,
        stream: impl Stream<Item = watcher::Result<Event<T>>> + Send + 'static,
        store: Arc<Store<T>>,
        watching: &Watching,
        stop: CancellationToken,
        settle: Duration,
    ) where
        T: Resource + Send + Sync + 'static,
    {
        let began = Instant::now();
        let cache = self.clone();
        let metrics = watching.metrics.clone();
        let all = watching.stop.clone();
        let watch = tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            loop {
                let event = tokio::select! {
                    () = all.cancelled() => break,
                    () = stop.cancelled() => break,
                    event = stream.next() => event,
                };
                match event {
                    Some(Ok(event)) => {
                        // A watch that moves has no trouble any more.
                        cache.trouble(&kind, None);
                        store.apply(event);
                    }
                    Some(Err(error)) if began.elapsed() < settle && forbidden(&error) => {
                        tracing::debug!(%kind, "watch: its rights are not known to the apiserver yet");
                    }
                    Some(Err(error)) => {
                        // Secrets have one label value for all namespaces (rule O8).
                        metrics.watch_errors.with_label_values(&[kind.split(' ').next().unwrap_or_default()]).inc();
                        let text = explain(&error);
                        if cache.trouble(&kind, Some(text.clone())) {
                            tracing::warn!(%kind, error = &error as &dyn std::error::Error, "watch: {text}");
                        }
                    }
                    None => break,
                }
            }
            cache.trouble(&kind, None);
        });
        let all = watching.stop.clone();
        tokio::spawn(async move {
            if watch.await.is_err_and(|error| error.is_panic()) {
                // What nobody watches any more would look the same for ever.
                tracing::error!("a watch ended by a defect: all end");
                all.cancel();
            }
        });
    }

    /// Notes or clears why a watch does not get on; `true` when that is news.
    fn trouble(&self, kind: &str, trouble: Option<String>) -> bool {
        let mut troubles = self.inner.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(text) => troubles.insert(kind.to_owned(), text.clone()) != Some(text),
            None => troubles.remove(kind).is_some(),
        }
    }
}

/// Tells that a list is begun with the first that came of it. The watcher tells it before it asks, and a backoff takes every event for a
/// success: a kind that is not installed would be asked for again and again after the shortest pause.
fn begun_when_listed<T>(
    stream: impl Stream<Item = watcher::Result<Event<T>>> + Send,
) -> impl Stream<Item = watcher::Result<Event<T>>> + Send
where
    T: Send,
{
    let mut begun = false;
    stream.flat_map(move |event| {
        let listed = matches!(event, Ok(Event::InitApply(_) | Event::InitDone));
        let before = (listed && std::mem::take(&mut begun)).then_some(Ok(Event::Init));
        let event = if matches!(event, Ok(Event::Init)) {
            begun = true;
            None
        } else {
            Some(event)
        };
        futures::stream::iter(before.into_iter().chain(event))
    })
}

/// The first tries quickly one after another, then as other watches do.
#[derive(Default)]
struct QuickFirst {
    tried: u32,
    then: DefaultBackoff,
}

impl Iterator for QuickFirst {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.tried = self.tried.saturating_add(1);
        if self.tried <= QUICK.1 { Some(QUICK.0) } else { self.then.next() }
    }
}

impl Backoff for QuickFirst {
    fn reset(&mut self) {
        self.then.reset();
    }
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

fn forbidden(error: &watcher::Error) -> bool {
    matches!(code(error), Some(401 | 403))
}

fn explain(error: &watcher::Error) -> String {
    match code(error) {
        Some(404) => "the kind is not installed: install its CustomResourceDefinition; it is tried again".into(),
        Some(401 | 403) => "the apiserver forbids to list it: install the operator's chart again".into(),
        _ => "the apiserver does not serve the watch; it is tried again".into(),
    }
}

fn event_map<A, B>(event: Event<A>, map: impl FnOnce(A) -> B) -> Event<B> {
    match event {
        Event::Apply(object) => Event::Apply(map(object)),
        Event::Delete(object) => Event::Delete(map(object)),
        Event::InitApply(object) => Event::InitApply(map(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// How an object that cannot be decoded came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Listed,
    Changed,
    Deleted,
}

/// An object that cannot be decoded.
struct Unreadable {
    raw: DynamicObject,
    seen: Seen,
    error: serde_json::Error,
}

/// The typed event, or the object that cannot be decoded.
fn decode<K: Typed>(event: Event<DynamicObject>) -> Result<Event<K>, Box<Unreadable>> {
    let read = |raw: DynamicObject, seen| {
        let typed = serde_json::to_value(&raw).and_then(serde_json::from_value::<K>);
        typed.map_err(|error| Box::new(Unreadable { raw, seen, error }))
    };
    Ok(match event {
        Event::Apply(raw) => Event::Apply(read(raw, Seen::Changed)?),
        Event::InitApply(raw) => Event::InitApply(read(raw, Seen::Listed)?),
        Event::Delete(raw) => Event::Delete(read(raw, Seen::Deleted)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// One bad object never stops the others (rule O4): it is told about on the object itself, and noted as one that nobody can read, unless
/// it is being deleted and its controller can end what is left of it.
fn take_unreadable<K: Typed>(
    unreadable: &Unreadable,
    store: &Store<K>,
    events: &Events,
    metrics: &Metrics,
) -> Option<Event<K>> {
    let Unreadable { raw, seen, error } = unreadable;
    let remains = remains::of::<K>(raw);
    report_unreadable::<K>(&raw.metadata, error, remains.advice, events, metrics);
    match (remains.object, seen) {
        (Some(object), Seen::Listed) => Some(Event::InitApply(object)),
        (Some(object), _) => Some(Event::Apply(object)),
        (None, seen) => {
            store.skip(&raw.metadata, *seen == Seen::Listed);
            None
        }
    }
}

fn report_unreadable<K: Typed>(
    metadata: &ObjectMeta,
    error: &serde_json::Error,
    advice: &str,
    events: &Events,
    metrics: &Metrics,
) {
    let kind = K::kind(&()).into_owned();
    metrics.undecodable.with_label_values(&[&kind]).inc();
    tracing::warn!(%kind, namespace = metadata.namespace, name = metadata.name, %error, "this operator cannot read the object and {advice}");
    let reference = k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(kind),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..Default::default()
    };
    let note = format!("This operator cannot read the object and {advice}: {error}");
    // Another action when it is being deleted: events that differ only in their note become a series, which keeps the first one.
    let action = if metadata.deletion_timestamp.is_some() { "End" } else { "Decode" };
    events.warning_in_background(reference, "InvalidSpec", action, note);
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    #[tokio::test]
    async fn a_watch_that_ends_by_a_defect_ends_all() {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::convert::Infallible>>()
        });
        let client = Client::new(service, "default");
        let metrics = Arc::new(Metrics::new().unwrap());
        let stop = CancellationToken::new();
        let watching = Watching {
            events: Events::new(client.clone(), "test", metrics.clone()),
            client,
            metrics,
            operator_namespace: "paddock-system".into(),
            stop: stop.clone(),
        };
        let cache = Cache::new();
        let store = cache.child_store(ChildKind::ConfigMap).unwrap();
        store.listen(|_| panic!("a defect"));
        let object = super::super::tests::config_map(&serde_json::Value::Null, "1");
        let events = futures::stream::iter([Ok(Event::Apply(object))]).chain(futures::stream::pending());
        cache.spawn("ConfigMap".into(), events, store, &watching, CancellationToken::new(), Duration::ZERO);
        stop.cancelled().await;
    }

    #[test]
    fn a_list_that_fails_is_no_success_for_the_backoff() {
        let fails = || Err(watcher::Error::NoResourceVersion);
        let listed = || [Ok(Event::Init), Ok(Event::InitApply(1)), Ok(Event::InitDone), Ok(Event::Apply(2))];
        let asked = [Ok(Event::Init), fails(), Ok(Event::Init), fails()].into_iter().chain(listed()).chain(listed());
        let told: Vec<String> =
            block_on(begun_when_listed(futures::stream::iter(asked)).map(|event| format!("{event:?}")).collect());
        let once = ["Ok(Init)", "Ok(InitApply(1))", "Ok(InitDone)", "Ok(Apply(2))"];
        assert_eq!(told, [["Err(NoResourceVersion)"; 2].as_slice(), &once, &once].concat());
    }
}
