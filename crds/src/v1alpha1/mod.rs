//! Version `v1alpha1`: one file per kind, and what several kinds share.

mod betting_service;
mod component;
mod database_claim;
mod database_class;
mod market;
mod need;
mod release;
mod schema;
mod tenant;

pub use betting_service::*;
pub use component::*;
pub use database_claim::*;
pub use database_class::*;
pub use market::*;
pub use need::*;
pub use release::*;
pub use tenant::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

/// Whether an environment serves customers. Drives every default, and which servers its claims may use.
#[derive(
    Serialize,
    Deserialize,
    JsonSchema,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Display,
    EnumString,
    IntoStaticStr,
)]
pub enum EnvironmentClass {
    /// Serves customers; real money.
    Production,
    /// Development and test.
    NonProduction,
}

/// Engine of a database class or claim.
#[derive(
    Serialize,
    Deserialize,
    JsonSchema,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Display,
    EnumIter,
    IntoStaticStr,
)]
pub enum Engine {
    /// A PostgreSQL database on a shared server.
    PostgreSQL,
    /// A prefix of topics on a shared Kafka broker.
    Kafka,
}
