//! How many connections of the stream may be open at once, per whom.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

/// Places per key. Only keys with a connection are remembered. Clones share them.
#[derive(Debug, Clone)]
pub struct Places<K> {
    most: u32,
    taken: Arc<Mutex<HashMap<K, u32>>>,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub struct Place<K: Copy + Eq + Hash> {
    key: K,
    taken: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K: Copy + Eq + Hash> Places<K> {
    /// So many per key.
    pub fn new(most: NonZeroU32) -> Self {
        Self { most: most.get(), taken: Arc::default() }
    }

    /// A place for a key; `None` if all of its places are taken.
    pub fn take(&self, key: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(key).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { key, taken: Arc::clone(&self.taken) })
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = taken.entry(self.key) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_places_and_nothing_is_kept_of_who_left() {
        let places = Places::new(NonZeroU32::new(2).unwrap());
        let (first, second) = (places.take("a"), places.take("a"));
        assert!(first.is_some() && second.is_some() && places.take("a").is_none());
        assert!(places.take("b").is_some());
        drop(first);
        let again = places.take("a");
        assert!(again.is_some() && places.take("a").is_none());
        drop((second, again));
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
