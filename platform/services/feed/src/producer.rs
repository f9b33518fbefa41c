//! State of one producer, as its client sees it: up or down, and when to recover.
//!
//! A producer starts down. It comes up when a recovery has completed without interruption; it goes down when alives stay away,
//! when it was restarted, or when the connection is lost. Pure: time and messages go in, requests come out.

use paddock_events::ProducerState;

use crate::source::{ProducerDescription, Recovery};

/// No alive for longer than this takes a producer down, ms.
pub const MAX_INACTIVITY: i64 = 20_000;
/// Least time between two recovery requests of a producer, ms.
pub const MIN_REQUEST_INTERVAL: i64 = 30_000;
/// A recovery that takes longer is started again, ms.
pub const MAX_RECOVERY: i64 = 1_200_000;
/// A recovery never asks for the oldest minutes of its window, ms.
const WINDOW_MARGIN: i64 = 600_000;

/// Why a producer is up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// No recovery has completed yet.
    NotStarted,
    /// The first recovery completed.
    FirstRecoveryCompleted,
    /// A later recovery completed.
    Recovered,
    /// Alives stayed away.
    AliveIntervalViolation,
    /// The connection to the source was lost.
    ConnectionDown,
    /// The producer was restarted.
    ProducerRestarted,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    request_id: u64,
    since: i64,
    /// Newest alive since the request, and whether it was missed meanwhile.
    newest_alive: i64,
    interrupted: bool,
}

/// The state machine. Times that are called `now` are ours, timestamps are the producer's, both ms.
#[derive(Debug, Clone)]
pub struct Producer {
    description: ProducerDescription,
    up: bool,
    reason: Reason,
    ever_up: bool,
    recover_from: Option<i64>,
    last_alive: Option<i64>,
    running: Option<Running>,
    last_request: Option<i64>,
}

impl Producer {
    /// Down; `recover_from` is what the last heartbeat of the instance before us said.
    pub fn new(description: ProducerDescription, recover_from: Option<i64>) -> Self {
        Self {
            description,
            up: false,
            reason: Reason::NotStarted,
            ever_up: false,
            recover_from,
            last_alive: None,
            running: None,
            last_request: None,
        }
    }

    /// Producer id.
    pub const fn product(&self) -> u32 {
        self.description.product
    }

    /// Whether its prices may be used.
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// For the heartbeat.
    pub fn state(&self) -> ProducerState {
        ProducerState {
            product: self.description.product,
            name: self.description.name.clone(),
            scope: self.description.scope,
            up: self.up,
            reason: self.reason.to_string(),
            recover_from: self.recover_from,
        }
    }

    /// An alive came. A recovery is requested only here: before an alive it would be refused and burn the rate limit.
    pub fn alive(&mut self, now: i64, timestamp: i64, subscribed: bool, request_id: u64) -> Option<Recovery> {
        self.tick(now);
        self.last_alive = Some(now);
        if !subscribed {
            self.down(Reason::ProducerRestarted);
        } else if self.up {
            self.recover_from = Some(timestamp);
        }
        if let Some(running) = &mut self.running
            && now - running.since <= MAX_RECOVERY
        {
            if !running.interrupted {
                running.newest_alive = timestamp;
            }
            return None;
        }
        if self.up || self.last_request.is_some_and(|last| now - last < MIN_REQUEST_INTERVAL) {
            return None;
        }
        let window = i64::from(self.description.recovery_window_minutes) * 60_000;
        let oldest = timestamp.saturating_sub(window) + WINDOW_MARGIN;
        let after = self.recover_from.map(|from| from.max(oldest));
        self.last_request = Some(now);
        self.running = Some(Running { request_id, since: now, newest_alive: timestamp, interrupted: false });
        Some(Recovery { product: self.description.product, after, request_id })
    }

    /// A recovery says that it is complete.
    pub fn snapshot_complete(&mut self, request_id: u64) {
        let Some(running) = self.running.filter(|running| running.request_id == request_id) else { return };
        self.running = None;
        self.recover_from = Some(running.newest_alive);
        if running.interrupted {
            // What was missed meanwhile is fetched by the next recovery, from the last alive that this one is good for.
            self.last_request = None;
            return;
        }
        self.up = true;
        self.reason = if self.ever_up { Reason::Recovered } else { Reason::FirstRecoveryCompleted };
        self.ever_up = true;
    }

    /// Time passed.
    pub fn tick(&mut self, now: i64) {
        if self.last_alive.is_some_and(|last| now - last > MAX_INACTIVITY) {
            self.down(Reason::AliveIntervalViolation);
            self.last_alive = None;
        }
    }

    /// The source is gone: nothing of it survives, not even a recovery under way.
    pub fn disconnected(&mut self) {
        self.down(Reason::ConnectionDown);
        self.running = None;
        self.last_alive = None;
    }

    /// The source refused the recovery; it is asked again after the interval.
    pub fn refused(&mut self, request_id: u64) {
        if self.running.is_some_and(|running| running.request_id == request_id) {
            self.running = None;
        }
    }

