//! The login of one term of leadership (rule O5).
//!
//! The class's administrator only begins terms. All work is done as the role `paddock_admin_…`, which lasts and cannot log in; each
//! term has a login `paddock_term_…_<epoch>` that may become it, with a password that stays in this process. The roles of these logins
//! are the record of terms: the highest epoch among them is the term that the server is in.
//!
//! A term begins under an advisory lock in four steps. The first, one transaction, makes the new role and shuts all earlier ones: from
//! then on no lower epoch begins. Only when the sessions of earlier terms have ended is the new login opened. Every step may be the
//! last one of a process: whoever begins next finds what it left.

use super::release::{self, Starting};
use super::session::{MAINTENANCE, PostgresServer};
use crate::database::names::OperatorRoles;
use crate::database::sql::{quote_ident, quote_literal};
use crate::database::{DatabaseError, Password, Writer, scram};
use sqlx::postgres::PgConnection;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for another task of this process that begins the same term.
const TURN: Duration = Duration::from_secs(5);

/// Key of the advisory lock for changing rights of the database that always exists, the same for all clusters.
const DATABASE_LOCK: i64 = 0x7061_6464_6f63_6b00;

/// The terms that one process began, by server. Clones are the same.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Tells this process from all others.
    holder: String,
    slots: Arc<Mutex<BTreeMap<String, Slot>>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Term>>>>;

impl Default for Terms {
    fn default() -> Self {
        Self { holder: uuid::Uuid::now_v7().to_string(), slots: Arc::default() }
    }
}

/// A term that this process began on a server.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) epoch: i64,
    pub(super) login: String,
    pub(super) password: Password,
    /// The role that the login works as.
    pub(super) role: String,
}

impl Terms {
    fn slot(&self, server: &PostgresServer) -> Slot {
        let address = format!("{}:{}", server.host, server.port);
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default().clone()
    }
}

/// The writer's term, which this process begins on the server if it has not yet.
pub(super) async fn held(server: &PostgresServer, writer: &Writer) -> Result<Arc<Term>, DatabaseError> {
    let slot = server.terms.slot(server);
    let turn = tokio::time::timeout(TURN, slot.lock()).await;
    let mut held = turn.map_err(|_| server.unreachable("no connection in time"))?;
    if let Some(term) = held.as_ref().filter(|term| term.epoch >= writer.epoch) {
        return Ok(term.clone());
    }
    let mut root = server.root().await?;
    server.fit(&mut root).await?;
    let term = Arc::new(begin(server, &mut root, writer).await?);
    tracing::info!(server = server.name, epoch = term.epoch, "a term began on the server");
    *held = Some(term.clone());
    Ok(term)
}

/// Whether the role that does the work still is what a beginning made it.
pub(super) async fn able(server: &PostgresServer, session: &mut PgConnection) -> Result<bool, DatabaseError> {
    sqlx::query_scalar(
        "SELECT rolcreatedb AND rolcreaterole AND NOT rolcanlogin AND pg_has_role('pg_signal_backend', 'USAGE')
         FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(session)
    .await
    .map_err(|error| server.fault("read its own rights", &error))
}

/// Forgets a term that somebody spoilt: it begins anew.
pub(super) async fn lose(server: &PostgresServer, lost: &Arc<Term>) {
    let slot = server.terms.slot(server);
    let mut held = slot.lock().await;
    if held.as_ref().is_some_and(|term| Arc::ptr_eq(term, lost)) {
        *held = None;
    }
}

async fn begin(server: &PostgresServer, root: &mut PgConnection, writer: &Writer) -> Result<Term, DatabaseError> {
    let beginning = Beginning::look(server, root, writer).await?;
    beginning.record(root).await?;
    beginning.silence(root).await?;
    let term = beginning.open(root).await?;
    beginning.forget(root).await?;
    Ok(term)
}

/// A login of a term, as it stands on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    name: String,
    epoch: i64,
    holder: String,
}

