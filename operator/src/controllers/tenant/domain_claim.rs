//! A domain belongs to one environment of the whole cluster. Who holds it is a `ConfigMap` named after the host in the operator's
//! namespace: it is created, never applied, so that the apiserver decides who was first.

use super::build::{Identity, OWNED_NAME, Surroundings, kinds, object};
use crate::fault::{Category, Fault};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, PostParams, Preconditions};
use paddock_crds::labels;
use serde_json::json;

/// Who writes claims, in managedFields.
const MANAGER: &str = "paddock/domains";
const PREFIX: &str = "domain.";

/// Name of the `ConfigMap` that holds a host.
pub fn name(host: &str) -> String {
    format!("{PREFIX}{host}")
}

/// The host that a `ConfigMap` of this name holds.
pub fn host_of(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

/// Who has a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The environment that asks.
    Us,
    /// Another environment.
    Other {
        /// Its Tenant.
        tenant: String,
        /// Its name.
        environment: String,
    },
    /// An object of that name which is no claim of ours.
    NotOurs,
}

/// The claim of an environment on a host. Immutable: a claim changes hands only by being given up.
pub fn claim(identity: &Identity, host: &str, around: &Surroundings) -> DynamicObject {
    let mut object = object(
        kinds::CONFIG_MAP,
        Some(&around.operator_namespace),
        &name(host),
        identity.labels(),
        json!({
            "immutable": true,
            "data": {"host": host, "tenant": identity.tenant, "environment": identity.environment},
        }),
    );
    object.metadata.annotations = Some(
        [(
            "paddock.bet/purpose".to_owned(),
            "holds this host for one environment; delete it only to free the host".to_owned(),
        )]
        .into(),
    );
    object
}

/// Who a live claim says it is held by.
pub fn holder(live: &DynamicObject, identity: &Identity) -> Holder {
    let label = |key: &str| live.metadata.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
    let data = |key: &str| live.data.get("data").and_then(|d| d.get(key)).and_then(|v| v.as_str());
    if label(labels::MANAGED_BY) != Some(labels::MANAGED_BY_PADDOCK) || label(labels::NAME) != Some(OWNED_NAME) {
        return Holder::NotOurs;
    }
    match (data("tenant"), data("environment")) {
        (Some(tenant), Some(environment)) if tenant == identity.tenant && environment == identity.environment => {
            Holder::Us
        }
        (Some(tenant), Some(environment)) => Holder::Other { tenant: tenant.into(), environment: environment.into() },
        _ => Holder::NotOurs,
    }
}

/// Claims of a Tenant that nothing wants any longer: `wanted` says whether an environment still asks for a host.
pub fn given_up<'a>(
    tenant: &str,
    claims: &'a [std::sync::Arc<DynamicObject>],
    wanted: impl Fn(&str, &str) -> bool,
) -> Vec<&'a DynamicObject> {
    let is_ours = |live: &&DynamicObject| {
        let host = live.metadata.name.as_deref().and_then(host_of);
        let data = |key: &str| live.data.get("data").and_then(|d| d.get(key)).and_then(|v| v.as_str());
        host.is_some_and(|host| data("tenant") == Some(tenant) && data("environment").is_some_and(|e| !wanted(e, host)))
    };
    claims.iter().map(AsRef::as_ref).filter(is_ours).collect()
}

/// Takes a host for an environment, or says who has it.
pub async fn take(
    client: &kube::Client,
    identity: &Identity,
    host: &str,
    around: &Surroundings,
) -> Result<Holder, Fault> {
    let api = api(client, around);
    let claim: ConfigMap = claim(identity, host, around).try_parse().map_err(|error| {
        Fault::new(Category::Panic, format!("the claim on domain {host} cannot be built: report this"))
            .with_source(error)
    })?;
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let doing = format!("claiming domain {host}");
    match api.create(&params, &claim).await {
        Ok(_) => Ok(Holder::Us),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            let live = api.get(&name(host)).await.map_err(|error| Fault::of_request(&doing, error))?;
            let live =
                serde_json::to_value(&live).and_then(serde_json::from_value::<DynamicObject>).map_err(|error| {
                    Fault::new(
                        Category::ServerError,
                        format!("the claim on domain {host} cannot be read; it is tried again"),
                    )
                    .with_source(error)
                })?;
            Ok(holder(&live, identity))
        }
        Err(error) => Err(Fault::of_request(&doing, error)),
    }
}

/// Gives a claim up. It is deleted only if it is still the very object that was looked at.
pub async fn give_up(client: &kube::Client, claim: &DynamicObject, around: &Surroundings) -> Result<(), Fault> {
    let Some(name) = claim.metadata.name.as_deref() else { return Ok(()) };
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: claim.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api(client, around).delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Fault::of_request(&format!("freeing domain {}", host_of(name).unwrap_or(name)), error)),
    }
}

fn api(client: &kube::Client, around: &Surroundings) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), &around.operator_namespace)
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::{identity, surroundings};
    use super::*;
    use std::sync::Arc;

    fn other() -> Identity {
        Identity { tenant: "zenith".into(), ..identity() }
    }

    #[test]
    fn a_claim_is_named_after_its_host_and_cannot_be_rewritten() {
        let claim = claim(&identity(), "bet.acme.example", &surroundings());
        assert_eq!(claim.metadata.name.as_deref(), Some("domain.bet.acme.example"));
        assert_eq!(claim.metadata.namespace.as_deref(), Some("paddock-system"));
        assert_eq!(claim.data["immutable"], json!(true));
        assert_eq!(claim.data["data"], json!({"host": "bet.acme.example", "tenant": "acme", "environment": "prod"}));
    }

    #[test]
    fn the_holder_is_told_apart() {
        let live = claim(&identity(), "a.example", &surroundings());
        assert_eq!(holder(&live, &identity()), Holder::Us);
        assert_eq!(holder(&live, &other()), Holder::Other { tenant: "acme".into(), environment: "prod".into() });
        let mut foreign = live;
        foreign.metadata.labels = None;
        assert_eq!(holder(&foreign, &identity()), Holder::NotOurs);
    }

    #[test]
    fn only_own_claims_that_nothing_wants_are_given_up() {
        let around = surroundings();
        let dev = Identity { environment: "dev".into(), ..identity() };
        let claims = [
            Arc::new(claim(&identity(), "kept.example", &around)),
            Arc::new(claim(&identity(), "dropped.example", &around)),
            Arc::new(claim(&dev, "moved.example", &around)),
            Arc::new(claim(&other(), "theirs.example", &around)),
        ];
        let wanted = |environment: &str, host: &str| {
            [("prod", "kept.example"), ("prod", "moved.example")].contains(&(environment, host))
        };
        let names: Vec<_> =
            given_up("acme", &claims, wanted).into_iter().filter_map(|c| c.metadata.name.as_deref()).collect();
        assert_eq!(names, ["domain.dropped.example", "domain.moved.example"]);
    }
}
