//! What the apiserver holds, as the watches last showed it. Every read at rest comes from here (rule O1).
//!
//! One watch per kind for the whole process: our own kinds decoded one by one behind a guard (rule O4), what we make as dynamic
//! objects with our managed-by label, Secrets by namespace only (rule O7). Changes reach controllers as keys in coalescing channels.

use super::{
    child::{ChildKind, ObjectKey},
    store::{Change, Store},
    trigger,
};
use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Resource, ResourceExt as _,
    core::{DynamicObject, ObjectMeta, TypeMeta},
    runtime::{reflector::ObjectRef, watcher::Event},
};
use paddock_crds::{labels, v1alpha1};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use tokio_util::sync::CancellationToken;

/// A custom resource that the cache holds by type.
pub trait Typed:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static
{
}
impl<K> Typed for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static
{
}

type SecretListener = Arc<dyn Fn(&Change<Secret>) -> bool + Send + Sync>;

pub(super) struct SecretWatch {
    pub(super) store: Arc<Store<Secret>>,
    pub(super) stop: CancellationToken,
}

pub(super) struct Inner {
    typed: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    children: HashMap<ChildKind, Arc<Store<DynamicObject>>>,
    pub(super) secrets: RwLock<BTreeMap<String, SecretWatch>>,
    secret_listeners: RwLock<Vec<SecretListener>>,
    /// Why a watch does not get on, by kind.
    pub(super) troubles: Mutex<BTreeMap<String, String>>,
    /// Set by [`Cache::start`]: what a Secret watch needs that begins later.
    pub(super) watching: RwLock<Option<super::watch::Watching>>,
}