/// The term that another began and that ours may not follow, if there is one: `1 +` the highest is what ours should be. `known` is the
/// epoch in the class's status.
fn superior(found: &[Found], known: i64, ours: i64, holder: &str) -> Option<i64> {
    let mine = |term: &&Found| term.epoch == ours && term.holder == holder;
    let others = found.iter().filter(|term| !mine(term)).map(|term| term.epoch);
    // The status may name our own term, once it has begun.
    let known = (known > ours || !found.iter().any(|term| mine(&term))).then_some(known);
    others.chain(known).max().filter(|highest| *highest >= ours)
}

/// The beginning of a term: what was found under the lock, and the steps from there.
pub(super) struct Beginning<'a> {
    server: &'a PostgresServer,
    roles: OperatorRoles,
    epoch: i64,
    login: String,
    administrator_exists: bool,
    /// Whether the administrator's role has the rights that it needs from the server.
    administrator_fit: bool,
    login_exists: bool,
    /// Logins of earlier terms.
    earlier: Vec<String>,
}

impl<'a> Beginning<'a> {
    /// Takes the lock, for the rest of the session, and looks. An error if the term may not begin.
    pub(super) async fn look(
        server: &'a PostgresServer,
        root: &mut PgConnection,
        writer: &Writer,
    ) -> Result<Self, DatabaseError> {
        let roles = OperatorRoles::new(&writer.cluster);
        sqlx::query("SELECT pg_catalog.pg_advisory_lock($1)")
            .bind(roles.lock_key())
            .execute(&mut *root)
            .await
            .map_err(|error| server.fault("lock the terms", &error))?;
        let rows: Vec<(String, Option<String>, bool)> = sqlx::query_as(
            "SELECT rolname::text, shobj_description(oid, 'pg_authid'),
                    pg_has_role(oid, 'pg_signal_backend', 'USAGE') AND has_database_privilege(oid, current_database(), 'CONNECT')
             FROM pg_roles WHERE rolname = $1 OR starts_with(rolname::text, $2)",
        )
        .bind(roles.administrator())
        .bind(roles.term_prefix())
        .fetch_all(root)
        .await
        .map_err(|error| server.fault("read its terms", &error))?;

        let (administrator, login) = (roles.administrator(), roles.term(writer.epoch));
        let (mut administrator_exists, mut administrator_fit, mut login_exists) = (false, false, false);
        let mut found = Vec::new();
        for (name, comment, fit) in rows {
            let Some(rest) = comment.as_deref().and_then(|comment| comment.strip_prefix(&roles.seal())) else {
                if name == administrator || name == login {
                    return Err(DatabaseError::OwnershipConflict {
                        server: server.name.clone(),
                        object: format!("role {name}"),
                        problem: "exists without the operator's mark".to_owned(),
                    });
                }
                continue;
            };
            administrator_exists |= name == administrator;
            administrator_fit |= name == administrator && fit;
            login_exists |= name == login;
            if let Some(Ok(epoch)) = name.strip_prefix(&roles.term_prefix()).map(str::parse::<i64>) {
                found.push(Found { epoch, holder: rest.trim_start().to_owned(), name });
            }
        }
        if let Some(other) = superior(&found, server.known_epoch, writer.epoch, &server.terms.holder) {
            return Err(DatabaseError::Superseded { server: server.name.clone(), found: other, ours: writer.epoch });
        }
        let earlier = found.into_iter().filter(|term| term.name != login).map(|term| term.name).collect();
        Ok(Self {
            server,
            roles,
            epoch: writer.epoch,
            login,
            administrator_exists,
            administrator_fit,
            login_exists,
            earlier,
        })
    }

