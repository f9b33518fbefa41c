//! What calculations and settlement keep in PostgreSQL.

mod accept;
mod locks;
mod place;
mod settle;
mod ticket;

use std::time::{Duration, Instant};

use paddock_events::{Origin, TicketMessage};
use paddock_service::outbox::{Outbox, OutboxError};
use paddock_service::postgres::Database;
use sqlx::PgConnection;
use uuid::Uuid;

pub use accept::Step;
pub(crate) use accept::offered;
pub use place::{NewTicket, Placed};
pub use settle::{Due, Intent, OpenSettlement};
pub use ticket::{Bet, Selection, Status, Ticket};

/// Idempotency keys forgotten by one statement.
const FORGET_BATCH: i64 = 1000;
/// How long they are forgotten at a time.
const FORGET_FOR: Duration = Duration::from_secs(2);

/// The database with the outbox in it. Clones share both.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    outbox: Outbox,
    origin: Origin,
}

/// A new state of a line or event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// Line key or event URN.
    pub key: String,
    /// Sequence of the change.
    pub sequence: i64,
    /// Status from then on.
    pub status: &'static str,
    /// Whether the state before was seen, so that this is a change for certain.
    pub witnessed: bool,
}

/// The database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or was away.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// An event could not be written.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A row holds what no version of this service writes.
    #[error("row {id} holds {what} that this version cannot read; roll out the version that wrote it")]
    Unreadable {
        /// Row.
        id: String,
        /// Column.
        what: &'static str,
    },
    /// Another replica has a newer market book; this one will have it in a moment.
    #[error("generation {0} of the market book is in force elsewhere; the ticket waits until this replica has it")]
    BookBehind(i64),
    /// A sum leaves 64 bits.
    #[error(transparent)]
    Money(#[from] paddock_money::MoneyError),
}

impl From<StoreError> for paddock_service::Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(error) => error.into(),
            StoreError::Outbox(error) => error.into(),
            StoreError::BookBehind(_) => {
                Self::unavailable("market-book-behind", "try again in a moment").caused_by(error)
            }
            StoreError::Unreadable { .. } | StoreError::Money(_) => Self::internal(error),
        }
    }
}

impl Store {
    /// A store over a database; events are written as `origin`.
    pub const fn new(database: Database, outbox: Outbox, origin: Origin) -> Self {
        Self { database, outbox, origin }
    }

    fn pool(&self) -> sqlx::PgPool {
        self.database.pool()
    }

    /// Makes state changes visible to every replica's commits; older ones change nothing.
    pub async fn change_states(&self, changes: &[StateChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut tx = self.pool().begin().await?;
        let events: Vec<&str> = changes.iter().map(|change| locks::event_of(&change.key)).collect();
        locks::take_events(&mut tx, &events).await?;
        // Two statements of their own, each in the order of keys like every other writer of these rows.
        for witnessed in [true, false] {
            let some = || changes.iter().filter(move |change| change.witnessed == witnessed);
            let keys: Vec<&str> = some().map(|change| change.key.as_str()).collect();
            if keys.is_empty() {
                continue;
            }
            let sequences: Vec<i64> = some().map(|change| change.sequence).collect();
            let statuses: Vec<&str> = some().map(|change| change.status).collect();
            sqlx::query(
                "INSERT INTO offer_state (key, sequence, status)
                 SELECT key, sequence, status FROM unnest($1::text[], $2::bigint[], $3::text[]) AS change (key, sequence, status)
                 ORDER BY key COLLATE \"C\"
                 ON CONFLICT (key) DO UPDATE
                 SET sequence = excluded.sequence, status = excluded.status, changed_at = clock_timestamp()
                 WHERE offer_state.sequence < excluded.sequence AND ($4 OR offer_state.status <> excluded.status)",
            )
            .bind(&keys)
            .bind(&sequences)
            .bind(&statuses)
            .bind(witnessed)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Tells every replica that a generation of the market book is in force; returns the highest that any has.
    pub async fn book_in_force(&self, generation: u64) -> Result<u64, StoreError> {
        let own = i64::try_from(generation).unwrap_or(i64::MAX);
        let pool = self.pool();
        let mut highest: i64 = sqlx::query_scalar("SELECT generation FROM market_book").fetch_one(&pool).await?;
        if highest < own {
            let mut tx = pool.begin().await?;
            locks::take_book(&mut tx).await?;
            highest =
                sqlx::query_scalar("UPDATE market_book SET generation = greatest(generation, $1) RETURNING generation")
                    .bind(own)
                    .fetch_one(&mut *tx)
                    .await?;
            tx.commit().await?;
        }
        Ok(u64::try_from(highest).unwrap_or(0))
    }

    /// Forgets idempotency keys after 30 days, in batches. Its caller has other work: what is left after a while waits for the next
    /// time.
    pub async fn forget_old_keys(&self) -> Result<u64, StoreError> {
        let (started, mut forgotten) = (Instant::now(), 0);
        loop {
            let gone = sqlx::query(
                "DELETE FROM idempotency WHERE (customer_id, key) IN (
                    SELECT customer_id, key FROM idempotency WHERE created_at < now() - interval '30 days'
                    ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
            )
            .bind(FORGET_BATCH)
            .execute(&self.pool())
            .await?
            .rows_affected();
            forgotten += gone;
            if gone < FORGET_BATCH.unsigned_abs() || started.elapsed() > FORGET_FOR {
                return Ok(forgotten);
            }
        }
    }

    /// Writes the ticket's present state to the outbox.
    async fn tell(
        &self,
        connection: &mut PgConnection,
        ticket: Uuid,
        message: fn(paddock_events::TicketState) -> TicketMessage,
    ) -> Result<(), StoreError> {
        match ticket::load(connection, ticket).await? {
            Some(ticket) => self.tell_as(connection, message(ticket.state())).await,
            None => Ok(()),
        }
    }

    /// Writes a ticket's state to the outbox.
    async fn tell_as(&self, connection: &mut PgConnection, message: TicketMessage) -> Result<(), StoreError> {
        let event = paddock_events::Envelope::now(&self.origin, message);
        Ok(self.outbox.add(connection, &event).await?)
    }
}
