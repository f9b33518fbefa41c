//! Proof that a login works: it is used, the way a service would. The administrator may not read verifiers, so this is also how a
//! changed password is found.

use super::session::{LoginFault, PostgresServer};
use crate::database::{DatabaseError, Plan, scram};
use std::collections::BTreeSet;

/// Logins of the plan whose password the server does not take.
pub(super) async fn wrong(server: &PostgresServer, plan: &Plan) -> Result<BTreeSet<String>, DatabaseError> {
    let database = plan.identity.database();
    let mut wrong = BTreeSet::new();
    for login in &plan.logins {
        let name = plan.identity.login(&login.role, login.access);
        match server.log_in(&database, &name, &login.password).await {
            Ok(()) => {}
            Err(LoginFault::Password) => {
                wrong.insert(name);
            }
            Err(LoginFault::Other(error)) => return Err(error),
        }
    }
    Ok(wrong)
}

/// `(login, verifier)` for each login in `due`.
pub(super) fn verifiers(
    server: &PostgresServer,
    plan: &Plan,
    due: &BTreeSet<String>,
) -> Result<Vec<(String, String)>, DatabaseError> {
    plan.logins
        .iter()
        .map(|login| (plan.identity.login(&login.role, login.access), login))
        .filter(|(name, _)| due.contains(name))
        .map(|(name, login)| match scram::verifier(login.password.expose()) {
            Ok(verifier) => Ok((name, verifier)),
            Err(_) => Err(server.no_randomness()),
        })
        .collect()
}
