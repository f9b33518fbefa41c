//! An amount of one currency in minor units.

use std::fmt;

use num_bigint::BigInt;
use num_rational::BigRational;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Currency, Rounding};

/// An amount in minor units of its currency: `{minor: 500, currency: EUR}` is five euro.
///
/// Serialises as `{"currency":"EUR","amount":"5.00"}`. APIs that carry the currency elsewhere use
/// [`Money::amount`] and [`Money::parse`] with a plain string field.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Why an amount could not be read or computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The text is no plain decimal number.
    #[error("{0:?} is not an amount: write digits with an optional point, such as \"5.00\"")]
    NotADecimal(String),
    /// More decimals than the currency has.
    #[error("{text:?} has too many decimals: {currency} has {exponent}")]
    TooManyDecimals {
        /// The refused text.
        text: String,
        /// The currency it was read for.
        currency: Currency,
        /// Decimals that the currency has.
        exponent: u8,
    },
    /// The result is outside of what an `i64` of minor units holds.
    #[error("the amount is too large: it must be below 9.2e18 minor units")]
    Overflow,
    /// Two currencies in one operation.
    #[error("cannot combine {left} with {right}: convert the amounts to one currency first")]
    CurrencyMismatch {
        /// Currency of the left operand.
        left: Currency,
        /// Currency of the right operand.
        right: Currency,
    },
}

impl Money {
    /// `minor` units of `currency`.
    pub const fn from_minor(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Nothing, in `currency`.
    pub const fn zero(currency: Currency) -> Self {
        Self { minor: 0, currency }
    }

    /// Reads a decimal string exactly: optional `-`, digits, optionally a point and at most as many decimals as the
    /// currency has. No sign `+`, no exponent, no spaces, no grouping.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let bad = || MoneyError::NotADecimal(text.to_owned());
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, decimals) = match digits.split_once('.') {
            Some((_, "")) => return Err(bad()),
            Some(parts) => parts,
            None => (digits, ""),
        };
        if whole.is_empty() || !whole.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let exponent = currency.exponent();
        let missing = usize::from(exponent).checked_sub(decimals.len()).ok_or_else(|| MoneyError::TooManyDecimals {
            text: text.to_owned(),
            currency,
            exponent,
        })?;
        let mut minor: i64 = 0;
        for digit in whole.bytes().chain(decimals.bytes()).chain(std::iter::repeat_n(b'0', missing)) {
            let digit = i64::from(digit - b'0');
            minor = minor
                .checked_mul(10)
                .and_then(|minor| if negative { minor.checked_sub(digit) } else { minor.checked_add(digit) })
                .ok_or(MoneyError::Overflow)?;
        }
        Ok(Self { minor, currency })
    }

    /// An exact number of minor units, rounded once by `rounding`.
    pub fn round_minor(exact: &BigRational, currency: Currency, rounding: Rounding) -> Result<Self, MoneyError> {
        let minor = i64::try_from(rounding.apply(exact)).map_err(|_| MoneyError::Overflow)?;
        Ok(Self { minor, currency })
    }

    /// Minor units.
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Whether the amount is nothing.
    pub const fn is_zero(self) -> bool {
        self.minor == 0
    }

    /// Whether the amount is above zero.
    pub const fn is_positive(self) -> bool {
        self.minor > 0
    }

    /// The minor units as an exact rational, to be multiplied by odds.
    pub fn to_ratio(self) -> BigRational {
        BigRational::from_integer(BigInt::from(self.minor))
    }

    /// The canonical decimal string with all decimals of the currency: `5.00` (EUR), `5` (JPY), `5.000` (KWD).
    pub fn amount(self) -> String {
        let per_major = self.currency.minor_per_major().unsigned_abs();
        let (whole, rest) = (self.minor.unsigned_abs() / per_major, self.minor.unsigned_abs() % per_major);
        let sign = if self.minor < 0 { "-" } else { "" };
        match self.currency.exponent() {
            0 => format!("{sign}{whole}"),
            exponent => format!("{sign}{whole}.{rest:0width$}", width = usize::from(exponent)),
        }
    }

    /// Sum; both must have the same currency.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        self.minor.checked_add(other.minor).map(|minor| Self { minor, ..self }).ok_or(MoneyError::Overflow)
    }

    /// Difference; both must have the same currency.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        self.minor.checked_sub(other.minor).map(|minor| Self { minor, ..self }).ok_or(MoneyError::Overflow)
    }

    /// A whole multiple, such as a unit stake times the number of lines.
    pub fn checked_mul(self, times: i64) -> Result<Self, MoneyError> {
        self.minor.checked_mul(times).map(|minor| Self { minor, ..self }).ok_or(MoneyError::Overflow)
    }

    /// Sum of any number of amounts, starting from zero `currency`.
    pub fn checked_sum(currency: Currency, amounts: impl IntoIterator<Item = Self>) -> Result<Self, MoneyError> {
        amounts.into_iter().try_fold(Self::zero(currency), Self::checked_add)
    }

    fn same_currency(self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::CurrencyMismatch { left: self.currency, right: other.currency })
        }
    }
}

