//! What is offered on a line: the most restrictive of feed, producer, event and rule, priced by the rule's margin.

use paddock_events::{
    EventStatus, LineName, MarketStatus, OfferLine, OfferOutcome, PricePhase, PriceSource, Side, SuspendedBy,
};
use paddock_market_book::{Book, EventAttributes, MarketRule, Phase, RuleState};
use paddock_odds::{Fixed, MarketType, Odds, price};

use super::{EventState, LineState};

/// What holds outside of the line at this moment.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// The book in force.
    pub book: &'a Book,
    /// Whether the line's producer is up.
    pub producer_up: bool,
    /// Our clock, ms.
    pub now: i64,
    /// Partition of topic `feed` that the event is in.
    pub feed_partition: i32,
}

/// The offer of a line, with the sequence of the last published one; `None` for a market that the platform does not know.
pub fn offer(event: &EventState, name: &LineName, line: &LineState, conditions: &Conditions<'_>) -> Option<OfferLine> {
    let market = MarketType::of_feed_id(name.market_id)?;
    market.line(&name.specifiers).ok()?;
    let phase = event.phase();
    let rule = rule(event, market, name, phase, conditions.book);
    let restricted = restriction(event, line, rule, conditions);
    let prices = prices(market, line, rule, phase);
    let (status, suspended_by) = match (restricted, &prices) {
        (Some((status, by)), _) => (status, Some(by)),
        (None, None) => (MarketStatus::Suspended, Some(SuspendedBy::Price)),
        (None, Some(_)) => (MarketStatus::Active, None),
    };
    // Prices of what cannot be bet on at all mean nothing; suspended ones are shown.
    let shown = matches!(status, MarketStatus::Active | MarketStatus::Suspended);
    let outcomes = outcomes(event, market, name, line, prices.filter(|_| shown));
    Some(OfferLine {
        event_id: event.id.clone(),
        market_id: name.market_id,
        market_type: market.name().to_owned(),
        specifiers: name.specifiers.clone(),
        sequence: line.offered.as_ref().map_or(0, |offered| offered.sequence),
        status,
        suspended_by,
        phase,
        outcomes,
        source: PriceSource {
            product: line.product,
            timestamp: line.at,
            feed_partition: conditions.feed_partition,
            feed_offset: line.offset,
            rule: rule.map(|rule| rule.name.clone()),
            book_generation: conditions.book.generation(),
        },
    })
}

/// Whether readers need the new offer: anything they act on differs. Where it comes from may move on silently.
pub fn differs(old: Option<&OfferLine>, new: &OfferLine) -> bool {
    old.is_none_or(|old| {
        (old.status, old.suspended_by, old.phase, &old.outcomes, &old.source.rule, old.source.feed_partition)
            != (new.status, new.suspended_by, new.phase, &new.outcomes, &new.source.rule, new.source.feed_partition)
    })
}

fn rule<'a>(
    event: &EventState,
    market: MarketType,
    name: &LineName,
    phase: PricePhase,
    book: &'a Book,
) -> Option<&'a MarketRule> {
    let attributes = EventAttributes::new(
        &event.sport.name,
        (&event.category.id, &event.category.name),
        (&event.tournament.id, &event.tournament.name),
    );
    let phase = match phase {
        PricePhase::PreMatch => Phase::PreMatch,
        PricePhase::Live => Phase::Live,
    };
    book.rule_for(&attributes, market, &name.specifiers, phase)
}

/// The most restrictive status below active, and who says so.
fn restriction(
    event: &EventState,
    line: &LineState,
    rule: Option<&MarketRule>,
    conditions: &Conditions<'_>,
) -> Option<(MarketStatus, SuspendedBy)> {
    let feed = match line.status {
        MarketStatus::Active => None,
        // Nobody prices it until the other producer speaks.
        MarketStatus::HandedOver => Some(MarketStatus::Suspended),
        other => Some(other),
    };
    let producer = (!conditions.producer_up).then_some(MarketStatus::Suspended);
    let over = matches!(event.play.status, EventStatus::Ended | EventStatus::Closed | EventStatus::Cancelled);
    // A match whose kick-off has passed is not priced as if it had not begun.
    let begun = event.phase() == PricePhase::PreMatch && conditions.now >= event.start_time;
    let of_event = match event.play.status {
        _ if over => Some(MarketStatus::Deactivated),
        status if !status.takes_bets() || begun => Some(MarketStatus::Suspended),
        _ => None,
    };
    let of_rule = match rule.map(|rule| rule.state) {
        Some(RuleState::Open) => None,
        Some(RuleState::Suspended) => Some(MarketStatus::Suspended),
        Some(RuleState::Closed) | None => Some(MarketStatus::Deactivated),
    };
    [
        (feed, SuspendedBy::Feed),
        (producer, SuspendedBy::Producer),
        (of_event, SuspendedBy::Event),
        (of_rule, SuspendedBy::Rule),
    ]
    .into_iter()
    .filter_map(|(status, by)| status.map(|status| (status, by)))
    // `min_by_key` keeps the first of equals, so the earlier cause is named.
    .min_by_key(|(status, _)| match status {
        MarketStatus::Cancelled => 0,
        MarketStatus::Settled => 1,
        MarketStatus::Deactivated => 2,
        _ => 3,
    })
}

