//! The ladder of prices that a bookmaker shows.

use serde::{Deserialize, Serialize};

use crate::Odds;

/// Which prices are allowed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, strum::Display, strum::EnumString,
)]
pub enum Ladder {
    /// The 350 ticks from 1.01 to 1000 that exchanges use: .01 to 2, .02 to 3, .05 to 4, .1 to 6, .2 to 10, .5 to 20,
    /// 1 to 30, 2 to 50, 5 to 100, 10 to 1000.
    #[default]
    Standard,
}

/// (first price, last price, step) of each band in 1/10000.
const STANDARD: &[(i64, i64, i64)] = &[
    (10_100, 20_000, 100),
    (20_000, 30_000, 200),
    (30_000, 40_000, 500),
    (40_000, 60_000, 1_000),
    (60_000, 100_000, 2_000),
    (100_000, 200_000, 5_000),
    (200_000, 300_000, 10_000),
    (300_000, 500_000, 20_000),
    (500_000, 1_000_000, 50_000),
    (1_000_000, 10_000_000, 100_000),
];

impl Ladder {
    const fn bands(self) -> &'static [(i64, i64, i64)] {
        match self {
            Self::Standard => STANDARD,
        }
    }

    /// The highest tick not above a price in 1/10000 (the direction that is safe for the book); `None` below the lowest.
    pub fn floor(self, ten_thousandths: i64) -> Option<Odds> {
        let (first, last, step) = self.bands().iter().rev().find(|(first, ..)| *first <= ten_thousandths)?;
        let price = ten_thousandths.min(*last);
        Odds::from_ten_thousandths(first + (price - first) / step * step)
    }

    /// Every tick, ascending.
    pub fn ticks(self) -> impl Iterator<Item = Odds> {
        let (lowest, highest) = self.bands().first().zip(self.bands().last()).map_or((0, -1), |(a, b)| (a.0, b.1));
        (lowest..=highest)
            .step_by(100)
            .filter_map(move |price| self.floor(price).filter(|tick| Odds::from_ten_thousandths(price) == Some(*tick)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn has_350_ticks_in_order() {
        let ticks: Vec<_> = Ladder::Standard.ticks().collect();
        assert_eq!(ticks.len(), 350);
        assert!(ticks.is_sorted());
        assert_eq!((ticks[0].to_string(), ticks[349].to_string()), ("1.01".into(), "1000.00".into()));
    }

    #[rstest]
    #[case(10_100, "1.01")]
    #[case(19_999, "1.99")]
    #[case(20_199, "2.00")]
    #[case(30_499, "3.00")]
    #[case(59_999, "5.90")]
    #[case(10_000_001, "1000.00")]
    fn rounds_down(#[case] price: i64, #[case] tick: &str) {
        assert_eq!(Ladder::Standard.floor(price).unwrap().to_string(), tick);
    }

    #[test]
    fn nothing_below_the_lowest_tick() {
        assert_eq!(Ladder::Standard.floor(10_099), None);
        assert_eq!(Ladder::Standard.floor(-5), None);
    }

    proptest! {
        #[test]
        fn a_tick_is_its_own_floor_and_order_is_kept(low in 10_100_i64..11_000_000, more in 0_i64..100_000) {
            let (first, second) = (Ladder::Standard.floor(low).unwrap(), Ladder::Standard.floor(low + more).unwrap());
            prop_assert!(first <= second);
            prop_assert!(first <= Odds::from_ten_thousandths(low).unwrap());
            let units = (first.ratio() * 10_000).to_integer();
            prop_assert_eq!(Ladder::Standard.floor(units), Some(first));
        }
    }
}
