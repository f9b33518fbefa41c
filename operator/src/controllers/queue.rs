//! The work list of one controller: which object is reconciled when. Pure; time comes from the caller.
//!
//! An object is reconciled by one task at a time. A trigger during its reconcile runs it once more afterwards; a trigger while it
//! waits for a later time runs it now, without losing the count of its failures.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
    time::Duration,
};
use tokio::time::Instant;

/// First wait after a lost race: the watch is about to bring the newer state.
const SOON: Duration = Duration::from_millis(250);
/// First wait after a fault.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait after a fault.
const LONGEST: Duration = Duration::from_mins(5);

#[derive(Debug, Default)]
struct Entry {
    /// When it is due; `None` while nothing is planned.
    due: Option<Instant>,
    running: bool,
    /// Triggered while it ran.
    again: bool,
    /// Faults in a row that ended a wait; retries that a trigger brought forward do not count.
    failures: u32,
    /// Races lost in a row.
    races: u32,
    /// Whether the run under way was brought forward by a trigger inside its wait.
    early: bool,
}

/// Work list over keys.
#[derive(Debug)]
pub struct Queue<K> {
    entries: HashMap<K, Entry>,
    /// Keys by the time that they are due.
    times: BTreeMap<Instant, HashSet<K>>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), times: BTreeMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// The object changed: reconcile it now.
    pub fn trigger(&mut self, key: K, now: Instant) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.running {
            entry.again = true;
            return;
        }
        if entry.due.is_some_and(|due| due <= now) {
            return;
        }
        entry.early = entry.failures > 0;
        self.plan(key, now);
    }

    /// An object that is due, marked as running.
    pub fn take(&mut self, now: Instant) -> Option<K> {
        let (time, keys) = self.times.first_key_value()?;
        if *time > now {
            return None;
        }
        let key = keys.iter().next()?.clone();
        self.unplan(&key);
        let entry = self.entries.get_mut(&key)?;
        entry.running = true;
        Some(key)
    }

    /// When the next object is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.times.first_key_value().map(|(time, _)| *time)
    }

    /// How many objects are due.
    pub fn depth(&self, now: Instant) -> usize {
        self.times.range(..=now).map(|(_, keys)| keys.len()).sum()
    }

    /// How many objects failed last time.
    pub fn in_backoff(&self) -> usize {
        self.entries.values().filter(|entry| entry.failures > 0).count()
    }

    /// The reconcile went well: the next is in `after`, or at once if it was triggered meanwhile.
    pub fn done(&mut self, key: &K, now: Instant, after: Duration) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.failures = 0;
        entry.races = 0;
        self.finish(key, now, after);
    }

    /// The reconcile ended in a fault: the next is in a time that doubles with each fault in a row. `fraction` in 0..1 spreads it.
    pub fn failed(&mut self, key: &K, now: Instant, fraction: f64) -> Duration {
        let Some(entry) = self.entries.get_mut(key) else { return FIRST };
        if !entry.early || entry.failures == 0 {
            entry.failures = entry.failures.saturating_add(1);
        }
        let wait = FIRST.saturating_mul(1 << (entry.failures - 1).min(9)).min(LONGEST);
        // Between three quarters and the whole.
        let wait = wait.mul_f64(0.75 + fraction.clamp(0.0, 1.0) / 4.0);
        self.finish(key, now, wait);
        wait
    }

    /// Another writer was faster: the next is soon, and less so each time. `fraction` as for [`Queue::failed`].
    pub fn raced(&mut self, key: &K, now: Instant, fraction: f64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.races = entry.races.saturating_add(1);
        let wait = SOON.saturating_mul(1 << (entry.races - 1).min(7));
        self.finish(key, now, wait.mul_f64(0.75 + fraction.clamp(0.0, 1.0) / 4.0));
    }

    /// The object is gone.
    pub fn forget(&mut self, key: &K) {
        let again = self.entries.get(key).is_some_and(|entry| entry.again);
        self.unplan(key);
        self.entries.remove(key);
        if again {
            // Made anew while its end was looked at.
            self.entries.insert(key.clone(), Entry::default());
            self.plan(key.clone(), Instant::now());
        }
    }

    fn finish(&mut self, key: &K, now: Instant, after: Duration) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.running = false;
        let again = std::mem::take(&mut entry.again);
        entry.early = again && entry.failures > 0;
        self.plan(key.clone(), if again { now } else { now + after });
    }

    fn plan(&mut self, key: K, at: Instant) {
        self.unplan(&key);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.due = Some(at);
            self.times.entry(at).or_default().insert(key);
        }
    }

    fn unplan(&mut self, key: &K) {
        let Some(due) = self.entries.get_mut(key).and_then(|entry| entry.due.take()) else { return };
        if let Some(keys) = self.times.get_mut(&due) {
            keys.remove(key);
            if keys.is_empty() {
                self.times.remove(&due);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn one_run_at_a_time_and_once_more_if_triggered_meanwhile() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.trigger("a", now);
        queue.trigger("a", now);
        assert_eq!((queue.depth(now), queue.take(now), queue.take(now)), (1, Some("a"), None));
        queue.trigger("a", now);
        assert_eq!(queue.take(now), None, "it runs");
        queue.done(&"a", now, MINUTE);
        assert_eq!(queue.take(now), Some("a"));
        queue.done(&"a", now, MINUTE);
        assert_eq!((queue.take(now), queue.next_due()), (None, Some(now + MINUTE)));
        assert_eq!(queue.take(now + MINUTE), Some("a"));
    }

    #[test]
    fn waits_double_and_success_resets_them() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.trigger("a", now);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300] {
            assert_eq!(queue.take(now), Some("a"));
            assert_eq!(queue.failed(&"a", now, 1.0), Duration::from_secs(seconds));
            now += Duration::from_secs(seconds);
        }
        assert_eq!(queue.in_backoff(), 1);
        assert_eq!(queue.take(now), Some("a"));
        queue.done(&"a", now, MINUTE);
        assert_eq!(queue.in_backoff(), 0);
        assert_eq!(queue.take(now + MINUTE), Some("a"));
        assert_eq!(queue.failed(&"a", now, 0.0), Duration::from_millis(750));
    }

    #[test]
    fn lost_races_are_repeated_soon_but_not_for_ever() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.trigger("a", now);
        for millis in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000] {
            assert_eq!(queue.take(now), Some("a"));
            queue.raced(&"a", now, 1.0);
            assert_eq!((queue.next_due(), queue.in_backoff()), (Some(now + Duration::from_millis(millis)), 0));
            now += Duration::from_millis(millis);
        }
    }

    #[test]
    fn triggers_inside_a_wait_do_not_make_it_longer() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.trigger("a", now);
        for _ in 0..5 {
            assert_eq!(queue.take(now), Some("a"));
            assert_eq!(queue.failed(&"a", now, 1.0), Duration::from_secs(1));
            queue.trigger("a", now);
        }
    }

    #[test]
    fn forgets_objects_that_are_gone() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.trigger("a", now);
        assert_eq!(queue.take(now), Some("a"));
        queue.failed(&"a", now, 0.0);
        queue.forget(&"a");
        assert_eq!((queue.in_backoff(), queue.next_due()), (0, None));
        queue.trigger("a", now);
        assert_eq!(queue.take(now), Some("a"));
        queue.trigger("a", now);
        queue.forget(&"a");
        assert!(queue.next_due().is_some(), "made anew meanwhile");
    }
}
