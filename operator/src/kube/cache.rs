//! What the apiserver holds, as the watches last showed it. Every read at rest comes from here (rule O1).
//!
//! One watch per kind for the whole process: our own kinds decoded one by one behind a guard (rule O4), what we make as dynamic
//! objects with our managed-by label, Secrets by namespace only (rule O7). Changes reach controllers as keys in coalescing channels.

mod readiness;
mod secrets;
mod subscribe;
mod watch;

pub use subscribe::only_status;

use super::{
    child::{ChildKind, ObjectKey},
    store::{Ready, Store},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Resource, ResourceExt as _,
    core::{DynamicObject, ObjectMeta, TypeMeta},
    runtime::watcher::Event,
};
use paddock_crds::{labels, v1alpha1};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex, RwLock},
};

/// A custom resource that the cache holds by type.
pub trait Typed:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static
{
}
impl<K> Typed for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static
{
}

/// The store of one kind of ours, and what is done with it by whoever does not know the kind.
struct TypedStore {
    kind: String,
    /// `Arc<Store<K>>`.
    store: Box<dyn Any + Send + Sync>,
    ready: Ready,
    watch: fn(&Cache, &watch::Watching),
}

impl TypedStore {
    fn of<K: Typed>() -> Self {
        let store = Arc::new(Store::<K>::default());
        let ready = store.ready.clone();
        Self { kind: K::kind(&()).into_owned(), store: Box::new(store), ready, watch: Cache::watch_typed::<K> }
    }
}

struct Inner {
    typed: Vec<TypedStore>,
    children: HashMap<ChildKind, Arc<Store<DynamicObject>>>,
    secrets: RwLock<BTreeMap<String, secrets::SecretWatch>>,
    secret_listeners: RwLock<Vec<secrets::SecretListener>>,
    /// Why a watch does not get on, by kind.
    troubles: Mutex<BTreeMap<String, String>>,
    /// Set by [`Cache::start`]: what a Secret watch needs that begins later.
    watching: RwLock<Option<watch::Watching>>,
}

