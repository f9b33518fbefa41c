//! BettingServices and Markets on a real API server with the real Deployment, Job and autoscaler controllers; pods become Ready
//! without running.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test: its failure is the message"
)]

mod bounds;
mod claims;
mod markets;
#[path = "../support/mod.rs"]
mod support;
mod world;

use bounds::{calls, made_by_hand, names_of_the_environment};
use claims::{a_migration_that_cannot_start, claims_and_migrations, parts_of_claims};
use kube::api::{ListParams, Patch, PatchParams};
use markets::{a_fault_is_told_once, a_namespace_made_again_goes_on_above, books_are_pushed, markets};
use paddock_operator::kube::ChildKind;
use serde_json::{Value, json};
use std::time::Duration;
use world::{NAMESPACE, PATIENCE, World, condition, reason, rests};

#[tokio::test(flavor = "multi_thread")]
async fn services_roll_out_scale_suspend_and_rest() {
    let world = World::start().await;

    // A first revision.
    world.service("rates", json!({})).await;
    let first = world.settled("rates").await;
    assert_eq!((&first["summary"], &first["stableVersion"]), (&json!("2/2"), &json!("1.0")));
    let old = format!("rates-{}", first["revision"].as_str().unwrap());
    for kind in
        [ChildKind::Deployment, ChildKind::ConfigMap, ChildKind::ControllerRevision, ChildKind::PodDisruptionBudget]
    {
        assert!(world.api(kind).get_opt(&old).await.unwrap().is_some(), "{kind}");
    }

    // At rest another look writes nothing, and nothing that we applied is kept in another form.
    rests(&world).await;

    // Another release: never fewer ready pods than before, and the old one ends at zero.
    world.service("rates", json!({"config": {"LOG_LEVEL": "debug"}, "version": "2.0"})).await;
    let watch = async {
        loop {
            let pods = world.api(ChildKind::Deployment).list(&ListParams::default()).await.unwrap();
            let ready: i64 =
                pods.items.iter().filter_map(|it| it.data.pointer("/status/readyReplicas")?.as_i64()).sum();
            assert!(ready >= 2, "{ready} pods serve");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let second = tokio::select! {
        () = watch => unreachable!(),
        status = world.until("rates", "on version 2", |status| status["stableVersion"] == "2.0") => status,
    };
    let now = format!("rates-{}", second["revision"].as_str().unwrap());
    assert_ne!(now, old);
    let gone = async {
        while world.api(ChildKind::Deployment).get(&old).await.unwrap().data["spec"]["replicas"] != json!(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the old revision goes to zero");
    world.settled("rates").await;

    // An autoscaler takes the size over without a restart or a reset.
    world
        .service("rates", json!({"config": {"LOG_LEVEL": "debug"}, "version": "2.0", "replicas": {"min": 2, "max": 5}}))
        .await;
    world.settled("rates").await;
    let autoscaler = world.api(ChildKind::HorizontalPodAutoscaler).get(&now).await.unwrap();
    assert_eq!(autoscaler.data["spec"]["maxReplicas"], json!(5));
    let scale = json!({"spec": {"replicas": 4}});
    let params = PatchParams { field_manager: Some("autoscaler".into()), ..PatchParams::default() };
    world.api(ChildKind::Deployment).patch(&now, &params, &Patch::Merge(&scale)).await.unwrap();
    world.until("rates", "at 4", |status| status["summary"] == "4/4").await;
    assert_eq!(world.api(ChildKind::Deployment).get(&now).await.unwrap().data["spec"]["replicas"], json!(4));

    // The next revision starts as large as the one that serves.
    world
        .service("rates", json!({"config": {"LOG_LEVEL": "trace"}, "version": "3.0", "replicas": {"min": 2, "max": 5}}))
        .await;
    world
        .until("rates", "on version 3 with 4 pods", |status| {
            status["stableVersion"] == "3.0" && status["summary"] == "4/4"
        })
        .await;

    // Somebody's sidecar is taken out again.
    let third = world.settled("rates").await;
    let now = format!("rates-{}", third["revision"].as_str().unwrap());
    let sidecar = json!({"spec": {"template": {"spec": {"containers": [{"name": "spy", "image": "r.example/spy"}]}}}});
    let params = PatchParams { field_manager: Some("someone".into()), ..PatchParams::default() };
    world.api(ChildKind::Deployment).patch(&now, &params, &Patch::Strategic(&sidecar)).await.unwrap();
    let clean = async {
        loop {
            let live = world.api(ChildKind::Deployment).get(&now).await.unwrap();
            if live.data["spec"]["template"]["spec"]["containers"].as_array().unwrap().len() == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, clean).await.expect("the sidecar goes");

    // Suspended, and back.
    world.service("rates", json!({"config": {"LOG_LEVEL": "trace"}, "version": "3.0", "suspended": true})).await;
    let status = world.until("rates", "suspended", |status| reason(status, "Ready") == "Suspended").await;
    assert_eq!(condition(&status, "Ready"), "False");
    let empty = async {
        while world.api(ChildKind::Deployment).get(&now).await.unwrap().data["spec"]["replicas"] != json!(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.expect("no pods");
    world.service("rates", json!({"config": {"LOG_LEVEL": "trace"}, "version": "3.0"})).await;
    world.settled("rates").await;

    claims_and_migrations(&world).await;
    parts_of_claims(&world).await;
    a_migration_that_cannot_start(&world).await;
    markets(&world).await;
    calls(&world).await;
    made_by_hand(&world).await;
    names_of_the_environment(&world).await;
    an_outage_is_told(&world).await;
    books_are_pushed(&world).await;
    a_namespace_made_again_goes_on_above(&world).await;
    a_fault_is_told_once(&world).await;

    // Everything together rests.
    rests(&world).await;
    assert_eq!(world.ctx.metrics.applies.with_label_values(&["Deployment", "unsettled"]).get(), 0);
    world.stop.cancel();
}

/// What serves is deleted and holds on: that nothing is ready is told although the reconcile cannot get on.
async fn an_outage_is_told(world: &World) {
    world.service("fragile", json!({})).await;
    let status = world.settled("fragile").await;
    let name = format!("fragile-{}", status["revision"].as_str().unwrap());
    let deployments = world.api(ChildKind::Deployment);
    let hold = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    let params = PatchParams { field_manager: Some("someone".into()), ..PatchParams::default() };
    deployments.patch(&name, &params, &Patch::Merge(&hold(json!(["test.example/hold"])))).await.unwrap();
    world
        .server
        .kubectl(&["delete", "deployment", &name, "-n", NAMESPACE, "--cascade=foreground", "--wait=false"])
        .await
        .unwrap();
    let status = world.until("fragile", "without pods", |status| status["summary"] == "0/2").await;
    assert_eq!((condition(&status, "Available"), condition(&status, "Ready")), ("False".into(), "False".into()));
    deployments.patch(&name, &params, &Patch::Merge(&hold(json!(null)))).await.unwrap();
    world.settled("fragile").await;
}