/// Shared view of the apiserver's objects.
#[derive(Clone)]
pub struct Cache {
    pub(super) inner: Arc<Inner>,
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl Cache {
    /// An empty cache. [`Cache::start`] fills it; without that, [`Cache::observe`] and [`Cache::observe_child`] do.
    pub fn new() -> Self {
        let mut typed: HashMap<TypeId, Box<dyn Any + Send + Sync>> = HashMap::new();
        let mut add = |id, store| typed.insert(id, store);
        add(TypeId::of::<v1alpha1::Tenant>(), boxed::<v1alpha1::Tenant>());
        add(TypeId::of::<v1alpha1::Release>(), boxed::<v1alpha1::Release>());
        add(TypeId::of::<v1alpha1::BettingService>(), boxed::<v1alpha1::BettingService>());
        add(TypeId::of::<v1alpha1::Market>(), boxed::<v1alpha1::Market>());
        add(TypeId::of::<v1alpha1::DatabaseClass>(), boxed::<v1alpha1::DatabaseClass>());
        add(TypeId::of::<v1alpha1::DatabaseClaim>(), boxed::<v1alpha1::DatabaseClaim>());
        // The loop of the controllers is tested over a kind without rules of its own.
        #[cfg(test)]
        add(TypeId::of::<k8s_openapi::api::core::v1::ConfigMap>(), boxed::<k8s_openapi::api::core::v1::ConfigMap>());
        let children = ChildKind::watched().map(|kind| (kind, Arc::default())).collect();
        Self {
            inner: Arc::new(Inner {
                typed,
                children,
                secrets: RwLock::default(),
                secret_listeners: RwLock::default(),
                troubles: Mutex::default(),
                watching: RwLock::default(),
            }),
        }
    }

    pub(super) fn typed_store<K: Typed>(&self) -> Option<Arc<Store<K>>> {
        self.inner.typed.get(&TypeId::of::<K>())?.downcast_ref::<Arc<Store<K>>>().cloned()
    }

    pub(super) fn child_store(&self, kind: ChildKind) -> Option<Arc<Store<DynamicObject>>> {
        self.inner.children.get(&kind).cloned()
    }

    /// A custom resource of ours.
    pub fn get<K: Typed>(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        self.typed_store::<K>()?.get(namespace, name)
    }

    /// All custom resources of a kind, in order of namespace and name.
    pub fn list<K: Typed>(&self) -> Vec<Arc<K>> {
        self.typed_store::<K>().map(|store| store.list(None)).unwrap_or_default()
    }

    /// The custom resources of a kind in one namespace.
    pub fn list_in<K: Typed>(&self, namespace: &str) -> Vec<Arc<K>> {
        self.typed_store::<K>().map(|store| store.list(Some(namespace))).unwrap_or_default()
    }

    /// An object that carries our managed-by label.
    pub fn child(&self, kind: ChildKind, namespace: Option<&str>, name: &str) -> Option<Arc<DynamicObject>> {
        match kind {
            ChildKind::BettingService => dynamic(self.get::<v1alpha1::BettingService>(namespace, name)?.as_ref(), kind),
            ChildKind::DatabaseClaim => dynamic(self.get::<v1alpha1::DatabaseClaim>(namespace, name)?.as_ref(), kind),
            ChildKind::Secret => dynamic(self.secret(namespace?, name)?.as_ref(), kind),
            _ => self.child_store(kind)?.get(namespace, name),
        }
    }

    /// Objects that carry our managed-by label and all of `labels`; of one namespace, or of all.
    pub fn children(
        &self,
        kind: ChildKind,
        namespace: Option<&str>,
        labels: &[(&str, &str)],
    ) -> Vec<Arc<DynamicObject>> {
        fn dynamics<K: Typed>(objects: &[Arc<K>], kind: ChildKind) -> Vec<Arc<DynamicObject>> {
            objects.iter().filter_map(|object| dynamic(object.as_ref(), kind)).collect()
        }
        let all = match (kind, namespace) {
            (ChildKind::BettingService, Some(ns)) => dynamics(&self.list_in::<v1alpha1::BettingService>(ns), kind),
            (ChildKind::BettingService, None) => dynamics(&self.list::<v1alpha1::BettingService>(), kind),
            (ChildKind::DatabaseClaim, Some(ns)) => dynamics(&self.list_in::<v1alpha1::DatabaseClaim>(ns), kind),
            (ChildKind::DatabaseClaim, None) => dynamics(&self.list::<v1alpha1::DatabaseClaim>(), kind),
            (ChildKind::Secret, Some(ns)) => dynamics(&self.secrets(ns), kind),
            (ChildKind::Secret, None) => Vec::new(),
            _ => self.child_store(kind).map(|store| store.list(namespace)).unwrap_or_default(),
        };
        all.into_iter().filter(|object| is_ours(&object.metadata) && has_labels(&object.metadata, labels)).collect()
    }

    /// A Secret of a namespace whose watch runs: see [`Cache::watch_secrets`].
    pub fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        self.secret_store(namespace)?.get(Some(namespace), name)
    }

    /// All watched Secrets of a namespace.
    pub fn secrets(&self, namespace: &str) -> Vec<Arc<Secret>> {
        self.secret_store(namespace).map(|store| store.list(Some(namespace))).unwrap_or_default()
    }

    /// Whether the Secrets of the namespace were listed completely.
    pub fn secrets_ready(&self, namespace: &str) -> bool {
        self.secret_store(namespace).is_some_and(|store| store.is_ready())
    }

    fn secret_store(&self, namespace: &str) -> Option<Arc<Store<Secret>>> {
        let secrets = self.inner.secrets.read().unwrap_or_else(PoisonError::into_inner);
        secrets.get(namespace).map(|watch| watch.store.clone())
    }

