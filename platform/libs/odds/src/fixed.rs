//! Fixed-point numbers with 18 decimals: probabilities and the margin solvers' unknowns.

use std::fmt;
use std::ops::{Add, Div, Mul, Neg, Sub};

use num_rational::Ratio;

use crate::exact::NotExact;
use crate::text::is_its_text;

const DECIMALS: usize = 18;
const SCALE: i128 = 1_000_000_000_000_000_000;
const HALF_SCALE: i128 = 1_000_000_000;
/// ln 2, rounded to 18 decimals.
const LN_2: Fixed = Fixed(693_147_180_559_945_309);

/// A signed number with 18 decimals, exact to its last digit on every machine.
///
/// Products and quotients are cut towards zero; results beyond ±1.7e20 saturate, division by zero gives the largest
/// number. Functions are accurate to about 1e-16 for the range that probabilities and odds need. Text is a decimal string.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Fixed(i128);

impl Fixed {
    /// 0.
    pub const ZERO: Self = Self(0);
    /// 1.
    pub const ONE: Self = Self(SCALE);
    /// The largest number.
    pub const MAX: Self = Self(i128::MAX);

    /// A count of 1e-18.
    pub const fn from_raw(raw: i128) -> Self {
        Self(raw)
    }

    /// The count of 1e-18.
    pub const fn raw(self) -> i128 {
        self.0
    }

    /// A whole number.
    pub const fn from_int(value: i64) -> Self {
        Self((value as i128).saturating_mul(SCALE))
    }

    /// An exact number, cut after 18 decimals.
    pub fn from_ratio(value: Ratio<i64>) -> Self {
        // Odds and factors are below 1e12, so the scaled numerator fits an i128.
        Self(i128::from(*value.numer()).saturating_mul(SCALE)).over(i128::from(*value.denom()))
    }

    /// Reads a decimal with at most 18 places.
    pub fn parse(text: &str) -> Result<Self, NotExact> {
        let bad = || NotExact::Malformed(text.to_owned());
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
        let fits = (1..=DECIMALS).contains(&whole.len()) && (1..=DECIMALS).contains(&decimals.len());
        if !fits || !whole.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let raw: i128 = format!("{whole}{decimals:0<DECIMALS$}").parse().map_err(|_| bad())?;
        Ok(Self(if negative { -raw } else { raw }))
    }

    /// The absolute value.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// Square root of a non-negative number (0 for negative ones); exact to 18 decimals below 170, to 13 above.
    #[must_use]
    pub fn sqrt(self) -> Self {
        match self.0.checked_mul(SCALE) {
            Some(scaled) => Self(scaled.max(0).isqrt()),
            None => Self(Self(self.0 / 1_000_000).sqrt().0.saturating_mul(1_000)),
        }
    }

    /// Natural logarithm of a positive number (−[`Fixed::MAX`] otherwise).
    ///
    /// x = m·2^k with m in [2/3, 4/3): ln x = k·ln 2 + 2·artanh((m−1)/(m+1)), by its power series.
    #[must_use]
    pub fn ln(self) -> Self {
        if self.0 <= 0 {
            return -Self::MAX;
        }
        let (mut mantissa, mut twos) = (self.0, 0_i64);
        while mantissa >= SCALE / 3 * 4 {
            mantissa /= 2;
            twos += 1;
        }
        while mantissa < SCALE / 3 * 2 {
            mantissa *= 2;
            twos -= 1;
        }
        let base = Self(mantissa - SCALE) / Self(mantissa + SCALE);
        let square = base * base;
        let (mut power, mut sum, mut divisor) = (base, Self::ZERO, 1);
        while power.0 != 0 {
            sum = sum + power.over(divisor);
            power = power * square;
            divisor += 2;
        }
        sum + sum + Self(LN_2.0.saturating_mul(i128::from(twos)))
    }

    /// e to the power of this number; 0 below about −41, saturating above about 46.
    ///
    /// x = k·ln 2 + r with |r| ≤ ln 2 / 2: eˣ = 2^k·eʳ, eʳ by its power series.
    #[must_use]
    pub fn exp(self) -> Self {
        let twos = (self.0 + LN_2.0 / 2 * self.0.signum()) / LN_2.0;
        match twos {
            ..=-61 => return Self::ZERO,
            67.. => return Self::MAX,
            _ => {}
        }
        let rest = Self(self.0 - twos * LN_2.0);
        let (mut term, mut sum, mut divisor) = (Self::ONE, Self::ONE, 1);
        loop {
            term = (term * rest).over(divisor);
            if term.0 == 0 {
                break;
            }
            sum = sum + term;
            divisor += 1;
        }
        if twos < 0 { Self(sum.0 >> twos.unsigned_abs()) } else { Self(sum.0.saturating_mul(1 << twos)) }
    }

    /// This number divided by a whole number.
    #[must_use]
    pub const fn over(self, divisor: i128) -> Self {
        match self.0.checked_div(divisor) {
            Some(raw) => Self(raw),
            None => Self::MAX,
        }
    }
}