    /// Makes the term's role, which cannot log in yet, and shuts the logins of earlier terms. One simple query is one transaction.
    pub(super) async fn record(&self, root: &mut PgConnection) -> Result<(), DatabaseError> {
        let (administrator, login) = (quote_ident(&self.roles.administrator()), quote_ident(&self.login));
        let mut sql = Vec::new();
        if !self.administrator_exists {
            sql.push(format!("CREATE ROLE {administrator} NOLOGIN NOSUPERUSER CREATEDB CREATEROLE"));
            sql.push(format!("COMMENT ON ROLE {administrator} IS {}", quote_literal(&self.roles.seal())));
        }
        sql.push(format!("ALTER ROLE {administrator} NOLOGIN INHERIT CREATEDB CREATEROLE"));
        if !self.administrator_fit {
            // The rights of a database are one row, which two clusters must not write at once.
            sql.push(format!("SELECT pg_advisory_xact_lock({DATABASE_LOCK})"));
            sql.push(format!("GRANT CONNECT ON DATABASE {} TO {administrator}", quote_ident(MAINTENANCE)));
            sql.push(format!("GRANT pg_signal_backend TO {administrator}"));
        }
        if !self.login_exists {
            let seal = format!("{} {}", self.roles.seal(), self.server.terms.holder);
            sql.push(format!("CREATE ROLE {login} NOLOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE"));
            sql.push(format!("COMMENT ON ROLE {login} IS {}", quote_literal(&seal)));
        }
        sql.extend(self.earlier.iter().map(|name| format!("ALTER ROLE {} NOLOGIN", quote_ident(name))));
        self.server.run(root, "begin a term", sql.join("; ")).await
    }

    /// Ends the sessions of earlier terms, and waits until there is none.
    pub(super) async fn silence(&self, root: &mut PgConnection) -> Result<(), DatabaseError> {
        release::silence(self.server, root, &self.earlier, Starting::Left).await
    }

    /// Opens the term's login, with a new password.
    pub(super) async fn open(&self, root: &mut PgConnection) -> Result<Term, DatabaseError> {
        let no_randomness = |_| self.server.no_randomness();
        let password = Password::generate().map_err(no_randomness)?;
        let verifier = quote_literal(&scram::verifier(password.expose()).map_err(no_randomness)?);
        let (role, login) = (self.roles.administrator(), quote_ident(&self.login));
        let sql = format!("GRANT {} TO {login}; ALTER ROLE {login} LOGIN PASSWORD {verifier}", quote_ident(&role));
        self.server.run(root, "open the login of a term", sql).await?;
        Ok(Term { epoch: self.epoch, login: self.login.clone(), password, role })
    }

    /// Drops the roles of earlier terms.
    pub(super) async fn forget(&self, root: &mut PgConnection) -> Result<(), DatabaseError> {
        if self.earlier.is_empty() {
            return Ok(());
        }
        // A session that was let in while its login was being shut shows up a moment later: end what there is once more.
        self.silence(root).await?;
        for name in &self.earlier {
            // One by one: a role that somebody granted something to stays, and keeps no other.
            let dropped = self
                .server
                .run(root, "drop the login of an earlier term", format!("DROP ROLE {}", quote_ident(name)))
                .await;
            if let Err(error) = dropped {
                // It is shut, which is what counts; the next term tries again.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    login = name,
                    "the login of an earlier term stays, shut"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(epoch: i64, holder: &str) -> Found {
        Found { name: format!("t_{epoch}"), epoch, holder: holder.into() }
    }

    #[test]
    fn a_term_begins_only_above_all_others_but_begins_again_as_itself() {
        assert_eq!(superior(&[], 0, 1, "a"), None);
        assert_eq!(superior(&[found(3, "a"), found(4, "b")], 4, 5, "c"), None);
        assert_eq!(superior(&[found(5, "c"), found(4, "b")], 5, 5, "c"), None, "our own, half begun");
        assert_eq!(superior(&[found(5, "b")], 0, 5, "c"), Some(5), "another process counts the same");
        assert_eq!(superior(&[found(5, "c"), found(9, "b")], 0, 5, "c"), Some(9));
        assert_eq!(superior(&[], 5, 5, "c"), Some(5), "the server lost what the class remembers");
        assert_eq!(superior(&[found(5, "c")], 7, 5, "c"), Some(7));
        assert_eq!(superior(&[found(40, "a")], 57, 1, "c"), Some(57));
    }
}
