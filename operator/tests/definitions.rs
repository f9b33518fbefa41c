//! What the operator's process does about kinds that are not installed yet, and about objects that it cannot read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: its failure is the message"
)]

mod support;

use kube::{
    Client, ResourceExt as _,
    api::{Api, DeleteParams, DynamicObject, Patch, PatchParams},
    core::ApiResource,
};
use paddock_cluster::apiserver::Apiserver;
use paddock_crds::v1alpha1::Release;
use serde_json::{Value, json};
use support::{eventually, process::Process};

const IMAGE: &str = "r.example/p@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What `/readyz` says is missing; `None` while it does not answer.
async fn missing(operator: &Process) -> Option<Vec<String>> {
    let (_, report) = operator.get("/readyz").await?;
    serde_json::from_value(report["missing"].clone()).ok()
}

/// Names of the definitions that it misses.
async fn definitions(operator: &Process) -> Vec<String> {
    let all = missing(operator).await.unwrap_or_default();
    let name = |text: &String| {
        Some(
            text.strip_prefix("CustomResourceDefinition ")?
                .split_once(": install the chart paddock-crds")?
                .0
                .to_owned(),
        )
    };
    all.iter().filter_map(name).collect()
}

fn releases(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<Release>(&()))
}

async fn release(client: &Client, name: &str, version: Value) {
    let object = json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "Release", "metadata": {"name": name},
        "spec": {"version": version, "components": [{"name": "rates", "image": IMAGE}]}
    });
    releases(client).patch(name, &PatchParams::apply("person").force(), &Patch::Apply(object)).await.unwrap();
}

/// A schema of another version lets in what this operator cannot read.
async fn loosen(server: &Apiserver, plural: &str) {
    let loose = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let patch = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": loose}]);
    let name = format!("{plural}.paddock.bet");
    server.kubectl(&["patch", "crd", &name, "--type=json", "-p", &patch.to_string()]).await.unwrap();
}

/// How often an object was told by an event that it cannot be read and what becomes of it.
async fn told(server: &Apiserver, name: &str, what: &str) -> usize {
    let words = "jsonpath={range .items[*]}{.involvedObject.name} {.reason} {.message}{'\\n'}{end}";
    let events = server.kubectl(&["get", "events", "-A", "-o", words]).await.unwrap();
    let head = format!("{name} InvalidSpec This operator cannot read the object and {what}");
    events.lines().filter(|line| line.starts_with(&head)).count()
}

async fn is_ready(client: &Client, name: &str) -> bool {
    let object = releases(client).get(name).await.unwrap();
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_come_later_and_what_cannot_be_read_stops_nobody() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Apiserver::start().await.expect("an API server");
    let client = server.client().await.unwrap();
    server.kubectl(&["create", "namespace", "paddock-system"]).await.unwrap();
    let all = paddock_crds::all();
    let mut names: Vec<String> = all.iter().map(kube::ResourceExt::name_any).collect();
    names.sort();

    // Without kinds the process lives, says what it misses, and does not lead.
    let operator = Process::start(&server, "early").await;
    eventually("it names every kind", async || definitions(&operator).await == names).await;
    assert_eq!(operator.get("/readyz").await.unwrap().0, 503);
    assert_eq!(operator.get("/livez").await.unwrap().0, 200);
    assert_eq!(operator.epoch().await, 0);
    // All but one come, then that one: no restart.
    let (last, first) = all.split_last().unwrap();
    for definition in first {
        server.apply(&serde_json::to_string(definition).unwrap()).await.unwrap();
    }
    eventually("it names the last one", async || definitions(&operator).await == [last.name_any()]).await;
    release(&client, "good", json!("1")).await;
    assert!(!is_ready(&client, "good").await);
    server.apply(&serde_json::to_string(last).unwrap()).await.unwrap();
    eventually("it is ready", async || operator.get("/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    eventually("it works", async || is_ready(&client, "good").await).await;
    assert_eq!(operator.epoch().await, 1);

    loosen(&server, "releases").await;
    eventually("the schema is loose", async || {
        let object = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Release", "metadata": {"name": "bad"},
            "spec": {"version": 7, "components": [{"name": "rates", "image": IMAGE}]}
        });
        releases(&client).patch("bad", &PatchParams::apply("person").force(), &Patch::Apply(object)).await.is_ok()
    })
    .await;
    // It is told so itself, by an event; the others are served, also one that is made after it.
    let told = async |name: &str| told(&server, name, "leaves it alone; correct the field").await;
    eventually("an event on it", async || told("bad").await == 1).await;
    release(&client, "later", json!("2")).await;
    eventually("the next is served", async || is_ready(&client, "later").await).await;
    assert_eq!(told("bad").await, 1, "it is told once");
    assert!(!is_ready(&client, "bad").await);
    assert_eq!(operator.get("/readyz").await.unwrap().0, 200);
    // Corrected, it is served; one that was served and cannot be read any more holds nobody up either.
    release(&client, "bad", json!("7")).await;
    eventually("the corrected one is served", async || is_ready(&client, "bad").await).await;
    release(&client, "good", json!(1)).await;
    release(&client, "last", json!("3")).await;
    eventually("the one after is served", async || is_ready(&client, "last").await).await;
    eventually("an event on it", async || told("good").await == 1).await;
    // Also when the operator starts with it.
    drop(operator);
    let operator = Process::start(&server, "again").await;
    release(&client, "newest", json!("4")).await;
    eventually("the new process works", async || is_ready(&client, "newest").await).await;
    releases(&client).delete("last", &DeleteParams::default()).await.unwrap();
    eventually("a deletion goes through", async || releases(&client).get_opt("last").await.unwrap().is_none()).await;
    drop(operator);
}

