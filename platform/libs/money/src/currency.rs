//! ISO 4217 currency codes and the number of decimals ("exponent") of each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Every currency the platform books, with its ISO 4217 exponent, in code order (searched by bisection).
///
/// Source: ISO 4217 list one ("current currency and funds code list"), column *minor unit*.
const TABLE: &[(&str, u8)] = &[
    ("AED", 2),
    ("ALL", 2),
    ("AMD", 2),
    ("ARS", 2),
    ("AUD", 2),
    ("AZN", 2),
    ("BAM", 2),
    ("BDT", 2),
    ("BGN", 2),
    ("BHD", 3),
    ("BOB", 2),
    ("BRL", 2),
    ("BWP", 2),
    ("BYN", 2),
    ("CAD", 2),
    ("CDF", 2),
    ("CHF", 2),
    ("CLP", 0),
    ("CNY", 2),
    ("COP", 2),
    ("CRC", 2),
    ("CZK", 2),
    ("DKK", 2),
    ("DOP", 2),
    ("DZD", 2),
    ("EGP", 2),
    ("ETB", 2),
    ("EUR", 2),
    ("GBP", 2),
    ("GEL", 2),
    ("GHS", 2),
    ("GTQ", 2),
    ("HKD", 2),
    ("HNL", 2),
    ("HUF", 2),
    ("IDR", 2),
    ("ILS", 2),
    ("INR", 2),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KES", 2),
    ("KGS", 2),
    ("KRW", 0),
    ("KWD", 3),
    ("KZT", 2),
    ("LKR", 2),
    ("LYD", 3),
    ("MAD", 2),
    ("MDL", 2),
    ("MGA", 2),
    ("MKD", 2),
    ("MNT", 2),
    ("MWK", 2),
    ("MXN", 2),
    ("MYR", 2),
    ("MZN", 2),
    ("NAD", 2),
    ("NGN", 2),
    ("NIO", 2),
    ("NOK", 2),
    ("NPR", 2),
    ("NZD", 2),
    ("OMR", 3),
    ("PAB", 2),
    ("PEN", 2),
    ("PHP", 2),
    ("PKR", 2),
    ("PLN", 2),
    ("PYG", 0),
    ("QAR", 2),
    ("RON", 2),
    ("RSD", 2),
    ("RUB", 2),
    ("RWF", 0),
    ("SAR", 2),
    ("SEK", 2),
    ("SGD", 2),
    ("THB", 2),
    ("TND", 3),
    ("TRY", 2),
    ("TWD", 2),
    ("TZS", 2),
    ("UAH", 2),
    ("UGX", 0),
    ("USD", 2),
    ("UYU", 2),
    ("UZS", 2),
    ("VES", 2),
    ("VND", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("ZAR", 2),
    ("ZMW", 2),
];

/// A currency of the table above. Ordered and shown by its code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency {
    code: &'static str,
    exponent: u8,
}

/// The text is not a currency code that the platform books.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("currency {0:?} is not supported: use an upper-case ISO 4217 code such as EUR")]
pub struct UnknownCurrency(pub String);

impl Currency {
    /// The euro.
    pub const EUR: Self = Self { code: "EUR", exponent: 2 };
    /// The pound sterling.
    pub const GBP: Self = Self { code: "GBP", exponent: 2 };
    /// The Swedish krona.
    pub const SEK: Self = Self { code: "SEK", exponent: 2 };
    /// The United States dollar.
    pub const USD: Self = Self { code: "USD", exponent: 2 };
    /// The yen (no decimals).
    pub const JPY: Self = Self { code: "JPY", exponent: 0 };
    /// The Kuwaiti dinar (three decimals).
    pub const KWD: Self = Self { code: "KWD", exponent: 3 };

    /// The currency of an upper-case ISO 4217 code.
    pub fn of(code: &str) -> Result<Self, UnknownCurrency> {
        TABLE
            .binary_search_by(|(known, _)| (*known).cmp(code))
            .ok()
            .and_then(|at| TABLE.get(at))
            .map(|&(code, exponent)| Self { code, exponent })
            .ok_or_else(|| UnknownCurrency(code.to_owned()))
    }

    /// Every supported currency in code order.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|&(code, exponent)| Self { code, exponent })
    }

    /// The three-letter code.
    pub const fn code(self) -> &'static str {
        self.code
    }

    /// Decimals of an amount: 2 for EUR, 0 for JPY, 3 for KWD.
    pub const fn exponent(self) -> u8 {
        self.exponent
    }

    /// Minor units in one major unit: 100 for EUR, 1 for JPY, 1000 for KWD.
    pub const fn minor_per_major(self) -> i64 {
        10_i64.pow(self.exponent as u32)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        Self::of(code)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::of(&code).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_unique_and_well_formed() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(TABLE.iter().all(|(code, exponent)| {
            code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase()) && [0, 2, 3].contains(exponent)
        }));
    }

    #[test]
    fn constants_agree_with_the_table() {
        for constant in [Currency::EUR, Currency::GBP, Currency::SEK, Currency::USD, Currency::JPY, Currency::KWD] {
            assert_eq!(Currency::of(constant.code()), Ok(constant));
        }
    }

    #[test]
    fn unknown_and_lower_case_codes_are_refused() {
        for code in ["eur", "XXX", "", "EURO", "BTC"] {
            assert_eq!(Currency::of(code), Err(UnknownCurrency(code.to_owned())));
        }
    }
}