    /// A store for the Secrets of a namespace with all listeners attached, and whether it is new.
    pub(super) fn add_secret_store(&self, namespace: &str) -> (Arc<Store<Secret>>, CancellationToken, bool) {
        let mut secrets = self.inner.secrets.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = secrets.get(namespace) {
            return (watch.store.clone(), watch.stop.clone(), false);
        }
        let store = Arc::new(Store::default());
        for listener in self.inner.secret_listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let listener = listener.clone();
            store.listen(move |change| listener(change));
        }
        let stop = CancellationToken::new();
        secrets.insert(namespace.to_owned(), SecretWatch { store: store.clone(), stop: stop.clone() });
        (store, stop, true)
    }

    /// Ends the watch of a namespace's Secrets, when the environment has gone.
    pub fn forget_secrets(&self, namespace: &str) {
        let removed = self.inner.secrets.write().unwrap_or_else(PoisonError::into_inner).remove(namespace);
        if let Some(watch) = removed {
            watch.stop.cancel();
        }
    }

    /// Takes a custom resource into the cache as its watch would.
    pub fn observe<K: Typed>(&self, object: K) {
        if let Some(store) = self.typed_store::<K>() {
            store.apply(Event::Apply(object));
        }
    }

    /// Takes an object that we make into the cache as its watch would; `false` if it cannot be decoded.
    pub fn observe_child(&self, kind: ChildKind, object: DynamicObject) -> bool {
        self.feed(kind, object, &Feed::Watch)
    }

    /// Takes what a write of ours answered.
    pub(super) fn written(&self, kind: ChildKind, object: DynamicObject) {
        // What cannot be decoded comes by the watch, which reports it.
        let _ = self.feed(kind, object, &Feed::Write);
    }

    /// Takes what a write of ours to a custom resource answered.
    pub(super) fn written_typed<K: Typed>(&self, object: K) {
        if let Some(store) = self.typed_store::<K>() {
            store.written(object);
        }
    }

    fn feed(&self, kind: ChildKind, object: DynamicObject, feed: &Feed) -> bool {
        fn put<T: Resource>(store: Option<Arc<Store<T>>>, object: Option<T>, feed: &Feed) -> bool {
            let (Some(store), Some(object)) = (store, object) else { return false };
            match feed {
                Feed::Watch => store.apply(Event::Apply(object)),
                Feed::Write => store.written(object),
            }
            true
        }
        match kind {
            ChildKind::BettingService => {
                put(self.typed_store::<v1alpha1::BettingService>(), object.try_parse().ok(), feed)
            }
            ChildKind::DatabaseClaim => {
                put(self.typed_store::<v1alpha1::DatabaseClaim>(), object.try_parse().ok(), feed)
            }
            ChildKind::Secret => {
                let namespace = object.namespace().unwrap_or_default();
                let store = match feed {
                    Feed::Watch => Some(self.add_secret_store(&namespace).0),
                    Feed::Write => self.secret_store(&namespace),
                };
                put(store, object.try_parse::<Secret>().ok(), feed)
            }
            _ => put(self.child_store(kind), Some(with_types(object, kind)), feed),
        }
    }

    /// Whether objects of the kind can be made: `false` while the API is not installed.
    pub fn available(&self, kind: ChildKind) -> bool {
        !kind.optional() || self.child_store(kind).is_some_and(|store| store.is_ready())
    }

    /// Declares every store complete without a watch: for tests that feed the cache themselves.
    pub fn set_ready(&self) {
        for store in self.inner.children.values() {
            store.set_ready();
        }
        for ready in self.typed_readiness() {
            (ready.set)();
        }
        for watch in self.inner.secrets.read().unwrap_or_else(PoisonError::into_inner).values() {
            watch.store.set_ready();
        }
    }

    /// Kinds that must be listed before any controller may decide, and are not yet; with the reason where one is known.
    pub fn missing(&self) -> Vec<String> {
        let troubles = self.inner.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |kind: &str| match troubles.get(kind) {
            Some(trouble) => format!("{kind}: {trouble}"),
            None => format!("{kind}: first listing is under way"),
        };
        let typed =
            self.typed_readiness().into_iter().filter(|entry| !(entry.is_ready)()).map(|entry| name(entry.kind));
        let children = ChildKind::watched()
            .filter(|kind| !kind.optional() && self.child_store(*kind).is_some_and(|store| !store.is_ready()))
            .map(|kind| name(kind.as_str()));
        typed.chain(children).collect()
    }

    /// Kinds of optional APIs that are not there, and watches that stopped getting on: shown, but no reason to be unready.
    pub fn troubles(&self) -> BTreeMap<String, String> {
        self.inner.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves when every kind that must be listed is.
    pub async fn wait_ready(&self) {
        self.wait_typed::<v1alpha1::Tenant>().await;
        self.wait_typed::<v1alpha1::Release>().await;
        self.wait_typed::<v1alpha1::BettingService>().await;
        self.wait_typed::<v1alpha1::Market>().await;
        self.wait_typed::<v1alpha1::DatabaseClass>().await;
        self.wait_typed::<v1alpha1::DatabaseClaim>().await;
        for kind in ChildKind::watched().filter(|kind| !kind.optional()) {
            if let Some(store) = self.child_store(kind) {
                store.wait_ready().await;
            }
        }
    }

    async fn wait_typed<K: Typed>(&self) {
        if let Some(store) = self.typed_store::<K>() {
            store.wait_ready().await;
        }
    }

    fn typed_readiness(&self) -> Vec<Readiness> {
        vec![
            self.readiness_of::<v1alpha1::Tenant>("Tenant"),
            self.readiness_of::<v1alpha1::Release>("Release"),
            self.readiness_of::<v1alpha1::BettingService>("BettingService"),
            self.readiness_of::<v1alpha1::Market>("Market"),
            self.readiness_of::<v1alpha1::DatabaseClass>("DatabaseClass"),
            self.readiness_of::<v1alpha1::DatabaseClaim>("DatabaseClaim"),
        ]
    }

    fn readiness_of<K: Typed>(&self, kind: &'static str) -> Readiness {
        let store = self.typed_store::<K>();
        let other = store.clone();
        Readiness {
            kind,
            is_ready: Box::new(move || store.as_ref().is_none_or(|store| store.is_ready())),
            set: Box::new(move || {
                if let Some(store) = &other {
                    store.set_ready();
                }
            }),
        }
    }

    /// Keys of the kind itself, for each change of anything but its status.
    pub(crate) fn own_changes<K: Typed>(&self) -> BoxStream<'static, ObjectRef<K>> {
        let (sender, stream) = trigger::channel();
        if let Some(store) = self.typed_store::<K>() {
            store.listen(move |change: &Change<K>| {
                let only_status = match (&change.old, &change.new) {
                    (Some(old), Some(new)) => same_intent(old.meta(), new.meta()),
                    _ => false,
                };
                let keys = change.sides().filter(|_| !only_status).map(|object| ObjectRef::from_obj(object.as_ref()));
                sender.send(keys)
            });
        }
        stream.boxed()
    }

    /// Keys of the `K` that controls, or by its labels owns, each object of ours that changes.
    pub fn subscribe<K: Typed>(&self) -> BoxStream<'static, ObjectRef<K>> {
        let (sender, stream) = trigger::channel();
        for store in self.inner.children.values() {
            let sender = sender.clone();
            store.listen(move |change| sender.send(change.sides().filter_map(|object| owner::<K>(&object.metadata))));
        }
        let listener = sender.clone();
        self.listen_secrets(move |change| {
            listener.send(change.sides().filter_map(|object| owner::<K>(&object.metadata)))
        });
        if let Some(store) = self.typed_store::<v1alpha1::BettingService>() {
            let sender = sender.clone();
            store.listen(move |change| {
                sender.send(change.sides().filter_map(|object| controller::<K>(&object.metadata)))
            });
        }
        if let Some(store) = self.typed_store::<v1alpha1::DatabaseClaim>() {
            store.listen(move |change| {
                sender.send(change.sides().filter_map(|object| controller::<K>(&object.metadata)))
            });
        }
        stream.boxed()
    }

    /// Keys that `map` gives for each changed object of another kind of ours, its status included; looks at both the old and the new state.
    pub fn on<Other: Typed, K: Typed>(
        &self,
        map: impl Fn(&Other) -> Vec<ObjectRef<K>> + Send + Sync + 'static,
    ) -> BoxStream<'static, ObjectRef<K>> {
        let (sender, stream) = trigger::channel();
        if let Some(store) = self.typed_store::<Other>() {
            store.listen(move |change| sender.send(change.sides().flat_map(|object| map(object.as_ref()))));
        }
        stream.boxed()
    }

    /// Keys that `map` gives for each changed object of a kind that we make.
    pub fn on_child<K: Typed>(
        &self,
        kind: ChildKind,
        map: impl Fn(&DynamicObject) -> Vec<ObjectRef<K>> + Send + Sync + 'static,
    ) -> BoxStream<'static, ObjectRef<K>> {
        let (sender, stream) = trigger::channel();
        if let Some(store) = self.child_store(kind) {
            store.listen(move |change| sender.send(change.sides().flat_map(|object| map(object.as_ref()))));
        }
        stream.boxed()
    }

    /// Keys that `map` gives for each changed Secret of a watched namespace.
    pub fn on_secret<K: Typed>(
        &self,
        map: impl Fn(&Secret) -> Vec<ObjectRef<K>> + Send + Sync + 'static,
    ) -> BoxStream<'static, ObjectRef<K>> {
        let (sender, stream) = trigger::channel();
        self.listen_secrets(move |change| sender.send(change.sides().flat_map(|object| map(object.as_ref()))));
        stream.boxed()
    }

    /// Attaches a listener to the Secrets of all namespaces, those watched now and later.
    fn listen_secrets(&self, listener: impl Fn(&Change<Secret>) -> bool + Send + Sync + 'static) {
        let listener: SecretListener = Arc::new(listener);
        let secrets = self.inner.secrets.read().unwrap_or_else(PoisonError::into_inner);
        for watch in secrets.values() {
            let listener = listener.clone();
            watch.store.listen(move |change| listener(change));
        }
        self.inner.secret_listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }
}

