//! From settled legs to a payout, with its proof.

use num_rational::BigRational;
use num_traits::{One, Zero};
use paddock_money::{Money, MoneyError};
use paddock_odds::Factor;
use serde::{Deserialize, Serialize};

use crate::bet::{Bet, Leg, StructureError, elementary};
use crate::leg::{LegMultiplier, multiplier, show};
use crate::{LegKey, OutcomeState};

/// Which half of an each-way bet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Pays if the selection wins.
    Win,
    /// Pays if it is placed.
    Place,
}

/// One step of the computation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum ProofLine {
    /// A leg's multiplier m = v + (1 − v)·r·d·o′.
    Leg {
        /// Which leg.
        leg: LegKey,
        /// Which part.
        part: Part,
        /// Odds after place terms and Rule 4, o′.
        odds: String,
        /// v.
        #[serde(rename = "voidFactor")]
        void_factor: Factor,
        /// r.
        won: bool,
        /// d.
        #[serde(rename = "deadHeatFactor")]
        dead_heat_factor: Factor,
        /// m.
        multiplier: String,
    },
    /// All combinations of one size of one part.
    Combinations {
        /// Which part.
        part: Part,
        /// Legs of a combination, bankers not counted.
        size: u32,
        /// Sum of the products of multipliers.
        sum: String,
    },
    /// Sum × stake of one line, in minor units before rounding.
    Exact {
        /// Stake of one line in minor units.
        unit: String,
        /// Exact payout in minor units.
        payout: String,
    },
    /// The one rounding.
    Rounded {
        /// Result.
        payout: Money,
    },
    /// The cap was reached.
    Capped {
        /// Result.
        payout: Money,
    },
}

/// What a bet pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Whole return, stake included.
    pub amount: Money,
    /// How it came to be.
    pub proof: Vec<ProofLine>,
}

/// Why a bet cannot be settled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// A leg is not decided and the bet may still pay; wait for its result.
    #[error("leg {0} of the bet is still open: settle again when it has a result")]
    Open(usize),
    /// The bet does not fit.
    #[error(transparent)]
    Structure(#[from] StructureError),
    /// Not as many states as legs.
    #[error("{given} results for {legs} legs: give one for each leg, in order")]
    Results {
        /// Results given.
        given: usize,
        /// Legs of the bet.
        legs: usize,
    },
    /// The payout does not fit.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// Settles a bet. `states` has one entry for each leg, in order: the state of its outcome for a win, and of being placed (only
/// used by each-way bets).
///
/// Payout = unit stake × Σ over parts and sizes k of Π bankers × `e_k`(m₁…mₙ), rounded once by the bet's rule, then capped. A
/// bet whose open legs can no longer change the result (a lost accumulator) settles at once.
pub fn settle(bet: &Bet, states: &[(OutcomeState, OutcomeState)]) -> Result<Payout, SettleError> {
    bet.check()?;
    if states.len() != bet.legs.len() {
        return Err(SettleError::Results { given: states.len(), legs: bet.legs.len() });
    }
    let mut proof = Vec::new();
    let mut sum = part_sum(bet, Part::Win, states, &mut proof)?;
    if bet.is_each_way() {
        sum += part_sum(bet, Part::Place, states, &mut proof)?;
    }
    let unit = bet.unit();
    let exact = &unit * sum;
    proof.push(ProofLine::Exact { unit: show(&unit), payout: show(&exact) });
    let mut amount = Money::round_minor(&exact, bet.stake_amount().currency(), bet.rounding)?;
    proof.push(ProofLine::Rounded { payout: amount });
    if let Some(most) = bet.max_payout.filter(|most| most.minor() < amount.minor()) {
        amount = most;
        proof.push(ProofLine::Capped { payout: amount });
    }
    Ok(Payout { amount, proof })
}

fn part_sum(
    bet: &Bet,
    part: Part,
    states: &[(OutcomeState, OutcomeState)],
    proof: &mut Vec<ProofLine>,
) -> Result<BigRational, SettleError> {
    let mut bankers = BigRational::one();
    let mut others = Vec::with_capacity(bet.legs.len());
    let mut open = None;
    for (at, (leg, state)) in bet.legs.iter().zip(states).enumerate() {
        // An open leg counts as a refund, which is above zero: if the sum is zero even so, it does not matter.
        let value = if let Some(found) = leg_multiplier(leg, part, *state) {
            proof.push(proof_of(leg, part, &found));
            found.value
        } else {
            open = open.or(Some(at));
            BigRational::one()
        };
        if leg.banker { bankers *= value } else { others.push(value) }
    }
    let mut total = BigRational::zero();
    for size in bet.sizes() {
        let sum = &bankers * elementary(&others, size);
        proof.push(ProofLine::Combinations { part, size, sum: show(&sum) });
        total += sum;
    }
    match open {
        Some(at) if !total.is_zero() => Err(SettleError::Open(at)),
        _ => Ok(total),
    }
}

fn leg_multiplier(leg: &Leg, part: Part, (win, place): (OutcomeState, OutcomeState)) -> Option<LegMultiplier> {
    match part {
        Part::Win => multiplier(win, leg.odds, Factor::ONE, leg.rule4),
        Part::Place => {
            multiplier(place, leg.odds, leg.each_way.map_or(Factor::ONE, |each_way| each_way.term), leg.rule4)
        }
    }
}

fn proof_of(leg: &Leg, part: Part, found: &LegMultiplier) -> ProofLine {
    ProofLine::Leg {
        leg: leg.key.clone(),
        part,
        odds: show(&found.odds),
        void_factor: found.void_factor,
        won: found.won,
        dead_heat_factor: found.dead_heat_factor,
        multiplier: show(&found.value),
    }
}
