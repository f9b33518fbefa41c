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
    let margin = Margin { method: Method::Power, overround: Factor::parse("0.05").unwrap(), ladder: Ladder::Standard };
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
                    prop_assert!(*price >= Odds::parse("1.01").unwrap());
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
