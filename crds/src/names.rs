//! Names that are reserved or derived.

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

/// Tenant and environment of a namespace that [`namespace`] named: an environment's name has no dash.
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
