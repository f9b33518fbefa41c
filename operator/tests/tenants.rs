//! Tenants and Releases on a real API server with the real Gateway API kinds: what an environment gets, who is refused, what stays.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test: its failure is the message"
)]

mod support;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use paddock_cluster::Progress;
use paddock_cluster::apiserver::Apiserver;
use paddock_cluster::tools::{self, Set};
use paddock_crds::v1alpha1::{BettingService, DatabaseClass, Release, Tenant};
use paddock_operator::controllers::{self, Category, Ctx, Fault, Kind as _};
use paddock_operator::issuer::IssuerKeys;
use paddock_operator::kube::ChildKind;
use paddock_operator::settings::Settings;
use paddock_service::{Allowed, CALLER_HEADER, Callers};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::faults::Faults;
use support::{authority, faulty, gateway_api, told};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const PATIENCE: Duration = Duration::from_mins(1);
const IMAGE: &str = "r.example/p@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const KINDS: [ChildKind; 10] = [
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

struct World {
    server: Apiserver,
    client: Client,
    ctx: Arc<Ctx>,
    stop: CancellationToken,
}

impl World {
    async fn start() -> Self {
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

    async fn apply(&self, object: Value) {
        self.server.apply(&object.to_string()).await.unwrap();
    }

    async fn tenant(&self, name: &str, environments: Value) {
        let object = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": name},
            "spec": {
                "displayName": name, "licences": [{"name": "mga-1", "jurisdiction": "MT"}], "currencies": ["EUR"],
                "owners": [{"kind": "Group", "name": "leads", "role": "Owner"}], "environments": environments,
            }
        });
        self.apply(object).await;
    }

    async fn release(&self, name: &str, version: &str) {
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

    fn api(&self, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
        match kind {
            ChildKind::Namespace => Api::all_with(self.client.clone(), &kind.api_resource()),
            _ => Api::namespaced_with(self.client.clone(), namespace, &kind.api_resource()),
        }
    }

    async fn names(&self, kind: ChildKind, namespace: &str) -> Vec<String> {
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
    async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let tenants: Api<Tenant> = Api::all(self.client.clone());
        let poll = async {
            loop {
                let object = serde_json::to_value(tenants.get(name).await.unwrap()).unwrap();
                let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
                if current && wanted(&object["status"]) {
                    return object["status"].clone();
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if let Ok(status) = tokio::time::timeout(PATIENCE, poll).await {
            return status;
        }
        panic!("{name} never was {what}: {:#}", json!(tenants.get(name).await.unwrap().status))
    }

    async fn eventually(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let poll = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Deletes a namespace, and does what the controller of namespaces does then.
    async fn end_namespace(&self, name: &str) {
        self.server.kubectl(&["delete", "namespace", name, "--wait=false"]).await.unwrap();
        let path = format!("/api/v1/namespaces/{name}/finalize");
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}});
        let request = http::Request::put(path).header("content-type", "application/json");
        self.client.request_text(request.body(body.to_string().into_bytes()).unwrap()).await.unwrap();
    }

    /// Says what the services controller says of services that run.
    async fn services_run(&self, namespace: &str) {
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
    async fn gateway_serves(&self, namespace: &str) {
        let sets = self.api(ChildKind::ListenerSet, namespace);
        for set in sets.list(&ListParams::default()).await.unwrap() {
            let condition = |type_: &str| json!({"type": type_, "status": "True", "reason": type_, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": set.metadata.generation});
            let status = json!({"status": {"conditions": [condition("Accepted"), condition("Programmed")]}});
            sets.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    }

    /// Writes so far: applies that changed something, and statuses.
    fn writes(&self) -> u64 {
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

fn condition<'a>(status: &'a Value, type_: &str) -> (&'a str, &'a str) {
    let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == type_);
    found.map_or(("", ""), |c| (c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()))
}

/// The keys of the token issuer are there as the apiserver has them, follow a rotation, are repaired, and rest.
async fn token_issuer_is_published_and_followed(world: &World) {
    let issuer =
        async || world.api(ChildKind::ConfigMap, "acme-prod").get("token-issuer").await.unwrap().data["data"].clone();
    let published = issuer().await;
    let raw = async |path: &str| -> Value {
        serde_json::from_str(&world.server.kubectl(&["get", "--raw", path]).await.unwrap()).unwrap()
    };
    let (discovery, keys) = (raw("/.well-known/openid-configuration").await, raw("/openid/v1/jwks").await);
    assert_eq!(published["issuer"], discovery["issuer"]);
    let jwks: Value = serde_json::from_str(published["jwks.json"].as_str().unwrap()).unwrap();
    assert_eq!((&jwks["keys"][0]["kid"], &jwks["keys"][0]["x"]), (&keys["keys"][0]["kid"], &keys["keys"][0]["x"]));
    let mut rotated = jwks.clone();
    rotated["keys"].as_array_mut().unwrap().push(json!({"kty": "RSA", "kid": "next", "n": "AQAB", "e": "AQAB"}));
    world.ctx.issuer.learn(IssuerKeys::read(published["issuer"].as_str().unwrap(), &rotated).unwrap());
    world
        .eventually("the next key is published", async || {
            issuer().await["jwks.json"].as_str().unwrap().contains(r#""kid":"next""#)
        })
        .await;
    world.ctx.issuer.ask(&world.client).await.unwrap();
    world.eventually("and goes again", async || issuer().await == published).await;
    world.api(ChildKind::ConfigMap, "acme-prod").delete("token-issuer", &DeleteParams::default()).await.unwrap();
    world
        .eventually("made again", async || {
            world.names(ChildKind::ConfigMap, "acme-prod").await.contains(&"token-issuer".to_owned())
        })
        .await;
    assert_eq!(issuer().await, published);
    let before = world.writes();
    world.ctx.issuer.ask(&world.client).await.unwrap();
    Tenant::reconcile(world.ctx.cache.get::<Tenant>(None, "acme").unwrap(), world.ctx.clone()).await.unwrap();
    assert_eq!(world.writes(), before, "another look at the same keys");
    callers_are_known_by_real_tokens(world, &published).await;
}

/// What the apiserver issues to pods is what services take, by the published keys alone.
async fn callers_are_known_by_real_tokens(world: &World, published: &Value) {
    const TABLE: &[Allowed] = &[("gateway", "GET", "/internal/v1/wallet")];
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in published.as_object().unwrap() {
        std::fs::write(folder.path().join(file), text.as_str().unwrap()).unwrap();
    }
    let callers = Callers::new("account", "acme-prod", TABLE);
    callers.load(folder.path()).unwrap();
    let app = callers.guard(Router::new().route("/internal/v1/wallet", get(async || "a wallet")));
    let call = async |namespace: &str, account: &str, audience: &str| {
        let create = ["create", "token", account, "--namespace", namespace, "--audience", audience];
        let token = world.server.kubectl(&create).await.unwrap();
        let request = http::Request::get("/internal/v1/wallet").header(CALLER_HEADER, token.trim());
        app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    };
    for (namespace, account) in [("acme-prod", "gateway"), ("acme-prod", "rates"), ("default", "gateway")] {
        world.server.kubectl(&["create", "serviceaccount", account, "--namespace", namespace]).await.unwrap();
    }
    assert_eq!(call("acme-prod", "gateway", "account").await, 200);
    assert_eq!(call("acme-prod", "gateway", "rates").await, 401, "for another component");
    assert_eq!(call("acme-prod", "rates", "account").await, 403, "not in the table");
    assert_eq!(call("default", "gateway", "account").await, 403, "of another namespace");
}

/// A host keeps its listener and its routes without the authority that signed for it, and while nobody can say whether its certificate
/// is there.
async fn what_is_served_outlives_faults(world: &World) {
    let wants = async |hosts: &[&str]| {
        let domains: Vec<Value> = hosts.iter().map(|host| json!({"host": host})).collect();
        let dev = json!({"name": "dev", "class": "NonProduction", "release": "r1", "domains": domains});
        world.tenant("solo", json!([dev])).await;
    };
    let front = async || -> Vec<Value> {
        let mut all = Vec::new();
        for kind in [ChildKind::ListenerSet, ChildKind::HTTPRoute] {
            let found = world.api(kind, "solo-dev").list(&ListParams::default()).await.unwrap();
            all.extend(found.iter().map(|it| json!([it.name_any(), it.metadata.uid, it.data["spec"]])));
        }
        all
    };
    wants(&["solo.example"]).await;
    world.eventually("a front", async || front().await.len() == 3).await;
    world.eventually("services", async || world.names(ChildKind::BettingService, "solo-dev").await.len() == 2).await;
    world.gateway_serves("solo-dev").await;
    world.services_run("solo-dev").await;
    world.until("solo", "ready", |s| condition(s, "Ready") == ("True", "Ready")).await;
    let before = front().await;

    // The authority goes: what has a certificate is served with it; a new host, which has none, is not.
    world.api(ChildKind::Secret, "paddock-system").delete("domain-ca", &DeleteParams::default()).await.unwrap();
    let lost = world.until("solo", "told", |s| condition(s, "DomainsReady") == ("False", "TlsSecretMissing")).await;
    assert_eq!((condition(&lost, "Ready"), condition(&lost, "Stalled").0), (("True", "Ready"), "True"));
    assert_eq!(front().await, before);
    wants(&["solo.example", "new.example"]).await;
    let asked = world.until("solo", "told", |s| s.to_string().contains("set tls.secretName of new.example")).await;
    assert_eq!(condition(&asked, "Ready"), ("False", "TlsSecretMissing"));
    assert_eq!(front().await, before);

    // It comes back, as nonsense at first.
    let mut nonsense = authority();
    nonsense["stringData"]["tls.crt"] = "nonsense".into();
    world.apply(nonsense).await;
    world.until("solo", "told", |s| condition(s, "DomainsReady") == ("False", "Rejected")).await;
    assert_eq!(front().await, before);
    world.apply(authority()).await;
    world
        .eventually("listeners for the new host", async || {
            let all = front().await;
            all.iter().filter_map(|it| it[2]["listeners"].as_array()).all(|listeners| listeners.len() == 2)
        })
        .await;
    world.gateway_serves("solo-dev").await;
    let well = world.until("solo", "well", |s| condition(s, "DomainsReady").0 == "True").await;
    assert_eq!(condition(&well, "Ready"), ("True", "Ready"));

    // A process that just took over cannot read whether the certificates are there.
    let (faults, stop) = (Faults::default(), CancellationToken::new());
    let next = faulty(&world.server, &faults, world.ctx.settings.as_ref().clone(), &stop).await;
    let kinds = [ChildKind::ListenerSet, ChildKind::HTTPRoute];
    world.eventually("listed", async || kinds.iter().all(|kind| next.cache.available(*kind))).await;
    faults.refuse_reads(Some(("/api/v1/namespaces/solo-dev/secrets", 503)));
    let before = front().await;
    let solo = next.cache.get::<Tenant>(None, "solo").unwrap();
    let fault = Tenant::reconcile(solo.clone(), next.clone()).await.unwrap_err();
    assert_eq!(fault.category, Category::ServerError);
    let told = async |what: &str| world.until("solo", what, |s| condition(s, "Ready") == ("True", "Ready")).await;
    assert_eq!(condition(&told("served").await, "DomainsReady"), ("False", "ServerError"));
    assert_eq!(front().await, before);

    // That fault stands in the conditions already; one that came before anything was looked at is told, and takes nothing away either.
    let writes = faults.writes();
    Tenant::report(&solo, &next, &fault).await.unwrap();
    assert_eq!(faults.since(writes), Vec::<String>::new());
    Tenant::report(&solo, &next, &Fault::new(Category::Timeout, "too late")).await.unwrap();
    assert_eq!(condition(&told("served").await, "Reconciling"), ("True", "Timeout"));
    faults.refuse_reads(None);
    Tenant::reconcile(next.cache.get::<Tenant>(None, "solo").unwrap(), next.clone()).await.unwrap();
    let well = told("well").await;
    assert_eq!((condition(&well, "DomainsReady").0, condition(&well, "Reconciling").0), ("True", ""));
    assert_eq!(front().await, before);
    stop.cancel();

    let tenants: Api<Tenant> = Api::all(world.client.clone());
    tenants.delete("solo", &DeleteParams::default()).await.unwrap();
    world.eventually("the Tenant goes", async || tenants.get_opt("solo").await.unwrap().is_none()).await;
}

/// A class with one server, called like it.
fn database_class(name: &str) -> Value {
    json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass", "metadata": {"name": name},
        "spec": {"engine": "PostgreSQL", "environmentClass": "NonProduction", "servers": [{
            "name": name, "adminSecret": "admin", "endpoints": {"readWrite": format!("{name}.db.svc:5432")},
            "network": {"namespace": "db", "podLabels": {"app": name}, "ports": [5432]},
        }]}
    })
}

/// What keeps an environment from its databases is told; pods keep the way to the servers that claims have, whatever becomes of the names.
async fn databases_stay_in_reach(world: &World) {
    let names = async |class: &str| {
        let dev = json!({
            "name": "dev", "class": "NonProduction", "release": "r1",
            "databaseClasses": [{"engine": "PostgreSQL", "className": class}],
        });
        world.tenant("mover", json!([dev])).await;
    };
    let classes: Api<DatabaseClass> = Api::all(world.client.clone());
    let claims = world.api(ChildKind::DatabaseClaim, "mover-dev");
    let policies = world.api(ChildKind::NetworkPolicy, "mover-dev");
    let bind = async |name: &str, class: &str| {
        let claim = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "metadata": {"name": name, "namespace": "mover-dev"},
            "spec": {"engine": "PostgreSQL", "className": class},
        });
        world.apply(claim).await;
        let placed = json!({"status": {"server": class}});
        claims.patch_status(name, &PatchParams::default(), &Patch::Merge(&placed)).await.unwrap();
    };
    let reach = async || -> Vec<String> {
        let policy = policies.get_opt("allow-postgresql").await.unwrap();
        let rules = policy.and_then(|policy| policy.data["spec"]["egress"].as_array().cloned()).unwrap_or_default();
        let server = |rule: &Value| rule["to"][0]["podSelector"]["matchLabels"]["app"].as_str().unwrap().to_owned();
        rules.iter().map(server).collect()
    };
    let reaches = async |servers: &[&str]| {
        world.eventually(&format!("reaches {servers:?}"), async || reach().await == servers).await;
    };
    let message = |status: &Value| -> String {
        let all = status["conditions"].as_array().unwrap();
        let of_databases = all.iter().find(|condition| condition["type"] == "DatabasesReady").unwrap();
        of_databases["message"].as_str().unwrap().to_owned()
    };
    let misses = async |what: &str| {
        let wanted =
            |s: &Value| condition(s, "DatabasesReady") == ("False", "ReferenceNotFound") && message(s).contains(what);
        world.until("mover", &format!("told of {what}"), wanted).await
    };
    let well = async || world.until("mover", "well", |s| condition(s, "DatabasesReady") == ("True", "Bound")).await;
    let ready_since = async || -> Value {
        let status = world.until("acme", "ready", |s| condition(s, "Ready").0 == "True").await;
        let all = status["conditions"].as_array().unwrap().clone();
        all.into_iter().find(|condition| condition["type"] == "Ready").unwrap()["lastTransitionTime"].clone()
    };

    // A class that does not exist is told once; it comes.
    let of_acme = ready_since().await;
    names("pg-a").await;
    misses("DatabaseClass pg-a does not exist").await;
    world.eventually("an event", async || told(&world.server, "Tenant", "mover", "ReferenceNotFound").await > 0).await;
    Tenant::reconcile(world.ctx.cache.get::<Tenant>(None, "mover").unwrap(), world.ctx.clone()).await.unwrap();
    world.apply(database_class("pg-a")).await;
    well().await;
    assert_eq!(told(&world.server, "Tenant", "mover", "ReferenceNotFound").await, 1);
    assert_eq!(ready_since().await, of_acme);
    assert_eq!(reach().await, ["pg-a"]);

    // Another class is named, and it goes: what a claim has stays open, and what was open.
    bind("own-db", "pg-a").await;
    world.apply(database_class("pg-b")).await;
    names("pg-b").await;
    reaches(&["pg-a", "pg-b"]).await;
    well().await;
    let uid = policies.get("allow-postgresql").await.unwrap().metadata.uid;
    classes.delete("pg-b", &DeleteParams::default()).await.unwrap();
    misses("DatabaseClass pg-b does not exist").await;
    names("pg-typo").await;
    misses("DatabaseClass pg-typo does not exist").await;
    assert_eq!(reach().await, ["pg-a", "pg-b"]);

    // Then the class that the claim is of.
    classes.delete("pg-a", &DeleteParams::default()).await.unwrap();
    misses("Claims there: own-db").await;
    assert_eq!(reach().await, ["pg-a", "pg-b"]);
    assert_eq!(policies.get("allow-postgresql").await.unwrap().metadata.uid, uid);
    let before = world.writes();
    for _ in 0..2 {
        Tenant::reconcile(world.ctx.cache.get::<Tenant>(None, "mover").unwrap(), world.ctx.clone()).await.unwrap();
    }
    assert_eq!(world.writes(), before, "another look");

    // All is known again.
    world.apply(database_class("pg-a")).await;
    world.apply(database_class("pg-b")).await;
    names("pg-b").await;
    well().await;
    reaches(&["pg-a", "pg-b"]).await;
    // The network follows claims alone too: one that got a server of the class that was named before, and the end of the last.
    claims.delete("own-db", &DeleteParams::default()).await.unwrap();
    reaches(&["pg-b"]).await;
    bind("late-db", "pg-a").await;
    reaches(&["pg-a", "pg-b"]).await;
    claims.delete("late-db", &DeleteParams::default()).await.unwrap();
    reaches(&["pg-b"]).await;

    let tenants: Api<Tenant> = Api::all(world.client.clone());
    tenants.delete("mover", &DeleteParams::default()).await.unwrap();
    world.eventually("the Tenant goes", async || tenants.get_opt("mover").await.unwrap().is_none()).await;
}

/// The namespace of an environment that left the spec keeps its class: nothing of another class is done in it.
async fn a_namespace_keeps_its_class(world: &World) {
    let is = async |class: Option<&str>| {
        let of = |name: &str, class: &str| json!({"name": name, "class": class, "release": "r1"});
        let dev = of("dev", "NonProduction");
        let all = class.map(|class| of("prod", class)).into_iter().chain([dev]).collect();
        world.tenant("shift", Value::Array(all)).await;
    };
    let services = async || world.names(ChildKind::BettingService, "shift-prod").await.len();
    let roles = async || world.names(ChildKind::RoleBinding, "shift-prod").await;
    let class = async || {
        let namespace = world.api(ChildKind::Namespace, "").get("shift-prod").await.unwrap();
        namespace.labels()["paddock.bet/class"].clone()
    };
    let well = async || world.until("shift", "well", |s| condition(s, "NamespacesReady") == ("True", "Applied")).await;
    let refused = async || {
        let wanted = |s: &Value| condition(s, "NamespacesReady") == ("False", "ClassChanged");
        let status = world.until("shift", "refused", wanted).await;
        assert_eq!((condition(&status, "Ready").0, condition(&status, "Stalled").0), ("False", "True"));
        status.to_string()
    };
    let leave = async || {
        is(None).await;
        world.eventually("its services go", async || services().await == 0).await;
    };
    is(Some("Production")).await;
    well().await;
    world.eventually("services", async || services().await == 2).await;
    let production = roles().await;

    leave().await;
    is(Some("NonProduction")).await;
    let told = refused().await;
    assert!(told.contains("Namespace shift-prod was made for class Production"), "{told}");
    let before = world.writes();
    Tenant::reconcile(world.ctx.cache.get::<Tenant>(None, "shift").unwrap(), world.ctx.clone()).await.unwrap();
    assert_eq!(world.writes(), before, "another look");
    assert_eq!((class().await.as_str(), services().await, roles().await), ("Production", 0, production.clone()));
    assert_eq!(world.names(ChildKind::BettingService, "shift-dev").await.len(), 2, "the other environment goes on");

    // The class is set back.
    leave().await;
    is(Some("Production")).await;
    well().await;
    world.eventually("services", async || services().await == 2).await;

    // Or the namespace goes.
    leave().await;
    is(Some("NonProduction")).await;
    refused().await;
    world.end_namespace("shift-prod").await;
    well().await;
    assert_eq!(class().await, "NonProduction");
    world.eventually("exec for owners", async || roles().await.contains(&"paddock-debugger".to_owned())).await;
    assert_ne!(roles().await, production);

    let tenants: Api<Tenant> = Api::all(world.client.clone());
    tenants.delete("shift", &DeleteParams::default()).await.unwrap();
    world.eventually("the Tenant goes", async || tenants.get_opt("shift").await.unwrap().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_get_environments_and_give_them_back() {
    let world = World::start().await;
    let prod = |more: Value| {
        let mut environment = json!({
            "name": "prod", "class": "Production", "release": "r1",
            "domains": [{"host": "bet.acme.example"}, {"host": "acme.example", "tls": {"secretName": "own"}}],
            "network": {"allow": [{"cidr": "0.0.0.0/0", "port": 443}]},
        });
        environment.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        environment
    };

    // A Release that does not exist yet is named, and the rest stands already; then it comes.
    world.tenant("acme", json!([prod(json!({}))])).await;
    let status =
        world.until("acme", "stalled", |s| condition(s, "ReleaseApplied") == ("False", "ReferenceNotFound")).await;
    assert_eq!(condition(&status, "Stalled").0, "True");
    assert_eq!(condition(&status, "DomainsReady"), ("False", "TlsSecretMissing"), "no authority yet");
    world.apply(authority()).await;
    world.release("r1", "1.0").await;
    world.eventually("services", async || world.names(ChildKind::BettingService, "acme-prod").await.len() == 2).await;
    assert_eq!(
        world.names(ChildKind::NetworkPolicy, "acme-prod").await,
        [
            "allow-dns",
            "allow-gateway",
            "allow-metrics",
            "allow-network",
            "allow-operator",
            "allow-same-environment",
            "default-deny"
        ]
    );
    assert_eq!(
        world.names(ChildKind::RoleBinding, "acme-prod").await,
        ["paddock-operator-environment", "paddock-owner"]
    );

    // The authority is seen when it comes; then the Gateway and the services answer.
    world
        .eventually("listeners", async || {
            world.names(ChildKind::ListenerSet, "acme-prod").await == ["public", "public-http"]
        })
        .await;
    world
        .eventually("a certificate", async || {
            let set = world.api(ChildKind::ListenerSet, "acme-prod").get("public").await.unwrap();
            set.data["spec"]["listeners"].as_array().unwrap().len() == 2
        })
        .await;
    assert_eq!(world.names(ChildKind::HTTPRoute, "acme-prod").await, ["redirect-https"]);
    world.gateway_serves("acme-prod").await;
    world.services_run("acme-prod").await;
    let status = world.until("acme", "ready", |s| condition(s, "Ready") == ("True", "Ready")).await;
    assert_eq!((&status["summary"], &status["environments"][0]["release"]), (&json!("prod 2/2"), &json!("r1")));
    assert_eq!((condition(&status, "Reconciling"), condition(&status, "Stalled")), (("", ""), ("", "")));

    // At rest another look writes nothing, and nothing that we applied is kept in another form.
    let before = world.writes();
    for _ in 0..3 {
        Tenant::reconcile(world.ctx.cache.get::<Tenant>(None, "acme").unwrap(), world.ctx.clone()).await.unwrap();
        Release::reconcile(world.ctx.cache.get::<Release>(None, "r1").unwrap(), world.ctx.clone()).await.unwrap();
    }
    assert_eq!(world.writes(), before);
    for kind in KINDS {
        assert_eq!(world.ctx.metrics.applies.with_label_values(&[kind.as_str(), "unsettled"]).get(), 0, "{kind}");
    }

    token_issuer_is_published_and_followed(&world).await;
    what_is_served_outlives_faults(&world).await;
    databases_stay_in_reach(&world).await;
    a_namespace_keeps_its_class(&world).await;

    // What a service that is no more had of a claim is taken back; the claim and the parts of others stay.
    let claims = world.api(ChildKind::DatabaseClaim, "acme-prod");
    for party in ["rates", "gone"] {
        let part = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim",
            "metadata": {"name": "shared", "namespace": "acme-prod", "labels": {
                "app.kubernetes.io/managed-by": "paddock", "paddock.bet/claim": "shared"
            }},
            "spec": {"engine": "PostgreSQL", "className": "pg", "roles": [{"name": party, "access": "ReadWrite"}]}
        });
        let params = PatchParams::apply(&format!("paddock/needs-{party}"));
        claims.patch("shared", &params, &Patch::Apply(&part)).await.unwrap();
    }
    let roles = async || -> Vec<String> {
        let claim = claims.get("shared").await.unwrap();
        let all = claim.data["spec"]["roles"].as_array().cloned().unwrap_or_default();
        all.iter().map(|role| role["name"].as_str().unwrap().to_owned()).collect()
    };
    world
        .eventually("withdrawn", async || {
            // The controller may write the same status at this moment.
            let _ = Tenant::reconcile(world.ctx.cache.get::<Tenant>(None, "acme").unwrap(), world.ctx.clone()).await;
            roles().await == ["rates"]
        })
        .await;
    let version = async || claims.get("shared").await.unwrap().metadata.resource_version;
    let withdrawn = version().await;
    let _ = Tenant::reconcile(world.ctx.cache.get::<Tenant>(None, "acme").unwrap(), world.ctx.clone()).await;
    assert_eq!(version().await, withdrawn, "once");

    // Drift is repaired: an egress rule and a Secret's key that somebody added, a policy that somebody deleted.
    let token =
        world.api(ChildKind::Secret, "acme-prod").get("paddock-control").await.unwrap().data["data"]["token"].clone();
    let someone = PatchParams { field_manager: Some("someone".into()), ..PatchParams::default() };
    let key = json!({"data": {"extra": "eA=="}});
    world.api(ChildKind::Secret, "acme-prod").patch("paddock-control", &someone, &Patch::Merge(&key)).await.unwrap();
    let hole = json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}});
    world
        .api(ChildKind::NetworkPolicy, "acme-prod")
        .patch("default-deny", &someone, &Patch::Merge(&hole))
        .await
        .unwrap();
    world.api(ChildKind::NetworkPolicy, "acme-prod").delete("allow-dns", &DeleteParams::default()).await.unwrap();
    world
        .eventually("repaired", async || {
            let secret = world.api(ChildKind::Secret, "acme-prod").get("paddock-control").await.unwrap();
            let deny = world.api(ChildKind::NetworkPolicy, "acme-prod").get("default-deny").await.unwrap();
            let dns = world.api(ChildKind::NetworkPolicy, "acme-prod").get_opt("allow-dns").await.unwrap();
            secret.data["data"] == json!({"token": token}) && deny.data["spec"].get("egress").is_none() && dns.is_some()
        })
        .await;

    // Another Tenant cannot have the host until it is given up; a namespace that is not ours is never touched.
    world.server.kubectl(&["create", "namespace", "zenith-dev"]).await.unwrap();
    world
        .tenant(
            "zenith",
            json!([
                {"name": "dev", "class": "NonProduction", "release": "r1"},
                {"name": "prod", "class": "Production", "release": "r1", "domains": [{"host": "bet.acme.example"}]},
            ]),
        )
        .await;
    let status = world.until("zenith", "refused", |s| condition(s, "DomainsReady") == ("False", "DomainTaken")).await;
    assert_eq!(condition(&status, "NamespacesReady"), ("False", "NamespaceNotOurs"));
    assert!(status["conditions"].to_string().contains("tenant acme, environment prod"));
    assert_eq!(world.names(ChildKind::NetworkPolicy, "zenith-dev").await, Vec::<String>::new());
    assert_eq!(world.names(ChildKind::BettingService, "zenith-prod").await.len(), 2, "the other environment goes on");
    // Whoever had the namespace gives it up: the environment is made.
    world.end_namespace("zenith-dev").await;
    world.until("zenith", "given its namespace", |s| condition(s, "NamespacesReady").0 == "True").await;
    assert!(world.names(ChildKind::NetworkPolicy, "zenith-dev").await.contains(&"default-deny".to_owned()));
    world
        .tenant("acme", json!([prod(json!({"domains": [{"host": "acme.example", "tls": {"secretName": "own"}}]}))]))
        .await;
    let certificates = async || -> Vec<String> {
        let all = world.names(ChildKind::Secret, "acme-prod").await;
        all.into_iter().filter(|name| name.starts_with("tls-")).collect()
    };
    world.eventually("no certificate for a host that was given up", async || certificates().await.is_empty()).await;
    assert!(world.names(ChildKind::Secret, "acme-prod").await.contains(&"paddock-control".to_owned()));
    world.until("zenith", "given the host", |s| condition(s, "DomainsReady").1 != "DomainTaken").await;

    // A Release in use waits; one that an environment left goes.
    let releases: Api<Release> = Api::all(world.client.clone());
    releases.delete("r1", &DeleteParams::default()).await.unwrap();
    world
        .eventually("says who uses it", async || {
            let release = releases.get("r1").await.unwrap();
            let conditions = release.status.map(|s| s.conditions).unwrap_or_default();
            conditions.iter().any(|c| c.reason == "InUse" && c.message.contains("zenith/prod"))
        })
        .await;
    // Until then it runs, and changes of its environments come through.
    world
        .tenant(
            "zenith",
            json!([{
                "name": "prod", "class": "Production", "release": "r1", "domains": [{"host": "bet.acme.example"}],
                "services": [{"name": "rates", "replicas": {"min": 3, "max": 3}}]
            }]),
        )
        .await;
    let services: Api<BettingService> = Api::namespaced(world.client.clone(), "zenith-prod");
    world.eventually("another size", async || services.get("rates").await.unwrap().spec.spec.replicas.min == 3).await;
    world.release("r2", "2.0").await;
    world
        .tenant("acme", json!([prod(json!({"release": "r2", "services": [{"name": "rates", "enabled": false}]}))]))
        .await;
    world
        .eventually("one service of r2", async || {
            let services: Api<BettingService> = Api::namespaced(world.client.clone(), "acme-prod");
            let all = services.list(&ListParams::default()).await.unwrap();
            all.items.len() == 1 && all.items[0].spec.version == "2.0"
        })
        .await;

    // The end of a Tenant takes workloads, routes and hosts; namespace, isolation and token stay.
    let tenants: Api<Tenant> = Api::all(world.client.clone());
    for tenant in ["zenith", "acme"] {
        tenants.delete(tenant, &DeleteParams::default()).await.unwrap();
        world.eventually("the Tenant goes", async || tenants.get_opt(tenant).await.unwrap().is_none()).await;
    }
    world.eventually("r1 goes", async || releases.get_opt("r1").await.unwrap().is_none()).await;
    for kind in [ChildKind::BettingService, ChildKind::ListenerSet, ChildKind::HTTPRoute] {
        world.eventually("workloads go", async || world.names(kind, "acme-prod").await.is_empty()).await;
    }
    let hosts: Vec<_> = world
        .names(ChildKind::ConfigMap, "paddock-system")
        .await
        .into_iter()
        .filter(|n| n.starts_with("domain."))
        .collect();
    assert_eq!(hosts, Vec::<String>::new());
    assert!(world.api(ChildKind::Namespace, "").get_opt("acme-prod").await.unwrap().is_some());
    assert!(world.names(ChildKind::NetworkPolicy, "acme-prod").await.contains(&"default-deny".to_owned()));
    assert_eq!(
        world.api(ChildKind::Secret, "acme-prod").get("paddock-control").await.unwrap().data["data"]["token"],
        token
    );
    world.stop.cancel();
}
