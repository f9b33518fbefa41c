//! The terms of a bet with several legs.

use paddock_money::{Currency, Money};

use crate::{Limits, MarketRule, Phase};

/// Terms of one bet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Delay of acceptance in milliseconds: the longest of the legs.
    pub delay_ms: u32,
    /// Highest of the lowest stakes.
    pub min_stake: Money,
    /// Lowest of the highest stakes.
    pub max_stake: Money,
    /// Lowest of the highest payouts.
    pub max_payout: Money,
}

/// The most restrictive terms of the legs' rules: longest delay, lowest limits. `None` if a rule refuses the currency or the
/// country, is not open, or there is no leg.
pub fn combine(legs: &[(&MarketRule, Phase)], currency: Currency, country: &str) -> Option<Terms> {
    let mut terms: Option<Terms> = None;
    for (rule, phase) in legs {
        if !rule.is_open() || !rule.geography.admits(country) {
            return None;
        }
        let Limits { min_stake, max_stake, max_payout, .. } = *rule.limits_in(currency)?;
        let leg = Terms { delay_ms: rule.bet_delay_ms.of(*phase), min_stake, max_stake, max_payout };
        terms = Some(match terms {
            None => leg,
            Some(so_far) => Terms {
                delay_ms: so_far.delay_ms.max(leg.delay_ms),
                min_stake: higher(so_far.min_stake, leg.min_stake),
                max_stake: lower(so_far.max_stake, leg.max_stake),
                max_payout: lower(so_far.max_payout, leg.max_payout),
            },
        });
    }
    terms
}

fn lower(one: Money, other: Money) -> Money {
    if other.minor() < one.minor() { other } else { one }
}

fn higher(one: Money, other: Money) -> Money {
    if other.minor() > one.minor() { other } else { one }
}
