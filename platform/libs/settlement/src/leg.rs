//! What one unit of stake on a leg becomes: m = v + (1 − v)·r·d·o′.

use num_rational::{BigRational, Ratio};
use num_traits::{One, Zero};
use paddock_odds::{Factor, Odds};
use serde::{Deserialize, Serialize};

use crate::OutcomeState;

/// A Rule 4 deduction: pence in the pound taken from the profit after a withdrawal, 0 to 90.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Rule4(u8);

impl Rule4 {
    /// No deduction.
    pub const NONE: Self = Self(0);

    /// Pence in the pound; several withdrawals add up and end at 90.
    pub fn pence(pence: u8) -> Option<Self> {
        (pence <= 90).then_some(Self(pence))
    }

    /// The sum of several deductions, capped at 90 pence.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self((self.0 + other.0).min(90))
    }
}

impl TryFrom<u8> for Rule4 {
    type Error = &'static str;

    fn try_from(pence: u8) -> Result<Self, Self::Error> {
        Self::pence(pence).ok_or("a Rule 4 deduction is from 0 to 90 pence in the pound")
    }
}

impl From<Rule4> for u8 {
    fn from(rule: Rule4) -> Self {
        rule.0
    }
}

/// A leg's multiplier with the numbers it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegMultiplier {
    /// What one unit of stake becomes.
    pub value: BigRational,
    /// Odds after place terms and Rule 4, o′.
    pub odds: BigRational,
    /// Share that is returned, v.
    pub void_factor: Factor,
    /// Whether the rest won, r.
    pub won: bool,
    /// Dead-heat factor, d.
    pub dead_heat_factor: Factor,
}

/// The multiplier of a decided outcome at locked odds; `None` while it is open.
///
/// `place_term` is the share of the profit odds that a place bet pays (1 for a win bet): o = 1 + (odds − 1)·term, then
/// o′ = 1 + (o − 1)(1 − Rule 4). Void share v is returned, the rest wins with r = 1 on the dead-heat share d.
pub fn multiplier(state: OutcomeState, odds: Odds, place_term: Factor, rule4: Rule4) -> Option<LegMultiplier> {
    let OutcomeState::Decided { won, void_factor, dead_heat_factor } = state else {
        return None;
    };
    let one = BigRational::one();
    let kept = &one - BigRational::new(i64::from(rule4.0).into(), 100.into());
    let odds = &one + (odds.to_big() - &one) * place_term.to_big() * kept;
    let void = void_factor.to_big();
    let wins = if won { dead_heat_factor.to_big() * &odds } else { BigRational::zero() };
    let value = &void + (&one - &void) * wins;
    Some(LegMultiplier { value, odds, void_factor, won, dead_heat_factor })
}

/// Text of an exact number: a decimal if it has at most six places, else a fraction.
pub(crate) fn show(value: &BigRational) -> String {
    let scale = Ratio::from_integer(num_bigint::BigInt::from(1_000_000));
    let scaled = value * &scale;
    if !scaled.is_integer() {
        return value.to_string();
    }
    let digits = format!("{:0>7}", scaled.to_integer().to_string());
    let (whole, decimals) = digits.split_at_checked(digits.len().saturating_sub(6)).unwrap_or((&digits, ""));
    match decimals.trim_end_matches('0') {
        "" => whole.to_owned(),
        decimals => format!("{whole}.{decimals}"),
    }
}
