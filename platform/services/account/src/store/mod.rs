//! Account's tables. Every function is one transaction.

mod audit;
mod customers;
mod entries;
mod ledger;
mod sessions;
mod wallet;

use paddock_events::{Body, Envelope, Origin};
use paddock_ledger::TransferError;
use paddock_money::MoneyError;
use paddock_service::outbox::{Outbox, OutboxError};
use paddock_service::postgres::Database;
use sqlx::PgConnection;
use uuid::Uuid;

pub use audit::Audit;
pub use customers::{Credentials, NewCustomer};
pub use ledger::{Action, Asked, Command, Outcome, StaleHold, TransferResource, TransferState};
pub use sessions::{NewSession, Session};
pub use wallet::{EntriesPage, EntryResource, Wallet};

/// The schema, for the migration Job and tests.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// Where account's state is.
#[derive(Clone)]
pub struct Store {
    database: Database,
    outbox: Outbox,
    origin: Origin,
}

/// Why the store refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The ledger's rules.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The customer's state forbids it.
    #[error("the customer's state is {0}: new bets are not allowed")]
    CustomerNotAllowed(String),
    /// No such customer.
    #[error("customer {0} does not exist: register first")]
    CustomerNotFound(Uuid),
    /// Someone has the address.
    #[error("the email address is taken: log in instead, or use another")]
    EmailTaken,
    /// A row holds what this version does not know.
    #[error("column {column} holds {value:?}, which this version does not know: run the newest version")]
    Unknown {
        /// Column.
        column: &'static str,
        /// Its value.
        value: String,
    },
    /// An amount left 64 bits.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// An event or a session's context could not be written as JSON.
    #[error("a value cannot be written as JSON: {0}; this is a fault of the service")]
    Json(#[from] serde_json::Error),
    /// The database failed; nothing was applied, or it is unknown whether: repeat with the same id.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl Store {
    /// A store on a database, writing events in the name of an environment.
    pub const fn new(database: Database, outbox: Outbox, origin: Origin) -> Self {
        Self { database, outbox, origin }
    }

    /// Adds events to a transaction, in order. The customer's row must be locked.
    async fn publish<B: Body>(&self, connection: &mut PgConnection, bodies: Vec<B>) -> Result<(), StoreError> {
        for body in bodies {
            self.outbox.add(&mut *connection, &Envelope::now(&self.origin, body)).await?;
        }
        Ok(())
    }
}

impl From<OutboxError> for StoreError {
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::Json(error) => Self::Json(error),
            OutboxError::Database(error) => Self::Database(error),
        }
    }
}

/// Reads a column of a closed set.
fn read<T: std::str::FromStr>(column: &'static str, value: &str) -> Result<T, StoreError> {
    value.parse().map_err(|_| StoreError::Unknown { column, value: value.to_owned() })
}

/// The unique constraint that an insert broke.
fn broken_constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|error| error.constraint())
}
