//! Reading and waiting that several tests share.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, Market, Release, Tenant};
use paddock_demo::{Installation, Metrics, OPERATOR_NAMESPACE, wait};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeMap;
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
    /// Its controller in metrics.
    const CONTROLLER: &'static str;

    /// Its conditions.
    fn conditions(&self) -> Vec<Condition>;
}

macro_rules! conditioned {
    ($($kind:ty: $controller:literal),*) => {$(
        impl Conditioned for $kind {
            const CONTROLLER: &'static str = $controller;

            fn conditions(&self) -> Vec<Condition> {
                self.status.clone().unwrap_or_default().conditions
            }
        }
    )*};
}

conditioned!(Tenant: "tenant", Release: "release", BettingService: "betting-service", Market: "market", DatabaseClaim: "databaseclaim");

/// Who holds the operator's Lease.
pub async fn holder(installation: &Installation) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(installation.client.clone(), OPERATOR_NAMESPACE);
    let all = leases.list(&ListParams::default()).await.unwrap();
    all.items.into_iter().find_map(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty())
}

/// The operator's pods.
pub async fn pods(installation: &Installation) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(installation.client.clone(), OPERATOR_NAMESPACE);
    let found = pods.list(&ListParams::default().labels("app.kubernetes.io/name=paddock-operator")).await.unwrap();
    found.items.iter().map(kube::ResourceExt::name_any).collect()
}

