//! Transactional outbox: an event is a row of the transaction that makes it true; a relay sends rows to Kafka.
//!
//! Delivery is at least once. Events of one key keep their order if their writers take the key's row lock before they add
//! (ids then follow commits). An advisory lock of the database says who relays. Its session can end without the relay knowing, so the
//! lock alone stops nobody whose records are under way: each relay fences those before it at the broker, and sends in transactions
//! (ADR 0024).

use std::sync::Arc;
use std::time::Duration;

use paddock_events::{Body, Envelope, Topic};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::kafka::{Bus, BusError, FencedError, FencedProducer, Record};
use crate::postgres::Database;

/// Put this into the first migration of a service with an outbox.
pub const TABLE: &str = "CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    record_key text NOT NULL,
    partition_key text NOT NULL,
    partition integer,
    value bytea,
    created_at timestamptz NOT NULL DEFAULT now()
)";

/// Rows sent together.
const BATCH: i64 = 500;
/// How long the relay waits when there is nothing to send and nobody wakes it.
const IDLE: Duration = Duration::from_millis(100);
/// How often a relay without the lock asks for it.
const STANDBY: Duration = Duration::from_secs(1);

/// Wakes the relay of this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    wake: Arc<Notify>,
}

/// An event could not be added.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The payload is no JSON.
    #[error("an event cannot be written as JSON: {0}; this is a fault of the service")]
    Json(#[from] serde_json::Error),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<OutboxError> for crate::Problem {
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::Database(error) => error.into(),
            OutboxError::Json(_) => Self::internal(error),
        }
    }
}

impl Outbox {
    /// Adds an event to a transaction.
    pub async fn add<B: Body>(&self, connection: &mut PgConnection, event: &Envelope<B>) -> Result<(), OutboxError> {
        insert(connection, event, None).await
    }

    /// Adds an event for one partition.
    pub async fn add_to_partition<B: Body>(
        &self,
        connection: &mut PgConnection,
        event: &Envelope<B>,
        partition: i32,
    ) -> Result<(), OutboxError> {
        insert(connection, event, Some(partition)).await
    }

    /// Adds a tombstone: the key leaves its compacted topic, behind everything added before.
    pub async fn forget(
        &self,
        connection: &mut PgConnection,
        topic: Topic,
        key: &str,
        partition_key: &str,
    ) -> Result<(), OutboxError> {
        sqlx::query("INSERT INTO outbox (topic, record_key, partition_key) VALUES ($1, $2, $3)")
            .bind(topic.name())
            .bind(key)
            .bind(partition_key)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Call after the commit, so that the relay need not wait for its next look.
    pub fn committed(&self) {
        self.wake.notify_one();
    }

    /// Relays until told to end; errors are logged and tried again.
    pub async fn relay(self, database: Database, bus: Bus, end: CancellationToken) -> anyhow::Result<()> {
        while !end.is_cancelled() {
            let wait = match self.relay_while_locked(&database, &bus, &end).await {
                Ok(()) => STANDBY,
                Err(error) => {
                    tracing::warn!(%error, "outbox relay starts again");
                    STANDBY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {},
                () = end.cancelled() => {},
            }
        }
        Ok(())
    }

    async fn relay_while_locked(
        &self,
        database: &Database,
        bus: &Bus,
        end: &CancellationToken,
    ) -> Result<(), RelayError> {
        // Not a pooled connection: the session holds the lock, so it must end with this function however it ends.
        let mut connection = database.pool().acquire().await?.detach();
        let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('paddock-outbox', 0))")
            .fetch_one(&mut connection)
            .await?;
        if !locked {
            return Ok(());
        }
        // The database names the outbox: components with the same bus have outboxes of their own, those with the same database share one.
        let name: String =
            sqlx::query_scalar("SELECT 'outbox.' || current_database()").fetch_one(&mut connection).await?;
        let version = bus.version();
        let mut producer = bus.fenced_producer(&name)?;
        // What is read behind this, nobody before us can send any more.
        producer.take_over().await?;
        loop {
            let sent = relay_batch(&mut connection, &mut producer).await?;
            // Whatever is left: who relays next sends it, and under load there is always something.
            if end.is_cancelled() || bus.version() != version {
                return Ok(());
            }
            if sent < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                tokio::select! {
                    () = self.wake.notified() => {},
                    () = tokio::time::sleep(IDLE) => {},
                    () = end.cancelled() => {},
                }
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Send(#[from] FencedError),
}

async fn insert<B: Body>(
    connection: &mut PgConnection,
    event: &Envelope<B>,
    partition: Option<i32>,
) -> Result<(), OutboxError> {
    sqlx::query("INSERT INTO outbox (topic, record_key, partition_key, partition, value) VALUES ($1, $2, $3, $4, $5)")
        .bind(B::TOPIC.name())
        .bind(event.body.key())
        .bind(event.body.partition_key())
        .bind(partition)
        .bind(event.to_json()?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Sends the oldest rows in order, waits until the broker has committed them all, deletes them.
async fn relay_batch(connection: &mut PgConnection, producer: &mut FencedProducer) -> Result<usize, RelayError> {
    let rows =
        sqlx::query("SELECT id, topic, record_key, partition_key, partition, value FROM outbox ORDER BY id LIMIT $1")
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let ids = rows.iter().map(|row| row.try_get("id")).collect::<Result<Vec<i64>, _>>()?;
    let records = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
    producer.publish(&records).await?;
    sqlx::query("DELETE FROM outbox WHERE id = ANY($1)").bind(&ids).execute(connection).await?;
    Ok(ids.len())
}

fn record(row: &PgRow) -> Result<Record, sqlx::Error> {
    Ok(Record {
        topic: row.try_get("topic")?,
        key: row.try_get("record_key")?,
        partition_key: row.try_get("partition_key")?,
        partition: row.try_get("partition")?,
        value: row.try_get("value")?,
    })
}