/// Shared view of the apiserver's objects.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl Cache {
    /// An empty cache. [`Cache::start`] fills it; without that, [`Cache::observe`] and [`Cache::observe_child`] do.
    pub fn new() -> Self {
        let typed = Vec::from([
            TypedStore::of::<v1alpha1::Tenant>(),
            TypedStore::of::<v1alpha1::Release>(),
            TypedStore::of::<v1alpha1::BettingService>(),
            TypedStore::of::<v1alpha1::Market>(),
            TypedStore::of::<v1alpha1::DatabaseClass>(),
            TypedStore::of::<v1alpha1::DatabaseClaim>(),
            // The loop of the controllers is tested over a kind without rules of its own.
            #[cfg(test)]
            TypedStore::of::<k8s_openapi::api::core::v1::ConfigMap>(),
        ]);
        let children = ChildKind::watched().map(|kind| (kind, Arc::default())).collect();
        let cache = Self {
            inner: Arc::new(Inner {
                typed,
                children,
                secrets: RwLock::default(),
                secret_listeners: RwLock::default(),
                troubles: Mutex::default(),
                watching: RwLock::default(),
            }),
        };
        cache.follow_namespaces();
        cache
    }

    /// With the namespace of an environment go the rights to its Secrets: their watch would ask in vain for ever.
    fn follow_namespaces(&self) {
        let inner = Arc::downgrade(&self.inner);
        let Some(namespaces) = self.child_store(ChildKind::Namespace) else { return };
        namespaces.listen(move |change| {
            let Some(inner) = inner.upgrade() else { return false };
            if let (Some(old), None) = (&change.old, &change.new) {
                Self { inner }.forget_secrets(&old.name_any());
            }
            true
        });
    }

    fn typed_store<K: Typed>(&self) -> Option<Arc<Store<K>>> {
        self.inner.typed.iter().find_map(|typed| typed.store.downcast_ref::<Arc<Store<K>>>()).cloned()
    }

    fn child_store(&self, kind: ChildKind) -> Option<Arc<Store<DynamicObject>>> {
        self.inner.children.get(&kind).cloned()
    }

    /// A custom resource of ours.
    pub fn get<K: Typed>(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        self.typed_store::<K>()?.get(namespace, name)
    }

    /// Whether a custom resource of ours exists that cannot be decoded: it is not gone, whatever [`Cache::get`] says.
    pub fn is_unreadable<K: Typed>(&self, namespace: Option<&str>, name: &str) -> bool {
        self.typed_store::<K>().is_some_and(|store| store.is_unreadable(namespace, name))
    }

    /// Whether custom resources of a kind exist in a namespace that cannot be decoded.
    pub fn has_unreadable_in<K: Typed>(&self, namespace: &str) -> bool {
        self.typed_store::<K>().is_some_and(|store| store.has_unreadable_in(namespace))
    }

    /// Names of the custom resources of a kind that exist and cannot be decoded.
    pub fn unreadables<K: Typed>(&self) -> Vec<String> {
        self.typed_store::<K>().map(|store| store.unreadables()).unwrap_or_default()
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

    /// The object of a key, as last seen.
    pub fn object(&self, key: &ObjectKey) -> Option<Arc<DynamicObject>> {
        self.child(key.kind, key.namespace.as_deref(), &key.name)
    }

    /// Takes a custom resource into the cache as its watch would.
    pub fn observe<K: Typed>(&self, object: K) {
        if let Some(store) = self.typed_store::<K>() {
            store.apply(Event::Apply(object));
        }
    }

    /// Takes an event of a custom resource's watch into the cache.
    #[cfg(test)]
    pub(crate) fn watched<K: Typed>(&self, event: Event<K>) {
        if let Some(store) = self.typed_store::<K>() {
            store.apply(event);
        }
    }

    /// Takes a custom resource that cannot be decoded into the cache as its watch would.
    #[cfg(test)]
    pub(crate) fn observe_unreadable<K: Typed>(&self, meta: &ObjectMeta) {
        if let Some(store) = self.typed_store::<K>() {
            store.skip(meta, false);
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

    /// Takes that an object which we make has gone, as a delete of ours answered.
    pub(crate) fn deleted(&self, kind: ChildKind, meta: &ObjectMeta) {
        if let Some(store) = self.child_store(kind) {
            store.forget(meta);
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
}

enum Feed {
    Watch,
    Write,
}

/// A typed object in dynamic form.
fn dynamic<T: Serialize>(object: &T, kind: ChildKind) -> Option<Arc<DynamicObject>> {
    let object: DynamicObject = serde_json::from_value(serde_json::to_value(object).ok()?).ok()?;
    Some(Arc::new(with_types(object, kind)))
}

/// Items of a list come without apiVersion and kind.
fn with_types(mut object: DynamicObject, kind: ChildKind) -> DynamicObject {
    let resource = kind.api_resource();
    object.types = Some(TypeMeta { api_version: resource.api_version, kind: resource.kind });
    if kind == ChildKind::Pod {
        // Others make them; whose their fields are is no matter of ours.
        object.metadata.managed_fields = None;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn config_map(labels: &serde_json::Value, version: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "book", "namespace": "acme-prod", "uid": "1", "resourceVersion": version, "labels": labels},
        }))
        .unwrap()
    }

    #[test]
    fn secrets_go_with_their_namespace() {
        let cache = Cache::new();
        let namespace: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme-prod", "uid": "1", "resourceVersion": "1"},
        }))
        .unwrap();
        cache.observe_child(ChildKind::Namespace, namespace.clone());
        let (_, stop, _) = cache.add_secret_store("acme-prod");
        let (_, other, _) = cache.add_secret_store("acme-dev");
        cache.child_store(ChildKind::Namespace).unwrap().apply(Event::Delete(namespace));
        assert_eq!((stop.is_cancelled(), other.is_cancelled()), (true, false));
        assert!(cache.secret_store("acme-prod").is_none());
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
}
