//! Bets: legs, structure, stake.

use num_rational::BigRational;
use num_traits::{One, Zero};
use paddock_money::{Money, Rounding};
use paddock_odds::{Factor, MarketType, Odds, Specifiers};
use serde::{Deserialize, Serialize};

use crate::Rule4;

/// Most legs of one bet.
const MOST_LEGS: usize = 40;

/// What a leg is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegKey {
    /// Event URN.
    pub event_id: String,
    /// Market type.
    pub market: MarketType,
    /// Line.
    pub specifiers: Specifiers,
    /// Outcome id.
    pub outcome_id: String,
}

/// Place part of an each-way leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EachWay {
    /// Share of the profit odds that a place pays (`1/4`, `1/5`).
    pub term: Factor,
}

/// One selection of a bet with its locked terms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leg {
    /// What it is on.
    #[serde(flatten)]
    pub key: LegKey,
    /// Locked odds.
    pub odds: Odds,
    /// Stands in every line of a system.
    #[serde(default)]
    pub banker: bool,
    /// Place terms; all legs of an each-way bet have them, legs of other bets none.
    #[serde(default)]
    pub each_way: Option<EachWay>,
    /// Deduction after withdrawals.
    #[serde(default)]
    pub rule4: Rule4,
}

/// Which combinations of legs are bet. Bankers are in every combination; sizes count the other legs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Structure {
    /// One leg.
    Single,
    /// All legs in one line.
    Accumulator,
    /// Every combination of each size: `[2, 3]` of three legs is a Trixie.
    System {
        /// Sizes, ascending, each from 1 to the number of legs that are no bankers.
        sizes: Vec<u32>,
    },
}

/// How the stake is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "per", content = "amount")]
pub enum Lines {
    /// For each line (and each part of an each-way bet).
    Line(Money),
    /// For the bet, spread evenly over its lines, exactly.
    Bet(Money),
}

/// A bet as accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bet {
    /// Its legs.
    pub legs: Vec<Leg>,
    /// Its combinations.
    pub structure: Structure,
    /// Its stake.
    pub stake: Lines,
    /// Rule of the one rounding.
    pub rounding: Rounding,
    /// Cap on the payout, after everything else.
    #[serde(default)]
    pub max_payout: Option<Money>,
}

/// Legs, structure and stake do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StructureError {
    /// No legs, too many, or not as many as the structure needs.
    #[error("the number of legs does not fit the bet type: one for a single, 2 to 40 otherwise")]
    Legs,
    /// A size is out of range, or sizes are not ascending.
    #[error("system sizes must be ascending, from 1 to the number of selections that are no bankers")]
    Sizes,
    /// Some legs are each-way, some not.
    #[error("either all selections of a bet are each-way or none: set the place terms on all of them")]
    EachWay,
    /// Bankers outside of a system.
    #[error("bankers exist only in systems: remove the banker mark")]
    Bankers,
    /// The stake is zero or less, or the cap has another currency.
    #[error("the stake must be above zero and the highest payout in its currency")]
    Stake,
}

impl Bet {
    /// Checks that legs, structure and stake fit.
    pub fn check(&self) -> Result<(), StructureError> {
        let bankers = self.legs.iter().filter(|leg| leg.banker).count();
        let fits = match &self.structure {
            Structure::Single => self.legs.len() == 1,
            Structure::Accumulator | Structure::System { .. } => (2..=MOST_LEGS).contains(&self.legs.len()),
        };
        if !fits {
            return Err(StructureError::Legs);
        }
        match &self.structure {
            Structure::System { sizes } => {
                let most = u32::try_from(self.legs.len() - bankers).unwrap_or(u32::MAX);
                let ascending = sizes.iter().zip(sizes.iter().skip(1)).all(|(one, next)| one < next);
                let within = sizes.iter().all(|size| (1..=most).contains(size));
                if sizes.is_empty() || !ascending || !within {
                    return Err(StructureError::Sizes);
                }
            }
            _ if bankers > 0 => return Err(StructureError::Bankers),
            _ => {}
        }
        if self.legs.iter().any(|leg| leg.each_way.is_some() != self.is_each_way()) {
            return Err(StructureError::EachWay);
        }
        let currency = self.stake_amount().currency();
        if !self.stake_amount().is_positive() || self.max_payout.is_some_and(|most| most.currency() != currency) {
            return Err(StructureError::Stake);
        }
        Ok(())
    }

    /// Whether there is a win part and a place part.
    pub fn is_each_way(&self) -> bool {
        self.legs.first().is_some_and(|leg| leg.each_way.is_some())
    }

    /// Lines of one part.
    pub fn combinations(&self) -> u64 {
        let ones: Vec<BigRational> = self.legs.iter().filter(|leg| !leg.banker).map(|_| BigRational::one()).collect();
        let sum = self.sizes().iter().fold(BigRational::zero(), |sum, size| sum + elementary(&ones, *size));
        u64::try_from(sum.to_integer()).unwrap_or(u64::MAX)
    }

    /// Lines of the bet: those of one part, twice for each-way.
    pub fn lines(&self) -> u64 {
        self.combinations().saturating_mul(if self.is_each_way() { 2 } else { 1 })
    }

    /// The stake of the whole bet.
    pub fn total_stake(&self) -> Result<Money, paddock_money::MoneyError> {
        match self.stake {
            Lines::Bet(total) => Ok(total),
            Lines::Line(unit) => unit.checked_mul(i64::try_from(self.lines()).unwrap_or(i64::MAX)),
        }
    }

    /// The exact stake of one line in minor units.
    pub(crate) fn unit(&self) -> BigRational {
        match self.stake {
            Lines::Line(unit) => unit.to_ratio(),
            Lines::Bet(total) => total.to_ratio() / BigRational::from_integer(self.lines().max(1).into()),
        }
    }

    pub(crate) const fn stake_amount(&self) -> Money {
        match self.stake {
            Lines::Line(amount) | Lines::Bet(amount) => amount,
        }
    }

    /// Sizes of combinations of the legs that are no bankers.
    pub(crate) fn sizes(&self) -> Vec<u32> {
        match &self.structure {
            Structure::Single => vec![1],
            Structure::Accumulator => vec![u32::try_from(self.legs.len()).unwrap_or(u32::MAX)],
            Structure::System { sizes } => sizes.clone(),
        }
    }
}

/// The elementary symmetric polynomial `e_k`: the sum over all combinations of k numbers of their product, in O(n·k).
pub(crate) fn elementary(numbers: &[BigRational], size: u32) -> BigRational {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > numbers.len() {
        return BigRational::zero();
    }
    // sums[k] is e_k of the numbers seen so far; adding x makes it e_k + x·e_(k−1).
    let mut sums = vec![BigRational::zero(); size + 1];
    if let Some(first) = sums.first_mut() {
        *first = BigRational::one();
    }
    for number in numbers {
        let mut below = BigRational::one();
        for sum in sums.iter_mut().skip(1) {
            let added = &*sum + number * &below;
            below = std::mem::replace(sum, added);
        }
    }
    sums.pop().unwrap_or_else(BigRational::zero)
}
