//! Who asks for a Release, or runs it still.

use crate::controllers::Ctx;
use crate::fault::Fault;
use crate::kube::Cache;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, ResourceExt as _};
use paddock_crds::v1alpha1::Tenant;

/// Environments that ask for the Release, or were last seen to run it, as `tenant/environment`, in order. A Tenant that is being deleted
/// asks for nothing; one that cannot be read may ask for any.
pub fn users(cache: &Cache, release: &str) -> Vec<String> {
    let all = cache.list::<Tenant>();
    let mut users: Vec<String> = all.iter().flat_map(|tenant| of_tenant(tenant, release)).collect();
    users.extend(cache.unreadables::<Tenant>().iter().map(|name| unreadable(name)));
    users
}

/// The same as the apiserver has it at this moment: for an end that comes once, when a watch that is behind must not decide.
///
/// # Errors
/// What the apiserver answered.
pub async fn live_users(ctx: &Ctx, release: &str) -> Result<Vec<String>, Fault> {
    let api: Api<DynamicObject> = Api::all_with(ctx.client.clone(), &ApiResource::erase::<Tenant>(&()));
    let all = api.list(&ListParams::default()).await;
    let all = all.map_err(|error| Fault::of_request("listing Tenants", error))?;
    let users = all.items.into_iter().flat_map(|tenant| {
        let name = tenant.name_any();
        tenant.try_parse::<Tenant>().map_or_else(|_| vec![unreadable(&name)], |tenant| of_tenant(&tenant, release))
    });
    Ok(users.collect())
}

fn unreadable(name: &str) -> String {
    format!("{name} (cannot be read)")
}

fn of_tenant(tenant: &Tenant, release: &str) -> Vec<String> {
    let users = named(tenant).filter(|(_, named)| *named == release);
    let mut users: Vec<String> = users.map(|(environment, _)| format!("{}/{environment}", tenant.name_any())).collect();
    users.sort();
    users.dedup();
    users
}

/// Environments with the Releases that they ask for and that they ran last. A rollout that fails goes back to the latter.
pub fn named(tenant: &Tenant) -> impl Iterator<Item = (&str, &str)> {
    let stays = tenant.metadata.deletion_timestamp.is_none();
    let wanted = tenant.spec.environments.iter().map(|it| (it.name.as_str(), it.release.as_str()));
    let told = tenant.status.iter().flat_map(|status| &status.environments);
    let run = told.filter_map(|it| Some((it.name.as_str(), it.release.as_deref()?)));
    wanted.chain(run).filter(move |_| stays)
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
        let status = json!({"environments": [{
            "name": "dev", "namespace": "acme-dev", "targetRelease": "r2", "release": "r1", "servicesReady": 1, "servicesTotal": 1,
        }]});
        acme.status = Some(serde_json::from_value(status).expect("status"));
        acme.metadata.resource_version = Some("1".into());
        cache.observe(acme.clone());
        assert_eq!(users(&cache, "r1"), ["acme/dev", "acme/prod", "acme/test"], "one runs it still");
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
