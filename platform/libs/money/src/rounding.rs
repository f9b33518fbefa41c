//! Named rounding rules from an exact rational to a whole number.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::Signed;
use serde::{Deserialize, Serialize};

/// How an exact result becomes a whole number of minor units. A house rule of the tenant, applied once per bet (B6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Rounding {
    /// To the nearest; a half goes away from zero (0.5 → 1, −0.5 → −1). The default of bookmakers' rule pages.
    #[default]
    HalfUp,
    /// To the nearest; a half goes to the even neighbour (0.5 → 0, 1.5 → 2).
    HalfEven,
    /// Towards zero (brokers' "floor" for payouts, which are never negative).
    Down,
}

impl Rounding {
    /// The whole number that `exact` becomes under this rule.
    pub fn apply(self, exact: &BigRational) -> BigInt {
        let (whole, rest) = exact.numer().div_rem(exact.denom());
        let twice: BigInt = rest.abs() * 2;
        let away = match (self, twice.cmp(exact.denom())) {
            (Self::Down, _) | (_, std::cmp::Ordering::Less) => false,
            (Self::HalfEven, std::cmp::Ordering::Equal) => whole.is_odd(),
            (_, std::cmp::Ordering::Equal | std::cmp::Ordering::Greater) => true,
        };
        if away { whole + rest.signum() } else { whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(rule: Rounding, numerator: i64, denominator: i64) -> i64 {
        let exact = BigRational::new(numerator.into(), denominator.into());
        i64::try_from(rule.apply(&exact)).unwrap()
    }

    #[test]
    fn halves_follow_the_named_rule() {
        let halves = [(1, 1, 0, 0), (3, 2, 2, 1), (5, 3, 2, 2), (-1, -1, 0, 0), (-3, -2, -2, -1)];
        for (numerator, half_up, half_even, down) in halves {
            assert_eq!(apply(Rounding::HalfUp, numerator, 2), half_up, "half up of {numerator}/2");
            assert_eq!(apply(Rounding::HalfEven, numerator, 2), half_even, "half even of {numerator}/2");
            assert_eq!(apply(Rounding::Down, numerator, 2), down, "down of {numerator}/2");
        }
    }

    #[test]
    fn other_fractions_go_to_the_nearest_or_down() {
        for (numerator, nearest, down) in [(1, 0, 0), (2, 1, 0), (4, 1, 1), (5, 2, 1), (-4, -1, -1), (-5, -2, -1)] {
            assert_eq!(apply(Rounding::HalfUp, numerator, 3), nearest);
            assert_eq!(apply(Rounding::HalfEven, numerator, 3), nearest);
            assert_eq!(apply(Rounding::Down, numerator, 3), down);
        }
    }
}
