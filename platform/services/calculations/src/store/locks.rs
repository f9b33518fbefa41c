//! Locks between decisions and changes of what they are made from.
//!
//! A decision shares the locks of the market book and of its events until it has committed; a change takes its lock alone, so that
//! a decision either comes before it or sees it. They are advisory locks because those queue: a change waits for the decisions in
//! flight, later decisions wait for the change. Locked rows do not queue: newcomers share a row past a writer that waits for it, and
//! while bets keep coming, the suspension that should stop them would never be written.

use sqlx::PgConnection;

/// Waits for changes of the market book and of these events, and keeps new ones waiting until the transaction ends. What is read
/// must be read by later statements: this one's snapshot is older than its locks.
pub(super) async fn share(connection: &mut PgConnection, events: &[&str]) -> Result<(), sqlx::Error> {
    // In the order of their numbers, like every other locker.
    sqlx::query(
        "SELECT pg_advisory_xact_lock_shared(number) FROM (
            SELECT DISTINCT hashtextextended(name, 0) AS number
            FROM (SELECT 'market-book' UNION ALL SELECT 'event ' || unnest($1::text[])) AS locked (name) ORDER BY number) AS ordered",
    )
    .bind(events)
    .execute(connection)
    .await?;
    Ok(())
}

/// Waits for decisions about these events, and keeps new ones waiting until the transaction ends.
pub(super) async fn take_events(connection: &mut PgConnection, events: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT pg_advisory_xact_lock(number) FROM (
            SELECT DISTINCT hashtextextended('event ' || name, 0) AS number FROM unnest($1::text[]) AS event (name)
            ORDER BY number) AS ordered",
    )
    .bind(events)
    .execute(connection)
    .await?;
    Ok(())
}

/// Waits for decisions by the market book in force, and keeps new ones waiting until the transaction ends.
pub(super) async fn take_book(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('market-book', 0))").execute(connection).await?;
    Ok(())
}

/// The event of a state row: rows of lines are named `event|market|specifiers`, rows of events by the event.
pub(super) fn event_of(key: &str) -> &str {
    key.split('|').next().unwrap_or(key)
}
