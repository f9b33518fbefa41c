//! An event with its lines, as the set of feed messages makes it.

use std::collections::BTreeMap;

use paddock_events::{
    BetStop, CatalogueEvent, Competitor, EventStatus, FeedMarket, FeedOutcome, Fixture, LineName, MarketStatus, Named,
    OddsChange, OfferLine, PricePhase, ProducerScope, Score, SportEventStatus,
};

/// A line as the feed last described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineState {
    /// Producer that owns it.
    pub product: u32,
    /// The feed's status.
    pub status: MarketStatus,
    /// Producer's time of that, ms.
    pub at: i64,
    /// Offset of that in the feed's partition.
    pub offset: i64,
    /// Outcomes as last priced.
    pub outcomes: Vec<FeedOutcome>,
    /// As last published.
    pub offered: Option<OfferLine>,
}

/// An event with its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventState {
    /// Event URN.
    pub id: String,
    /// Sport.
    pub sport: Named,
    /// Category.
    pub category: Named,
    /// Tournament.
    pub tournament: Named,
    /// Who plays.
    pub competitors: Vec<Competitor>,
    /// Kick-off, ms.
    pub start_time: i64,
    /// Producer's time of the fixture, ms.
    pub fixture_at: i64,
    /// State of play.
    pub play: SportEventStatus,
    /// Producer's time of that, ms.
    pub play_at: i64,
    /// Newest bet stop, ms.
    pub stopped_at: Option<i64>,
    /// Counts publications.
    pub sequence: i64,
    /// Lines.
    pub lines: BTreeMap<LineName, LineState>,
}

/// What a message changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The event's own data.
    pub event: bool,
    /// Lines whose feed state changed.
    pub lines: Vec<LineName>,
}

impl EventState {
    /// A new event.
    pub fn new(fixture: &Fixture) -> Self {
        Self {
            id: fixture.head.event_id.clone(),
            sport: fixture.sport.clone(),
            category: fixture.category.clone(),
            tournament: fixture.tournament.clone(),
            competitors: fixture.competitors.clone(),
            start_time: fixture.start_time,
            fixture_at: fixture.head.timestamp,
            play: SportEventStatus { status: fixture.status, score: Score::default(), clock: None },
            play_at: fixture.head.timestamp,
            stopped_at: None,
            sequence: 0,
            lines: BTreeMap::new(),
        }
    }

    /// A fixture that may have changed; an older one changes nothing.
    pub fn fixture(&mut self, fixture: &Fixture) -> Change {
        if fixture.head.timestamp < self.fixture_at {
            return Change::default();
        }
        let before = self.clone();
        self.sport = fixture.sport.clone();
        self.category = fixture.category.clone();
        self.tournament = fixture.tournament.clone();
        self.competitors.clone_from(&fixture.competitors);
        self.start_time = fixture.start_time;
        self.fixture_at = fixture.head.timestamp;
        if fixture.head.timestamp > self.play_at {
            self.play.status = fixture.status;
            self.play_at = fixture.head.timestamp;
        }
        let changed = *self != before;
        Change { event: changed, lines: if changed { self.lines.keys().cloned().collect() } else { Vec::new() } }
    }

    /// Prices and state of play. The newest message of a line wins, whatever the order of arrival.
    pub fn odds_change(&mut self, odds: &OddsChange, scope: ProducerScope, offset: i64) -> Change {
        let mut change = Change::default();
        if let Some(play) = odds.sport_event_status
            && odds.head.timestamp >= self.play_at
        {
            self.play_at = odds.head.timestamp;
            if play != self.play {
                change.event = true;
                if play.status != self.play.status {
                    change.lines = self.lines.keys().cloned().collect();
                }
                self.play = play;
            }
        }
        for market in &odds.markets {
            if self.market(odds, market, scope, offset) && !change.lines.contains(&market.line) {
                change.lines.push(market.line.clone());
            }
        }
        change
    }

    fn market(&mut self, odds: &OddsChange, market: &FeedMarket, scope: ProducerScope, offset: i64) -> bool {
        let stopped = self.stopped_at.is_some_and(|stop| stop > odds.head.timestamp);
        let status =
            if stopped && market.status == MarketStatus::Active { MarketStatus::Suspended } else { market.status };
        let Some(line) = self.lines.get_mut(&market.line) else {
            let line = LineState {
                product: odds.head.product,
                status,
                at: odds.head.timestamp,
                offset,
                outcomes: market.outcomes.clone(),
                offered: None,
            };
            self.lines.insert(market.line.clone(), line);
            return true;
        };
        // Once another producer has the line, the one that handed it over, or should have, is not heard any more.
        let other = line.product != odds.head.product;
        let foreign = other && (market.status == MarketStatus::HandedOver || scope == ProducerScope::PreMatch);
        if foreign || (odds.head.timestamp < line.at && !other) {
            return false;
        }
        line.product = odds.head.product;
        line.status = status;
        line.at = odds.head.timestamp;
        line.offset = offset;
        if !market.outcomes.is_empty() {
            line.outcomes.clone_from(&market.outcomes);
        }
        true
    }

