//! Decimal odds as an exact rational.

use std::fmt;

use num_bigint::BigInt;
use num_rational::{BigRational, Ratio};

use crate::exact::{self, NotExact};
use crate::text::is_its_text;

/// What one unit of stake returns if the outcome wins, stake included: decimal odds, at least 1.
///
/// Text is a decimal of at most four places (`2.10`) or the same number as a fraction (`7/3`); it is shown as a decimal
/// with two to four places where that is exact, else as the fraction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Odds(Ratio<i64>);

impl Odds {
    /// Odds of an exact number; `None` below 1.
    pub fn new(value: Ratio<i64>) -> Option<Self> {
        (value >= Ratio::from_integer(1)).then_some(Self(value))
    }

    /// Odds of a count of 1/10000 (the ladder's unit): `21000` is 2.10. `None` below 1.
    pub fn from_ten_thousandths(value: i64) -> Option<Self> {
        Self::new(Ratio::new(value, 10_000))
    }

    /// Reads decimal odds: `"2.10"`, `"2"`, `"7/3"`.
    pub fn parse(text: &str) -> Result<Self, NotExact> {
        let value = exact::parse(text)?;
        Self::new(value).filter(|odds| *odds.0.numer() < 1_000_000_000_000).ok_or_else(|| NotExact::OutOfRange {
            text: text.to_owned(),
            what: "odds",
            range: "at least 1",
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

impl fmt::Display for Odds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&exact::format(self.0, 2))
    }
}

impl fmt::Debug for Odds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

is_its_text!(Odds, NotExact);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2.10", "2.10")]
    #[case("2.1", "2.10")]
    #[case("2", "2.00")]
    #[case("1.0001", "1.0001")]
    #[case("21/10", "2.10")]
    #[case("4/3", "4/3")]
    #[case("1000", "1000.00")]
    fn shows_the_canonical_form(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(Odds::parse(text).unwrap().to_string(), shown);
    }

    #[rstest]
    #[case("0.99")]
    #[case("")]
    #[case("2.10001")]
    #[case("-2.1")]
    #[case("2,1")]
    #[case("1/3")]
    #[case("3/0")]
    #[case("2.")]
    #[case(".5")]
    #[case("1e2")]
    #[case("+2")]
    #[case("99999999999999999999")]
    fn refuses(#[case] text: &str) {
        assert!(Odds::parse(text).is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips(numerator in 1_i64..1_000_000_000, denominator in 1_i64..1_000_000) {
            if let Some(odds) = Odds::new(Ratio::new(numerator, denominator)) {
                prop_assert_eq!(Odds::parse(&odds.to_string()).unwrap(), odds);
            }
        }
    }
}