enum Feed {
    Watch,
    Write,
}

struct Readiness {
    kind: &'static str,
    is_ready: Box<dyn Fn() -> bool>,
    set: Box<dyn Fn()>,
}

fn boxed<K: Typed>() -> Box<dyn Any + Send + Sync> {
    Box::new(Arc::new(Store::<K>::default()))
}

/// A typed object in dynamic form.
fn dynamic<T: Serialize>(object: &T, kind: ChildKind) -> Option<Arc<DynamicObject>> {
    let object: DynamicObject = serde_json::from_value(serde_json::to_value(object).ok()?).ok()?;
    Some(Arc::new(with_types(object, kind)))
}

/// Items of a list come without apiVersion and kind.
pub(super) fn with_types(mut object: DynamicObject, kind: ChildKind) -> DynamicObject {
    let resource = kind.api_resource();
    object.types = Some(TypeMeta { api_version: resource.api_version, kind: resource.kind });
    object
}

/// Whether the object carries our managed-by label.
pub fn is_ours(meta: &ObjectMeta) -> bool {
    has_labels(meta, &[(labels::MANAGED_BY, labels::MANAGED_BY_PADDOCK)])
}

fn has_labels(meta: &ObjectMeta, wanted: &[(&str, &str)]) -> bool {
    let found = meta.labels.as_ref();
    wanted.iter().all(|(name, value)| found.and_then(|labels| labels.get(*name)).is_some_and(|found| found == value))
}

