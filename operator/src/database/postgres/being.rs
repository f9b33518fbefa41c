//! Whether a claim's database exists and whose it is, seen from the maintenance database; and bringing it into being.
//!
//! The role `…_db` comes first, in one transaction with a comment that seals it to tenant, environment, claim and cluster. The
//! database follows, closed to connections until PUBLIC is shut out. Only what a sealed role owns is ours, so a crash between any
//! two steps leaves nothing that could be mistaken.

use super::session::PostgresServer;
use crate::database::sql::{quote_ident, quote_literal};
use crate::database::{DatabaseError, Identity, Plan, Writer};
use sqlx::postgres::PgConnection;

/// What stands under the names of a claim.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Found {
    owner_exists: bool,
    owner_comment: Option<String>,
    usable: bool,
    database_owner: Option<String>,
    allows_connections: Option<bool>,
}

/// A database that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owned {
    /// Whether it lets anybody in.
    pub(super) open: bool,
}

/// Takes the claim's advisory lock for the rest of the session: one session at a time changes a claim.
pub(super) async fn lock(
    server: &PostgresServer,
    maintenance: &mut PgConnection,
    identity: &Identity,
) -> Result<(), DatabaseError> {
    sqlx::query("SELECT pg_catalog.pg_advisory_lock($1)")
        .bind(identity.lock_key())
        .execute(maintenance)
        .await
        .map(|_| ())
        .map_err(|error| server.fault("lock the claim", &error))
}

pub(super) async fn look(
    server: &PostgresServer,
    maintenance: &mut PgConnection,
    identity: &Identity,
) -> Result<Found, DatabaseError> {
    sqlx::query_as(
        "SELECT r.oid IS NOT NULL AS owner_exists,
                pg_catalog.shobj_description(r.oid, 'pg_authid') AS owner_comment,
                coalesce(pg_catalog.pg_has_role(r.oid, 'USAGE'), false) AS usable,
                pg_catalog.pg_get_userbyid(d.datdba)::pg_catalog.text AS database_owner,
                d.datallowconn AS allows_connections
         FROM (VALUES (1)) AS one (x)
         LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $1
         LEFT JOIN pg_catalog.pg_database d ON d.datname = $2",
    )
    .bind(identity.database_owner())
    .bind(identity.database())
    .fetch_one(maintenance)
    .await
    .map_err(|error| server.fault("look for the claim's database", &error))
}

/// The claim's database, if it is there; an error if what is there is not ours.
pub(super) fn owned(
    server: &PostgresServer,
    found: &Found,
    identity: &Identity,
    writer: &Writer,
) -> Result<Option<Owned>, DatabaseError> {
    let conflict = |object: String, problem: &str| {
        Err(DatabaseError::OwnershipConflict { server: server.name.clone(), object, problem: problem.to_owned() })
    };
    if found.owner_exists {
        match found.owner_comment.as_deref() {
            Some(comment) if comment == identity.seal(&writer.cluster) => {}
            Some(comment) if comment.starts_with("paddock:") => {
                return conflict(
                    format!("role {}", identity.database_owner()),
                    "carries the mark of another cluster or claim",
                );
            }
            _ => return conflict(format!("role {}", identity.database_owner()), "exists without the operator's mark"),
        }
    }
    match &found.database_owner {
        None => Ok(None),
        Some(owner) if found.owner_exists && *owner == identity.database_owner() => {
            Ok(Some(Owned { open: found.allows_connections.unwrap_or(false) }))
        }
        Some(_) => conflict(format!("database {}", identity.database()), "exists and belongs to another role"),
    }
}

/// Makes the database unless it is there. Answers whether it made it.
///
/// That of a claim that had one is never made: a server that lost it, or another server at its address, would pass for the one with the data.
pub(super) async fn bring(
    server: &PostgresServer,
    maintenance: &mut PgConnection,
    plan: &Plan,
) -> Result<bool, DatabaseError> {
    let Plan { identity, writer, .. } = plan;
    let found = look(server, maintenance, identity).await?;
    let before = owned(server, &found, identity, writer)?;
    if before.is_none() && plan.bound {
        let object = format!("database {}", identity.database());
        return Err(DatabaseError::DataMissing { server: server.name.clone(), object });
    }
    let owner = quote_ident(&identity.database_owner());
    let database = quote_ident(&identity.database());
    if !found.owner_exists {
        let seal = quote_literal(&identity.seal(&writer.cluster));
        // One simple query is one transaction: the role never stands without its seal.
        let sql = format!(
            "CREATE ROLE {owner} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
             COMMENT ON ROLE {owner} IS {seal};
             GRANT {owner} TO CURRENT_USER"
        );
        server.run(maintenance, "make the role that owns the database", sql).await?;
    }
    join(server, maintenance, &found, identity).await?;
    if before.is_none() {
        let sql = format!(
            "CREATE DATABASE {database} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false"
        );
        server.run(maintenance, "make the database", sql).await?;
    }
    if !before.is_some_and(|owned| owned.open) {
        let sql = format!(
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC;
             ALTER DATABASE {database} ALLOW_CONNECTIONS true"
        );
        server.run(maintenance, "open the database", sql).await?;
    }
    Ok(before.is_none())
}

/// Makes the administrator a member of the database's owner: a role that another administrator made may lack it.
pub(super) async fn join(
    server: &PostgresServer,
    maintenance: &mut PgConnection,
    found: &Found,
    identity: &Identity,
) -> Result<(), DatabaseError> {
    if !found.owner_exists || found.usable {
        return Ok(());
    }
    let sql = format!("GRANT {} TO CURRENT_USER", quote_ident(&identity.database_owner()));
    server.run(maintenance, "join the role that owns the database", sql).await
}
