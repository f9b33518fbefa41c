//! Installs Paddock with the examples on a cluster, and plays a customer's afternoon on it. The demo, the end-to-end tests and the
//! benchmarks share it.

pub mod afternoon;
pub mod bettor;
pub mod install;
pub mod metrics;
pub mod play;
pub mod staff;
pub mod wait;

pub use install::Installation;
pub use metrics::Metrics;

/// The namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "paddock-system";
