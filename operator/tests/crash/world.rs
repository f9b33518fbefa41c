//! The cluster that Tenants live in, and what people and other controllers do there.

use crate::{
    step::Step,
    support::{authority, gateway_api, install, state::Observer},
};
use futures::StreamExt as _;
use kube::{
    Client, ResourceExt as _,
    api::{Api, DeleteParams, DynamicObject, Patch, PatchParams},
    core::ApiResource,
    runtime::{WatchStreamExt as _, watcher},
};
use paddock_cluster::{
    Progress,
    apiserver::Apiserver,
    tools::{self, Set},
};
use paddock_crds::v1alpha1::{DatabaseClaim, DatabaseClass, Market, Release, Tenant};
use paddock_operator::kube::ChildKind;
use serde_json::{Value, json};

/// Every object of a Tenant has it, also those that people make here.
pub const LABEL: &str = "paddock.bet/tenant";
/// What an object of a service is of.
pub const COMPONENT: &str = "paddock.bet/component";
/// The images of the two Releases.
pub const IMAGES: [&str; 2] = [
    "r.example/p@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "r.example/p@sha256:abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
];

/// A cluster.
pub struct World {
    /// Its API server.
    pub server: Apiserver,
    /// A client of nobody's faults.
    pub client: Client,
    /// What is there.
    pub observer: Observer,
}

impl World {
    /// Starts it.
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        tools::ensure(&[Set::EnvoyGateway], Progress::visible()).await.expect("the Gateway controller's charts");
        let server = Apiserver::builder().fake_nodes(2).start().await.expect("an API server");
        server.kubectl(&["apply", "--server-side", "-f", &gateway_api()]).await.unwrap();
        install(&server).await;
        server.apply(&authority().to_string()).await.unwrap();
        let client = server.client().await.unwrap();
        tokio::spawn(bind_claims(client.clone()));
        tokio::spawn(program_listeners(client.clone()));
        let observer = Observer::start(&client);
        Self { server, client, observer }
    }

    async fn apply<K>(&self, object: Value)
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let resource = ApiResource::erase::<K>(&());
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        api.patch(&object.name_any(), &PatchParams::apply("person").force(), &Patch::Apply(&object)).await.unwrap();
    }

    /// Applies the Tenant's Release of a number.
    pub async fn release(&self, tenant: &str, number: usize) {
        let component = |name: &str, more: Value| {
            let mut all = json!({
                "name": name, "image": IMAGES[number - 1], "ports": [{"name": "http", "port": 8080}], "replicas": {"min": 1, "max": 1},
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
            });
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        self.apply::<Release>(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Release",
            "metadata": {"name": format!("{tenant}-{number}"), "labels": {LABEL: tenant}},
            "spec": {"version": format!("{number}.0"), "components": [
                component("rates", json!({})),
                component("account", json!({
                    "route": {"path": "/"}, "replicas": {"min": 1, "max": 3}, "needs": [{"name": "db", "engine": "PostgreSQL"}],
                    "migrations": {"need": "db", "expand": {"command": ["/migrate"]}},
                })),
            ]}
        }))
        .await;
    }

    /// Applies the Tenant with a Release, a size of `rates`, and environment dev or not.
    pub async fn tenant(&self, name: &str, release: usize, rates: u32, dev: bool) {
        let class = format!("{name}-pg");
        let mut environments = vec![json!({
            "name": "prod", "class": "Production", "release": format!("{name}-{release}"), "domains": [{"host": format!("{name}.example")}],
            "services": [{"name": "rates", "replicas": {"min": rates, "max": rates}}],
            "databaseClasses": [{"engine": "PostgreSQL", "className": class}],
        })];
        if dev {
            environments.push(json!({
                "name": "dev", "class": "NonProduction", "release": format!("{name}-1"), "domains": [{"host": format!("dev.{name}.example")}],
                "services": [{"name": "account", "enabled": false}],
            }));
        }
        self.apply::<Tenant>(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": name, "labels": {LABEL: name}},
            "spec": {
                "displayName": name, "licences": [{"name": "mga-1", "jurisdiction": "MT"}], "currencies": ["EUR"],
                "owners": [{"kind": "Group", "name": "leads", "role": "Owner"}], "environments": environments,
            }
        }))
        .await;
    }

    async fn market(&self, tenant: &str, state: &str) {
        self.apply::<Market>(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Market",
            "metadata": {"name": "results", "namespace": format!("{tenant}-prod"), "labels": {LABEL: tenant}},
            "spec": {
                "sport": "soccer", "marketType": "match-result", "state": state,
                "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}},
                "limits": [{"currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000.00"}],
            }
        }))
        .await;
    }

    /// What people (and an autoscaler) do at the beginning of a step.
    pub async fn change(&self, step: Step, tenant: &str) {
        match step {
            Step::Create => {
                self.apply::<DatabaseClass>(json!({
                    "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass",
                    "metadata": {"name": format!("{tenant}-pg"), "labels": {LABEL: tenant}},
                    "spec": {"engine": "PostgreSQL", "environmentClass": "Production", "servers": [{
                        "name": "a", "adminSecret": "pg-admin", "endpoints": {"readWrite": "pg.example:5432"},
                        "tls": {"mode": "VerifyFull", "caSecret": "pg-ca"}, "network": {"namespace": "db", "podLabels": {"app": "pg"}, "ports": [5432]},
                    }]}
                }))
                .await;
                self.tenant(tenant, 1, 1, true).await;
                self.release(tenant, 1).await;
            }
            Step::Grow => {
                let all = self.observer.of("Deployment", tenant);
                let account = all.iter().find(|it| it.labels()[COMPONENT] == "account").unwrap();
                let resource = ChildKind::Deployment.api_resource();
                let api: Api<DynamicObject> =
                    Api::namespaced_with(self.client.clone(), &format!("{tenant}-prod"), &resource);
                let params = PatchParams { field_manager: Some("autoscaler".into()), ..PatchParams::default() };
                api.patch(&account.name_any(), &params, &Patch::Merge(json!({"spec": {"replicas": 2}}))).await.unwrap();
            }
            Step::Resize => self.tenant(tenant, 1, 2, true).await,
            Step::Roll => {
                self.release(tenant, 2).await;
                self.tenant(tenant, 2, 2, true).await;
            }
            Step::OpenMarket => self.market(tenant, "Open").await,
            Step::ChangeMarket => self.market(tenant, "Suspended").await,
            Step::DeleteMarket => {
                let api: Api<Market> = Api::namespaced(self.client.clone(), &format!("{tenant}-prod"));
                api.delete("results", &DeleteParams::default()).await.unwrap();
            }
            Step::RemoveEnvironment => self.tenant(tenant, 2, 2, false).await,
            Step::DeleteTenant => {
                let releases: Api<Release> = Api::all(self.client.clone());
                for number in 1..=2 {
                    // A short life has had no second one.
                    let _ = releases.delete(&format!("{tenant}-{number}"), &DeleteParams::default()).await;
                }
                let tenants: Api<Tenant> = Api::all(self.client.clone());
                tenants.delete(tenant, &DeleteParams::default()).await.unwrap();
            }
        }
    }
}

