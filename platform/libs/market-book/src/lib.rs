//! The compiled market book: market rules as every pricing pod enforces them.
//!
//! A Market resource becomes a [`RuleSpec`], is validated into a [`MarketRule`] and compiled with the others of its
//! environment into a [`Book`]. The operator hands the book to services (`docs/service-contract.md`), which ask it for the
//! rule of a line with [`Book::rule_for`], or with [`Book::open_rule`] whether it takes bets. Everything here is pure and gives the same bytes for the same rules in any order.

mod book;
mod compile;
mod duration;
mod event;
mod refusal;
mod rule;
mod spec;
mod terms;

pub use book::{Book, BookError, SCHEMA};
pub use compile::{Candidate, Overlap, compile};
pub use duration::parse_duration;
pub use event::EventAttributes;
pub use refusal::Refusal;
pub use rule::{Geography, Limits, MarginRule, MarketRule, PerPhase, Phase, RuleState, Selector};
pub use spec::{FieldError, LimitSpec, MarginSpec, PhaseDurations, PhaseOverrounds, RuleSpec, SelectorSpec};
pub use terms::{Terms, combine};
