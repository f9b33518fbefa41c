//! The Paddock operator.

pub mod cli;
pub mod controllers;
pub mod fault;
pub mod kube;
pub mod leader;
pub mod metrics;
pub mod settings;
