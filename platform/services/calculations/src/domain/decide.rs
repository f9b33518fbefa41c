//! The decision on a bet: every input is a value.

use paddock_events::{CatalogueEvent, EventStatus, MarketStatus, OfferLine, PricePhase};
use paddock_market_book::{Book, EventAttributes, MarketRule, Phase};
use paddock_money::{BigRational, Money, Rounding};
use paddock_odds::Odds;

use super::Code;
use super::request::{OddsChange, Single};

/// The offer as far as it concerns a bet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The line from this replica's copy.
    pub line: OfferLine,
    /// Its event.
    pub event: CatalogueEvent,
    /// Whether the copy is at most three seconds old.
    pub fresh: bool,
    /// The line's last state change that any replica has seen.
    pub state: StateRow,
    /// Status of the event as any replica has seen it.
    pub event_status: EventStatus,
    /// Whether settlement knows what becomes of a bet on the outcome that is placed now.
    pub decided: bool,
}

/// A row of state changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateRow {
    /// Sequence of the change.
    pub sequence: i64,
    /// Status since then.
    pub status: MarketStatus,
}

/// What a bet's line looked like when its ticket arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Sequence of its last state change.
    pub state: i64,
    /// Its phase.
    pub phase: PricePhase,
}

/// Who asks, and when.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Upper case, empty = unknown.
    pub country: &'a str,
    /// Policy.
    pub odds_change: OddsChange,
    /// Unix milliseconds.
    pub now: i64,
}

/// What a bet is accepted at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms<'a> {
    /// Price.
    pub odds: Odds,
    /// Rule.
    pub rule: &'a MarketRule,
    /// Delay of the rule in this phase, ms.
    pub delay_ms: u32,
    /// Payout if it wins.
    pub payout: Money,
    /// What was seen.
    pub seen: Seen,
}

/// Decides on one bet: its terms, or why not. `before` is what was seen when the ticket arrived; `None` at that moment.
/// Exposure is decided by the caller, who holds its lock.
pub fn decide<'a>(
    bet: &Single,
    offered: Option<&Offered>,
    book: &'a Book,
    asking: Asking<'_>,
    before: Option<Seen>,
) -> Result<Terms<'a>, Code> {
    let offered = offered.ok_or(Code::UnknownSelection)?;
    let (line, event) = (&offered.line, &offered.event);
    let outcome = line.outcome(&bet.outcome_id).ok_or(Code::UnknownSelection)?;
    // A state change that this copy has not seen yet means that its price is old as well.
    if !offered.fresh || offered.state.sequence > line.sequence {
        return Err(Code::OfferStale);
    }
    started(line.phase, event, offered.event_status, asking.now)?;
    takes_bets(line.status)?;
    takes_bets(offered.state.status)?;
    // A result may be known before the feed closes the line: nobody bets on what has happened.
    if offered.decided {
        return Err(Code::MarketClosed);
    }
    let seen = Seen { state: offered.state.sequence, phase: line.phase };
    if let Some(before) = before {
        if before.phase != seen.phase {
            return Err(Code::EventStarted);
        }
        if before.state != seen.state {
            return Err(Code::MarketSuspended);
        }
    }
    let rule = rule_of(bet, line.phase, event, book)?;
    let current = outcome.odds.filter(|_| outcome.active).ok_or(Code::MarketSuspended)?;
    let odds = price(bet.odds, current, asking.odds_change)?;
    rule.admits(asking.country)?;
    let limits = rule.limits_in(bet.stake.currency()).ok_or(Code::CurrencyNotOffered)?;
    if bet.stake.minor() < limits.min_stake.minor() {
        return Err(Code::StakeTooLow);
    }
    if bet.stake.minor() > limits.max_stake.minor() {
        return Err(Code::StakeTooHigh);
    }
    let payout = potential_payout(bet.stake, odds).ok_or(Code::LimitExceeded)?;
    if payout.minor() > limits.max_payout.minor() {
        return Err(Code::LimitExceeded);
    }
    Ok(Terms { odds, rule, delay_ms: rule.bet_delay_ms.of(phase_of(line.phase)), payout, seen })
}

/// Stake × odds, rounded once by the house rule.
pub fn potential_payout(stake: Money, odds: Odds) -> Option<Money> {
    let exact: BigRational = stake.to_ratio() * odds.to_big();
    Money::round_minor(&exact, stake.currency(), Rounding::HalfUp).ok()
}

const fn phase_of(phase: PricePhase) -> Phase {
    match phase {
        PricePhase::PreMatch => Phase::PreMatch,
        PricePhase::Live => Phase::Live,
    }
}

