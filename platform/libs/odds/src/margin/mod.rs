//! Margins: from prices to probabilities and back, five methods, one integer solver.
//!
//! With π = 1/o and S = Σπ. k winners make the fair sum k and the target k·(1 + overround); Shin's model knows one winner, so
//! for k > 1 it is used on p/k. Sources: Clarke, Kovalchik, Ingram, "Adjusting bookmaker's odds to allow for overround"
//! (2017); Cheung (2015) for the odds ratio; Shin (1993) in the form of Jullien and Salanié (1994).
//!
//! | method | remove: p of π | apply: π of p |
//! | --- | --- | --- |
//! | multiplicative | π·k/S | p·(1+m) |
//! | additive | π − (S−k)/n | p + k·m/n |
//! | power | π^c, Σ = k | p^c, Σ = k(1+m) |
//! | odds ratio | π/(c + π − cπ), Σ = k | cp/(1 − p + cp), Σ = k(1+m) |
//! | Shin | (√(z² + 4(1−z)π²/S) − z)/(2(1−z)), Σ = 1 | √(zp + (1−z)p²)·Σ√(zp + (1−z)p²), Σ = 1+m |

mod laddered;
mod root;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString};

use self::root::{between, rising};
use crate::{Factor, Fixed, Ladder, Odds};

pub use self::laddered::price;

/// How the margin is spread over the outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, Display, EnumString, EnumIter)]
pub enum Method {
    /// The same share of every probability.
    Multiplicative,
    /// The same amount on every probability; fails where an outsider's probability would fall to zero.
    Additive,
    /// A power of every probability: outsiders carry more. Never leaves (0, 1).
    #[default]
    Power,
    /// The same factor on every outcome's odds against.
    OddsRatio,
    /// Shin's model of insider trading.
    Shin,
}

/// Margin settings of one phase of a market rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Margin {
    /// How it is spread.
    pub method: Method,
    /// Σ1/o ÷ k − 1.
    pub overround: Factor,
    /// Which prices are shown.
    pub ladder: Ladder,
}

/// Why prices or probabilities cannot be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MarginError {
    /// A probability is not above 0 and below 1, or the method pushed one out of that range.
    #[error("a probability is not between 0 and 1: suspend the outcome, or use the Power method")]
    OutOfRange,
    /// Fair probabilities do not sum to the number of winners (within 0.01 %).
    #[error("the probabilities do not sum to the number of winners: send all outcomes of the line")]
    WrongSum,
    /// The prices sum to less than a fair book.
    #[error("the prices are better than fair (overround below zero): no margin can be removed from them")]
    NoOverround,
    /// The method has no solution for this overround.
    #[error(
        "the method cannot reach this overround for these probabilities: lower the overround or use Multiplicative"
    )]
    Unreachable,
    /// The laddered prices are unsafe: sum below the wanted margin, or order of probabilities not kept.
    #[error("the laddered prices do not keep the margin: suspend the line and report the probabilities")]
    Unsafe,
}

/// Fair probabilities of a full set of prices; they sum to `winners`.
pub fn remove(method: Method, odds: &[Odds], winners: u32) -> Result<Vec<Fixed>, MarginError> {
    let implied: Vec<Fixed> = odds.iter().map(|odds| Fixed::from_ratio(odds.ratio().recip())).collect();
    let fair = Fixed::from_int(i64::from(winners));
    let sum: Fixed = implied.iter().copied().sum();
    in_range(&implied)?;
    if sum < fair - ROUNDING {
        return Err(MarginError::NoOverround);
    }
    let count = count(&implied);
    let probabilities = match method {
        Method::Multiplicative => each(&implied, |p| p * fair / sum),
        Method::Additive => {
            let share = (sum - fair).over(count);
            each(&implied, |p| p - share)
        }
        Method::Power => {
            let logs = each(&implied, Fixed::ln);
            let power = rising(Fixed::ONE, |c| fair - logs.iter().map(|log| (*log * c).exp()).sum())?;
            each(&logs, |log| (log * power).exp())
        }
        Method::OddsRatio => {
            let with = |c: Fixed| each(&implied, |p| p / (c + p - c * p));
            with(rising(Fixed::ONE, |c| fair - with(c).into_iter().sum())?)
        }
        Method::Shin => {
            let scaled = each(&implied, |p| p / fair);
            let book = sum / fair;
            let with = |z: Fixed| {
                let rest = Fixed::ONE - z;
                each(&scaled, |p| ((z * z + times(rest * p * p / book, 4)).sqrt() - z) / (rest + rest))
            };
            let insiders = between(Fixed::ZERO, SHIN_MOST, |z| Fixed::ONE - with(z).into_iter().sum())?;
            each(&with(insiders), |p| p * fair)
        }
    };
    in_range(&probabilities)?;
    Ok(probabilities)
}

