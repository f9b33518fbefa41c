//! What the set of messages of a line says of one outcome: asked by acceptance, which takes no bet on what is decided, and by
//! settlement, which pays by it.

use paddock_events::{LineResult, ResultOrigin};
use paddock_settlement::{Certainty, Message, MessageBody, OutcomeSettlement, OutcomeState, TimeRange, resolve};
use uuid::Uuid;

/// The state of a line that a set of messages leaves in force.
pub struct InForce<'a> {
    /// The message that says it.
    pub id: Option<Uuid>,
    result: Option<&'a LineResult>,
}

/// Each message tells the whole state of its line, so the one with the highest sequence counts, whatever the order of arrival.
pub fn in_force(set: &[(Uuid, LineResult)]) -> InForce<'_> {
    let newest = set.iter().max_by_key(|(id, result)| (result.sequence, *id));
    InForce { id: newest.map(|(id, _)| *id), result: newest.map(|(_, result)| result) }
}

impl InForce<'_> {
    /// What became of an outcome for a bet that was placed at a time, ms.
    pub fn outcome_state(&self, outcome: &str, placed_at: i64) -> OutcomeState {
        let Some(result) = self.result else { return OutcomeState::Open };
        let id = self.id.map(|id| id.to_string()).unwrap_or_default();
        let message = |body| Message { timestamp: result.settled_at.unwrap_or(0), id: id.clone(), body };
        let mut messages: Vec<Message> = result
            .cancels
            .iter()
            .map(|range| {
                message(MessageBody::Cancel { range: TimeRange { start: range.start_time, end: range.end_time } })
            })
            .collect();
        if !result.outcomes.is_empty() {
            let certainty = match (result.origin, result.certainty) {
                (ResultOrigin::Manual, _) => Certainty::Manual,
                (ResultOrigin::Feed, Some(1)) => Certainty::Scouted,
                (ResultOrigin::Feed, _) => Certainty::Confirmed,
            };
            let outcomes = result
                .outcomes
                .iter()
                .map(|outcome| {
                    let settled = OutcomeSettlement {
                        won: outcome.won,
                        void_factor: outcome.void_factor,
                        dead_heat_factor: outcome.dead_heat_factor,
                    };
                    (outcome.id.clone(), settled)
                })
                .collect();
            messages.push(message(MessageBody::Settle { certainty, outcomes }));
        }
        resolve(&messages, placed_at).outcome(outcome)
    }
}
