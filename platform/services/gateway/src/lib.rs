//! Gateway: REST, WebSocket and the static page of a brand.
//!
//! It keeps no truth: every replica has its own copy of the offer, shown as the market book in force lets it, and asks the
//! components for the rest.

pub mod api;
pub mod client;
pub mod limits;
mod page;
mod service;
pub mod sessions;
pub mod shown;
pub mod stream;
pub mod upstream;

pub use service::run;
