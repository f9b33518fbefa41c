//! Claims on a shared PostgreSQL server.
//!
//! A claim is a database `t_<environment>_<claim>` that an operator-held role `…_db` owns and no tenant is a member of. In it the
//! schema `app` belongs to `…_own`; logins for pods get their rights from `…_rw` and `…_ro` and own nothing; logins for migrations
//! become `…_own` as their session starts, so that whatever they create belongs to it. PUBLIC has nothing. The table
//! `paddock.marker` says whose the database is.
//!
//! The administrator is not a superuser: it needs LOGIN, CREATEDB, CREATEROLE, membership in `pg_signal_backend` with the admin option,
//! and, where PUBLIC may not connect to database `postgres`, CONNECT on it with the grant option. It only begins terms: see [`term`].

mod being;
mod catalog;
mod desired;
mod diff;
mod ensure;
mod login;
mod marker;
mod release;
mod session;
mod term;
#[cfg(test)]
pub(crate) mod tests;

use super::{DatabaseError, Holding, Identity, Observed, Plan, Provisioner, ServerFacts, Writer};
use async_trait::async_trait;
pub use session::{Administrator, PostgresServer};
use sqlx::postgres::PgConnection;
use std::future::Future;
use std::time::Duration;
pub use term::Terms;

/// Longest time for one call of [`Provisioner`].
const CALL: Duration = Duration::from_secs(35);
/// Oldest version that has what this module uses.
const OLDEST: i32 = 150_000;

#[async_trait]
impl Provisioner for PostgresServer {
    async fn check(&self, writer: &Writer) -> Result<ServerFacts, DatabaseError> {
        self.bounded(async {
            let version = self.fit(&mut self.root().await?).await?;
            let mut maintenance = self.maintenance(writer).await?;
            let mut term = term::held(self, writer).await?;
            if !term::able(self, &mut maintenance).await? {
                term::lose(self, &term).await;
                term = term::held(self, writer).await?;
            }
            Ok(ServerFacts { version: Some(version), epoch: Some(term.epoch) })
        })
        .await
    }

    async fn holds(&self, identity: &Identity, writer: &Writer) -> Result<Holding, DatabaseError> {
        self.bounded(async {
            let mut maintenance = self.maintenance(writer).await?;
            let found = being::look(self, &mut maintenance, identity).await?;
            Ok(if being::owned(self, &found, identity, writer)?.is_some() { Holding::Ours } else { Holding::Nothing })
        })
        .await
    }

    async fn ensure(&self, plan: &Plan) -> Result<Observed, DatabaseError> {
        self.bounded(ensure::ensure(self, plan)).await
    }

    async fn release(&self, identity: &Identity, uid: &str, writer: &Writer) -> Result<(), DatabaseError> {
        self.bounded(release::release(self, identity, uid, writer)).await
    }
}

impl PostgresServer {
    /// The server's version, if it and the administrator are what is needed.
    async fn fit(&self, root: &mut PgConnection) -> Result<String, DatabaseError> {
        // Since PostgreSQL 16 only who has the admin option of a role passes it on.
        let (number, text, superuser, creates, signals, admits): (i32, String, bool, bool, bool, bool) =
            sqlx::query_as(
                "SELECT current_setting('server_version_num')::int4, current_setting('server_version'),
                        rolsuper, rolcreaterole AND rolcreatedb,
                        pg_has_role('pg_signal_backend', CASE WHEN current_setting('server_version_num')::int4 < 160000
                                                              THEN 'MEMBER' ELSE 'MEMBER WITH ADMIN OPTION' END),
                        has_database_privilege('public', current_database(), 'CONNECT')
                            OR has_database_privilege(current_database(), 'CONNECT WITH GRANT OPTION')
                 FROM pg_roles WHERE rolname = current_user",
            )
            .fetch_one(root)
            .await
            .map_err(|error| self.fault("read its version", &error))?;
        let version = text.split_whitespace().next().unwrap_or("unknown").to_owned();
        if number < OLDEST {
            return Err(DatabaseError::Unsupported {
                server: self.name.clone(),
                found: format!("PostgreSQL {version}"),
                wanted: "PostgreSQL 15 or newer",
            });
        }
        let problem = if superuser {
            "is a superuser; give the class a role with only LOGIN CREATEDB CREATEROLE"
        } else if !creates {
            "may not make databases and roles; as a superuser run ALTER ROLE … CREATEDB CREATEROLE"
        } else if !signals {
            "may not end sessions; as a superuser run GRANT pg_signal_backend TO it WITH ADMIN OPTION"
        } else if !admits {
            "may not let its logins into database postgres; as a superuser run GRANT CONNECT ON DATABASE postgres TO it WITH GRANT OPTION"
        } else {
            return Ok(version);
        };
        Err(DatabaseError::AdministratorUnfit { server: self.name.clone(), problem: problem.to_owned() })
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, DatabaseError>> + Send,
    ) -> Result<T, DatabaseError> {
        tokio::time::timeout(CALL, call).await.unwrap_or_else(|_| Err(self.unreachable("no answer in time")))
    }
}
