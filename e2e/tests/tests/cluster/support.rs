//! Reading and waiting that several tests share.

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, Tenant};
use paddock_demo::{Installation, wait};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// Long enough for a busy machine with two cores.
pub const LIMIT: Duration = Duration::from_mins(2);

/// A namespaced API.
pub fn api<K>(installation: &Installation, namespace: &str) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    Api::namespaced(installation.client.clone(), namespace)
}

/// Anything of ours with conditions.
pub trait Conditioned: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug {
    /// Its conditions.
    fn conditions(&self) -> Vec<Condition>;
}

impl Conditioned for Tenant {
    fn conditions(&self) -> Vec<Condition> {
        self.status.clone().unwrap_or_default().conditions
    }
}

impl Conditioned for BettingService {
    fn conditions(&self) -> Vec<Condition> {
        self.status.clone().unwrap_or_default().conditions
    }
}

impl Conditioned for DatabaseClaim {
    fn conditions(&self) -> Vec<Condition> {
        self.status.clone().unwrap_or_default().conditions
    }
}

/// Waits until an object has a condition with this status and reason; answers its message.
pub async fn condition<K: Conditioned>(
    objects: &Api<K>,
    name: &str,
    kind: &str,
    status: &str,
    reason: Option<&str>,
) -> String {
    let what = format!("{name}: {kind}={status} {}", reason.unwrap_or_default());
    wait::until(&what, LIMIT, || async {
        let object = objects.get(name).await.map_err(|error| error.to_string())?;
        let conditions = object.conditions();
        let found = conditions.iter().find(|condition| condition.type_ == kind);
        match found {
            Some(found) if found.status == status && reason.is_none_or(|reason| found.reason == reason) => {
                Ok(found.message.clone())
            }
            _ => Err(format!(
                "{:?}",
                conditions
                    .iter()
                    .map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message))
                    .collect::<Vec<_>>()
            )),
        }
    })
    .await
    .unwrap()
}

/// Waits for the warning about an object that names `what`, and asserts that it was published once, not as a stream of repetitions.
pub async fn warned_once(installation: &Installation, kind: &str, name: &str, what: &str) {
    let events: Api<Event> = Api::all(installation.client.clone());
    let only = ListParams::default().fields("type=Warning");
    let about = |event: &Event| {
        let regarding = event.regarding.clone().unwrap_or_default();
        let note = event.note.as_deref().unwrap_or_default();
        regarding.kind.as_deref() == Some(kind) && regarding.name.as_deref() == Some(name) && note.contains(what)
    };
    let found = wait::until(&format!("a warning about {kind} {name} that names {what}"), LIMIT, || async {
        let found = events.list(&only).await.map_err(|error| error.to_string())?;
        let found: Vec<Event> = found.items.into_iter().filter(about).collect();
        if found.is_empty() { Err("none yet".to_owned()) } else { Ok(found) }
    })
    .await
    .unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let repeated = found[0].series.as_ref().map_or(1, |series| series.count);
    assert_eq!(repeated, 1, "the same event was published again: {found:?}");
}

/// Deletes an object and waits until it is gone.
pub async fn gone<K>(objects: &Api<K>, name: &str)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let uid = objects.get_opt(name).await.unwrap().and_then(|object| object.uid());
    if objects.delete(name, &DeleteParams::default()).await.is_err() {
        return;
    }
    wait::until(&format!("{name} is gone"), LIMIT, || async {
        match objects.get_opt(name).await {
            Ok(Some(object)) if object.uid() == uid => Err("it is still there".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
}
