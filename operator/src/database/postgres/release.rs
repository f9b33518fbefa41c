//! The end of a claim: its logins are shut, its data stays.

use super::session::PostgresServer;
use super::{being, marker};
use crate::database::sql::quote_ident;
use crate::database::{DatabaseError, Identity, Writer};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

pub(super) async fn release(
    server: &PostgresServer,
    identity: &Identity,
    uid: &str,
    writer: &Writer,
) -> Result<(), DatabaseError> {
    let mut maintenance = server.maintenance(writer).await?;
    being::lock(server, &mut maintenance, identity).await?;
    let found = being::look(server, &mut maintenance, identity).await?;
    // Without a database there was never a login: both are made in the transaction that writes the marker.
    let Some(owned) = being::owned(server, &found, identity, writer)? else { return Ok(()) };
    if !owned.open {
        return Ok(());
    }
    being::join(server, &mut maintenance, &found, identity).await?;
    let mut connection = server.connect(&identity.database(), writer).await?;
    let mut transaction = connection.begin().await.map_err(|error| server.fault("begin a transaction", &error))?;
    let Some(marker) = marker::read(server, &mut transaction, false).await? else { return Ok(()) };
    marker.check(server, identity, writer)?;
    if marker.uid != uid {
        return Ok(());
    }
    let Some(marker) = marker::read(server, &mut transaction, true).await? else { return Ok(()) };
    marker.check(server, identity, writer)?;
    let logins = logins(server, &mut transaction, identity).await?;
    for (login, may_log_in) in &logins {
        if *may_log_in {
            server.run(&mut transaction, "shut a login", format!("ALTER ROLE {} NOLOGIN", quote_ident(login))).await?;
        }
    }
    if !marker.released {
        marker::write(server, &mut transaction, identity, writer, uid, &marker.plan, true).await?;
    }
    transaction.commit().await.map_err(|error| server.fault("commit", &error))?;
    let names: Vec<String> = logins.into_iter().map(|(name, _)| name).collect();
    end_sessions(server, &mut connection, &names).await.map(|_| ())
}

/// Roles of the claim, and whether they may log in.
async fn logins(
    server: &PostgresServer,
    connection: &mut PgConnection,
    identity: &Identity,
) -> Result<Vec<(String, bool)>, DatabaseError> {
    sqlx::query_as("SELECT rolname::text, rolcanlogin FROM pg_roles WHERE starts_with(rolname::text, $1)")
        .bind(format!("{}_", identity.database()))
        .fetch_all(connection)
        .await
        .map_err(|error| server.fault("read the claim's logins", &error))
}

/// Ends the sessions of `logins` and waits, briefly, until they are gone. Answers how many there were.
pub(super) async fn end_sessions(
    server: &PostgresServer,
    connection: &mut PgConnection,
    logins: &[String],
) -> Result<u64, DatabaseError> {
    if logins.is_empty() {
        return Ok(0);
    }
    sqlx::query("SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usename::text = ANY($1)")
        .bind(logins)
        .execute(connection)
        .await
        .map(|done| done.rows_affected())
        .map_err(|error| server.fault("end sessions of a shut login", &error))
}
