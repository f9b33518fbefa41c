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

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString};

use crate::{Factor, Fixed, Ladder, Odds};

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

/// Laddered prices of fair probabilities, in their order.
///
/// Outcomes that cannot be offered are `None`: probability 0 or 1, or a price below 1.01. Prices are rounded down, so the book
/// keeps at least the wanted overround; that, and that likelier outcomes never have higher prices, is checked.
pub fn price(margin: &Margin, fair: &[Fixed], winners: u32) -> Result<Vec<Option<Odds>>, MarginError> {
    let open: Vec<Fixed> = fair.iter().copied().filter(|p| *p > Fixed::ZERO && *p < Fixed::ONE).collect();
    if open.len() < 2 {
        return Ok(fair.iter().map(|_| None).collect());
    }
    let decided = fair.iter().filter(|p| **p >= Fixed::ONE).count();
    let winners = winners.checked_sub(u32::try_from(decided).unwrap_or(u32::MAX)).ok_or(MarginError::WrongSum)?;
    let implied = apply(margin.method, &open, winners, margin.overround)?;
    let prices: Vec<Option<Odds>> = implied.iter().map(|p| margin.ladder.floor(ten_thousandths(*p))).collect();
    check(margin, &open, &implied, &prices, winners)?;
    let mut prices = prices.into_iter();
    Ok(fair.iter().map(|p| if *p > Fixed::ZERO && *p < Fixed::ONE { prices.next().flatten() } else { None }).collect())
}

/// 10000/π, cut.
fn ten_thousandths(implied: Fixed) -> i64 {
    let price = Fixed::from_int(10_000) / implied;
    i64::try_from(price.raw() / Fixed::ONE.raw()).unwrap_or(i64::MAX)
}

fn check(
    margin: &Margin,
    fair: &[Fixed],
    implied: &[Fixed],
    prices: &[Option<Odds>],
    winners: u32,
) -> Result<(), MarginError> {
    let target = Fixed::from_int(i64::from(winners)) * (Fixed::ONE + Fixed::from_ratio(margin.overround.ratio()));
    let sum: Fixed = prices
        .iter()
        .zip(implied)
        .map(|(price, implied)| price.map_or(*implied, |price| Fixed::from_ratio(price.ratio().recip())))
        .sum();
    let mut ordered: Vec<_> = fair.iter().zip(prices).filter_map(|(p, price)| price.map(|price| (*p, price))).collect();
    ordered.sort();
    let monotone =
        ordered.iter().zip(ordered.iter().skip(1)).all(|(left, right)| left.1 >= right.1 || left.0 == right.0);
    if sum < target - SAFETY || !monotone { Err(MarginError::Unsafe) } else { Ok(()) }
}

/// Prices of a fair book sum to k but for the last digits of their reciprocals.
const ROUNDING: Fixed = Fixed::from_raw(1_000);
/// What a solved sum may miss its target by.
const SAFETY: Fixed = Fixed::from_raw(1_000_000);
/// Probabilities may miss their sum by 0.01 % (feeds send ten decimals).
const SUM_TOLERANCE: Fixed = Fixed::from_raw(100_000_000_000_000);
/// Insiders' share beyond which Shin's formula has no meaning for a book.
const SHIN_MOST: Fixed = Fixed::from_raw(990_000_000_000_000_000);
/// A root is found when the function is this close to zero.
const CLOSE: Fixed = Fixed::from_raw(200);
const MOST_STEPS: usize = 200;

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

/// The root of a rising function at or above `low`, looked for up to a million times `low`.
fn rising(low: Fixed, f: impl Fn(Fixed) -> Fixed) -> Result<Fixed, MarginError> {
    let mut high = low + low;
    for _ in 0..20 {
        if f(high) >= Fixed::ZERO {
            return between(low, high, f);
        }
        high = high + high;
    }
    Err(MarginError::Unreachable)
}

