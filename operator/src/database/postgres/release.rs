//! The end of a claim: its logins are shut, its data stays.

use super::session::{PostgresServer, code};
use super::{being, marker};
use crate::database::sql::quote_ident;
use crate::database::{DatabaseError, Identity, Writer};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use std::time::{Duration, Instant};

/// Longest wait until the sessions of shut logins have ended.
const GONE: Duration = Duration::from_secs(10);

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
    // Whatever is being let in here was before its login was shut.
    silence(server, &mut connection, &names, Starting::Ended).await
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

/// What becomes of sessions in the present database that are being let in, which do not show yet whose they are. A client can draw
/// that out (`post_auth_delay`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starting {
    /// They may be of others.
    Left,
    /// Nobody may be in this database any more.
    Ended,
}

/// Ends the sessions of `logins`, which are shut, and waits until there is none.
pub(super) async fn silence(
    server: &PostgresServer,
    connection: &mut PgConnection,
    logins: &[String],
    starting: Starting,
) -> Result<(), DatabaseError> {
    let until = Instant::now() + GONE;
    while end_sessions(server, connection, logins, starting).await? > 0 {
        if Instant::now() > until {
            return Err(DatabaseError::Busy { server: server.name.clone() });
        }
    }
    Ok(())
}

/// Ends what sessions there are. Answers how many.
async fn end_sessions(
    server: &PostgresServer,
    connection: &mut PgConnection,
    logins: &[String],
    starting: Starting,
) -> Result<usize, DatabaseError> {
    if logins.is_empty() {
        return Ok(0);
    }
    // Who is let in holds a lock on the database until it is in.
    let found: Vec<i32> = sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE usename::text = ANY($1)
         UNION
         SELECT pid FROM pg_locks l
         WHERE $2 AND locktype = 'object' AND classid = 'pg_database'::regclass AND pid <> pg_backend_pid()
           AND objid = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.usename IS NOT NULL)",
    )
    .bind(logins)
    .bind(starting == Starting::Ended)
    .fetch_all(&mut *connection)
    .await
    .map_err(|error| server.fault("look for sessions of a shut login", &error))?;
    for pid in &found {
        let ended = sqlx::query("SELECT pg_terminate_backend($1, 100)").bind(pid).execute(&mut *connection).await;
        match ended {
            Ok(_) => {}
            // A superuser's, which shows its name in a moment.
            Err(error) if code(&error).as_deref() == Some("42501") => {}
            Err(error) => return Err(server.fault("end sessions of a shut login", &error)),
        }
    }
    Ok(found.len())
}
