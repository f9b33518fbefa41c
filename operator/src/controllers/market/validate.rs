//! From Markets to rules of a book, and what is wrong with those that are none. Pure.

use paddock_crds::v1alpha1::Market;
use paddock_market_book::{Book, Candidate, FieldError, MarketRule, RuleSpec, RuleState, compile};
use paddock_odds::MarketType;
use std::collections::BTreeMap;

/// Most that the rules of a book may take, in bytes of their JSON: the apiserver keeps no ConfigMap above 1 MiB.
const ROOM: usize = 900 * 1024;

/// Why a Market is not in the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A stable reason.
    pub reason: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// The rules of a namespace.
#[derive(Debug)]
pub struct Compiled {
    /// The book, of generation 0.
    pub book: Book,
    /// Markets that are not in it, by name.
    pub refused: BTreeMap<String, Refusal>,
}

/// Compiles the Markets of one namespace, in any order.
pub fn compiled<'a>(markets: impl IntoIterator<Item = &'a Market>) -> Compiled {
    let mut refused = BTreeMap::new();
    let mut candidates = Vec::new();
    for market in markets {
        let name = market.metadata.name.clone().unwrap_or_default();
        if market.metadata.deletion_timestamp.is_some() {
            continue;
        }
        match rule(&name, market) {
            Ok(rule) => candidates.push(Candidate { created_at: created_at(market), rule }),
            Err(refusal) => _ = refused.insert(name, refusal),
        }
    }
    let (mut book, overlaps) = compile(0, candidates.clone());
    for overlap in overlaps {
        let message = format!(
            "{} is older, equally narrow and applies to some of the same lines ({}); make this Market's selector or \
             specifiers narrower or different, or delete one of the two",
            overlap.stands, overlap.phase
        );
        refused.insert(overlap.refused, Refusal { reason: "Overlap", message });
    }
    candidates.retain(|candidate| !refused.contains_key(&candidate.rule.name));
    let left_out = without_room(&mut candidates);
    if !left_out.is_empty() {
        (book, _) = compile(0, candidates);
    }
    for name in left_out {
        let message = format!(
            "the environment's market book is full: its rules may take {} KiB; delete Markets, or make lists in their selectors \
             shorter",
            ROOM / 1024
        );
        refused.insert(name, Refusal { reason: "BookFull", message });
    }
    Compiled { book, refused }
}

/// Takes the youngest rules out until the others have room, and answers their names: a book that cannot be published would hold up
/// every suspension. Rules that take no bets stay before those that do.
fn without_room(candidates: &mut Vec<Candidate>) -> Vec<String> {
    let size = |candidate: &Candidate| serde_json::to_string(&candidate.rule).map_or(0, |json| json.len() + 1);
    if candidates.iter().map(size).sum::<usize>() <= ROOM {
        return Vec::new();
    }
    candidates.sort_by_cached_key(|it| (it.rule.state == RuleState::Open, it.created_at.clone(), it.rule.name.clone()));
    let mut taken = 0;
    let fits = |candidate: &&Candidate| {
        taken += size(candidate);
        taken <= ROOM
    };
    let fit = candidates.iter().take_while(fits).count();
    candidates.split_off(fit).into_iter().map(|candidate| candidate.rule.name).collect()
}

fn created_at(market: &Market) -> String {
    market.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default()
}

fn rule(name: &str, market: &Market) -> Result<MarketRule, Refusal> {
    if market.spec.market_type.parse::<MarketType>().is_err() {
        let message = format!(
            "spec.marketType: there is no market type {:?}; use for example match-result or total-goals",
            market.spec.market_type
        );
        return Err(Refusal { reason: "UnknownMarketType", message });
    }
    let spec = serde_json::to_value(&market.spec).and_then(serde_json::from_value::<RuleSpec>);
    let spec =
        spec.map_err(|error| Refusal { reason: "InvalidRule", message: format!("spec: {error}; correct it") })?;
    spec.validate(name).map_err(|errors| refusal(&errors))
}

