//! Names on the servers: derived from tenant, environment and claim, so that a claim that is made again under its old name finds its
//! data, and so that no text of a user enters SQL (rule D1). They do not depend on uids; the marker holds the uid.

use paddock_crds::v1alpha1::Access;
use sha2::{Digest, Sha256};

/// Characters of the hash of tenant and environment, and of the claim: 80 bits each.
const LONG: usize = 16;
/// Characters of the hash of a role's name: 50 bits, within one claim.
const SHORT: usize = 10;

/// Who a claim is: the same tenant, environment and claim name is the same data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Tenant's name.
    pub tenant: String,
    /// Environment's name within the tenant.
    pub environment: String,
    /// Claim's name within the environment.
    pub claim: String,
}

impl Identity {
    /// Identity of claim `claim` of environment `environment` of `tenant`.
    pub fn new(tenant: impl Into<String>, environment: impl Into<String>, claim: impl Into<String>) -> Self {
        Self { tenant: tenant.into(), environment: environment.into(), claim: claim.into() }
    }

    fn environment_hash(&self) -> String {
        hash("environment", &[&self.tenant, &self.environment], LONG)
    }

    fn claim_hash(&self) -> String {
        hash("claim", &[&self.tenant, &self.environment, &self.claim], LONG)
    }

    /// What every SQL name of the claim starts with, and the name of its database: `t_<environment>_<claim>`.
    pub fn database(&self) -> String {
        format!("t_{}_{}", self.environment_hash(), self.claim_hash())
    }

    /// The role that owns the database; nobody logs in as it and no tenant is a member.
    pub fn database_owner(&self) -> String {
        format!("{}_db", self.database())
    }

    /// The role that owns the schema `app` and all in it.
    pub fn owner(&self) -> String {
        format!("{}_own", self.database())
    }

    /// The role that holds the rights of logins with `access`.
    pub fn group(&self, access: Access) -> String {
        match access {
            Access::Migrate => self.owner(),
            Access::ReadWrite => format!("{}_rw", self.database()),
            Access::ReadOnly => format!("{}_ro", self.database()),
        }
    }

    /// The login of role `role` with `access`.
    pub fn login(&self, role: &str, access: Access) -> String {
        let kind = match access {
            Access::Migrate => "mig",
            Access::ReadWrite => "rw",
            Access::ReadOnly => "ro",
        };
        format!("{}_{kind}_{}", self.database(), hash("role", &[role], SHORT))
    }

    /// What names of topics, consumer groups and transactional ids of the claim start with; it ends with the separator, so that no
    /// other claim's prefix starts with it.
    pub fn topic_prefix(&self) -> String {
        format!("t.{}.", hash("topics", &[&self.tenant, &self.environment, &self.claim], LONG))
    }

    /// Key of the advisory lock that one session at a time holds while it changes something of the claim.
    pub fn lock_key(&self) -> i64 {
        key(&digest("lock", &[&self.tenant, &self.environment, &self.claim]))
    }

    /// An opaque mark for objects whose comments every login of the server can read: tells nothing of the names in it.
    pub fn seal(&self, cluster: &str) -> String {
        format!("paddock:{}", hash("seal", &[cluster, &self.tenant, &self.environment, &self.claim], 40))
    }
}

/// The operator's own roles on the servers of one Kubernetes cluster: a server of two clusters has them twice.
pub struct OperatorRoles {
    cluster: String,
}

impl OperatorRoles {
    /// Those of cluster `cluster`.
    pub fn new(cluster: &str) -> Self {
        Self { cluster: hash("operator", &[cluster], LONG) }
    }

    /// The role that does the work, in every term.
    pub fn administrator(&self) -> String {
        format!("paddock_admin_{}", self.cluster)
    }

    /// The login of the term `epoch`.
    pub fn term(&self, epoch: i64) -> String {
        format!("{}{epoch}", self.term_prefix())
    }

