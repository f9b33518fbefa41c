//! Offsets that are stored with the data made from them: what a partition's records did is committed once (rule B4).
//!
//! Kafka's group decides who reads a partition; the row decides whose effects count. A reader that lost its partition without
//! knowing finds the offset moved and commits nothing.

use sqlx::PgConnection;

/// Put this into a migration of a service that stores offsets.
pub const TABLE: &str = "CREATE TABLE consumer_offset (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition)
)";

/// The offset of the next record to take effect; the row is made at 0 if there is none.
pub async fn load(connection: &mut PgConnection, topic: &str, partition: i32) -> sqlx::Result<i64> {
    sqlx::query(
        "INSERT INTO consumer_offset (topic, partition, next_offset) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING",
    )
    .bind(topic)
    .bind(partition)
    .execute(&mut *connection)
    .await?;
    sqlx::query_scalar("SELECT next_offset FROM consumer_offset WHERE topic = $1 AND partition = $2")
        .bind(topic)
        .bind(partition)
        .fetch_one(connection)
        .await
}

/// Moves the offset within the transaction that holds the effects. `false`: another reader was here; roll back, [`load`]
/// again and seek.
pub async fn advance(
    connection: &mut PgConnection,
    topic: &str,
    partition: i32,
    expected: i64,
    next: i64,
) -> sqlx::Result<bool> {
    let moved = sqlx::query(
        "UPDATE consumer_offset SET next_offset = $4 WHERE topic = $1 AND partition = $2 AND next_offset = $3",
    )
    .bind(topic)
    .bind(partition)
    .bind(expected)
    .bind(next)
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == 1)
}
