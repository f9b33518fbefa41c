//! Liability: what the accepted bets on one event, market type and currency may cost at most.

use std::collections::BTreeMap;

use paddock_money::MoneyError;
use paddock_odds::MarketType;
use serde::{Deserialize, Serialize};

/// Stakes and payouts of accepted bets on the lines of one market type of one event, in minor units of one currency.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Exposure {
    lines: BTreeMap<String, LineExposure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct LineExposure {
    stakes: i64,
    payouts: BTreeMap<String, i64>,
}

impl Exposure {
    /// Adds a bet; nothing changes if a sum does not fit.
    pub fn add(&mut self, specifiers: &str, outcome: &str, stake: i64, payout: i64) -> Result<(), MoneyError> {
        let line = self.lines.entry(specifiers.to_owned()).or_default();
        let stakes = line.stakes.checked_add(stake).ok_or(MoneyError::Overflow)?;
        let paid = line.payouts.entry(outcome.to_owned()).or_default();
        *paid = paid.checked_add(payout).ok_or(MoneyError::Overflow)?;
        line.stakes = stakes;
        Ok(())
    }

    /// An upper bound of the net loss over all lines: each line's worst result, added. Lines that cannot lose at the same
    /// time are added too, so the true worst case is never above it. Where several outcomes win together (double chance)
    /// the costliest of them are added.
    pub fn liability(&self, market: MarketType) -> Result<i64, MoneyError> {
        let winners = usize::try_from(market.winners()).unwrap_or(usize::MAX);
        self.lines.values().try_fold(0_i64, |sum, line| {
            let mut payouts: Vec<i64> = line.payouts.values().copied().collect();
            payouts.sort_unstable_by(|one, other| other.cmp(one));
            let worst = payouts
                .iter()
                .take(winners)
                .try_fold(0_i64, |sum, payout| sum.checked_add(*payout))
                .and_then(|paid| paid.checked_sub(line.stakes))
                .ok_or(MoneyError::Overflow)?;
            sum.checked_add(worst.max(0)).ok_or(MoneyError::Overflow)
        })
    }
}

#[cfg(test)]
mod tests {
    use paddock_odds::{Line, winning};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_worst_outcome_counts() {
        let mut exposure = Exposure::default();
        exposure.add("", "1", 1000, 2100).unwrap();
        assert_eq!(exposure.liability(MarketType::MatchResult).unwrap(), 1100);
        exposure.add("", "3", 500, 2000).unwrap();
        assert_eq!(exposure.liability(MarketType::MatchResult).unwrap(), 600);
        assert_eq!(exposure.liability(MarketType::DoubleChance).unwrap(), 2600);
    }

    proptest! {
        #[test]
        fn no_score_costs_more_than_the_liability(
            bets in prop::collection::vec((1_i32..14, prop::bool::ANY, 1_i64..10_000, 101_i64..900), 1..30),
            home in 0_u16..8,
            away in 0_u16..8,
        ) {
            let market = MarketType::TotalGoals;
            let (mut exposure, mut loss) = (Exposure::default(), 0_i64);
            for (quarters, over, stake, odds) in bets {
                let line = Line::Quarters(quarters);
                let outcome = if over { "12" } else { "13" };
                let payout = stake * odds / 100;
                exposure.add(&market.specifiers(line).unwrap().to_string(), outcome, stake, payout).unwrap();
                let result = winning::decide(market, line, outcome, home, away);
                let void = result.void_factor().ratio();
                let won = if result.won() { payout } else { 0 };
                let kept = void.denom() - void.numer();
                // Rounded against the house, so that the comparison is the stricter one.
                loss += (void.numer() * stake + kept * won) / void.denom() - stake;
            }
            prop_assert!(loss <= exposure.liability(market).unwrap(), "{loss}");
        }
    }
}
