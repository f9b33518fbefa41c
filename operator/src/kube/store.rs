//! The objects of one kind as the watch last showed them, with listeners to every change.

use kube::{Resource, core::ObjectMeta, runtime::watcher::Event};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use tokio::sync::watch;

/// Namespace (empty for cluster-scoped kinds) and name.
type Key = (String, String);

/// What happened to one object.
pub struct Change<T> {
    /// As it was; `None` when it is new.
    pub old: Option<Arc<T>>,
    /// As it is; `None` when it has gone.
    pub new: Option<Arc<T>>,
}

impl<T> Change<T> {
    /// Both sides that exist: a listener that maps objects to keys looks at each, so that a changed label reaches both.
    pub fn sides(&self) -> impl Iterator<Item = &Arc<T>> {
        self.old.iter().chain(self.new.iter())
    }
}

/// Whether a first complete listing was seen. Clones are the same flag.
#[derive(Clone, Default)]
pub struct Ready(watch::Sender<bool>);

impl Ready {
    /// Whether it was.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Declares that it was: by the watch, or without one.
    pub fn set(&self) {
        self.0.send_replace(true);
    }

    /// Resolves when it was.
    pub async fn wait(&self) {
        // The sender lives as long as `self`, so the only error cannot happen.
        let _ = self.0.subscribe().wait_for(|ready| *ready).await;
    }
}

type Listener<T> = Box<dyn Fn(&Change<T>) -> bool + Send + Sync>;

/// A listing that is under way.
struct Staged<T> {
    objects: BTreeMap<Key, Arc<T>>,
    unreadable: BTreeSet<Key>,
}

/// Objects of one kind.
pub struct Store<T> {
    objects: RwLock<BTreeMap<Key, Arc<T>>>,
    /// Objects that exist and cannot be decoded as they are now. What they were before, where that is known, stays in `objects`.
    unreadable: RwLock<BTreeSet<Key>>,
    /// Objects of a listing that is under way.
    staged: Mutex<Option<Staged<T>>>,
    listeners: RwLock<Vec<Listener<T>>>,
    /// Whether the objects are all there.
    pub ready: Ready,
}

impl<T: Resource> Default for Store<T> {
    fn default() -> Self {
        Self {
            objects: RwLock::default(),
            unreadable: RwLock::default(),
            staged: Mutex::default(),
            listeners: RwLock::default(),
            ready: Ready::default(),
        }
    }
}

