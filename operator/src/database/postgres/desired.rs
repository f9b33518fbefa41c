//! What a claim should look like on its server: a pure function of the plan.

use crate::database::{Login, Plan};
use paddock_crds::v1alpha1::Access;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest statement of a migration: index builds take longer than requests, but nothing may hang for ever.
const MIGRATION_STATEMENT: Duration = Duration::from_hours(1);
/// Longest wait for a lock: a migration that waits behind a long transaction holds up everybody behind it.
const LOCK: Duration = Duration::from_secs(10);

/// How many logins of a claim may each have all the connections that the class lets a login have; more share as many. Roles cost a
/// tenant nothing, a server's connections are everybody's.
const FULL_LOGINS: i64 = 4;

/// The wanted shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Desired {
    pub(super) database: String,
    pub(super) database_owner: String,
    pub(super) owner: String,
    pub(super) read_write: String,
    pub(super) read_only: String,
    /// Logins by name.
    pub(super) logins: BTreeMap<String, DesiredLogin>,
}

/// A wanted login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DesiredLogin {
    /// The role that it is a member of.
    pub(super) group: String,
    /// Whether it has its group's rights without becoming it.
    pub(super) inherit: bool,
    pub(super) connections: i32,
    /// `name=value`, for its sessions in the claim's database.
    pub(super) settings: BTreeSet<String>,
}

impl Desired {
    pub(super) fn of(plan: &Plan) -> Self {
        let identity = &plan.identity;
        Self {
            database: identity.database(),
            database_owner: identity.database_owner(),
            owner: identity.owner(),
            read_write: identity.group(Access::ReadWrite),
            read_only: identity.group(Access::ReadOnly),
            logins: plan
                .logins
                .iter()
                .map(|login| (identity.login(&login.role, login.access), desired(plan, login)))
                .collect(),
        }
    }

    /// Roles that nobody logs in as.
    pub(super) fn groups(&self) -> [&String; 4] {
        [&self.database_owner, &self.owner, &self.read_write, &self.read_only]
    }

    /// Digest of the shape and of the claim's uid: what the marker keeps to tell drift from a change of mind.
    pub(super) fn digest(&self, uid: &str) -> String {
        let digest: [u8; 32] = Sha256::digest(format!("{self:?}/{uid}").as_bytes()).into();
        data_encoding::HEXLOWER.encode(&digest)
    }
}

fn desired(plan: &Plan, login: &Login) -> DesiredLogin {
    let migrate = login.access == Access::Migrate;
    let statement = if migrate { MIGRATION_STATEMENT.max(plan.limits.statement) } else { plan.limits.statement };
    let milliseconds = |name: &str, time: Duration| format!("{name}={}ms", time.as_millis());
    let mut settings = BTreeSet::from([
        "search_path=app".to_owned(),
        milliseconds("statement_timeout", statement),
        milliseconds("idle_in_transaction_session_timeout", plan.limits.idle_in_transaction),
        milliseconds("lock_timeout", LOCK),
    ]);
    if migrate {
        settings.insert(format!("role={}", plan.identity.owner()));
    }
    DesiredLogin {
        group: plan.identity.group(login.access),
        inherit: !migrate,
        connections: connections(plan.limits.connections, plan.logins.len()),
        settings,
    }
}

fn connections(limit: i32, logins: usize) -> i32 {
    let (all, logins) = (i64::from(limit).saturating_mul(FULL_LOGINS), i64::try_from(logins).unwrap_or(i64::MAX));
    i32::try_from(all / logins.max(1)).unwrap_or(i32::MAX).clamp(1, limit.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_roles_are_no_way_to_more_connections() {
        let each = |logins| connections(20, logins);
        assert_eq!((each(0), each(1), each(4)), (20, 20, 20));
        assert_eq!((each(5), each(32)), (16, 2));
        assert_eq!((connections(1, 32), connections(i32::MAX, 1)), (1, i32::MAX));
    }
}
