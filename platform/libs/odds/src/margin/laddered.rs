//! Laddered prices of fair probabilities.

use super::{Margin, MarginError, SAFETY, apply};
use crate::{Fixed, Odds};

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
