//! Changes of objects as keys for controllers, in channels that coalesce.

use super::{Cache, Typed};
use crate::kube::{child::ChildKind, store::Change, trigger};
use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Resource,
    core::{DynamicObject, ObjectMeta},
    runtime::reflector::ObjectRef,
};
use paddock_crds::{labels, v1alpha1};

impl Cache {
    /// Keys of the kind itself, for each change of anything but its status.
    pub(crate) fn own_changes<K: Typed>(&self) -> BoxStream<'static, ObjectRef<K>> {
        let (sender, stream) = trigger::channel();
        if let Some(store) = self.typed_store::<K>() {
            store.listen(move |change: &Change<K>| {
                let sides = change.sides().filter(|_| !only_status(change));
                let keys = sides.map(|object| ObjectRef::from_obj(object.as_ref()));
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
        self.on_change(move |change: &Change<Other>| change.sides().flat_map(|object| map(object.as_ref())).collect())
    }

    /// As [`Self::on`], for who reads nothing of the status.
    pub fn on_intent<Other: Typed, K: Typed>(
        &self,
        map: impl Fn(&Other) -> Vec<ObjectRef<K>> + Send + Sync + 'static,
    ) -> BoxStream<'static, ObjectRef<K>> {
        self.on_change(move |change: &Change<Other>| {
            let sides = change.sides().filter(|_| !only_status(change));
            sides.flat_map(|object| map(object.as_ref())).collect()
        })
    }

    /// Keys that `map` gives for each change of an object of another kind of ours.
    pub fn on_change<Other: Typed, K: Typed>(
        &self,
        map: impl Fn(&Change<Other>) -> Vec<ObjectRef<K>> + Send + Sync + 'static,
    ) -> BoxStream<'static, ObjectRef<K>> {
        let (sender, stream) = trigger::channel();
        if let Some(store) = self.typed_store::<Other>() {
            store.listen(move |change| sender.send(map(change)));
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
}

/// Whether a change is of nothing but the status.
pub fn only_status<T: Resource>(change: &Change<T>) -> bool {
    matches!((&change.old, &change.new), (Some(old), Some(new)) if same_intent(old.meta(), new.meta()))
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

/// The `K` that an object belongs to: by controller reference, else by the labels that [`crate::kube::owner`] sets.
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

#[cfg(test)]
mod tests {
    use super::{super::tests::config_map, *};
    use futures::FutureExt as _;
    use serde_json::json;

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
}
