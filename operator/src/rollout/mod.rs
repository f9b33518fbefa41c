//! The rollout machine: pure decisions over plain values, without a Kubernetes client in sight.
//!
//! [`revision`] says what a revision is and names it; [`rolling`] says, for what is observed now, which revisions run at which
//! size. The BettingService controller observes, asks, and executes.

pub mod revision;
pub mod rolling;
