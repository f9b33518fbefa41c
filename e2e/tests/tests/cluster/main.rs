//! Everything on a real cluster: one installation, one test at a time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: its failure is the message"
)]

mod bad_input;
mod betting;
mod charts;
mod databases;
mod drift;
mod operator;
mod rest;
mod support;