/// What the DatabaseClaim controller does, which has tests of its own with a real server.
async fn bind_claims(client: Client) {
    let all: Api<DatabaseClaim> = Api::all(client.clone());
    let mut claims = std::pin::pin!(watcher(all, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(claim) = claims.next().await {
        let Ok(claim) = claim else { continue };
        let (name, namespace) = (claim.name_any(), claim.namespace().unwrap());
        let secrets: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &namespace, &ChildKind::Secret.api_resource());
        for role in &claim.spec.roles {
            let secret = format!("{name}-{}", role.name);
            let object = json!({
                "apiVersion": "v1", "kind": "Secret", "stringData": {"type": "x"}, "metadata": {"name": secret, "labels": claim.labels()}
            });
            secrets.patch(&secret, &PatchParams::apply("claims").force(), &Patch::Apply(object)).await.unwrap();
        }
        let mut conditions = claim.status.iter().flat_map(|status| &status.conditions);
        let generation = claim.metadata.generation;
        if !conditions.any(|it| it.type_ == "Bound" && it.observed_generation == generation) {
            let status = json!({"status": {"observedGeneration": generation, "conditions": [{
                "type": "Bound", "status": "True", "reason": "Bound", "message": "", "observedGeneration": generation,
                "lastTransitionTime": "2026-01-01T00:00:00Z"
            }]}});
            let api: Api<DatabaseClaim> = Api::namespaced(client.clone(), &namespace);
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
    }
}

/// What the Gateway's controller does.
async fn program_listeners(client: Client) {
    let resource = ChildKind::ListenerSet.api_resource();
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut sets = std::pin::pin!(watcher(all, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(set) = sets.next().await {
        let Ok(set) = set else { continue };
        let seen = set.data.pointer("/status/conditions/0/observedGeneration").and_then(Value::as_i64);
        if seen == set.metadata.generation {
            continue;
        }
        let condition = |type_: &str| {
            json!({"type": type_, "status": "True", "reason": type_, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": set.metadata.generation})
        };
        let status = json!({"status": {"conditions": [condition("Accepted"), condition("Programmed")]}});
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &set.namespace().unwrap(), &resource);
        // It may have gone meanwhile.
        let _ = api.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
    }
}
