//! Making a claim as wanted, and repairing what differs.

use super::desired::Desired;
use super::diff::{self, Repair};
use super::release::{self, Starting};
use super::session::PostgresServer;
use super::{being, catalog, login, marker};
use crate::database::sql::{quote_ident, quote_literal};
use crate::database::{DatabaseError, Observed, Plan};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use std::collections::BTreeSet;

pub(super) async fn ensure(server: &PostgresServer, plan: &Plan) -> Result<Observed, DatabaseError> {
    let mut maintenance = server.maintenance(&plan.writer).await?;
    being::lock(server, &mut maintenance, &plan.identity).await?;
    let created = being::bring(server, &mut maintenance, plan).await?;
    let mut connection = server.connect(&plan.identity.database(), &plan.writer).await?;

    let mut observed = Observed { created, ..Observed::default() };
    let first = settle(server, &mut connection, plan, &BTreeSet::new()).await?;
    let expected = first.expected;
    first.add_to(&mut observed);
    // Logins that a person shut, or whose expiry passed, can only be tried after the first pass opened them.
    let wrong = login::wrong(server, plan).await?;
    if !wrong.is_empty() {
        // A claim that was taken back comes with new passwords.
        let second = settle(server, &mut connection, plan, &wrong).await?.expected_if(expected);
        second.add_to(&mut observed);
        if let Some(login) = login::wrong(server, plan).await?.into_iter().next() {
            return Err(DatabaseError::Refused {
                server: server.name.clone(),
                action: format!("let login {login} in with the password it was just given"),
                code: "28P01".to_owned(),
            });
        }
    }
    observed.repaired.sort();
    observed.repaired.dedup();
    observed.unrepaired.sort();
    observed.unrepaired.dedup();
    Ok(observed)
}

/// What one pass did.
#[derive(Default)]
struct Pass {
    /// Whether differences were asked for: a new claim, a changed spec, a claim taken back.
    expected: bool,
    taken_back: bool,
    repaired: BTreeSet<&'static str>,
    unrepaired: BTreeSet<&'static str>,
}

impl Pass {
    fn expected_if(self, expected: bool) -> Self {
        Self { expected: self.expected || expected, ..self }
    }

    fn add_to(self, observed: &mut Observed) {
        observed.taken_back |= self.taken_back;
        if !self.expected {
            observed.repaired.extend(self.repaired.into_iter().map(str::to_owned));
        }
        observed.unrepaired.extend(self.unrepaired.into_iter().map(str::to_owned));
    }
}

/// One transaction: compare, and change what differs under the held marker. `due`: logins whose password the server refused.
async fn settle(
    server: &PostgresServer,
    connection: &mut PgConnection,
    plan: &Plan,
    due: &BTreeSet<String>,
) -> Result<Pass, DatabaseError> {
    let begin = |error: sqlx::Error| server.fault("begin a transaction", &error);
    let mut transaction = connection.begin().await.map_err(begin)?;
    let desired = Desired::of(plan);
    let digest = desired.digest(&plan.uid);

    let marker = marker::read(server, &mut transaction, false).await?;
    if let Some(marker) = &marker {
        marker.check(server, &plan.identity, &plan.writer)?;
    }
    let found = catalog::read(server, &mut transaction, &plan.identity).await?;
    let repairs = diff::repairs(&desired, &found);
    let mut passwords = diff::missing_logins(&desired, &found);
    passwords.extend(due.iter().cloned());

    let recorded = marker.as_ref().is_some_and(|marker| {
        marker.uid == plan.uid && marker.epoch == plan.writer.epoch && marker.plan == digest && !marker.released
    });
    if recorded && repairs.is_empty() && passwords.is_empty() {
        return Ok(Pass::default());
    }
    let mut pass = Pass {
        expected: marker.as_ref().is_none_or(|marker| marker.plan != digest || marker.released),
        taken_back: marker.as_ref().is_some_and(|marker| marker.uid != plan.uid || marker.released),
        ..Pass::default()
    };

    if marker.is_none() {
        marker::create(server, &mut transaction, &plan.identity).await?;
    } else if let Some(held) = marker::read(server, &mut transaction, true).await? {
        // Again, now that nobody else can change it.
        held.check(server, &plan.identity, &plan.writer)?;
    }
    for repair in &repairs {
        apply(server, &mut transaction, repair, &mut pass).await?;
    }
    for (name, verifier) in login::verifiers(server, plan, &passwords)? {
        let sql = format!("ALTER ROLE {} PASSWORD {}", quote_ident(&name), quote_literal(&verifier));
        server.run(&mut transaction, "set a login's verifier", sql).await?;
        pass.repaired.insert("passwords");
    }
    // What an administrator has no right to change stays different at every pass, and is no reason to write.
    if recorded && pass.repaired.is_empty() {
        return Ok(pass);
    }
    marker::write(server, &mut transaction, &plan.identity, &plan.writer, &plan.uid, &digest, false).await?;
    transaction.commit().await.map_err(|error| server.fault("commit", &error))?;
    release::silence(server, connection, &diff::strangers(&desired, &found), Starting::Left).await?;
    Ok(pass)
}

/// Runs a repair; one that the administrator may not do is noted and does not stop the others.
async fn apply(
    server: &PostgresServer,
    transaction: &mut PgConnection,
    repair: &Repair,
    pass: &mut Pass,
) -> Result<(), DatabaseError> {
    let fault = |error: sqlx::Error| server.fault("use a savepoint", &error);
    let mut savepoint = transaction.begin().await.map_err(fault)?;
    match sqlx::raw_sql(AssertSqlSafe(repair.sql.clone())).execute(&mut *savepoint).await {
        Ok(_) => {
            savepoint.commit().await.map_err(fault)?;
            pass.repaired.insert(repair.item);
            Ok(())
        }
        Err(error) if super::session::code(&error).as_deref() == Some("42501") => {
            savepoint.rollback().await.map_err(fault)?;
            pass.unrepaired.insert(repair.item);
            Ok(())
        }
        Err(error) => Err(server.fault(&format!("repair {}", repair.item), &error)),
    }
}