fn started(phase: PricePhase, event: &CatalogueEvent, status: EventStatus, now: i64) -> Result<(), Code> {
    if !event.status.takes_bets() || !status.takes_bets() {
        return Err(Code::MarketClosed);
    }
    if phase == PricePhase::Live {
        return Ok(());
    }
    let is_live = event.status == EventStatus::Live || status == EventStatus::Live;
    // A delayed event has no start time that can be trusted.
    let time_passed = event.start_time <= now && event.status != EventStatus::Delayed;
    if is_live || time_passed { Err(Code::EventStarted) } else { Ok(()) }
}

const fn takes_bets(status: MarketStatus) -> Result<(), Code> {
    match status {
        MarketStatus::Active => Ok(()),
        MarketStatus::Suspended => Err(Code::MarketSuspended),
        MarketStatus::Deactivated | MarketStatus::HandedOver | MarketStatus::Settled | MarketStatus::Cancelled => {
            Err(Code::MarketClosed)
        }
    }
}

fn rule_of<'a>(
    bet: &Single,
    phase: PricePhase,
    event: &CatalogueEvent,
    book: &'a Book,
) -> Result<&'a MarketRule, Code> {
    let attributes = EventAttributes::new(
        &event.sport.name,
        (&event.category.id, &event.category.name),
        (&event.tournament.id, &event.tournament.name),
    );
    Ok(book.open_rule(&attributes, bet.market, &bet.line.specifiers, phase_of(phase))?)
}

