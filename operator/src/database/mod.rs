//! Databases on servers outside the apiserver: what a claim becomes there. One trait for all engines; each engine is a folder.
//!
//! Rules: names are derived and quoted (D1); what lacks our marker is never touched (D4); each term has a login of its own, and before
//! anything is written the marker's epoch is compared (O5); a server in which all is right is only read.

pub mod error;
pub mod kafka;
pub mod names;
pub mod password;
pub mod postgres;
pub mod scram;
pub mod sql;

pub use error::DatabaseError;
pub use names::Identity;
pub use password::Password;

use async_trait::async_trait;
use paddock_crds::v1alpha1::{Access, Cleanup};
use std::time::Duration;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version, if the engine tells it.
    pub version: Option<String>,
    /// Epoch of the term that this process began there, if the engine has logins.
    pub epoch: Option<i64>,
}

/// Who writes: recorded in the marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Id of the Kubernetes cluster.
    pub cluster: String,
    /// Epoch of the leadership (rule O5).
    pub epoch: i64,
}

/// What a claim wants on its server.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose it is.
    pub identity: Identity,
    /// uid of the DatabaseClaim.
    pub uid: String,
    /// Whether the claim was in use on this server: then its data must be there, and nothing is made in its place.
    pub bound: bool,
    /// Who writes.
    pub writer: Writer,
    /// PostgreSQL: logins. Empty for other engines.
    pub logins: Vec<Login>,
    /// PostgreSQL: limits of every login.
    pub limits: Limits,
    /// Kafka: topics, by their names on the broker. Empty for other engines.
    pub topics: Vec<TopicPlan>,
}

/// A login of a claim.
#[derive(Clone, Debug)]
pub struct Login {
    /// Name of the role in the claim.
    pub role: String,
    /// What it may do.
    pub access: Access,
    /// Its password.
    pub password: Password,
}

/// Limits of a PostgreSQL login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest statement of a login that is not for migrations.
    pub statement: Duration,
    /// Longest idle transaction.
    pub idle_in_transaction: Duration,
    /// Connections of one login.
    pub connections: i32,
}

/// A topic on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Name on the broker.
    pub name: String,
    /// Partitions; more are kept.
    pub partitions: i32,
    /// Cleanup policy.
    pub cleanup: Cleanup,
    /// How long messages stay at least.
    pub retention: Duration,
}

/// What [`Provisioner::ensure`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The database (or topics) did not exist before.
    pub created: bool,
    /// The data was there from an earlier claim of the same name.
    pub taken_back: bool,
    /// Differences that nobody asked for, and that were repaired: what, sorted, without names of users.
    pub repaired: Vec<String>,
    /// Differences that the administrator lacks the right to repair.
    pub unrepaired: Vec<String>,
}

/// Whether the data of a claim stands on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// It does, with our marker.
    Ours,
    /// Nothing of that name.
    Nothing,
}

/// A server of a DatabaseClass, as its administrator sees it. Every call has its own time limit, below 40 s.
#[async_trait]
pub trait Provisioner: Send + Sync {
    /// Logs in and asks what the server is; begins the writer's term there if that is still to be done.
    async fn check(&self, writer: &Writer) -> Result<ServerFacts, DatabaseError>;

    /// Whether the data of `identity` is here.
    async fn holds(&self, identity: &Identity, writer: &Writer) -> Result<Holding, DatabaseError>;

    /// Makes what is wanted and repairs what differs. Writes nothing when all is right, or when the data of a bound claim is gone.
    async fn ensure(&self, plan: &Plan) -> Result<Observed, DatabaseError>;

    /// Shuts the logins of a claim and ends their sessions; keeps all data. A no-op when nothing is there, or when a newer claim of the
    /// same name (another uid) has taken it back.
    async fn release(&self, identity: &Identity, uid: &str, writer: &Writer) -> Result<(), DatabaseError>;
}
