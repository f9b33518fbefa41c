//! The table `paddock.marker` of a claim's database: whose it is, and which operator wrote last.

use super::session::PostgresServer;
use crate::database::sql::quote_ident;
use crate::database::{DatabaseError, Identity, Writer};
use sqlx::postgres::PgConnection;

/// The row of the marker.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Marker {
    cluster: String,
    tenant: String,
    environment: String,
    claim: String,
    /// uid of the DatabaseClaim that has it.
    pub(super) uid: String,
    /// Epoch of the operator that wrote last.
    pub(super) epoch: i64,
    /// Digest of what was wanted then: a difference without a change of it is drift.
    pub(super) plan: String,
    /// Whether its logins were shut because the claim was deleted.
    pub(super) released: bool,
}

const COLUMNS: &str = "SELECT cluster, tenant, environment, claim, uid, epoch, plan, released_at IS NOT NULL AS released FROM paddock.marker";

/// Reads the marker; `None` in a database that has none yet. With `hold`, keeps others from changing it until the transaction ends.
pub(super) async fn read(
    server: &PostgresServer,
    connection: &mut PgConnection,
    hold: bool,
) -> Result<Option<Marker>, DatabaseError> {
    let (exists,): (bool,) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = 'paddock' AND c.relname = 'marker')",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(|error| server.fault("look for the marker", &error))?;
    if !exists {
        return Ok(None);
    }
    let sql = if hold { format!("{COLUMNS} FOR UPDATE") } else { COLUMNS.to_owned() };
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .fetch_optional(connection)
        .await
        .map_err(|error| server.fault("read the marker", &error))
}

impl Marker {
    /// An error unless the marker is that of `identity` and no newer operator wrote it.
    pub(super) fn check(
        &self,
        server: &PostgresServer,
        identity: &Identity,
        writer: &Writer,
    ) -> Result<(), DatabaseError> {
        let ours = self.cluster == writer.cluster
            && self.tenant == identity.tenant
            && self.environment == identity.environment
            && self.claim == identity.claim;
        if !ours {
            return Err(DatabaseError::OwnershipConflict {
                server: server.name.clone(),
                object: format!("database {}", identity.database()),
                problem: "carries the marker of another cluster or claim".to_owned(),
            });
        }
        if self.epoch > writer.epoch {
            return Err(DatabaseError::Superseded {
                server: server.name.clone(),
                found: self.epoch,
                ours: writer.epoch,
            });
        }
        Ok(())
    }
}

/// Makes the table, owned by the database's owner, which no tenant is a member of.
pub(super) async fn create(
    server: &PostgresServer,
    connection: &mut PgConnection,
    identity: &Identity,
) -> Result<(), DatabaseError> {
    let owner = quote_ident(&identity.database_owner());
    let sql = format!(
        "CREATE SCHEMA IF NOT EXISTS paddock AUTHORIZATION {owner};
         CREATE TABLE paddock.marker (
             one pg_catalog.bool PRIMARY KEY DEFAULT true CHECK (one),
             cluster pg_catalog.text NOT NULL,
             tenant pg_catalog.text NOT NULL,
             environment pg_catalog.text NOT NULL,
             claim pg_catalog.text NOT NULL,
             uid pg_catalog.text NOT NULL,
             epoch pg_catalog.int8 NOT NULL,
             plan pg_catalog.text NOT NULL,
             written_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
             released_at pg_catalog.timestamptz
         );
         ALTER TABLE paddock.marker OWNER TO {owner}"
    );
    server.run(connection, "make the marker", sql).await
}

/// Writes who has the database now.
pub(super) async fn write(
    server: &PostgresServer,
    connection: &mut PgConnection,
    identity: &Identity,
    writer: &Writer,
    uid: &str,
    plan: &str,
    released: bool,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO paddock.marker AS m (cluster, tenant, environment, claim, uid, epoch, plan, released_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 THEN pg_catalog.now() END)
         ON CONFLICT (one) DO UPDATE SET uid = excluded.uid, epoch = excluded.epoch, plan = excluded.plan,
             released_at = excluded.released_at, written_at = pg_catalog.now()",
    )
    .bind(&writer.cluster)
    .bind(&identity.tenant)
    .bind(&identity.environment)
    .bind(&identity.claim)
    .bind(uid)
    .bind(writer.epoch)
    .bind(plan)
    .bind(released)
    .execute(connection)
    .await
    .map(|_| ())
    .map_err(|error| server.fault("write the marker", &error))
}
