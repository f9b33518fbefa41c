//! Claims on a shared PostgreSQL server.
//!
//! A claim is a database `t_<environment>_<claim>` that an operator-held role `…_db` owns and no tenant is a member of. In it the
//! schema `app` belongs to `…_own`; logins for pods get their rights from `…_rw` and `…_ro` and own nothing; logins for migrations
//! become `…_own` as their session starts, so that whatever they create belongs to it. PUBLIC has nothing. The table
//! `paddock.marker` says whose the database is.
//!
//! The administrator is not a superuser: it needs LOGIN, CREATEDB, CREATEROLE and membership in `pg_signal_backend`.

mod being;
mod catalog;
mod desired;
mod diff;
mod ensure;
mod login;
mod marker;
mod release;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use super::{DatabaseError, Holding, Identity, Observed, Plan, Provisioner, ServerFacts, Writer};
use async_trait::async_trait;
pub use session::{Administrator, PostgresServer};
use std::future::Future;
use std::time::Duration;

/// Longest time for one call of [`Provisioner`].
const CALL: Duration = Duration::from_secs(35);
/// Oldest version that has what this module uses.
const OLDEST: i32 = 150_000;

#[async_trait]
impl Provisioner for PostgresServer {
    async fn check(&self) -> Result<ServerFacts, DatabaseError> {
        self.bounded(async {
            let mut maintenance = self.maintenance().await?;
            let (number, text, superuser, creates, signals): (i32, String, bool, bool, bool) = sqlx::query_as(
                "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
                        pg_catalog.current_setting('server_version'),
                        rolsuper, rolcreaterole AND rolcreatedb, pg_catalog.pg_has_role('pg_signal_backend', 'MEMBER')
                 FROM pg_catalog.pg_roles WHERE rolname = current_user",
            )
            .fetch_one(&mut maintenance)
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
            let unfit = |problem: &str| {
                Err(DatabaseError::AdministratorUnfit { server: self.name.clone(), problem: problem.to_owned() })
            };
            if superuser {
                return unfit("is a superuser; give the class a role with only LOGIN CREATEDB CREATEROLE");
            }
            if !creates {
                return unfit("may not make databases and roles; as a superuser run ALTER ROLE … CREATEDB CREATEROLE");
            }
            if !signals {
                return unfit("may not end sessions; as a superuser run GRANT pg_signal_backend TO it");
            }
            Ok(ServerFacts { version: Some(version) })
        })
        .await
    }

    async fn holds(&self, identity: &Identity, writer: &Writer) -> Result<Holding, DatabaseError> {
        self.bounded(async {
            let mut maintenance = self.maintenance().await?;
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
    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, DatabaseError>> + Send,
    ) -> Result<T, DatabaseError> {
        tokio::time::timeout(CALL, call).await.unwrap_or_else(|_| Err(self.unreachable("no answer in time")))
    }
}