/// Prices of the active outcomes, in their order; `None` if no safe price exists.
fn prices(
    market: MarketType,
    line: &LineState,
    rule: Option<&MarketRule>,
    phase: PricePhase,
) -> Option<Vec<(String, Odds)>> {
    let margin = match phase {
        PricePhase::PreMatch => rule?.margin.of(Phase::PreMatch),
        PricePhase::Live => rule?.margin.of(Phase::Live),
    };
    // A price needs the whole market: with an outcome missing the probabilities do not sum up, and it is refused.
    let fair: Vec<(&str, Fixed)> =
        line.outcomes.iter().filter_map(|outcome| Some((outcome.id.as_str(), outcome.probability?))).collect();
    let probabilities: Vec<Fixed> = fair.iter().map(|(_, probability)| *probability).collect();
    let prices = match price(&margin, &probabilities, market.winners()) {
        Ok(prices) => prices,
        Err(error) => {
            tracing::debug!(%market, %error, "no safe price");
            return None;
        }
    };
    let offerable: Vec<_> =
        fair.iter().zip(prices).filter_map(|((id, _), odds)| Some(((*id).to_owned(), odds?))).collect();
    (!offerable.is_empty()).then_some(offerable)
}

fn outcomes(
    event: &EventState,
    market: MarketType,
    name: &LineName,
    line: &LineState,
    prices: Option<Vec<(String, Odds)>>,
) -> Vec<OfferOutcome> {
    let prices = prices.unwrap_or_default();
    market
        .outcomes()
        .iter()
        .map(|outcome| {
            let fed = line.outcomes.iter().find(|fed| fed.id == outcome.id);
            let odds = prices.iter().find_map(|(id, odds)| (id == outcome.id).then_some(*odds));
            OfferOutcome {
                id: outcome.id.to_owned(),
                name: label(outcome.name, event, name),
                active: odds.is_some() && fed.is_some_and(|fed| fed.active),
                odds,
                probability: fed.and_then(|fed| fed.probability),
            }
        })
        .collect()
}

/// Fills a name template.
fn label(template: &str, event: &EventState, name: &LineName) -> String {
    let team = |side: Side, other: &str| {
        let found = event.competitors.iter().find(|competitor| competitor.side == side);
        found.map_or_else(|| other.to_owned(), |competitor| competitor.name.clone())
    };
    let mut text = template.replace("{home}", &team(Side::Home, "home")).replace("{away}", &team(Side::Away, "away"));
    if let Some(total) = name.specifiers.get("total") {
        text = text.replace("{total}", total);
    }
    if let Some(handicap) = name.specifiers.get("hcp") {
        let (plus, minus) = match handicap.strip_prefix('-') {
            Some(digits) => (handicap.to_owned(), format!("+{digits}")),
            None if handicap == "0" => ("0".to_owned(), "0".to_owned()),
            None => (format!("+{handicap}"), format!("-{handicap}")),
        };
        text = text.replace("{+hcp}", &plus).replace("{-hcp}", &minus);
    }
    text
}

#[cfg(test)]
mod tests {
    use paddock_events::ProducerScope;

    use super::*;
    use crate::domain::event::tests::{event, priced, total};

