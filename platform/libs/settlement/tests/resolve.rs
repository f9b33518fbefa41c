//! A line's result depends on the set of its messages alone (B4).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helper functions of tests are tests too

use std::collections::BTreeMap;

use paddock_settlement::{
    Certainty, LineResult, Message, MessageBody, OutcomeSettlement, OutcomeState, TimeRange, resolve,
};
use proptest::prelude::*;

fn settle(timestamp: i64, id: &str, certainty: Certainty, won: bool) -> Message {
    let outcomes = BTreeMap::from([("1".to_owned(), OutcomeSettlement::plain(won))]);
    Message { timestamp, id: id.into(), body: MessageBody::Settle { certainty, outcomes } }
}

fn message(timestamp: i64, id: &str, body: MessageBody) -> Message {
    Message { timestamp, id: id.into(), body }
}

fn rollback(timestamp: i64, id: &str, manual: bool) -> Message {
    message(timestamp, id, MessageBody::RollbackSettlement { manual })
}

fn range(start: Option<i64>, end: Option<i64>) -> TimeRange {
    TimeRange { start, end }
}

fn decided_by(result: &LineResult) -> Option<&str> {
    match result {
        LineResult::Open => None,
        LineResult::Settled { message, .. } | LineResult::Cancelled { message } => Some(message),
    }
}

#[test]
fn the_highest_certainty_wins_then_the_newest() {
    let scouted = settle(30, "scouted", Certainty::Scouted, false);
    let older = settle(10, "older", Certainty::Confirmed, true);
    let newer = settle(20, "newer", Certainty::Confirmed, false);
    assert_eq!(decided_by(&resolve([&scouted, &older, &newer], 0)), Some("newer"));
    assert_eq!(decided_by(&resolve([&scouted, &older], 0)), Some("older"));
    assert_eq!(resolve([], 0), LineResult::Open);
}

#[test]
fn a_rollback_undoes_what_is_not_newer() {
    let first = settle(10, "first", Certainty::Confirmed, true);
    let second = settle(30, "second", Certainty::Scouted, true);
    let undo = rollback(20, "undo", false);
    assert_eq!(resolve([&first, &undo], 0), LineResult::Open);
    assert_eq!(decided_by(&resolve([&first, &undo, &second], 0)), Some("second"));
}

#[test]
fn a_traders_result_wins_until_the_trader_lifts_it() {
    let manual = settle(10, "manual", Certainty::Manual, true);
    let feed = settle(20, "feed", Certainty::Confirmed, false);
    assert_eq!(decided_by(&resolve([&manual, &feed], 0)), Some("manual"));
    assert_eq!(decided_by(&resolve([&manual, &feed, &rollback(30, "feed-undo", false)], 0)), Some("manual"));
    assert_eq!(decided_by(&resolve([&manual, &feed, &rollback(30, "lift", true)], 0)), Some("feed"));
}

#[test]
fn a_cancel_beats_any_settlement_for_bets_placed_in_its_range() {
    let settled = settle(100, "settled", Certainty::Manual, true);
    let cancel = message(50, "cancel", MessageBody::Cancel { range: range(Some(10), Some(20)) });
    for (placed_at, by) in [(9, "settled"), (10, "cancel"), (19, "cancel"), (20, "settled")] {
        assert_eq!(decided_by(&resolve([&settled, &cancel], placed_at)), Some(by), "placed at {placed_at}");
    }
    let other = message(60, "other", MessageBody::RollbackCancel { range: range(None, None) });
    assert_eq!(decided_by(&resolve([&settled, &cancel, &other], 15)), Some("cancel"));
    let undo = message(60, "undo", MessageBody::RollbackCancel { range: range(Some(10), Some(20)) });
    assert_eq!(decided_by(&resolve([&settled, &cancel, &undo], 15)), Some("settled"));
    let open_ended = message(70, "all", MessageBody::Cancel { range: TimeRange::default() });
    assert_eq!(decided_by(&resolve([&settled, &open_ended], i64::MIN)), Some("all"));
}

#[test]
fn unnamed_and_undecided_outcomes_stay_open() {
    let outcomes = BTreeMap::from([
        ("1".to_owned(), OutcomeSettlement { won: None, ..OutcomeSettlement::plain(false) }),
        ("2".to_owned(), OutcomeSettlement::void()),
    ]);
    let message = message(1, "a", MessageBody::Settle { certainty: Certainty::Scouted, outcomes });
    let result = resolve([&message], 0);
    assert_eq!(result.outcome("1"), OutcomeState::Open);
    assert_eq!(result.outcome("9"), OutcomeState::Open);
    assert!(matches!(result.outcome("2"), OutcomeState::Decided { .. }));
}

fn any_message() -> impl Strategy<Value = Message> {
    let certainty = prop_oneof![Just(Certainty::Scouted), Just(Certainty::Confirmed), Just(Certainty::Manual)];
    let bounds = (prop::option::of(0_i64..4), prop::option::of(0_i64..4)).prop_map(|(start, end)| range(start, end));
    let body = prop_oneof![
        (certainty, any::<bool>()).prop_map(|(certainty, won)| MessageBody::Settle {
            certainty,
            outcomes: BTreeMap::from([("1".to_owned(), OutcomeSettlement::plain(won))]),
        }),
        any::<bool>().prop_map(|manual| MessageBody::RollbackSettlement { manual }),
        bounds.clone().prop_map(|range| MessageBody::Cancel { range }),
        bounds.prop_map(|range| MessageBody::RollbackCancel { range }),
    ];
    (0_i64..6, "[a-d]", body).prop_map(|(timestamp, id, body)| Message { timestamp, id, body })
}

proptest! {
    #[test]
    fn order_and_repetition_do_not_matter(
        (messages, shuffled) in prop::collection::vec(any_message(), 0..8)
            .prop_flat_map(|messages| (Just(messages.clone()), Just([messages.clone(), messages].concat()).prop_shuffle())),
        placed_at in 0_i64..4,
    ) {
        prop_assert_eq!(resolve(&messages, placed_at), resolve(&shuffled, placed_at));
    }

    #[test]
    fn json_round_trips(message in any_message()) {
        let json = serde_json::to_string(&message).unwrap();
        prop_assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), message);
    }
}