/// Reciprocal prices π = 1/o of fair probabilities; they sum to `winners`·(1 + `overround`).
///
/// The probabilities are first scaled to sum to `winners` exactly.
pub fn apply(method: Method, fair: &[Fixed], winners: u32, overround: Factor) -> Result<Vec<Fixed>, MarginError> {
    let winners = Fixed::from_int(i64::from(winners));
    in_range(fair)?;
    let sum: Fixed = fair.iter().copied().sum();
    if (sum - winners).abs() > SUM_TOLERANCE * winners {
        return Err(MarginError::WrongSum);
    }
    let fair = each(fair, |p| p * winners / sum);
    if overround == Factor::ZERO {
        return Ok(fair);
    }
    let margin = Fixed::from_ratio(overround.ratio());
    let target = winners * (Fixed::ONE + margin);
    let count = count(&fair);
    if times(Fixed::ONE, count) <= target {
        return Err(MarginError::Unreachable);
    }
    Ok(match method {
        Method::Multiplicative => each(&fair, |p| p + p * margin),
        Method::Additive => {
            let share = (winners * margin).over(count);
            each(&fair, |p| p + share)
        }
        Method::Power => {
            let logs = each(&fair, Fixed::ln);
            let with = |c: Fixed| each(&logs, |log| (log * c).exp());
            with(between(Fixed::ZERO, Fixed::ONE, |c| target - with(c).into_iter().sum())?)
        }
        Method::OddsRatio => {
            let with = |c: Fixed| each(&fair, |p| c * p / (Fixed::ONE - p + c * p));
            with(rising(Fixed::ONE, |c| with(c).into_iter().sum::<Fixed>() - target)?)
        }
        Method::Shin => {
            let scaled = each(&fair, |p| p / winners);
            let roots = |z: Fixed| each(&scaled, |p| (z * p + (Fixed::ONE - z) * p * p).sqrt());
            let book = |z: Fixed| {
                let sum: Fixed = roots(z).into_iter().sum();
                sum * sum
            };
            let insiders = between(Fixed::ZERO, Fixed::ONE, |z| book(z) - Fixed::ONE - margin)?;
            let roots = roots(insiders);
            let sum: Fixed = roots.iter().copied().sum();
            each(&roots, |root| root * sum * winners)
        }
    })
}

/// The effective probability of an outcome that can refund or half win: with fair odds
/// o = 1 + (lose + half lose/2)/(win + half win/2), it is 1/o. `None` if the outcome can neither win nor lose.
pub fn fair_share(outcome: &crate::grid::Chances) -> Option<Fixed> {
    let wins = outcome.win + outcome.half_win.over(2);
    let decided = wins + outcome.lose + outcome.half_lose.over(2);
    (decided > Fixed::ZERO).then(|| wins / decided)
}

/// Prices of a fair book sum to k but for the last digits of their reciprocals.
const ROUNDING: Fixed = Fixed::from_raw(1_000);
/// What a solved sum may miss its target by.
const SAFETY: Fixed = Fixed::from_raw(1_000_000);
/// Probabilities may miss their sum by 0.01 % (feeds send ten decimals).
const SUM_TOLERANCE: Fixed = Fixed::from_raw(100_000_000_000_000);
/// Insiders' share beyond which Shin's formula has no meaning for a book.
const SHIN_MOST: Fixed = Fixed::from_raw(990_000_000_000_000_000);

fn each(numbers: &[Fixed], f: impl Fn(Fixed) -> Fixed) -> Vec<Fixed> {
    numbers.iter().map(|number| f(*number)).collect()
}

fn times(number: Fixed, factor: i128) -> Fixed {
    Fixed::from_raw(number.raw().saturating_mul(factor))
}

fn count(numbers: &[Fixed]) -> i128 {
    i128::try_from(numbers.len()).unwrap_or(i128::MAX)
}

fn in_range(numbers: &[Fixed]) -> Result<(), MarginError> {
    let fits = numbers.len() >= 2 && numbers.iter().all(|p| *p > Fixed::ZERO && *p < Fixed::ONE);
    if fits { Ok(()) } else { Err(MarginError::OutOfRange) }
}
