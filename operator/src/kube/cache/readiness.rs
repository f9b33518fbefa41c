//! Whether the cache holds enough to decide by.

use super::{Cache, Typed};
use crate::kube::child::ChildKind;
use paddock_crds::v1alpha1;
use std::{collections::BTreeMap, sync::PoisonError};

impl Cache {
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
}

struct Readiness {
    kind: &'static str,
    is_ready: Box<dyn Fn() -> bool>,
    set: Box<dyn Fn()>,
}

#[cfg(test)]
mod tests {
    use super::*;

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
