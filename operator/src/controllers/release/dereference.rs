//! Who asks for a Release.

use crate::kube::Cache;
use kube::ResourceExt as _;
use paddock_crds::v1alpha1::Tenant;

/// Environments that ask for the Release, as `tenant/environment`, in order. A Tenant that is being deleted asks for nothing; one that
/// cannot be read may ask for any.
pub fn users(cache: &Cache, release: &str) -> Vec<String> {
    let unreadable = cache.unreadables::<Tenant>().into_iter().map(|name| format!("{name} (cannot be read)"));
    let mut users: Vec<String> = cache
        .list::<Tenant>()
        .iter()
        .filter(|tenant| tenant.metadata.deletion_timestamp.is_none())
        .flat_map(|tenant| {
            let wanting = tenant.spec.environments.iter().filter(|e| e.release == release);
            wanting.map(|e| format!("{}/{}", tenant.name_any(), e.name)).collect::<Vec<_>>()
        })
        .collect();
    users.extend(unreadable);
    users
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::tenant::build::fixtures::tenant;
    use serde_json::json;

    #[test]
    fn every_environment_that_asks_is_named() {
        let cache = Cache::new();
        let mut acme = tenant(json!([
            {"name": "dev", "class": "NonProduction", "release": "r2"},
            {"name": "prod", "class": "Production", "release": "r1"},
            {"name": "test", "class": "NonProduction", "release": "r1"},
        ]));
        cache.observe(acme.clone());
        assert_eq!(users(&cache, "r1"), ["acme/prod", "acme/test"]);
        assert_eq!(users(&cache, "r3"), Vec::<String>::new());
        acme.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("time");
        acme.metadata.resource_version = Some("2".into());
        cache.observe(acme);
        assert_eq!(users(&cache, "r1"), Vec::<String>::new());
    }

    #[test]
    fn a_tenant_that_cannot_be_read_may_ask_for_any() {
        let cache = Cache::new();
        let acme = tenant(json!([{"name": "prod", "class": "Production", "release": "r1"}]));
        cache.observe_unreadable::<Tenant>(&acme.metadata);
        assert_eq!(users(&cache, "r9"), ["acme (cannot be read)"]);
        cache.observe(acme);
        assert_eq!(users(&cache, "r9"), Vec::<String>::new());
    }
}
