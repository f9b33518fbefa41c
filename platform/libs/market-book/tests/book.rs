//! Compilation and lookup: narrowest wins, the younger of equals is refused, order never matters.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helper functions of tests are tests too

use paddock_market_book::{
    Book, BookError, Candidate, EventAttributes, Geography, MarketRule, Phase, Refusal, RuleSpec, RuleState, combine,
    compile,
};
use paddock_money::{Currency, Money};
use paddock_odds::{MarketType, Specifiers};
use proptest::prelude::*;
use serde_json::{Value, json};

fn base() -> Value {
    json!({
        "sport": "soccer",
        "marketType": "total-goals",
        "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}, "ladder": "Standard"},
        "limits": [{"currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000.00"}],
        "betDelay": {"live": "5s"},
        "geography": {"allow": [], "deny": ["FR"]},
        "state": "Open"
    })
}

fn spec(change: impl FnOnce(&mut Value)) -> RuleSpec {
    let mut value = base();
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn rule(name: &str, change: impl FnOnce(&mut Value)) -> MarketRule {
    spec(change).validate(name).unwrap()
}

fn candidate(second: u32, rule: MarketRule) -> Candidate {
    Candidate { created_at: format!("2026-11-01T10:00:{second:02}Z"), rule }
}

fn event(sport: &str) -> EventAttributes {
    EventAttributes::new(sport, ("sr:category:1", "England"), ("sr:tournament:17", "Premier League"))
}

fn found<'a>(book: &'a Book, line: &str, phase: Phase) -> Option<&'a str> {
    let specifiers = Specifiers::parse(line).unwrap();
    book.rule_for(&event("Soccer"), MarketType::TotalGoals, &specifiers, phase).map(|rule| rule.name.as_str())
}

#[test]
fn the_narrowest_rule_wins() {
    let rules = vec![
        candidate(5, rule("all", |_| {})),
        candidate(4, rule("live", |value| value["selector"] = json!({"phases": ["Live"]}))),
        candidate(3, rule("lines", |value| value["specifiers"] = json!(["total=2.5"]))),
        candidate(2, rule("category", |value| value["selector"] = json!({"categories": ["england"]}))),
        candidate(
            1,
            rule("tournament", |value| {
                value["selector"] = json!({"tournaments": ["sr:tournament:17"], "phases": ["Live"]});
            }),
        ),
        candidate(0, rule("elsewhere", |value| value["selector"] = json!({"tournaments": ["serie-a"]}))),
    ];
    let (book, overlaps) = compile(1, rules.clone());
    // Live, "lines" is as narrow as "all": the listed lines restrict pre-match only.
    assert_eq!(overlaps.len(), 1);
    assert_eq!(
        (overlaps[0].refused.as_str(), overlaps[0].stands.as_str(), overlaps[0].phase),
        ("all", "lines", Phase::Live)
    );
    assert_eq!(found(&book, "total=2.5", Phase::Live), Some("tournament"));
    assert_eq!(found(&book, "total=2.5", Phase::PreMatch), Some("category"));
    let (book, _) = compile(1, rules[..3].to_vec());
    assert_eq!(found(&book, "total=2.5", Phase::PreMatch), Some("lines"));
    assert_eq!(found(&book, "total=3.5", Phase::PreMatch), None, "not listed");
    assert_eq!(found(&book, "total=3.5", Phase::Live), Some("live"));
    assert_eq!(book.rule_for(&event("Soccer"), MarketType::MatchResult, &Specifiers::none(), Phase::Live), None);
    assert_eq!(book.rule_for(&event("Handball"), MarketType::TotalGoals, &Specifiers::none(), Phase::Live), None);
}

#[test]
fn the_younger_of_equally_narrow_rules_is_refused() {
    let narrow = |tournaments: Value| move |value: &mut Value| value["selector"] = json!({"tournaments": tournaments});
    let (book, overlaps) = compile(
        7,
        vec![
            candidate(2, rule("young", narrow(json!(["a", "b"])))),
            candidate(1, rule("old", narrow(json!(["b", "c"])))),
            candidate(3, rule("apart", narrow(json!(["d"])))),
        ],
    );
    let names: Vec<_> = book.rules().iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["apart", "old"]);
    assert_eq!((overlaps[0].refused.as_str(), overlaps[0].stands.as_str()), ("young", "old"));
    assert_eq!(book.generation(), 7);
}

