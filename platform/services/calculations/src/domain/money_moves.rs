//! Which transfers bring a bet's money from one settlement to the next.

use paddock_ledger::{AccountCode, Reason};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A transfer to make, in minor units of the bet's currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Derived from bet, settlement version and place in the list.
    pub id: Uuid,
    /// Debited.
    pub from: AccountCode,
    /// Credited.
    pub to: AccountCode,
    /// Above zero.
    pub amount: i64,
    /// Why.
    pub reason: Reason,
}

/// The transfers from one settlement of a bet to another; `None` = open, the stake lies in `house:bets`. After them the money is
/// where the new settlement alone would have put it, except that what cash could not cover has become debt.
///
/// A changed payout moves only the difference, so that a customer owes nothing that he is about to get.
pub fn moves(bet: Uuid, version: i32, stake: i64, from: Option<i64>, to: Option<i64>, void: bool) -> Vec<Move> {
    use AccountCode::{HouseBets, HousePnl, PlayerCash};
    let list = match (from, to) {
        (None, Some(payout)) => {
            let back = if void { Reason::BetRefund } else { Reason::BetReturn };
            vec![
                (HouseBets, PlayerCash, payout.min(stake), back),
                (HousePnl, PlayerCash, payout - stake, Reason::BetWin),
                (HouseBets, HousePnl, stake - payout, Reason::BetLoss),
            ]
        }
        (Some(old), None) => vec![
            (HousePnl, HouseBets, stake - old, Reason::BetRollback),
            (PlayerCash, HouseBets, old.min(stake), Reason::BetRollback),
            (PlayerCash, HousePnl, old - stake, Reason::BetRollback),
        ],
        (Some(old), Some(new)) => vec![
            (HousePnl, PlayerCash, new - old, Reason::BetWin),
            (PlayerCash, HousePnl, old - new, Reason::BetRollback),
        ],
        (None, None) => Vec::new(),
    };
    list.into_iter()
        .filter(|(_, _, amount, _)| *amount > 0)
        .enumerate()
        .map(|(at, (from, to, amount, reason))| Move {
            id: Uuid::new_v5(&bet, format!("settlement/{version}/{at}").as_bytes()),
            from,
            to,
            amount,
            reason,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Balances = BTreeMap<AccountCode, i64>;

    fn apply(balances: &mut Balances, moves: &[Move]) {
        for step in moves {
            assert!(step.reason.allows(step.from, step.to), "{step:?}");
            *balances.entry(step.from).or_default() -= step.amount;
            *balances.entry(step.to).or_default() += step.amount;
            assert!(balances.get(&AccountCode::HouseBets).copied().unwrap_or(0) >= 0, "escrow below zero");
        }
        balances.retain(|_, amount| *amount != 0);
    }

    proptest! {
        /// B4: only the last settlement matters, not the way to it.
        #[test]
        fn any_way_ends_where_the_last_settlement_alone_would(
            stake in 1_i64..1000,
            way in prop::collection::vec(prop::option::of(0_i64..5000), 1..8),
        ) {
            let bet = Uuid::from_u128(1);
            let start = Balances::from([(AccountCode::HouseBets, stake)]);
            let (mut balances, mut present, mut ids) = (start.clone(), None, Vec::new());
            for (version, next) in (1..).zip(&way) {
                let steps = moves(bet, version, stake, present, *next, false);
                ids.extend(steps.iter().map(|step| step.id));
                apply(&mut balances, &steps);
                present = *next;
            }
            let mut direct = start;
            apply(&mut direct, &moves(bet, 1, stake, None, present, false));
            prop_assert_eq!(balances, direct);
            let count = ids.len();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), count, "every transfer has its own id");
        }
    }
}
