//! `GET /api/v1/stream`: what changes, pushed (`docs/service-contract.md`, the public stream).

mod asked;
pub mod connection;
pub mod frame;
pub mod live;
pub mod offer;
pub mod places;
pub mod source;