#[test]
fn a_closed_narrow_rule_hides_a_wide_open_one() {
    let (book, _) = compile(
        1,
        vec![
            candidate(1, rule("wide", |_| {})),
            candidate(
                2,
                rule("narrow", |value| {
                    value["selector"] = json!({"tournaments": ["premier-league"]});
                    value["state"] = json!("Closed");
                }),
            ),
        ],
    );
    let rule = book
        .rule_for(&event("Soccer"), MarketType::TotalGoals, &Specifiers::parse("total=2.5").unwrap(), Phase::Live)
        .unwrap();
    assert_eq!((rule.name.as_str(), rule.state, rule.is_open()), ("narrow", RuleState::Closed, false));
}

#[test]
fn a_line_takes_bets_where_its_rule_is_open_and_admits_the_country() {
    let taken = |state: &str, sport: &str| {
        let (book, _) = compile(1, vec![candidate(1, rule("all", |value| value["state"] = json!(state)))]);
        let line = Specifiers::parse("total=2.5").unwrap();
        book.open_rule(&event(sport), MarketType::TotalGoals, &line, Phase::Live).map(|rule| rule.name.clone())
    };
    assert_eq!(taken("Open", "Handball"), Err(Refusal::MarketClosed), "no rule");
    assert_eq!(taken("Suspended", "Soccer"), Err(Refusal::MarketSuspended));
    assert_eq!(taken("Closed", "Soccer"), Err(Refusal::MarketClosed));
    assert_eq!(taken("Open", "Soccer").as_deref(), Ok("all"));
    let open = rule("all", |_| {});
    let elsewhere = Err(Refusal::CountryNotAllowed);
    assert_eq!(["MT", "FR", ""].map(|country| open.admits(country)), [Ok(()), elsewhere, elsewhere]);
    assert_eq!(serde_json::to_value(Refusal::CountryNotAllowed).unwrap(), Refusal::CountryNotAllowed.to_string());
}

#[test]
fn every_fault_is_named() {
    let faults = spec(|value| {
        value["sport"] = json!("chess");
        value["specifiers"] = json!(["total=2.5", "total=2.3", "hcp=1"]);
        value["selector"] = json!({"categories": [""]});
        value["margin"]["overround"]["live"] = json!("0.51");
        value["limits"] = json!([
            {"currency": "EUR", "minStake": "5.00", "maxStake": "1.00", "maxPayout": "1", "liability": "1"},
            {"currency": "XXX", "minStake": "1", "maxStake": "1", "maxPayout": "1", "liability": "1"},
            {"currency": "JPY", "minStake": "1.5", "maxStake": "1", "maxPayout": "1", "liability": "1"},
            {"currency": "SEK", "minStake": "1", "maxStake": "1", "maxPayout": "0", "liability": "1"}
        ]);
        value["betDelay"] = json!({"live": "61s", "preMatch": "x"});
        value["geography"] = json!({"allow": ["fr"], "deny": []});
    })
    .validate("bad")
    .unwrap_err();
    let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "sport",
            "specifiers[1]",
            "specifiers[2]",
            "selector.categories",
            "margin.overround.live",
            "limits[0].maxStake",
            "limits[1].currency",
            "limits[2].minStake",
            "limits[3].maxPayout",
            "betDelay.preMatch",
            "betDelay.live",
            "geography.allow",
        ]
    );
}

#[test]
fn countries_are_admitted_by_list() {
    let set = |countries: &[&str]| countries.iter().map(|country| (*country).to_owned()).collect();
    let geography = Geography { allow: set(&["MT", "FR"]), deny: set(&["FR"]) };
    assert_eq!(["MT", "FR", "SE", ""].map(|country| geography.admits(country)), [true, false, false, false]);
    let everywhere = Geography::default();
    assert_eq!(["MT", ""].map(|country| everywhere.admits(country)), [true, true]);
    assert!(!Geography { allow: set(&[]), deny: set(&["FR"]) }.admits(""));
}

