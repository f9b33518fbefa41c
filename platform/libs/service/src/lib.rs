//! What every betting service shares: HTTP, configuration, bindings, telemetry, outbox, drain (`docs/service-contract.md`).
//!
//! A service is `run(command)`: it starts a [`Service`], asks it for its bindings, spawns its tasks and serves its router.

pub mod binding;
mod book;
mod caller_token;
mod callers;
mod command;
mod control;
mod entry;
mod environment;
mod health;
mod http;
pub mod idempotency;
pub mod kafka;
mod migrate;
pub mod offsets;
pub mod outbox;
pub mod postgres;
mod problem;
mod service;
mod settings;
mod telemetry;

pub use book::{BookGuard, BookHolder, BookInForce, PutBookError};
pub use caller_token::{CALLER_HEADER, CallerToken};
pub use callers::{Allowed, Callers, KeysError, refuses_caller};
pub use command::Command;
pub use entry::main;
pub use environment::{Class, Environment};
pub use health::{Gate, Readiness};
pub use http::{JsonBody, QueryParams};
pub use migrate::migrate;
pub use problem::{Problem, ProblemDocument};
pub use service::{Apps, Layout, Service};
pub use settings::{Settings, SettingsError};