impl<T: Resource> Store<T> {
    /// One object.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<T>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(&(namespace.unwrap_or_default().to_owned(), name.to_owned())).cloned()
    }

    /// All objects, or those of one namespace, in order of name.
    pub fn list(&self, namespace: Option<&str>) -> Vec<Arc<T>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        match namespace {
            None => objects.values().cloned().collect(),
            Some(namespace) => objects
                .range((Bound::Included((namespace.to_owned(), String::new())), Bound::Unbounded))
                .take_while(|((found, _), _)| found == namespace)
                .map(|(_, object)| object.clone())
                .collect(),
        }
    }

    /// Whether an object exists of which nobody can read what it says now.
    pub fn is_unreadable(&self, namespace: Option<&str>, name: &str) -> bool {
        self.unreadable().contains(&(namespace.unwrap_or_default().to_owned(), name.to_owned()))
    }

    /// Whether objects exist in a namespace of which nobody can read what they say now.
    pub fn has_unreadable_in(&self, namespace: &str) -> bool {
        self.unreadable().iter().any(|(found, _)| found == namespace)
    }

    /// Names of the objects that nobody can read, in order of namespace and name.
    pub fn unreadables(&self) -> Vec<String> {
        self.unreadable().iter().map(|(_, name)| name.clone()).collect()
    }

    /// Takes an object of which only the metadata can be read, of a listing that is under way or by itself.
    pub fn skip(&self, meta: &ObjectMeta, listed: bool) {
        match self.staged().as_mut().filter(|_| listed) {
            Some(staged) => _ = staged.unreadable.insert(key(meta)),
            None => _ = self.unreadable().insert(key(meta)),
        }
    }

    /// Adds a listener; it is dropped once it answers `false`.
    pub fn listen(&self, listener: impl Fn(&Change<T>) -> bool + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Takes one event of the watch.
    pub fn apply(&self, event: Event<T>) {
        match event {
            Event::Init => {
                *self.staged() = Some(Staged { objects: BTreeMap::new(), unreadable: BTreeSet::new() });
            }
            Event::InitApply(object) => {
                if let Some(staged) = self.staged().as_mut() {
                    staged.objects.insert(key(object.meta()), Arc::new(trimmed(object)));
                }
            }
            Event::InitDone => {
                let staged = self.staged().take();
                if let Some(staged) = staged {
                    self.replace(staged);
                }
                self.ready.set();
            }
            Event::Apply(object) => self.insert(object, true),
            Event::Delete(object) => self.forget(object.meta()),
        }
    }

    /// Takes the end of an object of which only the metadata is known.
    pub fn forget(&self, meta: &ObjectMeta) {
        let old = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            let key = key(meta);
            self.unreadable().remove(&key);
            // The end of an earlier object of that name says nothing about the one that a write of ours made since.
            let later = objects.get(&key).is_some_and(|known| {
                known.meta().uid != meta.uid
                    && number(known.meta()).zip(number(meta)).is_some_and(|(known, end)| known > end)
            });
            if later { None } else { objects.remove(&key) }
        };
        if let Some(old) = old {
            self.notify(&[Change { old: Some(old), new: None }]);
        }
    }

    /// Takes what a write of ours answered, so that the next reconcile does not read the state before it. Only an object
    /// that is known is replaced: one that is not may have been deleted meanwhile.
    pub fn written(&self, object: T) {
        self.insert(object, false);
    }

    fn insert(&self, object: T, new_too: bool) {
        let change = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            let key = key(object.meta());
            let old = objects.get(&key).cloned();
            match &old {
                Some(old) if !is_newer(&object, old.as_ref()) => return,
                None if !new_too => return,
                _ => {}
            }
            self.unreadable().remove(&key);
            let new = Arc::new(trimmed(object));
            objects.insert(key, new.clone());
            Change { old, new: Some(new) }
        };
        self.notify(&[change]);
    }

    fn replace(&self, staged: Staged<T>) {
        let mut changes = Vec::new();
        {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            let mut before = std::mem::take(&mut *objects);
            // What cannot be read any more has not gone: what it said last is the best that is known.
            for key in &staged.unreadable {
                objects.extend(before.remove_entry(key));
            }
            *self.unreadable() = staged.unreadable;
            for (key, new) in staged.objects {
                match before.remove(&key) {
                    Some(old) if !is_newer(new.as_ref(), old.as_ref()) => {
                        objects.insert(key, old);
                    }
                    old => {
                        objects.insert(key, new.clone());
                        changes.push(Change { old, new: Some(new) });
                    }
                }
            }
            changes.extend(before.into_values().map(|old| Change { old: Some(old), new: None }));
        }
        self.notify(&changes);
    }

    /// Calls the listeners, after all locks on objects are released: they may read the store.
    fn notify(&self, changes: &[Change<T>]) {
        let mut gone = false;
        {
            let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                for listener in listeners.iter() {
                    gone |= !listener(change);
                }
            }
        }
        if gone {
            // The probe change reaches nobody: it has no sides.
            let probe = Change { old: None, new: None };
            self.listeners.write().unwrap_or_else(PoisonError::into_inner).retain(|listener| listener(&probe));
        }
    }

    fn staged(&self) -> std::sync::MutexGuard<'_, Option<Staged<T>>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreadable(&self) -> std::sync::RwLockWriteGuard<'_, BTreeSet<Key>> {
        self.unreadable.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without what nobody reads: which fields of a status belong to whom is longer than the status.
fn trimmed<T: Resource>(mut object: T) -> T {
    if let Some(entries) = &mut object.meta_mut().managed_fields {
        entries.retain(|entry| entry.subresource.as_deref().is_none_or(str::is_empty));
    }
    object
}

fn key(meta: &ObjectMeta) -> Key {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Whether `new` is a later state than `old`. Resource versions are decimal numbers of one sequence.
fn is_newer<T: Resource>(new: &T, old: &T) -> bool {
    match (number(new.meta()), number(old.meta())) {
        (Some(new), Some(old)) => new > old,
        _ => true,
    }
}

fn number(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, version: u64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some("acme-prod".into()),
                name: Some(name.into()),
                uid: Some(format!("uid-{name}")),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn recorded(store: &Store<ConfigMap>) -> Arc<Mutex<Vec<String>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        store.listen(move |change| {
            let name = change.sides().next().and_then(|object| object.metadata.name.clone()).unwrap_or_default();
            let sign = if change.new.is_some() { '+' } else { '-' };
            if !name.is_empty() {
                log.lock().unwrap().push(format!("{sign}{name}"));
            }
            true
        });
        seen
    }

    #[test]
    fn a_relisting_tells_what_went_meanwhile() {
        let store = Store::default();
        let seen = recorded(&store);
        for event in [Event::Init, Event::InitApply(object("a", 1)), Event::InitApply(object("b", 2))] {
            store.apply(event);
        }
        assert!(
            !store.ready.is_set() && store.list(None).is_empty(),
            "nothing is visible before the listing is complete"
        );
        store.apply(Event::InitDone);
        assert!(store.ready.is_set());
        for event in [Event::Init, Event::InitApply(object("b", 2)), Event::InitApply(object("c", 7)), Event::InitDone]
        {
            store.apply(event);
        }
        assert_eq!(*seen.lock().unwrap(), ["+a", "+b", "+c", "-a"]);
    }

    #[test]
    fn an_older_event_never_undoes_a_write_of_ours() {
        let store = Store::default();
        store.apply(Event::Apply(object("a", 5)));
        store.written(object("a", 9));
        store.apply(Event::Apply(object("a", 7)));
        let version =
            |name| store.get(Some("acme-prod"), name).and_then(|found| found.metadata.resource_version.clone());
        assert_eq!(version("a").as_deref(), Some("9"));
        store.written(object("new", 10));
        assert_eq!(version("new"), None, "only the watch brings new objects");
        store.apply(Event::Delete(object("a", 11)));
        assert_eq!(version("a"), None);
    }

    #[test]
    fn the_end_of_an_earlier_object_does_not_hide_its_successor() {
        let store = Store::default();
        store.apply(Event::Apply(object("a", 5)));
        let mut successor = object("a", 9);
        successor.metadata.uid = Some("another".into());
        store.written(successor);
        store.apply(Event::Delete(object("a", 7)));
        assert_eq!(store.list(None).len(), 1);
        let mut ended = object("a", 12);
        ended.metadata.uid = Some("another".into());
        store.apply(Event::Delete(ended));
        assert_eq!(store.list(None).len(), 0);
    }

    #[test]
    fn what_cannot_be_read_any_more_has_not_gone() {
        let store = Store::default();
        let seen = recorded(&store);
        store.apply(Event::Apply(object("a", 1)));
        store.skip(&object("a", 2).metadata, false);
        let known = |name| (store.get(Some("acme-prod"), name).is_some(), store.is_unreadable(Some("acme-prod"), name));
        assert_eq!(known("a"), (true, true), "as it was, and it is known that it is so no more");
        store.apply(Event::Init);
        store.skip(&object("a", 2).metadata, true);
        store.skip(&object("b", 3).metadata, true);
        assert_eq!(known("b"), (false, false));
        store.apply(Event::InitDone);
        assert_eq!((known("a"), known("b")), ((true, true), (false, true)));
        assert!(store.has_unreadable_in("acme-prod") && !store.has_unreadable_in("acme"));
        assert_eq!(*seen.lock().unwrap(), ["+a"]);
        store.apply(Event::Apply(object("a", 4)));
        store.forget(&object("b", 5).metadata);
        assert_eq!((known("a"), known("b")), ((true, false), (false, false)));
        for event in [Event::Init, Event::InitDone] {
            store.apply(event);
        }
        assert_eq!(known("a"), (false, false));
    }

    #[test]
    fn lists_one_namespace() {
        let store = Store::default();
        store.apply(Event::Apply(object("a", 1)));
        let mut other = object("b", 2);
        other.metadata.namespace = Some("acme-prod2".into());
        store.apply(Event::Apply(other));
        assert_eq!(store.list(Some("acme-prod")).len(), 1);
        assert_eq!(store.list(Some("acme")).len(), 0);
        assert_eq!(store.list(None).len(), 2);
    }

    #[test]
    fn a_listener_that_is_gone_is_dropped() {
        let store: Store<ConfigMap> = Store::default();
        store.listen(|_| false);
        store.apply(Event::Apply(object("a", 1)));
        assert!(store.listeners.read().unwrap().is_empty());
    }
}