impl fmt::Display for Money {
    /// `5.00 EUR`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount(), self.currency)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    currency: Currency,
    amount: String,
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire { currency: self.currency, amount: self.amount() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        Self::parse(&wire.amount, wire.currency).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_exactly_and_shows_all_decimals() {
        for (text, currency, minor, shown) in [
            ("5.00", Currency::EUR, 500, "5.00"),
            ("5", Currency::EUR, 500, "5.00"),
            ("5.1", Currency::EUR, 510, "5.10"),
            ("-0.05", Currency::EUR, -5, "-0.05"),
            ("007.50", Currency::EUR, 750, "7.50"),
            ("120", Currency::JPY, 120, "120"),
            ("1.234", Currency::KWD, 1234, "1.234"),
            ("92233720368547758.07", Currency::EUR, i64::MAX, "92233720368547758.07"),
            ("-92233720368547758.08", Currency::EUR, i64::MIN, "-92233720368547758.08"),
        ] {
            let money = Money::parse(text, currency).unwrap();
            assert_eq!((money.minor(), money.amount().as_str()), (minor, shown), "{text} {currency}");
        }
    }

    #[test]
    fn refuses_what_is_no_exact_amount() {
        for text in ["", "-", ".", "5.", ".5", "+5", "5,00", "1e3", " 5", "5 ", "--5", "0x5", "٥", "1.2.3", "NaN"] {
            let error = Money::parse(text, Currency::EUR).unwrap_err();
            assert_eq!(error, MoneyError::NotADecimal(text.to_owned()));
        }
        for (text, currency) in [("5.000", Currency::EUR), ("5.0", Currency::JPY), ("1.2345", Currency::KWD)] {
            assert!(matches!(Money::parse(text, currency), Err(MoneyError::TooManyDecimals { .. })), "{text}");
        }
        assert_eq!(Money::parse("92233720368547758.08", Currency::EUR), Err(MoneyError::Overflow));
    }

    #[test]
    fn currencies_never_mix() {
        let (euro, krona) = (Money::from_minor(1, Currency::EUR), Money::from_minor(1, Currency::SEK));
        assert!(matches!(euro.checked_add(krona), Err(MoneyError::CurrencyMismatch { .. })));
        assert!(matches!(euro.checked_sub(krona), Err(MoneyError::CurrencyMismatch { .. })));
        assert_ne!(euro, krona);
    }

    #[test]
    fn arithmetic_refuses_to_wrap() {
        let most = Money::from_minor(i64::MAX, Currency::EUR);
        assert_eq!(most.checked_add(Money::from_minor(1, Currency::EUR)), Err(MoneyError::Overflow));
        assert_eq!(most.checked_mul(2), Err(MoneyError::Overflow));
        assert_eq!(
            Money::from_minor(i64::MIN, Currency::EUR).checked_sub(Money::from_minor(1, Currency::EUR)),
            Err(MoneyError::Overflow)
        );
    }

    #[test]
    fn json_is_strings() {
        let money = Money::from_minor(500, Currency::EUR);
        let json = serde_json::to_string(&money).unwrap();
        assert_eq!(json, r#"{"currency":"EUR","amount":"5.00"}"#);
        assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        assert!(serde_json::from_str::<Money>(r#"{"currency":"EUR","amount":5.0}"#).is_err());
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(minor: i64, pick in 0_usize..80) {
            let money = Money::from_minor(minor, Currency::all().nth(pick).unwrap());
            prop_assert_eq!(Money::parse(&money.amount(), money.currency()).unwrap(), money);
            let json = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        }

        #[test]
        fn rounding_never_moves_by_a_whole_unit(numerator in -1_000_000_i64..1_000_000, denominator in 1_i64..10_000) {
            let exact = BigRational::new(numerator.into(), denominator.into());
            for rounding in [Rounding::HalfUp, Rounding::HalfEven, Rounding::Down] {
                let money = Money::round_minor(&exact, Currency::EUR, rounding).unwrap();
                let off = money.to_ratio() - &exact;
                prop_assert!(off < BigRational::from_integer(1.into()) && off > BigRational::from_integer((-1).into()));
            }
        }
    }
}