    fn down(&mut self, reason: Reason) {
        if let Some(running) = &mut self.running {
            running.interrupted = true;
        }
        if self.up {
            self.up = false;
            self.reason = reason;
        }
    }
}

#[cfg(test)]
mod tests {
    use paddock_events::ProducerScope;
    use proptest::prelude::*;

    use super::*;

    fn producer(recover_from: Option<i64>) -> Producer {
        let description = ProducerDescription {
            product: 1,
            name: "LO".to_owned(),
            scope: ProducerScope::Live,
            recovery_window_minutes: 600,
        };
        Producer::new(description, recover_from)
    }

    fn up() -> Producer {
        let mut it = producer(None);
        let asked = it.alive(0, 1_000_000, true, 1).unwrap();
        assert_eq!(asked, Recovery { product: 1, after: None, request_id: 1 });
        it.snapshot_complete(1);
        it
    }

    #[test]
    fn it_comes_up_by_a_recovery_only() {
        let mut it = producer(None);
        assert!(!it.is_up());
        it.snapshot_complete(9);
        assert!(!it.is_up(), "nobody asked for that");
        it = up();
        assert!(it.is_up());
        assert_eq!(it.state().reason, "first_recovery_completed");
        assert_eq!(it.state().recover_from, Some(1_000_000));
    }

    #[test]
    fn alives_move_the_point_to_recover_from_only_while_up() {
        let mut it = up();
        assert_eq!(it.alive(10_000, 1_010_000, true, 2), None);
        assert_eq!(it.state().recover_from, Some(1_010_000));
        it.tick(30_000);
        assert!(it.is_up(), "exactly 20 s is not longer");
        it.tick(30_001);
        assert!(!it.is_up());
        assert_eq!(it.state().reason, "alive_interval_violation");
        let asked = it.alive(60_000, 1_060_000, true, 3).unwrap();
        assert_eq!(asked.after, Some(1_010_000));
        it.snapshot_complete(3);
        assert!(it.is_up());
        assert_eq!(it.state().reason, "recovered");
    }

    #[test]
    fn a_restarted_producer_is_recovered() {
        let mut it = up();
        it.alive(10_000, 1_010_000, true, 2);
        assert_eq!(it.alive(20_000, 1_020_000, false, 3), None, "30 s between requests");
        assert!(!it.is_up());
        assert_eq!(it.alive(30_000, 1_030_000, true, 4).unwrap().after, Some(1_010_000));
    }

    #[test]
    fn an_interrupted_recovery_is_repeated_from_its_last_good_alive() {
        let mut it = up();
        it.disconnected();
        let first = it.alive(40_000, 1_040_000, true, 2).unwrap();
        it.alive(50_000, 1_050_000, true, 3);
        it.tick(80_000);
        it.alive(81_000, 1_081_000, true, 4);
        it.snapshot_complete(first.request_id);
        assert!(!it.is_up());
        let again = it.alive(91_000, 1_091_000, true, 5).unwrap();
        assert_eq!(again.after, Some(1_050_000));
        it.snapshot_complete(5);
        assert!(it.is_up());
    }

    #[test]
    fn a_recovery_reaches_no_further_than_its_window() {
        let mut it = producer(Some(0));
        let now = 100 * 3_600_000;
        let asked = it.alive(1, now, true, 1).unwrap();
        assert_eq!(asked.after, Some(now - 600 * 60_000 + 600_000));
    }

    #[test]
    fn a_recovery_without_end_is_started_again() {
        let mut it = producer(None);
        it.alive(0, 0, true, 1).unwrap();
        let mut now = 0;
        let mut asked = None;
        while asked.is_none() {
            now += 10_000;
            asked = it.alive(now, now, true, 2);
        }
        assert!(now > MAX_RECOVERY && now <= MAX_RECOVERY + 10_000, "{now}");
    }

    proptest! {
        /// Whatever happens: up only with an alive of at most 20 s ago, and requests at least 30 s apart unless the one before
        /// was interrupted.
        #[test]
        fn it_is_never_up_without_alives(steps in prop::collection::vec((0_i64..40_000, 0_u8..5), 1..200)) {
            let (mut it, mut now, mut last_alive, mut open) = (producer(None), 0_i64, i64::MIN / 2, None);
            for (number, (wait, what)) in steps.into_iter().enumerate() {
                now += wait;
                it.tick(now);
                match what {
                    0 | 1 => {
                        last_alive = now;
                        if let Some(asked) = it.alive(now, now, true, number as u64) {
                            prop_assert!(!it.is_up());
                            open = Some(asked.request_id);
                        }
                    },
                    2 => {
                        last_alive = now;
                        it.alive(now, now, false, number as u64);
                        prop_assert!(!it.is_up());
                    },
                    3 => if let Some(request) = open.take() { it.snapshot_complete(request) },
                    _ => it.disconnected(),
                }
                prop_assert!(!it.is_up() || now - last_alive <= MAX_INACTIVITY);
            }
        }
    }
}
