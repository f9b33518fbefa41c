//! How often a caller may ask, in bounded memory.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;

/// Callers that are remembered; the least used go first.
const REMEMBERED: u64 = 100_000;
const IDLE: Duration = Duration::from_mins(2);

/// A limit per key: a burst of two seconds' worth.
#[derive(Clone)]
pub struct Limits<K> {
    quota: Quota,
    callers: Cache<K, Arc<DefaultDirectRateLimiter>>,
}

impl<K: Hash + Eq + Send + Sync + 'static> Limits<K> {
    /// Some requests per second.
    pub fn per_second(requests: NonZeroU32) -> Self {
        Self {
            quota: Quota::per_second(requests).allow_burst(requests.saturating_add(requests.get())),
            callers: Cache::builder().max_capacity(REMEMBERED).time_to_idle(IDLE).build(),
        }
    }

    /// Counts a request; `false` = refuse it.
    pub fn allows(&self, key: K) -> bool {
        self.callers.get_with(key, || Arc::new(RateLimiter::direct(self.quota))).check().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_burst() {
        let limits = Limits::per_second(NonZeroU32::new(2).unwrap());
        assert_eq!((0..10).filter(|_| limits.allows("a")).count(), 4);
        assert!(limits.allows("b"));
    }
}