/// The pod of the leader, and what its metrics are.
pub async fn leader(installation: &Installation) -> (String, Metrics) {
    let holder = holder(installation).await.expect("a leader");
    let pod = pods(installation).await.into_iter().find(|pod| holder.contains(pod.as_str())).expect("the leader's pod");
    let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:9090/proxy/metrics");
    (pod, Metrics::new(installation.cluster.kubectl(&["get", "--raw", &path]).await.unwrap()))
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

/// Waits for the warning about an object that names `what`, and asserts that it was published once, not as a stream of repetitions: it is
/// counted when the operator has looked at the object again.
pub async fn warned_once<K: Conditioned>(installation: &Installation, objects: &Api<K>, name: &str, what: &str) {
    let kind = K::kind(&());
    let events: Api<Event> = Api::all(installation.client.clone());
    warnings(&events, &kind, name, what).await;
    // Twice: the first look that is counted may be one at another object of the kind, begun before.
    look_again(installation, objects, name).await;
    look_again(installation, objects, name).await;
    told_once(&warnings(&events, &kind, name, what).await);
}

/// Waits for the warning that something was taken out of one of our objects, and asserts that it was told once.
pub async fn repaired_once(installation: &Installation, namespace: &str, kind: &str, name: &str, field: &str) {
    let found = warnings(&api(installation, namespace), kind, name, field).await;
    assert_eq!(found[0].reason.as_deref(), Some("DriftRemoved"), "{found:?}");
    told_once(&found);
}

/// The warnings about an object that name `what`, once there is one.
async fn warnings(events: &Api<Event>, kind: &str, name: &str, what: &str) -> Vec<Event> {
    let only = ListParams::default().fields("type=Warning");
    let about = |event: &Event| {
        let regarding = event.regarding.clone().unwrap_or_default();
        let note = event.note.as_deref().unwrap_or_default();
        regarding.kind.as_deref() == Some(kind) && regarding.name.as_deref() == Some(name) && note.contains(what)
    };
    wait::until(&format!("a warning about {kind} {name} that names {what}"), LIMIT, || async {
        let found = events.list(&only).await.map_err(|error| error.to_string())?;
        let found: Vec<Event> = found.items.into_iter().filter(about).collect();
        if found.is_empty() { Err("none yet".to_owned()) } else { Ok(found) }
    })
    .await
    .unwrap()
}

fn told_once(found: &[Event]) {
    assert_eq!(found.len(), 1, "{found:?}");
    let repeated = found[0].series.as_ref().map_or(1, |series| series.count);
    assert_eq!(repeated, 1, "the same event was published again: {found:?}");
}

/// Changes an object in a way that means nothing, and waits until its controller has looked and has nothing left to do.
async fn look_again<K: Conditioned>(installation: &Installation, objects: &Api<K>, name: &str) {
    let ours = |labels: &str| labels.contains(&format!("controller=\"{}\"", K::CONTROLLER));
    let ended = |metrics: &Metrics| metrics.sum("paddock_reconcile_total", ours).unwrap();
    let before = ended(&leader(installation).await.1);
    let patch = json!({"metadata": {"annotations": {"test/look": uuid::Uuid::now_v7()}}});
    objects.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    wait::until(&format!("another look at {name}"), LIMIT, || async {
        let (_, now) = leader(installation).await;
        let left = now.sum("paddock_reconcile_active", ours).unwrap() + now.sum("paddock_queue_depth", ours).unwrap();
        if ended(&now) > before && left == 0 { Ok(()) } else { Err(format!("{} looks, {left} left", ended(&now))) }
    })
    .await
    .unwrap();
}

/// The Tenants of the examples.
const BRANDS: [&str; 3] = ["platform", "acme", "zenith"];

/// What must not change for others while one goes wrong: what they are asked to be, and which of their pods run. A pod that does not answer for
/// a moment on a busy machine is nobody's doing, so it does not count since when they are Ready, only that they are.
#[derive(Debug, PartialEq, Eq)]
pub struct Untouched {
    generations: BTreeMap<String, Option<i64>>,
    restarts: BTreeMap<String, i32>,
}

/// The brands of the examples as they are.
pub async fn brands(installation: &Installation) -> Untouched {
    let tenants: Api<Tenant> = Api::all(installation.client.clone());
    let mut generations = BTreeMap::new();
    let mut restarts = BTreeMap::new();
    for name in BRANDS {
        let of_brand = ListParams::default().labels(&format!("paddock.bet/tenant={name}"));
        generations.insert(format!("Tenant {name}"), tenants.get(name).await.unwrap().metadata.generation);
        let services: Api<BettingService> = Api::all(installation.client.clone());
        for it in services.list(&of_brand).await.unwrap() {
            generations
                .insert(format!("BettingService {:?}/{}", it.namespace(), it.name_any()), it.metadata.generation);
        }
        let policies: Api<NetworkPolicy> = Api::all(installation.client.clone());
        for it in policies.list(&of_brand).await.unwrap() {
            let key = format!("NetworkPolicy {:?}/{} {:?}", it.namespace(), it.name_any(), it.uid());
            generations.insert(key, it.metadata.generation);
        }
        let pods: Api<Pod> = Api::all(installation.client.clone());
        let own = ListParams::default().labels(&format!("paddock.bet/tenant={name},paddock.bet/component"));
        for pod in pods.list(&own).await.unwrap() {
            let count = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            restarts.insert(pod.uid().unwrap_or_default(), count.map(|container| container.restart_count).sum());
        }
    }
    assert!(!restarts.is_empty(), "the brands run pods");
    Untouched { generations, restarts }
}

impl Untouched {
    /// Asserts that the brands are as they were.
    pub async fn still(&self, installation: &Installation) {
        assert_eq!(self.pods_still_run(installation).await.generations, self.generations);
        for name in BRANDS {
            installation.tenant_ready(name).await.unwrap();
        }
    }

    /// Asserts that no pod of theirs was started anew; answers how the brands are. Autoscalers may have moved: pods that are in both count.
    pub async fn pods_still_run(&self, installation: &Installation) -> Self {
        let now = brands(installation).await;
        let both: Vec<_> = self.restarts.iter().filter(|(pod, _)| now.restarts.contains_key(*pod)).collect();
        assert!(!both.is_empty(), "no pod of {:?} runs any more", self.restarts);
        for (pod, restarts) in both {
            assert_eq!(now.restarts.get(pod), Some(restarts), "restarts of pod {pod}");
        }
        now
    }
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