    /// A bet stop. The groups of a market are not known here, so any group stops all: too much is safe.
    pub fn bet_stop(&mut self, stop: &BetStop, offset: i64) -> Change {
        self.stopped_at = Some(self.stopped_at.map_or(stop.head.timestamp, |newest| newest.max(stop.head.timestamp)));
        let mut change = Change { event: true, lines: Vec::new() };
        for (name, line) in &mut self.lines {
            let open = matches!(line.status, MarketStatus::Active | MarketStatus::Suspended);
            if open && stop.head.timestamp >= line.at {
                line.status = stop.market_status;
                line.at = stop.head.timestamp;
                line.offset = offset;
                change.lines.push(name.clone());
            }
        }
        change
    }

    /// Which terms hold.
    pub const fn phase(&self) -> PricePhase {
        match self.play.status {
            EventStatus::NotStarted | EventStatus::Delayed | EventStatus::Postponed => PricePhase::PreMatch,
            _ => PricePhase::Live,
        }
    }

    /// Nothing will change any more.
    pub fn is_over(&self) -> bool {
        self.play.status == EventStatus::Closed
    }

    /// For topic `offer` and the API.
    pub fn catalogue(&self) -> CatalogueEvent {
        CatalogueEvent {
            event_id: self.id.clone(),
            sequence: self.sequence,
            sport: self.sport.clone(),
            category: self.category.clone(),
            tournament: self.tournament.clone(),
            competitors: self.competitors.clone(),
            start_time: self.start_time,
            status: self.play.status,
            score: self.play.score,
            minute: self.play.clock.map(|clock| clock.minute),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use paddock_events::{FeedHead, Side};
    use paddock_odds::{Fixed, Specifiers};

    use super::*;

    fn head(product: u32, timestamp: i64) -> FeedHead {
        FeedHead { product, event_id: "sim:match:1".to_owned(), timestamp, request_id: None }
    }

    pub(crate) fn event() -> EventState {
        let named = |id: &str, name: &str| Named { id: id.to_owned(), name: name.to_owned() };
        let team = |name: &str, side| Competitor { id: name.to_lowercase(), name: name.to_owned(), side };
        EventState::new(&Fixture {
            head: head(3, 1_000),
            start_time: 100_000,
            sport: named("sr:sport:1", "Soccer"),
            category: named("sim:category:england", "England"),
            tournament: named("sim:tournament:premier-league", "Premier League"),
            competitors: vec![team("Arsenal", Side::Home), team("Fulham", Side::Away)],
            status: EventStatus::NotStarted,
        })
    }

    pub(crate) fn total() -> LineName {
        LineName { market_id: 18, specifiers: Specifiers::parse("total=2.5").unwrap() }
    }

    pub(crate) fn priced(product: u32, timestamp: i64, status: MarketStatus, over: &str) -> OddsChange {
        let over = Fixed::parse(over).unwrap();
        let outcome = |id: &str, probability| FeedOutcome {
            id: id.to_owned(),
            active: true,
            odds: None,
            probability: Some(probability),
        };
        let outcomes = if status == MarketStatus::Active {
            vec![outcome("12", over), outcome("13", Fixed::ONE - over)]
        } else {
            Vec::new()
        };
        OddsChange {
            head: head(product, timestamp),
            sport_event_status: None,
            markets: vec![FeedMarket { line: total(), status, outcomes }],
        }
    }

    pub(crate) fn stop(timestamp: i64) -> BetStop {
        BetStop { head: head(1, timestamp), groups: vec!["all".to_owned()], market_status: MarketStatus::Suspended }
    }

    fn line(event: &EventState) -> &LineState {
        &event.lines[&total()]
    }

    #[test]
    fn the_newest_message_wins_in_any_order() {
        let mut event = event();
        event.odds_change(&priced(3, 20, MarketStatus::Active, "0.5"), ProducerScope::PreMatch, 1);
        let late = event.odds_change(&priced(3, 10, MarketStatus::Active, "0.6"), ProducerScope::PreMatch, 2);
        assert_eq!(late, Change::default());
        assert_eq!(line(&event).outcomes[0].probability, Some(Fixed::parse("0.5").unwrap()));
    }

    #[test]
    fn a_stop_reaches_lines_that_come_late() {
        let mut event = event();
        event.bet_stop(&stop(50), 1);
        event.odds_change(&priced(1, 40, MarketStatus::Active, "0.5"), ProducerScope::Live, 2);
        assert_eq!(line(&event).status, MarketStatus::Suspended);
        event.odds_change(&priced(1, 60, MarketStatus::Active, "0.5"), ProducerScope::Live, 3);
        assert_eq!(line(&event).status, MarketStatus::Active);
        event.bet_stop(&stop(55), 4);
        assert_eq!(line(&event).status, MarketStatus::Active, "an old stop stops nothing newer");
    }

    #[test]
    fn a_handed_over_line_belongs_to_the_live_producer() {
        let mut event = event();
        event.odds_change(&priced(3, 10, MarketStatus::Active, "0.5"), ProducerScope::PreMatch, 1);
        event.odds_change(&priced(3, 20, MarketStatus::HandedOver, "0"), ProducerScope::PreMatch, 2);
        assert_eq!(line(&event).status, MarketStatus::HandedOver);
        event.odds_change(&priced(1, 19, MarketStatus::Active, "0.55"), ProducerScope::Live, 3);
        assert_eq!((line(&event).status, line(&event).product), (MarketStatus::Active, 1));
        let again = event.odds_change(&priced(3, 30, MarketStatus::HandedOver, "0"), ProducerScope::PreMatch, 4);
        assert_eq!(again, Change::default(), "live state already seen is kept");
    }
}
