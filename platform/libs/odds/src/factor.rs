//! A factor from zero to one: void and dead-heat factors, place terms, margins.

use std::fmt;

use num_bigint::BigInt;
use num_rational::{BigRational, Ratio};

use crate::exact::{self, NotExact};
use crate::text::is_its_text;

/// An exact number from 0 to 1, written as a decimal of at most four places or a fraction: `0.5`, `1`, `1/3`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Factor(Ratio<i64>);

impl Factor {
    /// Nothing.
    pub const ZERO: Self = Self(Ratio::new_raw(0, 1));
    /// A half.
    pub const HALF: Self = Self(Ratio::new_raw(1, 2));
    /// All of it.
    pub const ONE: Self = Self(Ratio::new_raw(1, 1));

    /// A factor of an exact number; `None` outside of 0..=1.
    pub fn new(value: Ratio<i64>) -> Option<Self> {
        (value >= Self::ZERO.0 && value <= Self::ONE.0).then_some(Self(value))
    }

    /// Reads `"0.5"`, `"1"`, `"1/3"`.
    pub fn parse(text: &str) -> Result<Self, NotExact> {
        Self::new(exact::parse(text)?).ok_or_else(|| NotExact::OutOfRange {
            text: text.to_owned(),
            what: "a factor",
            range: "from 0 to 1",
        })
    }

    /// The exact number.
    pub const fn ratio(self) -> Ratio<i64> {
        self.0
    }

    /// The exact number for unbounded arithmetic.
    pub fn to_big(self) -> BigRational {
        BigRational::new_raw(BigInt::from(*self.0.numer()), BigInt::from(*self.0.denom()))
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&exact::format(self.0, 0))
    }
}

impl fmt::Debug for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

is_its_text!(Factor, NotExact);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_stays_one() {
        let third = Factor::parse("1/3").unwrap();
        assert_eq!(third.to_string(), "1/3");
        assert_eq!(serde_json::to_string(&third).unwrap(), r#""1/3""#);
        assert_eq!(serde_json::from_str::<Factor>(r#""2/6""#).unwrap(), third);
        assert_eq!(Factor::parse("0.50").unwrap().to_string(), "0.5");
        assert_eq!(Factor::parse("1").unwrap().to_string(), "1");
    }

    #[test]
    fn only_zero_to_one() {
        for text in ["1.0001", "4/3", "-0.1", "2", "x"] {
            assert!(Factor::parse(text).is_err(), "{text}");
        }
    }
}
