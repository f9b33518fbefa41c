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

    // A schema of another version lets in what this operator cannot read.
    let loose = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let patch = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": loose}]);
    server.kubectl(&["patch", "crd", "releases.paddock.bet", "--type=json", "-p", &patch.to_string()]).await.unwrap();
    eventually("the schema is loose", async || {
        let object = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Release", "metadata": {"name": "bad"},
            "spec": {"version": 7, "components": [{"name": "rates", "image": IMAGE}]}
        });
        releases(&client).patch("bad", &PatchParams::apply("person").force(), &Patch::Apply(object)).await.is_ok()
    })
    .await;
    // It is told so itself, by an event; the others are served, also one that is made after it.
    let told = async |name: &str| {
        let words = "jsonpath={range .items[*]}{.involvedObject.name} {.reason} {.message}{'\\n'}{end}";
        let events = server.kubectl(&["get", "events", "-A", "-o", words]).await.unwrap();
        let head = format!("{name} InvalidSpec This operator cannot read the object");
        events.lines().filter(|line| line.starts_with(&head)).count()
    };
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