fn price(asked: Odds, current: Odds, policy: OddsChange) -> Result<Odds, Code> {
    let taken = match policy {
        OddsChange::None => current == asked,
        OddsChange::Higher => current >= asked,
        OddsChange::Any => true,
    };
    if taken { Ok(current) } else { Err(Code::OddsChanged) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn asking(odds_change: OddsChange) -> Asking<'static> {
        Asking { country: "SE", odds_change, now: testing::NOW }
    }

    fn verdict(offered: &Offered, change: OddsChange, before: Option<Seen>) -> Result<Odds, Code> {
        let book = testing::book(1);
        decide(&testing::single("10.00", "2.10"), Some(offered), &book, asking(change), before).map(|terms| terms.odds)
    }

    #[test]
    fn a_line_that_is_not_active_takes_nothing() {
        use MarketStatus::{Active, Cancelled, Deactivated, HandedOver, Settled, Suspended};
        let none = OddsChange::None;
        assert!(verdict(&testing::offered("2.10"), none, None).is_ok());
        for (copy, row, code) in [
            (Suspended, Active, Code::MarketSuspended),
            (Active, Suspended, Code::MarketSuspended),
            (Active, Settled, Code::MarketClosed),
            (Deactivated, Active, Code::MarketClosed),
            (Cancelled, Active, Code::MarketClosed),
            (HandedOver, Active, Code::MarketClosed),
        ] {
            let mut offered = testing::offered("2.10");
            offered.line.status = copy;
            offered.state.status = row;
            assert_eq!(verdict(&offered, none, None), Err(code), "{copy} {row}");
        }
    }

    #[test]
    fn a_suspension_during_the_delay_refuses_even_if_it_is_over() {
        let offered = testing::offered("2.10");
        let seen = Seen { state: offered.state.sequence, phase: offered.line.phase };
        assert!(verdict(&offered, OddsChange::None, Some(seen)).is_ok());
        let earlier = Seen { state: seen.state - 1, ..seen };
        assert_eq!(verdict(&offered, OddsChange::None, Some(earlier)), Err(Code::MarketSuspended));
        let other_phase = Seen { phase: PricePhase::Live, ..seen };
        assert_eq!(verdict(&offered, OddsChange::None, Some(other_phase)), Err(Code::EventStarted));
    }

    #[test]
    fn an_old_copy_or_one_that_missed_a_change_refuses() {
        let mut offered = testing::offered("2.10");
        offered.fresh = false;
        assert_eq!(verdict(&offered, OddsChange::Any, None), Err(Code::OfferStale));
        let mut offered = testing::offered("2.10");
        offered.state.sequence = offered.line.sequence + 1;
        assert_eq!(verdict(&offered, OddsChange::Any, None), Err(Code::OfferStale));
    }

    #[test]
    fn pre_match_ends_at_the_kick_off_by_status_or_by_clock() {
        for change in [
            (|offered: &mut Offered| offered.event.status = EventStatus::Live) as fn(&mut Offered),
            |offered| offered.event_status = EventStatus::Live,
            |offered| offered.event.start_time = testing::NOW,
        ] {
            let mut offered = testing::offered("2.10");
            change(&mut offered);
            assert_eq!(verdict(&offered, OddsChange::None, None), Err(Code::EventStarted));
        }
        let mut offered = testing::offered("2.10");
        offered.event.status = EventStatus::Ended;
        assert_eq!(verdict(&offered, OddsChange::None, None), Err(Code::MarketClosed));
    }

    #[test]
    fn the_rules_limits_and_places_hold() {
        let (offered, book) = (testing::offered("2.10"), testing::book(1));
        let try_stake = |stake: &str, country: &str| {
            let asking = Asking { country, ..asking(OddsChange::None) };
            decide(&testing::single(stake, "2.10"), Some(&offered), &book, asking, None).map(|terms| terms.payout)
        };
        assert_eq!(try_stake("0.99", "SE"), Err(Code::StakeTooLow));
        assert_eq!(try_stake("1.00", "SE").unwrap().amount(), "2.10");
        assert_eq!(try_stake("100.01", "SE"), Err(Code::StakeTooHigh));
        assert_eq!(try_stake("100.00", "SE"), Err(Code::LimitExceeded), "the payout limit is 200.00");
        assert_eq!(try_stake("10.00", "US"), Err(Code::CountryNotAllowed));
        let yen = Single {
            stake: Money::parse("100", paddock_money::Currency::JPY).unwrap(),
            ..testing::single("1.00", "2.10")
        };
        assert_eq!(
            decide(&yen, Some(&offered), &book, asking(OddsChange::None), None).map(|terms| terms.odds),
            Err(Code::CurrencyNotOffered)
        );
        assert_eq!(
            decide(&testing::single("1.00", "2.10"), None, &book, asking(OddsChange::None), None)
                .map(|terms| terms.odds),
            Err(Code::UnknownSelection)
        );
        let empty = paddock_market_book::compile(1, Vec::new()).0;
        assert_eq!(
            decide(&testing::single("1.00", "2.10"), Some(&offered), &empty, asking(OddsChange::None), None)
                .map(|terms| terms.odds),
            Err(Code::MarketClosed)
        );
    }

    proptest! {
        /// B3: never at another price than the current one, and never at one that the policy does not take.
        #[test]
        fn the_price_is_the_current_one_and_within_the_policy(
            asked in 10_100_i64..100_000,
            current in 10_100_i64..100_000,
            policy in prop::sample::select(vec![OddsChange::None, OddsChange::Higher, OddsChange::Any]),
        ) {
            let of = |value| Odds::from_ten_thousandths(value).unwrap();
            match price(of(asked), of(current), policy) {
                Ok(taken) => {
                    prop_assert_eq!(taken, of(current));
                    prop_assert!(policy == OddsChange::Any || taken >= of(asked));
                    prop_assert!(policy != OddsChange::None || taken == of(asked));
                }
                Err(code) => {
                    prop_assert_eq!(code, Code::OddsChanged);
                    prop_assert!(policy != OddsChange::Any && current != asked);
                    prop_assert!(policy == OddsChange::None || current < asked);
                }
            }
        }

        /// Whatever else is true: an accepted bet was fresh, active on both sides, and within the limits.
        #[test]
        fn what_is_accepted_was_valid(
            fresh in prop::bool::ANY,
            decided in prop::bool::weighted(0.2),
            copy in 0_usize..6,
            row in 0_usize..6,
            ahead in -1_i64..2,
            stake in 1_i64..20_000,
            starts_in in -5_i64..5,
        ) {
            use MarketStatus::{Active, Cancelled, Deactivated, HandedOver, Settled, Suspended};
            let all = [Active, Suspended, Deactivated, HandedOver, Settled, Cancelled];
            let mut offered = testing::offered("2.10");
            offered.fresh = fresh;
            offered.decided = decided;
            offered.line.status = all[copy];
            offered.state.status = all[row];
            offered.state.sequence = offered.line.sequence + ahead;
            offered.event.start_time = testing::NOW + starts_in;
            let bet = Single {
                stake: Money::from_minor(stake, paddock_money::Currency::EUR),
                ..testing::single("1.00", "2.10")
            };
            let book = testing::book(1);
            let valid = fresh
                && !decided
                && all[copy] == Active
                && all[row] == Active
                && ahead <= 0
                && starts_in > 0
                && (100..=10_000).contains(&stake)
                && stake * 21 <= 200_009;
            prop_assert_eq!(decide(&bet, Some(&offered), &book, asking(OddsChange::None), None).is_ok(), valid);
        }
    }
}
