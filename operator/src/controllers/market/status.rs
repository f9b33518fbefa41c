//! What a Market's status says. Pure.

use super::validate::Refusal;
use crate::controllers::Fault;
use crate::kube::Conditions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paddock_crds::condition::{READY, RECONCILING, STALLED};
use paddock_crds::v1alpha1::{BookStatus, Market, MarketState, MarketStatus};

const ACCEPTED: &str = "Accepted";
const SUSPENDED: &str = "Suspended";
/// Nothing is wrong: pods start and end.
const WAITING: &str = "WaitingForPods";
/// Pods that a message names.
const NAMED: usize = 3;

/// How far a book has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The book's generation.
    pub generation: u64,
    /// The latest generation that every pod had in force.
    pub acknowledged: u64,
    /// Pods that have not acknowledged it, each with why.
    pub waiting: Vec<String>,
}

/// The status of a Market that is in the book, or is refused.
pub fn status(market: &Market, refusal: Option<&Refusal>, progress: &Progress) -> MarketStatus {
    let all = conditions(market);
    if let Some(Refusal { reason, message }) = refusal {
        let all = all
            .set(ACCEPTED, false, reason, message)
            .set(READY, false, reason, message)
            .set(STALLED, true, reason, message)
            .remove(SUSPENDED);
        return MarketStatus { observed_generation: market.metadata.generation, book: None, conditions: all.build() };
    }
    let (suspended, state, words) = match market.spec.state {
        MarketState::Open => (false, "Open", "bets are taken"),
        MarketState::Suspended => (true, "Suspended", "spec.state is Suspended: shown, no bets"),
        MarketState::Closed => (false, "Closed", "spec.state is Closed: not offered; open bets still settle"),
    };
    let generation = progress.generation;
    let all =
        all.set(ACCEPTED, true, "Accepted", "the rule is in the market book").set(SUSPENDED, suspended, state, words);
    let all = if progress.acknowledged >= generation {
        all.set(READY, true, "Enforced", format!("every pod enforces market book {generation}"))
    } else {
        let message = waits(generation, &progress.waiting);
        all.set(READY, false, WAITING, &message).set(RECONCILING, true, WAITING, message)
    };
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    MarketStatus {
        observed_generation: market.metadata.generation,
        book: Some(BookStatus { generation: number(generation), acknowledged: number(progress.acknowledged) }),
        conditions: all.build(),
    }
}

fn waits(generation: u64, waiting: &[String]) -> String {
    let named = waiting.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    let more = waiting.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("market book {generation} is not in force everywhere: {named}{more}")
}

/// The status of a Market whose namespace is no environment.
pub fn outside(market: &Market) -> MarketStatus {
    let refusal = Refusal {
        reason: "NotAnEnvironment",
        message: "this namespace is no environment of a Tenant: apply the Market in an environment's namespace".into(),
    };
    status(market, Some(&refusal), &Progress::default())
}

/// The status of a Market of a namespace whose book cannot be published.
pub fn faulty(market: &Market, fault: &Fault) -> MarketStatus {
    let reason = fault.category.as_str();
    let progress = if fault.category.waits_for_a_person() { STALLED } else { RECONCILING };
    let all = conditions(market).set(READY, false, reason, &fault.message).set(progress, true, reason, &fault.message);
    MarketStatus {
        observed_generation: market.metadata.generation,
        book: market.status.as_ref().and_then(|status| status.book.clone()),
        conditions: all.build(),
    }
}

/// What is wrong by a new status of a Market and was not by the old one: worth an event.
pub fn news<'a>(market: &Market, new: &'a MarketStatus) -> Option<&'a Condition> {
    let known = |reason: &str| old(market).iter().any(|it| it.status == "False" && it.reason == reason);
    let wrong = |it: &&Condition| {
        [ACCEPTED, READY].contains(&it.type_.as_str()) && it.status == "False" && it.reason != WAITING
    };
    new.conditions.iter().filter(wrong).find(|it| !known(&it.reason))
}

fn old(market: &Market) -> &[Condition] {
    market.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}

fn conditions(market: &Market) -> Conditions {
    Conditions::from(old(market), market.metadata.generation)
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::market;
    use super::*;
    use crate::controllers::Category;
    use serde_json::{Value, json};

    fn words(status: &MarketStatus) -> Vec<String> {
        status.conditions.iter().map(|it| format!("{}={}/{}", it.type_, it.status, it.reason)).collect()
    }

    #[test]
    fn ready_is_said_when_every_pod_enforces_it() {
        let market = market("a", 1, json!({"state": "Suspended"}));
        let waiting = (1..=5).map(|n| format!("rates-{n}: no answer")).collect();
        let early = status(&market, None, &Progress { generation: 7, acknowledged: 6, waiting });
        assert_eq!(
            words(&early),
            [
                "Accepted=True/Accepted",
                "Ready=False/WaitingForPods",
                "Reconciling=True/WaitingForPods",
                "Suspended=True/Suspended"
            ]
        );
        assert!(
            early.conditions[1].message.ends_with("rates-3: no answer; and 2 more"),
            "{}",
            early.conditions[1].message
        );
        assert_eq!(early.book, Some(BookStatus { generation: 7, acknowledged: 6 }));
        let done = status(&market, None, &Progress { generation: 7, acknowledged: 7, waiting: Vec::new() });
        assert_eq!(words(&done), ["Accepted=True/Accepted", "Ready=True/Enforced", "Suspended=True/Suspended"]);
    }

    #[test]
    fn a_refusal_is_everywhere() {
        let market = market("a", 1, Value::Null);
        let refusal = Refusal { reason: "Overlap", message: "b is older".into() };
        let refused = status(&market, Some(&refusal), &Progress { generation: 7, ..Progress::default() });
        assert_eq!(words(&refused), ["Accepted=False/Overlap", "Ready=False/Overlap", "Stalled=True/Overlap"]);
        assert_eq!(refused.book, None);
        assert_eq!(words(&outside(&market))[0], "Accepted=False/NotAnEnvironment");
    }

    #[test]
    fn what_goes_wrong_is_told_once() {
        let told = |market: &Market, new: &MarketStatus| news(market, new).map(|it| it.reason.clone());
        let after = |status: &MarketStatus| {
            let mut market = market("a", 1, Value::Null);
            market.status = Some(status.clone());
            market
        };
        let fresh = market("a", 1, Value::Null);
        let refusal = Refusal { reason: "Overlap", message: "b is older".into() };
        let refused = status(&fresh, Some(&refusal), &Progress::default());
        assert_eq!(told(&fresh, &refused).as_deref(), Some("Overlap"));
        assert_eq!(told(&after(&refused), &refused), None);
        let broken = faulty(&after(&refused), &Fault::new(Category::NotOurs, "not ours"));
        assert_eq!(told(&after(&refused), &broken).as_deref(), Some("NotOurs"));
        let again = status(&after(&broken), Some(&refusal), &Progress::default());
        assert_eq!(told(&after(&broken), &again), None, "it was refused all the time");
        assert_eq!(told(&fresh, &outside(&fresh)).as_deref(), Some("NotAnEnvironment"));
        let waiting = status(&fresh, None, &Progress { generation: 2, acknowledged: 1, waiting: vec!["p: no".into()] });
        assert_eq!(told(&fresh, &waiting), None);
    }
}