impl Add for Fixed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Fixed {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Fixed {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Mul for Fixed {
    type Output = Self;

    /// (a + b)(c + d) with a, c whole and b, d below 1, so that no intermediate overflows before the result does.
    fn mul(self, other: Self) -> Self {
        let (whole, part) = (self.0 / SCALE, self.0 % SCALE);
        let (other_whole, other_part) = (other.0 / SCALE, other.0 % SCALE);
        let wholes = whole.saturating_mul(other.0).saturating_add(other_whole.saturating_mul(part));
        Self(wholes.saturating_add(part * other_part / SCALE))
    }
}

impl Div for Fixed {
    type Output = Self;

    /// Long division in two steps of nine decimals, so that no intermediate overflows.
    fn div(self, other: Self) -> Self {
        if other.0 == 0 {
            return Self::MAX;
        }
        let (whole, rest) = (self.0 / other.0, self.0 % other.0);
        let step = |rest: i128| (rest.saturating_mul(HALF_SCALE) / other.0, rest.saturating_mul(HALF_SCALE) % other.0);
        let (first, rest) = step(rest);
        let (second, _) = step(rest);
        Self(whole.saturating_mul(SCALE).saturating_add(first * HALF_SCALE + second))
    }
}

impl std::iter::Sum for Fixed {
    fn sum<I: Iterator<Item = Self>>(numbers: I) -> Self {
        numbers.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Fixed {
    /// The decimal without trailing zeros: `0.4812`, `1`, `-0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, rest) = (magnitude / SCALE.unsigned_abs(), magnitude % SCALE.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        let decimals = format!("{rest:018}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}"),
            decimals => write!(f, "{sign}{whole}.{decimals}"),
        }
    }
}

impl fmt::Debug for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

is_its_text!(Fixed, NotExact);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fixed(text: &str) -> Fixed {
        Fixed::parse(text).unwrap()
    }

    fn near(left: Fixed, right: Fixed, tolerance: i128) -> bool {
        (left - right).abs().raw() <= tolerance
    }

    #[test]
    fn known_values() {
        assert!(near(fixed("2").ln(), LN_2, 2));
        assert!(near(fixed("10").ln(), fixed("2.302585092994045684"), 50));
        assert!(near(fixed("0.1").ln(), fixed("-2.302585092994045684"), 50));
        assert!(near(fixed("1").exp(), fixed("2.718281828459045235"), 20));
        assert!(near(fixed("-1").exp(), fixed("0.367879441171442321"), 4));
        assert!(near(fixed("2").sqrt(), fixed("1.414213562373095048"), 1));
        assert_eq!(fixed("0").exp(), Fixed::ONE);
        assert_eq!(fixed("1").ln(), Fixed::ZERO);
        assert_eq!(Fixed::from_ratio(Ratio::new(1, 3)), fixed("0.333333333333333333"));
        assert_eq!(Fixed::from_ratio(Ratio::new(1000, 3)), fixed("333.333333333333333333"));
    }

    #[test]
    fn extremes_saturate() {
        assert_eq!(Fixed::ONE / Fixed::ZERO, Fixed::MAX);
        assert_eq!(fixed("-100").exp(), Fixed::ZERO);
        assert_eq!(fixed("100").exp(), Fixed::MAX);
        assert_eq!(Fixed::MAX * Fixed::MAX, Fixed::MAX);
        assert_eq!(Fixed::ZERO.ln(), -Fixed::MAX);
    }

    proptest! {
        #[test]
        fn text_round_trips(raw in -1_000_000_000_000_000_000_000_i128..1_000_000_000_000_000_000_000) {
            let number = Fixed::from_raw(raw);
            prop_assert_eq!(Fixed::parse(&number.to_string()).unwrap(), number);
        }

        #[test]
        fn exp_undoes_ln(raw in 1_000_000_000_000_i128..1_000_000_000_000_000_000_000) {
            let number = Fixed::from_raw(raw);
            prop_assert!(near(number.ln().exp(), number, 100 + raw / 10_000_000_000_000_000));
        }

        #[test]
        fn multiplication_undoes_division(
            left in 1_000_000_000_i128..1_000_000_000_000_000_000_000,
            right in 1_000_000_000_000_i128..1_000_000_000_000_000_000_000,
        ) {
            let (left, right) = (Fixed::from_raw(left), Fixed::from_raw(right));
            prop_assert!(near(left / right * right, left, 1 + right.raw() / SCALE + 1));
        }

        #[test]
        fn the_root_squared_is_the_number(raw in 0_i128..1_000_000_000_000_000_000_000) {
            let number = Fixed::from_raw(raw);
            let root = number.sqrt();
            let off = if raw < 170 * SCALE { 1 } else { 100_000 };
            prop_assert!(near(root * root, number, 3 + off * 2 * (root.raw() / SCALE + 1)));
        }
    }
}