/// Equal but for status: what a person or controller can want with an object.
fn same_intent(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    old.uid == new.uid
        && old.generation == new.generation
        && old.labels == new.labels
        && old.annotations == new.annotations
        && old.finalizers == new.finalizers
        && old.deletion_timestamp == new.deletion_timestamp
}

fn controller<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> Option<ObjectRef<K>> {
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    if owner.kind != K::kind(&()) || !owner.api_version.starts_with(&format!("{}/", K::group(&()))) {
        return None;
    }
    Some(within(ObjectRef::new(&owner.name), meta))
}

/// The `K` that an object belongs to: by controller reference, else by the labels that [`super::owner`] sets.
fn owner<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> Option<ObjectRef<K>> {
    if let Some(found) = controller(meta) {
        return Some(found);
    }
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name));
    match K::kind(&()).as_ref() {
        // What belongs to a service or claim of the tenant is none of the Tenant's business.
        "Tenant" if label(labels::COMPONENT).is_none() && label(labels::CLAIM).is_none() => {
            label(labels::TENANT).map(|name| ObjectRef::new(name))
        }
        "BettingService" if label(labels::COMPONENT).is_some() && label(labels::CLAIM).is_none() => {
            label(labels::INSTANCE).map(|name| within(ObjectRef::new(name), meta))
        }
        "DatabaseClaim" => label(labels::CLAIM).map(|name| within(ObjectRef::new(name), meta)),
        _ => None,
    }
}

