//! Secrets, watched by namespace only (rule O7).

use super::Cache;
use crate::kube::store::{Change, Store};
use k8s_openapi::api::core::v1::Secret;
use std::sync::{Arc, PoisonError};
use tokio_util::sync::CancellationToken;

pub(super) type SecretListener = Arc<dyn Fn(&Change<Secret>) -> bool + Send + Sync>;

pub(super) struct SecretWatch {
    pub(super) store: Arc<Store<Secret>>,
    pub(super) stop: CancellationToken,
}

impl Cache {
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
        self.secret_store(namespace).is_some_and(|store| store.ready.is_set())
    }

    pub(super) fn secret_store(&self, namespace: &str) -> Option<Arc<Store<Secret>>> {
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

    /// Attaches a listener to the Secrets of all namespaces, those watched now and later.
    pub(super) fn listen_secrets(&self, listener: impl Fn(&Change<Secret>) -> bool + Send + Sync + 'static) {
        let listener: SecretListener = Arc::new(listener);
        let secrets = self.inner.secrets.read().unwrap_or_else(PoisonError::into_inner);
        for watch in secrets.values() {
            let listener = listener.clone();
            watch.store.listen(move |change| listener(change));
        }
        self.inner.secret_listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }
}