fn refusal(errors: &[FieldError]) -> Refusal {
    let field = errors.first().map(|error| error.field.as_str()).unwrap_or_default();
    let head = field.split(['.', '[']).next().unwrap_or_default();
    let reason = match head {
        "margin" => "InvalidMargin",
        "limits" => "InvalidLimits",
        "betDelay" => "InvalidBetDelay",
        "specifiers" => "InvalidSpecifiers",
        "selector" => "InvalidSelector",
        "geography" => "InvalidGeography",
        "sport" => "UnknownSport",
        _ => "InvalidRule",
    };
    let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Refusal { reason, message }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    pub fn market(name: &str, second: u8, more: Value) -> Market {
        let mut spec = json!({
            "sport": "soccer", "marketType": "match-result",
            "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}},
            "limits": [{
                "currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000.00"
            }],
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        serde_json::from_value(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Market",
            "metadata": {
                "name": name, "namespace": "acme-prod", "generation": 1, "uid": name, "resourceVersion": "1",
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")
            },
            "spec": spec
        }))
        .unwrap()
    }

    #[test]
    fn every_refusal_has_its_reason_and_leaves_the_others() {
        for (more, reason) in [
            (json!({"marketType": "who-knows"}), "UnknownMarketType"),
            (json!({"margin": {"method": "Power", "overround": {"preMatch": "7", "live": "0"}}}), "InvalidMargin"),
            (
                json!({"limits": [{"currency": "EUR", "minStake": "9", "maxStake": "1", "maxPayout": "1", "liability": "1"}]}),
                "InvalidLimits",
            ),
            (json!({"betDelay": {"live": "2h"}}), "InvalidBetDelay"),
            (json!({"specifiers": ["total=2.5"]}), "InvalidSpecifiers"),
            (json!({"sport": "curling"}), "UnknownSport"),
        ] {
            let all = [market("good", 1, json!({"marketType": "double-chance"})), market("bad", 2, more.clone())];
            let compiled = compiled(&all);
            assert_eq!(compiled.refused.get("bad").map(|it| it.reason), Some(reason), "{more}: {:?}", compiled.refused);
            assert_eq!(compiled.book.rules().len(), 1, "{more}");
        }
    }

    #[test]
    fn of_two_that_overlap_the_older_stands() {
        let all = [market("younger", 2, Value::Null), market("older", 1, Value::Null)];
        let compiled = compiled(&all);
        assert_eq!(compiled.book.rules()[0].name, "older");
        assert_eq!(compiled.refused["younger"].reason, "Overlap");
        assert!(compiled.refused["younger"].message.contains("older"));
    }

    #[test]
    fn a_full_book_leaves_the_youngest_out_but_none_that_stops_bets() {
        // As long as lists may be: about 6 KiB each.
        let long = |number: usize, state: &str| {
            let tournaments: Vec<String> = (0..100).map(|it| format!("sr:tournament:{number:04}{it:052}")).collect();
            let mut market =
                market(&format!("m{number:04}"), 0, json!({"state": state, "selector": {"tournaments": tournaments}}));
            market.metadata.creation_timestamp =
                serde_json::from_value(json!(format!("2026-01-01T{:02}:{:02}:00Z", number / 60, number % 60))).unwrap();
            market
        };
        let mut all: Vec<Market> = (0..200).map(|number| long(number, "Open")).collect();
        all.push(long(200, "Suspended"));
        all.push(market("younger", 0, json!({"marketType": "who-knows"})));
        let compiled = compiled(&all);
        let size = compiled.book.to_json().unwrap().len();
        assert!(size < 1 << 20 && size > ROOM - 8192, "{size}");
        let full = compiled.refused.iter().filter(|(_, refusal)| refusal.reason == "BookFull");
        let names: Vec<&String> = full.map(|(name, _)| name).collect();
        assert_eq!(names.len() + compiled.book.rules().len(), 201);
        assert_eq!((names[0], names[names.len() - 1]), (&format!("m{:04}", 200 - names.len()), &"m0199".to_owned()));
        assert!(compiled.book.rule("m0200").is_some(), "what is suspended stays suspended");
        assert_eq!(compiled.refused["younger"].reason, "UnknownMarketType");
    }

    proptest! {
        #[test]
        fn the_order_of_markets_changes_nothing(shuffled in Just(vec![
            market("a", 1, Value::Null),
            market("b", 1, Value::Null),
            market("c", 3, json!({"marketType": "total-goals"})),
            market("d", 2, json!({"selector": {"tournaments": ["sr:tournament:17"]}})),
        ]).prop_shuffle()) {
            let sorted = [
                market("a", 1, Value::Null), market("b", 1, Value::Null),
                market("c", 3, json!({"marketType": "total-goals"})),
                market("d", 2, json!({"selector": {"tournaments": ["sr:tournament:17"]}})),
            ];
            let (one, other) = (compiled(&shuffled), compiled(&sorted));
            prop_assert_eq!(one.book, other.book);
            prop_assert_eq!(one.refused, other.refused);
        }
    }
}
