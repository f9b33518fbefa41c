//! The Paddock operator.

pub mod cli;
pub mod controllers;
pub mod database;
pub mod fault;
pub mod http;
pub mod issuer;
pub mod kube;
pub mod leader;
pub mod metrics;
pub mod network;
pub mod rbac;
pub mod readiness;
pub mod rollout;
pub mod settings;
pub mod telemetry;