    /// What the names of terms' logins start with.
    pub fn term_prefix(&self) -> String {
        format!("paddock_term_{}_", self.cluster)
    }

    /// The comment that marks a role as ours; that of a term's login also says which process began it.
    pub fn seal(&self) -> String {
        format!("paddock:{}", self.cluster)
    }

    /// Key of the advisory lock that one session at a time holds while it begins a term.
    pub fn lock_key(&self) -> i64 {
        key(&digest("term", &[&self.cluster]))
    }
}

fn digest(domain: &str, parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in std::iter::once(&domain).chain(parts) {
        // Lengths first: no two lists of parts give the same bytes.
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

fn key(digest: &[u8; 32]) -> i64 {
    digest.iter().take(8).fold(0_i64, |key, byte| (key << 8) | i64::from(*byte))
}

fn hash(domain: &str, parts: &[&str], characters: usize) -> String {
    let text = data_encoding::BASE32_NOPAD.encode(&digest(domain, parts)).to_ascii_lowercase();
    text.chars().take(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(tenant: &str, environment: &str, claim: &str) -> Identity {
        Identity::new(tenant, environment, claim)
    }

    /// These names are on servers with customers' money: a change of the derivation would lose every database.
    #[test]
    fn names_never_change() {
        let id = id("acme", "prod", "account-db");
        assert_eq!(id.database(), "t_h56pkdklibwb6lxa_bv3dwfrzlsbzsw3g");
        assert_eq!(id.database_owner(), "t_h56pkdklibwb6lxa_bv3dwfrzlsbzsw3g_db");
        assert_eq!(id.owner(), "t_h56pkdklibwb6lxa_bv3dwfrzlsbzsw3g_own");
        assert_eq!(id.group(Access::ReadWrite), "t_h56pkdklibwb6lxa_bv3dwfrzlsbzsw3g_rw");
        assert_eq!(id.login("account", Access::ReadWrite), "t_h56pkdklibwb6lxa_bv3dwfrzlsbzsw3g_rw_6gchnsdg7l");
        assert_eq!(id.login("migrate", Access::Migrate), "t_h56pkdklibwb6lxa_bv3dwfrzlsbzsw3g_mig_dbxpw4qvrx");
        assert_eq!(id.topic_prefix(), "t.cski4avlpeixuvl6.");
        assert_eq!(id.lock_key(), 7_762_209_685_746_077_872);
        let operator = OperatorRoles::new("0a1b");
        assert_eq!(operator.administrator(), "paddock_admin_kdgnfndonl2haywo");
        assert_eq!(operator.term(58), "paddock_term_kdgnfndonl2haywo_58");
        assert_eq!(operator.seal(), "paddock:kdgnfndonl2haywo");
        assert_eq!(operator.lock_key(), 945_304_752_381_328_288);
    }

    #[test]
    fn neighbours_do_not_collide() {
        assert_ne!(id("acme", "prod", "db").database(), id("acme", "dev", "db").database());
        assert_ne!(id("a", "bc", "db").database(), id("ab", "c", "db").database());
        assert_ne!(id("acme", "prod", "db").seal("one"), id("acme", "prod", "db").seal("two"));
        assert_ne!(OperatorRoles::new("one").term(1), OperatorRoles::new("two").term(1));
    }

    proptest! {
        #[test]
        fn names_are_short_and_plain(tenant in any::<String>(), environment in any::<String>(), claim in any::<String>(), role in any::<String>()) {
            let id = id(&tenant, &environment, &claim);
            for access in [Access::ReadOnly, Access::ReadWrite, Access::Migrate] {
                for name in [id.database(), id.database_owner(), id.group(access), id.login(&role, access)] {
                    prop_assert!(name.len() <= 63, "{name}");
                    prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
                }
            }
            prop_assert!(id.topic_prefix().len() + 64 <= 249);
        }
    }
}
