//! Account: customers, sessions and the ledger, the only place where money is held.
//!
//! Its internal API (`docs/service-contract.md`) moves money between accounts of a registry, for reasons of a registry; it
//! knows nothing of bets.

pub mod domain;
pub mod http;
pub mod janitor;
pub mod limiter;
pub mod password;
mod service;
pub mod staff;
pub mod store;
pub mod token;

pub use service::run;
