//! What callers see of the offer under the market book in force (rule B3). The book only ever takes away from what rates offers:
//! opening a market shows when rates has priced it.

use paddock_events::{CatalogueEvent, MarketStatus, OfferLine, PricePhase, SuspendedBy};
use paddock_market_book::{Book, EventAttributes, MarketRule, Phase, Refusal};
use paddock_odds::MarketType;

/// The book as far as it concerns one event.
pub struct EventRules<'a> {
    known: Option<(&'a Book, EventAttributes)>,
}

impl<'a> EventRules<'a> {
    /// Without a book or event nothing can be bet on.
    pub fn new(book: Option<&'a Book>, event: Option<&CatalogueEvent>) -> Self {
        let attributes = event.map(|event| {
            EventAttributes::new(
                &event.sport.name,
                (&event.category.id, &event.category.name),
                (&event.tournament.id, &event.tournament.name),
            )
        });
        Self { known: book.zip(attributes) }
    }

    /// The rule of a line if it takes bets.
    pub fn of(&self, line: &OfferLine) -> Result<&'a MarketRule, Refusal> {
        let (book, event) = self.known.as_ref().ok_or(Refusal::MarketSuspended)?;
        let market = MarketType::of_feed_id(line.market_id).ok_or(Refusal::MarketClosed)?;
        let phase = match line.phase {
            PricePhase::PreMatch => Phase::PreMatch,
            PricePhase::Live => Phase::Live,
        };
        book.open_rule(event, market, &line.specifiers, phase)
    }

    /// Why a caller from a country cannot bet on a line, as far as the book says.
    pub fn refusal(&self, line: &OfferLine, country: &str) -> Option<Refusal> {
        self.of(line).and_then(|rule| rule.admits(country)).err()
    }
}

/// A line as a caller sees it. What is not fresh is not open: no bet is taken on it.
pub fn shown(line: &OfferLine, refusal: Option<Refusal>, fresh: bool) -> OfferLine {
    let mut shown = line.clone();
    for outcome in &mut shown.outcomes {
        // What the house believes is not for customers.
        outcome.probability = None;
    }
    let (status, by) = match refusal {
        None if fresh => return shown,
        None => (MarketStatus::Suspended, SuspendedBy::Producer),
        Some(Refusal::MarketSuspended) => (MarketStatus::Suspended, SuspendedBy::Rule),
        Some(Refusal::MarketClosed | Refusal::CountryNotAllowed) => (MarketStatus::Deactivated, SuspendedBy::Rule),
    };
    // In the order of statuses each is more final than those before it.
    if line.status < status {
        (shown.status, shown.suspended_by) = (status, Some(by));
        if status == MarketStatus::Deactivated {
            for outcome in &mut shown.outcomes {
                (outcome.active, outcome.odds) = (false, None);
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::frame::sample;

    #[test]
    fn the_book_only_takes_away() {
        use MarketStatus::{Active, Cancelled, Deactivated, Settled, Suspended};
        for (offered, refusal, status, priced) in [
            (Active, None, Active, true),
            (Active, Some(Refusal::MarketSuspended), Suspended, true),
            (Active, Some(Refusal::MarketClosed), Deactivated, false),
            (Active, Some(Refusal::CountryNotAllowed), Deactivated, false),
            (Suspended, None, Suspended, true),
            (Suspended, Some(Refusal::MarketClosed), Deactivated, false),
            (Deactivated, Some(Refusal::MarketSuspended), Deactivated, true),
            (Settled, Some(Refusal::MarketClosed), Settled, true),
            (Cancelled, Some(Refusal::MarketSuspended), Cancelled, true),
        ] {
            let line = OfferLine { status: offered, ..sample::line("m:1", 1, "2.10") };
            let seen = shown(&line, refusal, true);
            assert_eq!(
                (seen.status, seen.outcomes[0].odds.is_some(), seen.outcomes[0].active),
                (status, priced, priced),
                "{offered} {refusal:?}"
            );
            assert_eq!(seen.suspended_by.is_some(), seen.status != offered, "{offered} {refusal:?}");
        }
    }

    #[test]
    fn what_is_not_fresh_is_not_open() {
        use MarketStatus::{Active, Deactivated, Settled, Suspended};
        for (offered, refusal, status, by) in [
            (Active, None, Suspended, Some(SuspendedBy::Producer)),
            (Active, Some(Refusal::MarketSuspended), Suspended, Some(SuspendedBy::Rule)),
            (Active, Some(Refusal::CountryNotAllowed), Deactivated, Some(SuspendedBy::Rule)),
            (Settled, None, Settled, None),
        ] {
            let seen = shown(&OfferLine { status: offered, ..sample::line("m:1", 1, "2.10") }, refusal, false);
            assert_eq!((seen.status, seen.suspended_by), (status, by), "{offered} {refusal:?}");
        }
    }

    #[test]
    fn what_the_house_believes_is_not_shown() {
        let line = sample::line("m:1", 1, "2.10");
        assert!(line.outcomes[0].probability.is_some());
        assert!(shown(&line, None, true).outcomes.iter().all(|outcome| outcome.probability.is_none()));
    }

    #[test]
    fn a_line_needs_a_book_an_event_and_a_rule_that_admits_the_country() {
        let (line, event) = (sample::line("m:1", 1, "2.10"), sample::event("m:1", 1));
        let refusal = |book: Option<&Book>, event, country| EventRules::new(book, event).refusal(&line, country);
        let open = sample::book(1, "Open");
        assert_eq!(refusal(None, Some(&event), "MT"), Some(Refusal::MarketSuspended));
        assert_eq!(refusal(Some(&open), None, "MT"), Some(Refusal::MarketSuspended));
        assert_eq!(refusal(Some(&open), Some(&event), "MT"), None);
        assert_eq!(refusal(Some(&open), Some(&event), "FR"), Some(Refusal::CountryNotAllowed));
        assert_eq!(refusal(Some(&open), Some(&event), ""), Some(Refusal::CountryNotAllowed), "an unknown country");
        assert_eq!(refusal(Some(&sample::book(2, "Suspended")), Some(&event), "MT"), Some(Refusal::MarketSuspended));
        let elsewhere = CatalogueEvent { category: event.tournament.clone(), ..event.clone() };
        assert_eq!(refusal(Some(&open), Some(&elsewhere), "MT"), Some(Refusal::MarketClosed), "no rule");
    }
}
