//! A cluster with the Gateway API, its Tenants and Releases, and what other controllers do there.

use crate::support::{another_look_is_silent, gateway_api, status, within};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use paddock_cluster::Progress;
use paddock_cluster::apiserver::Apiserver;
use paddock_cluster::tools::{self, Set};
use paddock_crds::v1alpha1::{BettingService, Tenant};
use paddock_operator::controllers::{self, Ctx, Kind as _};
use paddock_operator::kube::ChildKind;
use paddock_operator::settings::Settings;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const IMAGE: &str = "r.example/p@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const KINDS: [ChildKind; 10] = [
    ChildKind::Namespace,
    ChildKind::ResourceQuota,
    ChildKind::LimitRange,
    ChildKind::NetworkPolicy,
    ChildKind::RoleBinding,
    ChildKind::Secret,
    ChildKind::ConfigMap,
    ChildKind::ListenerSet,
    ChildKind::HTTPRoute,
    ChildKind::BettingService,
];

pub(crate) struct World {
    pub(crate) server: Apiserver,
    pub(crate) client: Client,
    pub(crate) ctx: Arc<Ctx>,
    pub(crate) stop: CancellationToken,
}

impl World {
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        tools::ensure(&[Set::EnvoyGateway], Progress::visible()).await.expect("the Gateway controller's charts");
        let server = Apiserver::start().await.expect("an API server");
        for crd in paddock_crds::all() {
            server.apply(&serde_json::to_string(&crd).unwrap()).await.unwrap();
        }
        server.kubectl(&["apply", "--server-side", "-f", &gateway_api()]).await.unwrap();
        server.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).await.unwrap();
        let client = server.client().await.unwrap();
        server.kubectl(&["create", "namespace", "paddock-system"]).await.unwrap();
        let settings = Settings { domain_ca_secret: Some("domain-ca".into()), ..Settings::default() };
        let ctx = Ctx::detached(client.clone(), settings).unwrap();
        let ctx = Arc::new(Ctx { cache: paddock_operator::kube::Cache::new(), ..ctx });
        let stop = CancellationToken::new();
        ctx.cache.start(&client, "paddock-system", &ctx.metrics, &ctx.events, &stop);
        tokio::spawn(controllers::tenant::start(ctx.clone(), stop.clone()));
        tokio::spawn(ctx.issuer.clone().follow(client.clone(), stop.clone()));
        tokio::spawn(controllers::release::start(ctx.clone(), stop.clone()));
        Self { server, client, ctx, stop }
    }

    pub(crate) async fn apply(&self, object: Value) {
        self.server.apply(&object.to_string()).await.unwrap();
    }

    pub(crate) async fn tenant(&self, name: &str, environments: Value) {
        let object = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": name},
            "spec": {
                "displayName": name, "licences": [{"name": "mga-1", "jurisdiction": "MT"}], "currencies": ["EUR"],
                "owners": [{"kind": "Group", "name": "leads", "role": "Owner"}], "environments": environments,
            }
        });
        self.apply(object).await;
    }

    pub(crate) async fn release(&self, name: &str, version: &str) {
        let object = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Release", "metadata": {"name": name},
            "spec": {"version": version, "components": [
                {"name": "rates", "image": IMAGE, "ports": [{"name": "http", "port": 8080}]},
                {"name": "gateway", "image": IMAGE, "ports": [{"name": "http", "port": 8080}], "route": {"path": "/"},
                 "calls": ["rates", "account"]},
            ]}
        });
        self.apply(object).await;
    }

    pub(crate) fn api(&self, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
        match kind {
            ChildKind::Namespace => Api::all_with(self.client.clone(), &kind.api_resource()),
            _ => Api::namespaced_with(self.client.clone(), namespace, &kind.api_resource()),
        }
    }

    pub(crate) async fn names(&self, kind: ChildKind, namespace: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .api(kind, namespace)
            .list(&ListParams::default())
            .await
            .unwrap()
            .iter()
            .map(kube::ResourceExt::name_any)
            .collect();
        names.sort();
        names
    }

    /// Polls the API server until a Tenant's status is as wanted.
    pub(crate) async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let tenants: Api<Tenant> = Api::all(self.client.clone());
        let found = status(&tenants, name, PATIENCE, wanted).await;
        found.unwrap_or_else(|last| panic!("{name} never was {what}: {last:#}"))
    }

    pub(crate) async fn eventually(&self, what: &str, holds: impl AsyncFn() -> bool) {
        within(PATIENCE, what, holds).await;
    }

    /// Another look at a Tenant writes nothing.
    pub(crate) async fn another_look_is_silent(&self, tenant: &str) {
        let object = || self.ctx.cache.get::<Tenant>(None, tenant).unwrap();
        another_look_is_silent(|| self.writes(), async || Tenant::reconcile(object(), self.ctx.clone()).await).await;
    }

    /// Deletes a namespace, and does what the controller of namespaces does then.
    pub(crate) async fn end_namespace(&self, name: &str) {
        self.server.kubectl(&["delete", "namespace", name, "--wait=false"]).await.unwrap();
        let path = format!("/api/v1/namespaces/{name}/finalize");
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}});
        let request = http::Request::put(path).header("content-type", "application/json");
        self.client.request_text(request.body(body.to_string().into_bytes()).unwrap()).await.unwrap();
    }

    /// Says what the services controller says of services that run.
    pub(crate) async fn services_run(&self, namespace: &str) {
        let services: Api<BettingService> = Api::namespaced(self.client.clone(), namespace);
        for service in services.list(&ListParams::default()).await.unwrap() {
            let status = json!({"status": {
                "observedGeneration": service.metadata.generation, "revision": "a", "stableRevision": "a",
                "stableVersion": service.spec.version,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            }});
            services.patch_status(&service.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    }

    /// Says what the Gateway's controller says of listeners that it serves.
    pub(crate) async fn gateway_serves(&self, namespace: &str) {
        let sets = self.api(ChildKind::ListenerSet, namespace);
        for set in sets.list(&ListParams::default()).await.unwrap() {
            let condition = |type_: &str| json!({"type": type_, "status": "True", "reason": type_, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": set.metadata.generation});
            let status = json!({"status": {"conditions": [condition("Accepted"), condition("Programmed")]}});
            sets.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    }

    /// Writes so far: applies that changed something, and statuses.
    pub(crate) fn writes(&self) -> u64 {
        let metrics = &self.ctx.metrics;
        let results = ["created", "configured", "drift_removed", "unsettled", "failed"];
        let applied: u64 = KINDS
            .iter()
            .flat_map(|kind| results.map(|result| metrics.applies.with_label_values(&[kind.as_str(), result]).get()))
            .sum();
        applied
            + ["Tenant", "Release"]
                .map(|kind| metrics.status_writes.with_label_values(&[kind, "written"]).get())
                .iter()
                .sum::<u64>()
    }
}

pub(crate) fn condition<'a>(status: &'a Value, type_: &str) -> (&'a str, &'a str) {
    let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == type_);
    found.map_or(("", ""), |c| (c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()))
}
