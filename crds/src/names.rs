//! Names that are derived, and the rules for those that users choose.

/// Pattern of a Tenant's name. At most 32 characters, so that `<tenant>-<environment>` fits a namespace's name.
pub const TENANT_PATTERN: &str = "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$";
/// Pattern of an environment's name: no dash, so that the last dash of a namespace's name splits it.
pub const ENVIRONMENT_PATTERN: &str = "^[a-z][a-z0-9]{0,14}$";
/// The reserved Tenant that holds what belongs to the cluster: feed and register.
pub const PLATFORM_TENANT: &str = "platform";

/// The namespace of an environment.
///
/// ```
/// assert_eq!(paddock_crds::names::namespace("acme", "prod"), "acme-prod");
/// ```
pub fn namespace(tenant: &str, environment: &str) -> String {
    format!("{tenant}-{environment}")
}

/// Tenant and environment of a namespace that [`namespace`] named.
pub fn split_namespace(namespace: &str) -> Option<(&str, &str)> {
    namespace.rsplit_once('-').filter(|(tenant, environment)| !tenant.is_empty() && !environment.is_empty())
}

/// The Secret with which a DatabaseClaim binds a role.
///
/// ```
/// assert_eq!(paddock_crds::names::binding_secret("rates-db", "rates"), "rates-db-rates");
/// ```
pub fn binding_secret(claim: &str, role: &str) -> String {
    format!("{claim}-{role}")
}