#[test]
fn several_legs_take_the_most_restrictive_terms() {
    let wide = rule("wide", |_| {});
    let tight = rule("tight", |value| {
        value["limits"][0]["maxStake"] = json!("20.00");
        value["limits"][0]["minStake"] = json!("1.00");
        value["betDelay"] = json!({"preMatch": "1s", "live": "2s"});
    });
    let euro = |text| Money::parse(text, Currency::EUR).unwrap();
    let legs = [(&wide, Phase::Live), (&tight, Phase::Live)];
    let terms = combine(&legs, Currency::EUR, "MT").unwrap();
    assert_eq!((terms.delay_ms, terms.min_stake, terms.max_stake), (5_000, euro("1.00"), euro("20.00")));
    assert_eq!(combine(&legs, Currency::EUR, "FR"), None);
    assert_eq!(combine(&legs, Currency::SEK, "MT"), None);
    assert_eq!(combine(&[], Currency::EUR, "MT"), None);
    let shut = rule("shut", |value| value["state"] = json!("Suspended"));
    assert_eq!(combine(&[(&wide, Phase::Live), (&shut, Phase::Live)], Currency::EUR, "MT"), None);
}

#[test]
fn json_is_the_contract() {
    let (book, _) = compile(3, vec![candidate(1, rule("totals", |value| value["specifiers"] = json!(["total=2.5"])))]);
    let text = book.to_json().unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({"schema": 1, "generation": 3, "rules": [{
            "name": "totals", "sport": "soccer", "marketType": "total-goals", "specifiers": ["total=2.5"],
            "selector": {"categories": [], "tournaments": [], "phases": ["PreMatch", "Live"]},
            "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}, "ladder": "Standard"},
            "limits": [{"currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000.00"}],
            "betDelayMs": {"preMatch": 0, "live": 5000},
            "geography": {"allow": [], "deny": ["FR"]},
            "state": "Open"
        }]})
    );
    assert_eq!(Book::from_json(text.as_bytes()).unwrap(), book);
    let newer = text.replace("\"schema\":1", "\"schema\":2");
    assert!(matches!(Book::from_json(newer.as_bytes()), Err(BookError::NewerSchema(2))));
    assert!(matches!(Book::from_json(b"{}"), Err(BookError::Malformed(_))));
    let again = book.clone().with_generation(4);
    assert_ne!(again.to_json().unwrap(), text);
    assert_eq!(again.digest_input().unwrap(), book.digest_input().unwrap());
}

fn any_rule() -> impl Strategy<Value = Candidate> {
    let some = |names: &'static [&'static str]| prop::sample::subsequence(names, 0..=names.len());
    (
        0_u32..4,
        "[a-f]",
        some(&["england", "spain"]),
        some(&["premier-league", "la-liga"]),
        some(&["PreMatch", "Live"]),
        some(&["total=1.5", "total=2.5"]),
        prop::sample::select(vec!["Open", "Suspended", "Closed"]),
    )
        .prop_map(|(age, name, categories, tournaments, phases, specifiers, state)| {
            candidate(
                age,
                rule(&name, |value| {
                    value["selector"] = json!({"categories": categories, "tournaments": tournaments, "phases": phases});
                    value["specifiers"] = json!(specifiers);
                    value["state"] = json!(state);
                }),
            )
        })
}

proptest! {
    #[test]
    fn the_order_of_candidates_does_not_matter(
        (rules, shuffled) in prop::collection::vec(any_rule(), 0..8)
            .prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
    ) {
        let (book, overlaps) = compile(1, rules);
        let (other, other_overlaps) = compile(1, shuffled);
        prop_assert_eq!(book.to_json().unwrap(), other.to_json().unwrap());
        prop_assert_eq!(overlaps, other_overlaps);
    }

    /// No line of any event has two narrowest rules, and refused rules are in no book.
    #[test]
    fn the_winner_is_unique(rules in prop::collection::vec(any_rule(), 0..8)) {
        let (book, overlaps) = compile(1, rules.clone());
        for overlap in &overlaps {
            prop_assert!(book.rule(&overlap.refused).is_none());
            prop_assert!(book.rule(&overlap.stands).is_some());
        }
        for phase in [Phase::PreMatch, Phase::Live] {
            for line in ["total=1.5", "total=2.5", "total=3.5"] {
                let specifiers = Specifiers::parse(line).unwrap();
                let Some(winner) = book.rule_for(&event("Soccer"), MarketType::TotalGoals, &specifiers, phase) else { continue };
                // Without the winner, no remaining rule may be equally narrow: compiling only the two of them refuses neither.
                for other in book.rules().iter().filter(|other| other.name != winner.name) {
                    let (pair, refused) = compile(1, vec![candidate(0, winner.clone()), candidate(1, other.clone())]);
                    prop_assert!(refused.is_empty());
                    let again = pair.rule_for(&event("soccer"), MarketType::TotalGoals, &specifiers, phase).unwrap();
                    prop_assert_eq!(&again.name, &winner.name);
                }
            }
        }
    }
}
