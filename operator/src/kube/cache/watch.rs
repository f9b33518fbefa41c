//! The watches that fill the [`Cache`].

use super::{Cache, Typed};
use crate::{
    kube::{child::ChildKind, events::Events, store::Store},
    metrics::Metrics,
};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource,
    core::{DeserializeGuard, DynamicObject, error_boundary::InvalidObject},
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
    /// Starts every watch; they end with `stop`. A watch that fails goes on trying, with backoff, for ever.
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
            let stream = watcher(api, ours())
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
        let stream = watcher(api, config).backoff(QuickFirst::default());
        self.spawn(format!("Secret in {namespace}"), stream, store, &watching, stop, settle);
    }

    pub(super) fn watch_typed<K: Typed>(&self, watching: &Watching) {
        let Some(store) = self.typed_store::<K>() else { return };
        let api: Api<DeserializeGuard<K>> = Api::all(watching.client.clone());
        let events = watching.events.clone();
        let metrics = watching.metrics.clone();
        let skipped = store.clone();
        let stream = watcher(api, watcher::Config::default()).default_backoff().filter_map(move |event| {
            let decoded = match event {
                Ok(event) => match decode(event) {
                    Ok(event) => Some(Ok(event)),
                    Err((invalid, Seen::Deleted)) => {
                        skipped.forget(&invalid.metadata);
                        None
                    }
                    Err((invalid, seen)) => {
                        skipped.skip(&invalid.metadata, seen == Seen::Listed);
                        report_invalid::<K>(&invalid, &events, &metrics);
                        None
                    }
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
        tokio::spawn(async move {
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
                        if !matches!(event, Event::Init) {
                            cache.trouble(&kind, None);
                        }
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

/// The typed event, or what is known of an object that cannot be decoded and how it came.
fn decode<K>(event: Event<DeserializeGuard<K>>) -> Result<Event<K>, (Box<InvalidObject>, Seen)> {
    let as_seen = |seen| move |invalid| (Box::new(invalid), seen);
    Ok(match event {
        Event::Apply(guard) => Event::Apply(guard.0.map_err(as_seen(Seen::Changed))?),
        Event::InitApply(guard) => Event::InitApply(guard.0.map_err(as_seen(Seen::Listed))?),
        Event::Delete(guard) => Event::Delete(guard.0.map_err(as_seen(Seen::Deleted))?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// One bad object never stops the others (rule O4): it is skipped, counted and told about on the object itself.
fn report_invalid<K: Typed>(invalid: &InvalidObject, events: &Events, metrics: &Arc<Metrics>) {
    let kind = K::kind(&()).into_owned();
    metrics.undecodable.with_label_values(&[&kind]).inc();
    tracing::warn!(%kind, namespace = invalid.metadata.namespace, name = invalid.metadata.name, error = %invalid.error, "skipped an object that cannot be decoded");
    let reference = k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(kind),
        namespace: invalid.metadata.namespace.clone(),
        name: invalid.metadata.name.clone(),
        uid: invalid.metadata.uid.clone(),
        ..Default::default()
    };
    let note = format!(
        "This operator cannot read the object and leaves it alone: {}. Correct the field, or install the operator that knows it.",
        invalid.error
    );
    events.warning_in_background(reference, "InvalidSpec", "Decode", note);
}
