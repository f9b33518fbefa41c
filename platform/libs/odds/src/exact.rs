//! Reading and writing exact numbers: decimals of at most four places, or fractions.

use num_rational::Ratio;

/// Numerators and denominators stay below this, so that products of a few of them fit an `i128`.
const LIMIT: i64 = 1_000_000_000_000;
/// Odds and factors have at most four decimals (rule B6).
const DECIMALS: usize = 4;
const SCALE: i64 = 10_000;

/// The text is no exact number within the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotExact {
    /// Neither a decimal nor a fraction.
    #[error("{0:?} is no exact number: write a decimal such as \"2.10\" or a fraction such as \"1/3\"")]
    Malformed(String),
    /// More than four decimals.
    #[error("{0:?} has more than four decimals: round it, or write a fraction such as \"1/3\"")]
    TooManyDecimals(String),
    /// Exact, but not within what it stands for.
    #[error("{text:?} is out of range: {what} must be {range}")]
    OutOfRange {
        /// The refused text.
        text: String,
        /// What was read: odds, a factor.
        what: &'static str,
        /// The allowed range in words.
        range: &'static str,
    },
}

/// A non-negative decimal (`2.10`) or fraction (`1/3`).
pub fn parse(text: &str) -> Result<Ratio<i64>, NotExact> {
    let bad = || NotExact::Malformed(text.to_owned());
    let digits = |part: &str| -> Result<i64, NotExact> {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        part.parse().ok().filter(|value| *value < LIMIT).ok_or_else(bad)
    };
    if let Some((numerator, denominator)) = text.split_once('/') {
        return match digits(denominator)? {
            0 => Err(bad()),
            denominator => Ok(Ratio::new(digits(numerator)?, denominator)),
        };
    }
    let Some((whole, decimals)) = text.split_once('.') else {
        return Ok(Ratio::from_integer(digits(text)?));
    };
    if decimals.len() > DECIMALS {
        return Err(NotExact::TooManyDecimals(text.to_owned()));
    }
    let parts: i64 = digits(&format!("{decimals:0<DECIMALS$}")).and_then(|value| digits(decimals).map(|_| value))?;
    let value = digits(whole)?.checked_mul(SCALE).and_then(|whole| whole.checked_add(parts)).ok_or_else(bad)?;
    Ok(Ratio::new(value, SCALE))
}

/// The canonical text: a decimal with at least `places` decimals if four suffice, else the reduced fraction.
pub fn format(value: Ratio<i64>, places: usize) -> String {
    let scaled = value * SCALE;
    if !scaled.is_integer() {
        return format!("{}/{}", value.numer(), value.denom());
    }
    let scaled = scaled.to_integer();
    let (whole, rest) = (scaled / SCALE, scaled % SCALE);
    let all = format!("{rest:04}");
    let kept = all.trim_end_matches('0');
    match kept.len().max(places) {
        0 => whole.to_string(),
        length => format!("{whole}.{kept:0<length$}"),
    }
}
