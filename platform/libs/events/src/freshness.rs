//! Whether a copy of the offer is young enough to take bets on it (rule B3).

use std::collections::BTreeMap;

use crate::{OfferHeartbeat, OfferLine};

/// Heartbeats seen, by partition of `offer` and of `feed`. A heartbeat proves only what stands before it in its own
/// partition, so both count.
#[derive(Debug, Clone, Default)]
pub struct OfferFreshness {
    seen: BTreeMap<(i32, i32), i64>,
}

impl OfferFreshness {
    /// Older than this, in ms, no bet is taken.
    pub const LIMIT_MS: i64 = 3_000;

    /// Takes in a heartbeat read from a partition of topic `offer`.
    pub fn heartbeat(&mut self, offer_partition: i32, beat: &OfferHeartbeat) {
        for feed_partition in &beat.feed_partitions {
            let at = self.seen.entry((offer_partition, *feed_partition)).or_insert(beat.at);
            *at = beat.at.max(*at);
        }
    }

    /// Partitions of `offer` with those of `feed` whose lines are fresh.
    pub fn fresh(&self, now_ms: i64) -> impl Iterator<Item = (i32, i32)> {
        self.seen.iter().filter(move |(_, at)| now_ms.saturating_sub(**at) <= Self::LIMIT_MS).map(|(pair, _)| *pair)
    }

    /// When the copy of a line read from a partition of `offer` was last known to be complete, ms since 1970 UTC.
    pub fn complete_until(&self, offer_partition: i32, line: &OfferLine) -> Option<i64> {
        self.seen.get(&(offer_partition, line.source.feed_partition)).copied()
    }

    /// Whether that is at most [`Self::LIMIT_MS`] before `now_ms`.
    pub fn is_fresh(&self, offer_partition: i32, line: &OfferLine, now_ms: i64) -> bool {
        self.complete_until(offer_partition, line).is_some_and(|at| now_ms.saturating_sub(at) <= Self::LIMIT_MS)
    }
}

#[cfg(test)]
mod tests {
    use paddock_odds::Specifiers;

    use super::*;
    use crate::{MarketStatus, PricePhase, PriceSource};

    #[test]
    fn a_heartbeat_counts_only_for_its_partitions() {
        let line = OfferLine {
            event_id: "sr:match:1".to_owned(),
            market_id: 1,
            market_type: "match-result".to_owned(),
            specifiers: Specifiers::none(),
            sequence: 1,
            status: MarketStatus::Active,
            suspended_by: None,
            phase: PricePhase::Live,
            outcomes: Vec::new(),
            source: PriceSource {
                product: 1,
                timestamp: 0,
                feed_partition: 4,
                feed_offset: 9,
                rule: None,
                book_generation: 1,
            },
        };
        let mut freshness = OfferFreshness::default();
        assert!(!freshness.is_fresh(2, &line, 10_000));
        freshness.heartbeat(2, &OfferHeartbeat { feed_partitions: vec![3, 4], at: 10_000, book_generation: 1 });
        assert!(freshness.is_fresh(2, &line, 13_000));
        assert!(!freshness.is_fresh(2, &line, 13_001));
        assert!(!freshness.is_fresh(1, &line, 10_000), "another offer partition may lag");
        assert_eq!(freshness.fresh(13_000).collect::<Vec<_>>(), [(2, 3), (2, 4)]);
        assert_eq!(freshness.fresh(13_001).count(), 0);
        freshness.heartbeat(2, &OfferHeartbeat { feed_partitions: vec![4], at: 9_000, book_generation: 1 });
        assert!(freshness.is_fresh(2, &line, 13_000), "an older heartbeat takes nothing back");
    }
}
