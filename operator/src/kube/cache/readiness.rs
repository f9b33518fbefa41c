//! Whether the cache holds enough to decide by.

use super::Cache;
use crate::kube::child::ChildKind;
use std::{collections::BTreeMap, sync::PoisonError};

impl Cache {
    /// Whether objects of the kind can be made: `false` while the API is not installed.
    pub fn available(&self, kind: ChildKind) -> bool {
        !kind.optional() || self.child_store(kind).is_some_and(|store| store.ready.is_set())
    }

    /// Declares every store complete without a watch: for tests that feed the cache themselves.
    pub fn set_ready(&self) {
        for store in self.inner.children.values() {
            store.ready.set();
        }
        for typed in &self.inner.typed {
            typed.ready.set();
        }
        for watch in self.inner.secrets.read().unwrap_or_else(PoisonError::into_inner).values() {
            watch.store.ready.set();
        }
    }

    /// Kinds that must be listed before any controller may decide, and are not yet; with the reason where one is known.
    pub fn missing(&self) -> Vec<String> {
        let troubles = self.inner.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |kind: &str| match troubles.get(kind) {
            Some(trouble) => format!("{kind}: {trouble}"),
            None => format!("{kind}: first listing is under way"),
        };
        let typed = self.inner.typed.iter().filter(|typed| !typed.ready.is_set()).map(|typed| name(&typed.kind));
        let children = ChildKind::watched()
            .filter(|kind| !kind.optional() && self.child_store(*kind).is_some_and(|store| !store.ready.is_set()))
            .map(|kind| name(kind.as_str()));
        typed.chain(children).collect()
    }

    /// Kinds of optional APIs that are not there, and watches that stopped getting on: shown, but no reason to be unready.
    pub fn troubles(&self) -> BTreeMap<String, String> {
        self.inner.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves when every kind that must be listed is.
    pub async fn wait_ready(&self) {
        for typed in &self.inner.typed {
            typed.ready.wait().await;
        }
        for kind in ChildKind::watched().filter(|kind| !kind.optional()) {
            if let Some(store) = self.child_store(kind) {
                store.ready.wait().await;
            }
        }
    }
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
