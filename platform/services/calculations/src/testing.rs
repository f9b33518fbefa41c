//! Values that tests share.

use paddock_events::{
    CatalogueEvent, EventStatus, LineKey, MarketStatus, Named, OfferLine, OfferOutcome, PricePhase, PriceSource, Score,
};
use paddock_market_book::Book;
use paddock_money::{Currency, Money};
use paddock_odds::{MarketType, Specifiers};

use crate::domain::decide::{Offered, StateRow};
use crate::domain::request::Single;

pub(crate) const NOW: i64 = 1_800_000_000_000;
pub(crate) const EVENT: &str = "sim:match:1";

/// A book with one rule for match results: stakes 1 to 100, payout up to 200, liability up to 500 EUR.
pub(crate) fn book(generation: u64) -> Book {
    book_with(generation, "500.00", 0)
}

pub(crate) fn book_with(generation: u64, liability: &str, delay_ms: u32) -> Book {
    let json = serde_json::json!({
        "schema": 1,
        "generation": generation,
        "rules": [{
            "name": "soccer-1x2",
            "sport": "soccer",
            "marketType": "match-result",
            "selector": { "phases": ["PreMatch", "Live"] },
            "margin": {
                "method": "Power",
                "overround": { "preMatch": "0.05", "live": "0.07" },
                "ladder": "Standard"
            },
            "limits": [{
                "currency": "EUR",
                "minStake": "1.00",
                "maxStake": "100.00",
                "maxPayout": "200.00",
                "liability": liability
            }],
            "betDelayMs": { "preMatch": delay_ms, "live": delay_ms },
            "geography": { "deny": ["US"] },
            "state": "Open"
        }]
    });
    Book::from_json(json.to_string().as_bytes()).unwrap()
}

pub(crate) fn key() -> LineKey {
    LineKey::new(EVENT, 1, Specifiers::none())
}

pub(crate) fn single(stake: &str, odds: &str) -> Single {
    Single {
        stake: Money::parse(stake, Currency::EUR).unwrap(),
        line: key(),
        market: MarketType::MatchResult,
        outcome_id: "1".to_owned(),
        odds: odds.parse().unwrap(),
    }
}

pub(crate) fn line(odds: &str, sequence: i64, status: MarketStatus) -> OfferLine {
    let outcome = |id: &str, odds: &str| OfferOutcome {
        id: id.to_owned(),
        name: id.to_owned(),
        active: true,
        odds: Some(odds.parse().unwrap()),
        probability: None,
    };
    OfferLine {
        event_id: EVENT.to_owned(),
        market_id: 1,
        market_type: "match-result".to_owned(),
        specifiers: Specifiers::none(),
        sequence,
        status,
        suspended_by: None,
        phase: PricePhase::PreMatch,
        outcomes: vec![outcome("1", odds), outcome("2", "3.40"), outcome("3", "3.60")],
        source: PriceSource {
            product: 1,
            timestamp: 0,
            feed_partition: 0,
            feed_offset: 0,
            rule: Some("soccer-1x2".to_owned()),
            book_generation: 1,
        },
    }
}

pub(crate) fn event(status: EventStatus, start_time: i64) -> CatalogueEvent {
    let named = |id: &str, name: &str| Named { id: id.to_owned(), name: name.to_owned() };
    CatalogueEvent {
        event_id: EVENT.to_owned(),
        sequence: 1,
        sport: named("sr:sport:1", "Soccer"),
        category: named("sr:category:1", "England"),
        tournament: named("sr:tournament:17", "Premier League"),
        competitors: Vec::new(),
        start_time,
        status,
        score: Score::default(),
        minute: None,
    }
}

pub(crate) fn offered(odds: &str) -> Offered {
    Offered {
        line: line(odds, 5, MarketStatus::Active),
        event: event(EventStatus::NotStarted, NOW + 60_000),
        fresh: true,
        state: StateRow { sequence: 5, status: MarketStatus::Active },
        event_status: EventStatus::NotStarted,
        decided: false,
    }
}