/// A claim that somebody's later operator made and placed; this one cannot read it.
async fn unreadable_claim(server: &Apiserver, namespace: &str, name: &str, status: Value) -> String {
    let object = json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim",
        "metadata": {"name": name, "namespace": namespace, "finalizers": ["paddock.bet/cleanup"]},
        "spec": {"engine": "PostgreSQL", "className": "pg", "roles": {"app": "ReadWrite"}}
    });
    eventually("the schema is loose", async || server.apply(&object.to_string()).await.is_ok()).await;
    let status = json!({"status": status}).to_string();
    let object = ["-n", namespace, "dbc", name];
    let write = ["patch", "--subresource=status", "--type=merge", "-p", &status];
    server.kubectl(&[&write[..], &object[..]].concat()).await.unwrap();
    let uid = ["get", "-o", "jsonpath={.metadata.uid}"];
    server.kubectl(&[&uid[..], &object[..]].concat()).await.unwrap().trim().to_owned()
}

async fn gone(server: &Apiserver, object: &[&str]) {
    let get = ["get", "--ignore-not-found", "-o", "name"];
    eventually(&format!("{object:?} is gone"), async || {
        server.kubectl(&[&get[..], object].concat()).await.unwrap().is_empty()
    })
    .await;
}

/// As after the operator was rolled back under newer definitions: what is deleted ends, with its namespace, and nothing is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_keeps_no_namespace_from_its_end() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Apiserver::builder().controller_manager().start().await.expect("an API server");
    support::install(&server).await;
    for plural in ["databaseclaims", "tenants"] {
        loosen(&server, plural).await;
    }
    let labels = json!({
        "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "prod",
        "paddock.bet/class": "Production",
    });
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme-prod", "labels": labels}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme-dev"}}),
        json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService",
            "metadata": {"name": "rates", "namespace": "acme-prod", "labels": labels},
            "spec": {"component": "rates", "version": "1", "image": IMAGE}
        }),
        json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant",
            "metadata": {"name": "acme", "finalizers": ["paddock.bet/cleanup"]}, "spec": {"displayName": {"en": "Acme"}}
        }),
    ];
    for object in objects {
        eventually("the schema is loose", async || server.apply(&object.to_string()).await.is_ok()).await;
    }
    let placed = json!({"server": "a"});
    let early = unreadable_claim(&server, "acme-dev", "early", placed.clone()).await;
    let late = unreadable_claim(&server, "acme-prod", "late", placed).await;
    unreadable_claim(&server, "acme-prod", "fresh", json!({})).await;
    unreadable_claim(&server, "acme-prod", "odd", json!({"server": {"name": "a"}})).await;

    // An end that began before the operator did. What lives is left alone.
    server.kubectl(&["delete", "namespace", "acme-dev", "--wait=false"]).await.unwrap();
    let operator = Process::start(&server, "older").await;
    gone(&server, &["namespace", "acme-dev"]).await;
    for name in ["late", "fresh", "odd", "acme"] {
        eventually(name, async || told(&server, name, "leaves it alone; correct the field").await == 1).await;
    }
    // A Tenant takes along what was made for it; a claim of which nobody knows where it stands says what is left to do.
    server.kubectl(&["delete", "tenant", "acme", "--wait=false"]).await.unwrap();
    gone(&server, &["tenant", "acme"]).await;
    gone(&server, &["bsvc", "rates", "-n", "acme-prod"]).await;
    eventually("it is told", async || told(&server, "acme", "ends what was made for it").await == 1).await;
    server.kubectl(&["delete", "dbc", "odd", "-n", "acme-prod", "--wait=false"]).await.unwrap();
    gone(&server, &["dbc", "odd", "-n", "acme-prod"]).await;
    let words = "lets it go, as it is being deleted, but cannot read spec.className and status.server";
    eventually("it is told", async || told(&server, "odd", words).await == 1).await;

    server.kubectl(&["delete", "namespace", "acme-prod", "--wait=false"]).await.unwrap();
    gone(&server, &["namespace", "acme-prod"]).await;
    let pending = ["get", "configmap", "-n", "paddock-system", "-l", "paddock.bet/pending-release=pg", "-o", "json"];
    let pending: Value = serde_json::from_str(&server.kubectl(&pending).await.unwrap()).unwrap();
    let mut pending: Vec<&Value> = pending["items"].as_array().unwrap().iter().map(|it| &it["data"]).collect();
    pending.sort_by_key(|data| data["claim"].to_string());
    let data = |environment: &str, claim: &str, uid: &str| json!({"server": "a", "tenant": "acme", "environment": environment, "claim": claim, "uid": uid});
    assert_eq!(pending, [&data("dev", "early", &early), &data("prod", "late", &late)]);
    drop(operator);
}
