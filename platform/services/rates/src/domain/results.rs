//! A line's result as a function of the set of its messages (rule B4).

use paddock_events::{CancelledRange, LineName, LineResult, OutcomeResult, ResultOrigin};
use serde::{Deserialize, Serialize};

/// One message about a line's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Fact {
    /// A settlement.
    Settled {
        /// Producer's time, ms.
        at: i64,
        /// 1 live scouted, 2 confirmed.
        certainty: u8,
        /// Why stakes are returned.
        void_reason: Option<u32>,
        /// Every outcome.
        outcomes: Vec<OutcomeResult>,
    },
    /// Undoes settlements that are not newer.
    SettlementUndone {
        /// Producer's time, ms.
        at: i64,
    },
    /// Voids bets placed in a range.
    Cancelled {
        /// Producer's time, ms.
        at: i64,
        /// Range and reason.
        range: CancelledRange,
    },
    /// Undoes cancels of the same range that are not newer.
    CancelUndone {
        /// Producer's time, ms.
        at: i64,
        /// Start of the range.
        start_time: Option<i64>,
        /// End of the range.
        end_time: Option<i64>,
    },
}

/// What the facts of a line say together, in whatever order and however often they came. The sequence is left 0.
pub fn fold(event_id: &str, line: &LineName, facts: &[Fact]) -> LineResult {
    let undone = facts.iter().filter_map(|fact| match fact {
        Fact::SettlementUndone { at } => Some(*at),
        _ => None,
    });
    let undone = undone.max();
    let settled = facts.iter().filter_map(|fact| match fact {
        Fact::Settled { at, certainty, void_reason, outcomes } if undone.is_none_or(|undone| *at > undone) => {
            let mut outcomes = outcomes.clone();
            outcomes.sort_by(|one, other| one.id.cmp(&other.id));
            Some((*certainty, *at, *void_reason, outcomes))
        }
        _ => None,
    });
    // Highest certainty, then newest; two different ones of the same time are ordered by their text, so that all agree.
    let in_force = settled.max_by_key(|(certainty, at, reason, outcomes)| {
        (*certainty, *at, serde_json::to_string(&(reason, outcomes)).unwrap_or_default())
    });
    let mut cancels: Vec<CancelledRange> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Cancelled { at, range } if !is_undone(facts, *at, range) => Some(range.clone()),
            _ => None,
        })
        .collect();
    cancels.sort();
    cancels.dedup();
    let (certainty, settled_at, void_reason, outcomes) = match in_force {
        Some((certainty, at, reason, outcomes)) => (Some(certainty), Some(at), reason, outcomes),
        None => (None, None, None, Vec::new()),
    };
    LineResult {
        event_id: event_id.to_owned(),
        market_id: line.market_id,
        specifiers: line.specifiers.clone(),
        sequence: 0,
        origin: ResultOrigin::Feed,
        certainty,
        settled_at,
        void_reason,
        outcomes,
        cancels,
    }
}

fn is_undone(facts: &[Fact], cancelled_at: i64, range: &CancelledRange) -> bool {
    facts.iter().any(|fact| match fact {
        Fact::CancelUndone { at, start_time, end_time } => {
            *at >= cancelled_at && (*start_time, *end_time) == (range.start_time, range.end_time)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use paddock_odds::{Factor, Specifiers};
    use proptest::prelude::*;

    use super::*;

    fn line() -> LineName {
        LineName { market_id: 1, specifiers: Specifiers::none() }
    }

    fn settled(at: i64, certainty: u8, winner: &str) -> Fact {
        let outcomes = ["1", "2", "3"].map(|id| OutcomeResult {
            id: id.to_owned(),
            won: Some(id == winner),
            void_factor: Factor::ZERO,
            dead_heat_factor: Factor::ONE,
        });
        Fact::Settled { at, certainty, void_reason: None, outcomes: outcomes.to_vec() }
    }

    fn winner(facts: &[Fact]) -> Option<String> {
        let result = fold("sim:match:1", &line(), facts);
        result.outcomes.into_iter().find(|outcome| outcome.won == Some(true)).map(|outcome| outcome.id)
    }

    #[test]
    fn certainty_beats_time_and_a_rollback_beats_what_is_older() {
        assert_eq!(winner(&[settled(30, 1, "1"), settled(20, 2, "2")]).as_deref(), Some("2"));
        assert_eq!(winner(&[settled(20, 1, "1"), settled(30, 1, "3")]).as_deref(), Some("3"));
        assert_eq!(winner(&[settled(20, 2, "1"), Fact::SettlementUndone { at: 25 }]), None);
        let corrected = [settled(20, 2, "1"), Fact::SettlementUndone { at: 25 }, settled(26, 1, "2")];
        assert_eq!(winner(&corrected).as_deref(), Some("2"));
    }

    #[test]
    fn a_cancel_is_undone_by_its_own_range_only() {
        let range = CancelledRange { start_time: Some(10), end_time: Some(20), void_reason: None };
        let cancel = Fact::Cancelled { at: 30, range: range.clone() };
        let undo = |at, start| Fact::CancelUndone { at, start_time: Some(start), end_time: Some(20) };
        let cancels = |facts: &[Fact]| fold("sim:match:1", &line(), facts).cancels;
        assert_eq!(cancels(&[cancel.clone(), undo(40, 11)]), std::slice::from_ref(&range));
        assert_eq!(
            cancels(&[cancel.clone(), undo(29, 10)]),
            std::slice::from_ref(&range),
            "cancelled again after the undo"
        );
        assert_eq!(cancels(&[cancel, undo(30, 10)]), []);
        assert!(range.covers(10) && range.covers(19) && !range.covers(20) && !range.covers(9));
    }

    fn any_fact() -> impl Strategy<Value = Fact> {
        let at = 0_i64..6;
        let range = (prop::option::of(0_i64..3), prop::option::of(0_i64..3));
        prop_oneof![
            (at.clone(), 1_u8..3, 1_u8..4).prop_map(|(at, certainty, id)| settled(at, certainty, &id.to_string())),
            at.clone().prop_map(|at| Fact::SettlementUndone { at }),
            (at.clone(), range.clone()).prop_map(|(at, (start_time, end_time))| Fact::Cancelled {
                at,
                range: CancelledRange { start_time, end_time, void_reason: None },
            }),
            (at, range).prop_map(|(at, (start_time, end_time))| Fact::CancelUndone { at, start_time, end_time }),
        ]
    }

    proptest! {
        /// B4: any order, any multiplicity.
        #[test]
        fn order_and_repetition_do_not_matter(
            facts in prop::collection::vec(any_fact(), 0..12),
            seed in prop::collection::vec(0_usize..1_000, 24),
        ) {
            let expected = fold("sim:match:1", &line(), &facts);
            let mut other = facts.clone();
            for (at, pick) in seed.iter().enumerate() {
                if !facts.is_empty() {
                    other.insert(pick % (other.len() + 1), facts[at % facts.len()].clone());
                }
            }
            prop_assert_eq!(fold("sim:match:1", &line(), &other), expected);
        }
    }
}
