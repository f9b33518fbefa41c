//! From validated rules to a book: which rules stand, which overlap.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Book, MarketRule, Phase};

/// A rule with its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Creation time of the Market resource, RFC 3339 in UTC as the API server writes it (so that text order is time order).
    pub created_at: String,
    /// The rule.
    pub rule: MarketRule,
}

/// A rule that was refused because an older one is equally narrow and applies to some of the same lines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Overlap {
    /// Name of the younger rule, which is not in the book.
    pub refused: String,
    /// Name of the older rule, which stands.
    pub stands: String,
    /// A phase in which they meet.
    pub phase: Phase,
}

/// Compiles a book. Rules are taken by age, then name; a rule that overlaps a standing one is left out and reported.
///
/// The result does not depend on the order of the candidates. Of candidates of one name only the oldest counts.
pub fn compile(generation: u64, candidates: Vec<Candidate>) -> (Book, Vec<Overlap>) {
    let mut candidates = candidates;
    candidates.sort_by_cached_key(|candidate| {
        let content = serde_json::to_string(&candidate.rule).unwrap_or_default();
        (candidate.created_at.clone(), candidate.rule.name.clone(), content)
    });
    let mut standing: Vec<MarketRule> = Vec::with_capacity(candidates.len());
    let mut overlaps = Vec::new();
    let mut names = BTreeSet::new();
    for Candidate { rule, .. } in candidates {
        if !names.insert(rule.name.clone()) {
            continue;
        }
        match standing.iter().find_map(|older| Some((older, meet(older, &rule)?))) {
            Some((older, phase)) => {
                overlaps.push(Overlap { refused: rule.name, stands: older.name.clone(), phase });
            }
            None => standing.push(rule),
        }
    }
    overlaps.sort();
    (Book::new(generation, standing), overlaps)
}

/// A phase in which two rules are equally narrow and apply to some of the same lines.
fn meet(one: &MarketRule, other: &MarketRule) -> Option<Phase> {
    if one.sport != other.sport || one.market_type != other.market_type {
        return None;
    }
    let places = share(&one.selector.categories, &other.selector.categories)
        && share(&one.selector.tournaments, &other.selector.tournaments);
    one.selector.phases.intersection(&other.selector.phases).copied().find(|phase| {
        let lines = *phase == Phase::Live || share(&one.specifiers, &other.specifiers);
        places && lines && one.narrowness(*phase) == other.narrowness(*phase)
    })
}

/// Whether two lists admit something in common; an empty one admits everything.
fn share<T: Ord>(one: &BTreeSet<T>, other: &BTreeSet<T>) -> bool {
    one.is_empty() || other.is_empty() || !one.is_disjoint(other)
}