/// Our cluster-scoped kinds have keys without a namespace.
fn within<K: Resource<DynamicType = ()>>(key: ObjectRef<K>, meta: &ObjectMeta) -> ObjectRef<K> {
    match (K::kind(&()).as_ref(), &meta.namespace) {
        ("Tenant" | "Release" | "DatabaseClass", _) | (_, None) => key,
        (_, Some(namespace)) => key.within(namespace),
    }
}

impl Cache {
    /// The object of a key, as last seen.
    pub fn object(&self, key: &ObjectKey) -> Option<Arc<DynamicObject>> {
        self.child(key.kind, key.namespace.as_deref(), &key.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use serde_json::json;

    fn config_map(labels: &serde_json::Value, version: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "book", "namespace": "acme-prod", "uid": "1", "resourceVersion": version, "labels": labels},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_change_of_an_object_wakes_who_owns_it() {
        let cache = Cache::new();
        let mut services = Box::pin(cache.subscribe::<v1alpha1::BettingService>());
        let mut tenants = Box::pin(cache.subscribe::<v1alpha1::Tenant>());
        cache.observe_child(
            ChildKind::ConfigMap,
            config_map(&json!({"paddock.bet/tenant": "acme", "paddock.bet/component": "rates", "app.kubernetes.io/instance": "rates"}), "1"),
        );
        assert_eq!(services.next().now_or_never().flatten(), Some(ObjectRef::new("rates").within("acme-prod")));
        assert!(tenants.next().now_or_never().is_none(), "a service's object does not wake the Tenant");
        cache.observe_child(ChildKind::ConfigMap, config_map(&json!({"paddock.bet/tenant": "acme"}), "2"));
        assert_eq!(tenants.next().now_or_never().flatten(), Some(ObjectRef::new("acme")));
        assert!(services.next().now_or_never().flatten().is_some(), "the service learns that it lost the object");
    }

    #[test]
    fn children_are_found_by_labels_and_only_ours() {
        let cache = Cache::new();
        cache.observe_child(
            ChildKind::ConfigMap,
            config_map(&json!({"app.kubernetes.io/managed-by": "paddock", "a": "1"}), "1"),
        );
        assert_eq!(cache.children(ChildKind::ConfigMap, Some("acme-prod"), &[("a", "1")]).len(), 1);
        assert_eq!(cache.children(ChildKind::ConfigMap, Some("acme-prod"), &[("a", "2")]).len(), 0);
        assert_eq!(cache.children(ChildKind::ConfigMap, Some("acme-dev"), &[]).len(), 0);
        cache.observe_child(ChildKind::ConfigMap, config_map(&json!({"a": "1"}), "2"));
        assert_eq!(cache.children(ChildKind::ConfigMap, None, &[]).len(), 0, "without our label it is not ours");
    }

    #[test]
    fn names_what_is_not_listed_yet() {
        let cache = Cache::new();
        let missing = cache.missing();
        assert!(missing.iter().any(|text| text.starts_with("Tenant:")), "{missing:?}");
        assert!(!missing.iter().any(|text| text.contains("HTTPRoute")), "optional kinds hold nobody up");
        cache.set_ready();
        assert_eq!(cache.missing(), Vec::<String>::new());
    }
}