/// The root of a rising function in an interval: regula falsi in the Illinois form, bisection where that is slow.
fn between(mut low: Fixed, mut high: Fixed, f: impl Fn(Fixed) -> Fixed) -> Result<Fixed, MarginError> {
    let (mut at_low, mut at_high) = (f(low), f(high));
    if at_low.abs() <= CLOSE || at_low > Fixed::ZERO && at_low <= ROUNDING {
        return Ok(low);
    }
    if at_high.abs() <= CLOSE {
        return Ok(high);
    }
    if at_low > Fixed::ZERO || at_high < Fixed::ZERO {
        return Err(MarginError::Unreachable);
    }
    let mut kept = 0_i8;
    for step in 0..MOST_STEPS {
        let width = high - low;
        if width.raw() <= 1 {
            break;
        }
        let secant = high - at_high * (width / (at_high - at_low));
        let inside = secant > low && secant < high;
        let middle = if inside && step % 8 != 7 { secant } else { low + width.over(2) };
        let value = f(middle);
        if value.abs() <= CLOSE {
            return Ok(middle);
        }
        if value < Fixed::ZERO {
            (low, at_low) = (middle, value);
            if kept == 1 {
                at_high = at_high.over(2);
            }
            kept = 1;
        } else {
            (high, at_high) = (middle, value);
            if kept == -1 {
                at_low = at_low.over(2);
            }
            kept = -1;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use strum::IntoEnumIterator;

    use super::*;

    fn near(left: Fixed, right: &str, tolerance: i128) -> bool {
        (left - Fixed::parse(right).unwrap()).abs().raw() <= tolerance
    }

    fn book(prices: &[&str]) -> Vec<Odds> {
        prices.iter().map(|price| Odds::parse(price).unwrap()).collect()
    }

    /// Published implementations of the methods agree on these to six decimals.
    #[rstest]
    #[case(Method::Multiplicative, [".372026", ".403028", ".224946"])]
    #[case(Method::Power, [".372984", ".405107", ".221908"])]
    #[case(Method::Shin, [".372994", ".404779", ".222227"])]
    #[case(Method::OddsRatio, [".372429", ".404131", ".223440"])]
    fn known_vectors(#[case] method: Method, #[case] expected: [&str; 3]) {
        let fair = remove(method, &book(&["2.6", "2.4", "4.3"]), 1).unwrap();
        for (found, expected) in fair.iter().zip(expected) {
            assert!(near(*found, &format!("0{expected}"), 510_000_000_000), "{method}: {fair:?}");
        }
    }

    #[test]
    fn shin_of_two_outcomes_is_the_additive_method() {
        let prices = book(&["1.5", "2.74"]);
        let shin = remove(Method::Shin, &prices, 1).unwrap();
        let additive = remove(Method::Additive, &prices, 1).unwrap();
        assert!(near(shin[0], "0.6508516", 50_000_000_000), "{shin:?}");
        assert!(near(shin[1], "0.3491484", 50_000_000_000));
        for (one, other) in shin.iter().zip(&additive) {
            assert!((*one - *other).abs() < Fixed::parse("0.000000000001").unwrap());
        }
    }

    #[test]
    fn impossible_books_are_refused() {
        assert_eq!(remove(Method::Power, &book(&["2.1", "2.1"]), 1), Err(MarginError::NoOverround));
        assert_eq!(remove(Method::Power, &book(&["2.1"]), 1), Err(MarginError::OutOfRange));
        assert_eq!(remove(Method::Additive, &book(&["1.05", "4.0", "1000"]), 1), Err(MarginError::OutOfRange));
        let half = Fixed::parse("0.5").unwrap();
        assert_eq!(apply(Method::Power, &[half, half, half], 1, Factor::ZERO), Err(MarginError::WrongSum));
        assert_eq!(apply(Method::Power, &[half, half], 1, Factor::ONE), Err(MarginError::Unreachable));
    }

    #[test]
    fn a_fair_coin_at_five_percent_is_1_90() {
        let half = Fixed::parse("0.5").unwrap();
        for method in Method::iter() {
            let margin = Margin { method, overround: Factor::parse("0.05").unwrap(), ladder: Ladder::Standard };
            let prices = price(&margin, &[half, half], 1).unwrap();
            assert_eq!(prices, vec![Some(Odds::parse("1.90").unwrap()); 2], "{method}");
        }
    }

    #[test]
    fn decided_outcomes_have_no_price() {
        let margin =
            Margin { method: Method::Power, overround: Factor::parse("0.05").unwrap(), ladder: Ladder::Standard };
        let half = Fixed::parse("0.5").unwrap();
        let prices = price(&margin, &[half, Fixed::ZERO, half], 1).unwrap();
        assert_eq!(prices.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(price(&margin, &[Fixed::ONE, Fixed::ZERO], 1).unwrap(), [None, None]);
        // Double chance when a draw is impossible: "home or away" is certain, one winner is left for the others.
        let prices = price(&margin, &[half, Fixed::ONE, half], 2).unwrap();
        assert_eq!(prices.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    }

    /// Probabilities from weights, summing to `winners` (each below 0.95).
    fn probabilities(weights: &[u32], winners: u32) -> Option<Vec<Fixed>> {
        let sum: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
        let fair = each(&weights.iter().map(|w| Fixed::from_int(i64::from(*w))).collect::<Vec<_>>(), |weight| {
            times(weight, i128::from(winners)).over(sum)
        });
        fair.iter().all(|p| *p < Fixed::parse("0.95").unwrap()).then_some(fair)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Removing from exact reciprocal prices gives back what was applied, within 1e-9.
        #[test]
        fn remove_undoes_apply(
            weights in prop::collection::vec(20_u32..1_000, 2..8),
            percent in 1_i64..15,
            winners in 1_u32..3,
        ) {
            prop_assume!(weights.len() > 2 * usize::try_from(winners).unwrap() || winners == 1);
            let Some(fair) = probabilities(&weights, winners) else { return Ok(()) };
            let overround = Factor::new(num_rational::Ratio::new(percent, 100)).unwrap();
            for method in Method::iter() {
                let Ok(implied) = apply(method, &fair, winners, overround) else { continue };
                if implied.iter().any(|p| *p >= Fixed::ONE) {
                    continue;
                }
                let sum: Fixed = implied.iter().copied().sum();
                let target = Fixed::from_int(i64::from(winners)) * (Fixed::ONE + Fixed::from_ratio(overround.ratio()));
                prop_assert!((sum - target).abs() < SAFETY, "{method}: sum {sum}, target {target}");
                let prices: Vec<Odds> = implied.iter().map(|p| {
                    let units = Fixed::from_int(100_000_000_000) / *p;
                    let units = i64::try_from(units.raw() / Fixed::ONE.raw()).unwrap();
                    Odds::new(num_rational::Ratio::new(units, 100_000_000_000)).unwrap()
                }).collect();
                let back = remove(method, &prices, winners).unwrap();
                for (one, other) in back.iter().zip(&fair) {
                    prop_assert!((*one - *other).abs() < Fixed::parse("0.000000001").unwrap(), "{method}: {back:?} {fair:?}");
                }
            }
        }

        /// Laddered prices are offerable, ordered, and never undercut the margin.
        #[test]
        fn prices_are_safe(
            weights in prop::collection::vec(1_u32..1_000, 2..12),
            percent in 0_i64..20,
        ) {
            let Some(fair) = probabilities(&weights, 1) else { return Ok(()) };
            let overround = Factor::new(num_rational::Ratio::new(percent, 100)).unwrap();
            for method in Method::iter() {
                let margin = Margin { method, overround, ladder: Ladder::Standard };
                let Ok(prices) = price(&margin, &fair, 1) else {
                    prop_assert!(method != Method::Power, "power always has prices: {fair:?}");
                    continue;
                };
                for (p, price) in fair.iter().zip(&prices) {
                    if let Some(price) = price {
                        prop_assert!(price.is_offerable());
                        prop_assert!(Fixed::from_ratio(price.ratio()) * *p <= Fixed::ONE + SAFETY, "better than fair");
                    }
                }
                if let Some(all) = prices.iter().copied().collect::<Option<Vec<_>>>() {
                    let sum: Fixed = all.iter().map(|odds| Fixed::from_ratio(odds.ratio().recip())).sum();
                    prop_assert!(sum + SAFETY >= Fixed::ONE + Fixed::from_ratio(overround.ratio()));
                }
            }
        }
    }
}
