//! `GET /api/v1/stream`: what changes, pushed (`docs/service-contract.md`, the public stream).

pub mod connection;
pub mod frame;
pub mod live;
pub mod offer;
pub mod source;
pub mod places;