    fn book(state: &str, generation: u64) -> Book {
        Book::from_json(
            format!(
                r#"{{"schema":1,"generation":{generation},"rules":[{{"name":"totals","sport":"soccer","marketType":"total-goals",
                "specifiers":[],"selector":{{"categories":["england"],"tournaments":[],"phases":["PreMatch","Live"]}},
                "margin":{{"method":"Power","overround":{{"preMatch":"0.05","live":"0.08"}},"ladder":"Standard"}},
                "limits":[],"betDelayMs":{{"preMatch":0,"live":5000}},"geography":{{}},"state":"{state}"}}]}}"#
            )
            .as_bytes(),
        )
        .unwrap()
    }

    fn offered(event: &EventState, book: &Book, producer_up: bool, now: i64) -> OfferLine {
        let conditions = Conditions { book, producer_up, now, feed_partition: 2 };
        offer(event, &total(), &event.lines[&total()], &conditions).unwrap()
    }

    fn open() -> EventState {
        let mut event = event();
        event.odds_change(&priced(3, 2_000, MarketStatus::Active, "0.5"), ProducerScope::PreMatch, 7);
        event
    }

    #[test]
    fn an_open_line_is_priced_with_the_rules_margin() {
        let line = offered(&open(), &book("Open", 1), true, 5_000);
        assert_eq!((line.status, line.suspended_by), (MarketStatus::Active, None));
        let odds: Vec<_> = line.outcomes.iter().map(|outcome| outcome.odds.unwrap().to_string()).collect();
        // 1 / (0.5 · 1.05) = 1.904…, down to the ladder.
        assert_eq!(odds, ["1.90", "1.90"]);
        assert_eq!(line.outcomes[0].name, "over 2.5");
        assert_eq!((line.source.feed_offset, line.source.rule.as_deref()), (7, Some("totals")));
    }

    #[test]
    fn live_has_its_own_margin() {
        let mut event = open();
        let mut odds = priced(1, 3_000, MarketStatus::Active, "0.5");
        odds.sport_event_status = Some(paddock_events::SportEventStatus {
            status: EventStatus::Live,
            score: paddock_events::Score::default(),
            clock: None,
        });
        event.odds_change(&odds, ProducerScope::Live, 8);
        let line = offered(&event, &book("Open", 1), true, 200_000);
        assert_eq!((line.phase, line.status), (PricePhase::Live, MarketStatus::Active));
        assert_eq!(line.outcomes[0].odds.unwrap().to_string(), "1.85");
    }

    #[test]
    fn the_most_restrictive_counts_and_is_named() {
        let told = |line: OfferLine| (line.status, line.suspended_by);
        let event = open();
        let down = offered(&event, &book("Open", 1), false, 5_000);
        assert_eq!(told(down.clone()), (MarketStatus::Suspended, Some(SuspendedBy::Producer)));
        assert!(down.outcomes[0].odds.is_some(), "a suspended price is shown");
        assert_eq!(
            told(offered(&event, &book("Suspended", 1), true, 5_000)),
            (MarketStatus::Suspended, Some(SuspendedBy::Rule))
        );
        let closed = offered(&event, &book("Closed", 1), false, 5_000);
        assert_eq!(told(closed.clone()), (MarketStatus::Deactivated, Some(SuspendedBy::Rule)));
        assert!(closed.outcomes.iter().all(|outcome| outcome.odds.is_none() && !outcome.active));
        assert_eq!(
            told(offered(&event, &book("Open", 1), true, 100_000)),
            (MarketStatus::Suspended, Some(SuspendedBy::Event)),
            "the kick-off has passed"
        );
        let mut stopped = event.clone();
        stopped.bet_stop(&crate::domain::event::tests::stop(3_000), 9);
        assert_eq!(
            told(offered(&stopped, &book("Open", 1), false, 5_000)),
            (MarketStatus::Suspended, Some(SuspendedBy::Feed))
        );
    }

    #[test]
    fn without_a_rule_nothing_is_offered() {
        let mut event = open();
        event.category.name = "Spain".to_owned();
        event.category.id = "sim:category:spain".to_owned();
        let line = offered(&event, &book("Open", 1), true, 5_000);
        assert_eq!((line.status, line.suspended_by), (MarketStatus::Deactivated, Some(SuspendedBy::Rule)));
    }

    #[test]
    fn only_what_readers_act_on_is_a_difference() {
        let event = open();
        let first = offered(&event, &book("Open", 1), true, 5_000);
        let mut later = offered(&event, &book("Open", 2), true, 6_000);
        later.source.timestamp += 1;
        assert!(!differs(Some(&first), &later));
        assert!(differs(Some(&first), &offered(&event, &book("Open", 2), false, 6_000)));
        assert!(differs(None, &first));
    }
}
