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
        connections: plan.limits.connections,
        settings,
    }
}
