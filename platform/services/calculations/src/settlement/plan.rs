//! What a bet pays by the set of messages of its lines: a pure function.

use paddock_events::{LineResult, ResultOrigin};
use paddock_money::{Money, Rounding};
use paddock_odds::{Factor, MarketType};
use paddock_settlement::{
    Bet as Settling, Certainty, Leg, LegKey, Lines, Message, MessageBody, OutcomeSettlement, OutcomeState, Rule4,
    SettleError, Structure, TimeRange, resolve, settle,
};
use serde_json::json;
use uuid::Uuid;

use crate::domain::money_moves::moves;
use crate::store::{Due, Intent, Selection};

/// The settlement that the results ask for; `None` if the one in force says the same.
pub fn plan(due: &Due) -> anyhow::Result<Option<Intent>> {
    let (ticket, bet) = (&due.ticket, &due.bet);
    let placed_at = ticket.placed_at.ok_or_else(|| anyhow::anyhow!("bet {} was never placed", bet.id))?;
    let states: Vec<OutcomeState> = bet
        .selections
        .iter()
        .zip(&due.results)
        .map(|(selection, set)| in_force(set).outcome_state(&selection.outcome_id, placed_at))
        .collect();
    let legs = bet.selections.iter().map(leg).collect::<anyhow::Result<Vec<_>>>()?;
    let settling = Settling {
        legs,
        structure: Structure::Single,
        stake: Lines::Bet(Money::from_minor(bet.stake, ticket.currency)),
        rounding: Rounding::HalfUp,
        max_payout: None,
    };
    let both: Vec<(OutcomeState, OutcomeState)> = states.iter().map(|state| (*state, *state)).collect();
    let payout = match settle(&settling, &both) {
        Ok(payout) => Some(payout),
        Err(SettleError::Open(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let amount = payout.as_ref().map(|payout| payout.amount.minor());
    let void = amount.is_some() && states.iter().all(|state| name(*state) == "void");
    if amount == bet.payout && void == bet.void {
        return Ok(None);
    }
    let messages: Vec<Option<Uuid>> = due.results.iter().map(|set| in_force(set).id).collect();
    Ok(Some(Intent {
        payout: amount,
        void,
        results: states.iter().map(|state| name(*state).to_owned()).collect(),
        proof: json!({ "messages": messages, "steps": payout.map(|payout| payout.proof) }),
        transfers: moves(bet.id, bet.settlement_version + 1, bet.stake, bet.payout, amount, void),
    }))
}

fn leg(selection: &Selection) -> anyhow::Result<Leg> {
    let market = MarketType::of_feed_id(selection.line.market_id)
        .ok_or_else(|| anyhow::anyhow!("market {} is unknown to this version", selection.line.market_id))?;
    let key = LegKey {
        event_id: selection.line.event_id.clone(),
        market,
        specifiers: selection.line.specifiers.clone(),
        outcome_id: selection.outcome_id.clone(),
    };
    Ok(Leg { key, odds: selection.odds, banker: false, each_way: None, rule4: Rule4::NONE })
}

/// The state of a line that a set of messages leaves in force.
struct InForce<'a> {
    id: Option<Uuid>,
    result: Option<&'a LineResult>,
}

/// Each message tells the whole state of its line, so the one with the highest sequence counts, whatever the order of arrival.
fn in_force(set: &[(Uuid, LineResult)]) -> InForce<'_> {
    let newest = set.iter().max_by_key(|(id, result)| (result.sequence, *id));
    InForce { id: newest.map(|(id, _)| *id), result: newest.map(|(_, result)| result) }
}

impl InForce<'_> {
    fn outcome_state(&self, outcome: &str, placed_at: i64) -> OutcomeState {
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

/// What became of a leg, in the words of topic `tickets`.
fn name(state: OutcomeState) -> &'static str {
    match state {
        OutcomeState::Open => "open",
        OutcomeState::Decided { void_factor, .. } if void_factor == Factor::ONE => "void",
        OutcomeState::Decided { won: true, void_factor, .. } if void_factor == Factor::ZERO => "won",
        OutcomeState::Decided { won: false, void_factor, .. } if void_factor == Factor::ZERO => "lost",
        OutcomeState::Decided { won: true, .. } => "half-won",
        OutcomeState::Decided { won: false, .. } => "half-lost",
    }
}
