//! Coalescing channel from watches to a controller: a set of keys, so that it is bounded by the number of objects.

use futures::{Stream, StreamExt as _};
use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::Notify;

struct Pending<T> {
    keys: Mutex<HashSet<T>>,
    wake: Notify,
}

/// Sending end; it does not keep the channel alive.
pub struct Sender<T>(Weak<Pending<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Eq + Hash> Sender<T> {
    /// Adds keys. `false` when the receiver is gone.
    #[must_use]
    pub fn send(&self, keys: impl IntoIterator<Item = T>) -> bool {
        let Some(pending) = self.0.upgrade() else { return false };
        let mut set = pending.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let before = set.len();
        set.extend(keys);
        if set.len() > before {
            pending.wake.notify_one();
        }
        true
    }
}

/// A channel of keys: a key that is sent twice before it is taken comes out once.
pub fn channel<T: Eq + Hash + Clone + Send + 'static>() -> (Sender<T>, impl Stream<Item = T> + Send + 'static) {
    let pending = Arc::new(Pending { keys: Mutex::new(HashSet::new()), wake: Notify::new() });
    let sender = Sender(Arc::downgrade(&pending));
    let stream = futures::stream::unfold(pending, |pending| async move {
        loop {
            let next = {
                let mut keys = pending.keys.lock().unwrap_or_else(PoisonError::into_inner);
                let next = keys.iter().next().cloned();
                if let Some(key) = &next {
                    keys.remove(key);
                }
                next
            };
            match next {
                Some(key) => return Some((key, pending)),
                // A permit is kept if a key arrived since the look.
                None => pending.wake.notified().await,
            }
        }
    });
    (sender, stream)
}

/// The keys of a channel in waves: what comes in the `period` after a first key comes with it, once per key. One thing is seldom all that
/// happens, and who acts on the first alone acts again for the others.
pub fn waves<T: Eq + Hash + Send + 'static>(
    keys: impl Stream<Item = T> + Send + 'static,
    period: Duration,
) -> impl Stream<Item = T> + Send + 'static {
    // A wave has a bound only because the adapter wants one: what is beyond comes with the next.
    let waves = tokio_stream::StreamExt::chunks_timeout(keys, WAVE, period);
    waves.flat_map(|wave| futures::stream::iter(HashSet::<T>::from_iter(wave)))
}

/// Keys of one wave.
const WAVE: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn coalesces_and_ends_with_its_receiver() {
        let (sender, stream) = channel();
        let mut stream = Box::pin(stream);
        assert!(sender.send([1, 2, 1]));
        assert!(sender.send([2]));
        let mut got = vec![stream.next().await, stream.next().await];
        got.sort();
        assert_eq!(got, [Some(1), Some(2)]);
        assert!(stream.next().now_or_never().is_none(), "nothing more");
        assert!(sender.send([3]));
        assert_eq!(stream.next().await, Some(3));
        drop(stream);
        assert!(!sender.send([4]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wave_is_all_that_happens_after_a_first_key() {
        let period = Duration::from_millis(500);
        let (sender, stream) = channel();
        let mut stream = Box::pin(waves(stream, period));
        for _ in 0..2 {
            let start = tokio::time::Instant::now();
            assert!(sender.send([1]));
            assert!(stream.next().now_or_never().is_none(), "the first waits too");
            for _ in 0..5 {
                assert!(sender.send([1, 2]));
                assert!(stream.next().now_or_never().is_none());
            }
            let mut got = [stream.next().await, stream.next().await];
            got.sort_unstable();
            assert_eq!((got, start.elapsed() >= period), ([Some(1), Some(2)], true));
            assert!(stream.next().now_or_never().is_none(), "each once");
        }
    }
}
