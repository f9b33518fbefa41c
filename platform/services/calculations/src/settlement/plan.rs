//! What a bet pays by the set of messages of its lines: a pure function.

use paddock_money::{Money, Rounding};
use paddock_odds::{Factor, MarketType};
use paddock_settlement::{Bet as Settling, Leg, LegKey, Lines, OutcomeState, Rule4, SettleError, Structure, settle};
use serde_json::json;
use uuid::Uuid;

use crate::domain::in_force::in_force;
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
