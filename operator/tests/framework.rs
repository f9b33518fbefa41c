//! Apply, prune, watches, rights and election against a real API server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test: its failure is the message"
)]

mod support;

use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::DynamicObject,
};
use paddock_cluster::apiserver::Apiserver;
use paddock_operator::{
    controllers::Ctx,
    fault::Category,
    kube::{Cache, ChildKind, ObjectKey, apply, prune},
    leader::{Leadership, Timing},
    rbac::{self, RULES, Scope},
    readiness::Readiness,
    settings::Settings,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Instant};
use support::{
    PATIENCE, another_look_is_silent, context, eventually,
    faults::{Fault, Faults},
    faulty, objects,
    process::Process,
    requests, server,
    state::essence,
};
use tokio_util::sync::CancellationToken;

const CONCERN: &str = "framework";

/// One server for the whole file: starting one costs seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn framework() {
    let server = server().await;
    steady_state_drift_and_pruning(&server).await;
    foreign_objects_are_left_alone(&server).await;
    faults_and_crashes_converge(&server).await;
    the_table_of_rights_is_enough_and_what_is_missing_is_named(&server).await;
    two_processes_hand_over(&server).await;
}

async fn apply_all(ctx: &Ctx, wanted: &[Value]) -> Result<Vec<DynamicObject>, paddock_operator::fault::Fault> {
    let mut applied = Vec::new();
    for object in wanted {
        applied.push(apply(ctx, CONCERN, object).await?);
    }
    Ok(applied)
}

fn key(object: &Value) -> ObjectKey {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let group = text("/apiVersion").unwrap().split_once('/').map_or("", |(group, _)| group);
    ObjectKey::new(
        ChildKind::of(group, text("/kind").unwrap()).unwrap(),
        text("/metadata/namespace"),
        text("/metadata/name").unwrap(),
    )
}

/// Waits until the cache shows each object at least as new as it was applied.
async fn seen(ctx: &Ctx, wanted: &[Value], applied: &[DynamicObject]) {
    let number =
        |version: &Option<String>| version.as_deref().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    for (object, applied) in wanted.iter().zip(applied) {
        let key = key(object);
        eventually(&format!("the cache shows {key}"), async || {
            let live = ctx.cache.object(&key);
            live.is_some_and(|live| {
                number(&live.metadata.resource_version) >= number(&applied.metadata.resource_version)
            })
        })
        .await;
    }
}

fn api(client: &Client, key: &ObjectKey) -> Api<DynamicObject> {
    let resource = key.kind.api_resource();
    match &key.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn steady_state_drift_and_pruning(server: &Apiserver) {
    let stop = CancellationToken::new();
    let ctx = context(server.config().await.unwrap(), &stop).await;
    let ns = "acme-rest";
    apply(&ctx, CONCERN, &objects::namespace(ns)).await.unwrap();
    ctx.cache.watch_secrets(ns);
    let mut wanted = objects::all(ns);
    wanted.push(objects::namespace(ns));
    let applied = apply_all(&ctx, &wanted).await.unwrap();
    seen(&ctx, &wanted, &applied).await;

    // Rule O1: nothing changed, so nothing is asked. No kind is kept in a form that our comparison does not know.
    let before = requests(&ctx.metrics);
    for _ in 0..3 {
        apply_all(&ctx, &wanted).await.unwrap();
    }
    assert_eq!(requests(&ctx.metrics), before, "requests at rest");
    for kind in [
        "Deployment",
        "HorizontalPodAutoscaler",
        "ResourceQuota",
        "LimitRange",
        "NetworkPolicy",
        "Secret",
        "Job",
        "ControllerRevision",
    ] {
        assert_eq!(ctx.metrics.applies.with_label_values(&[kind, "unsettled"]).get(), 0, "{kind}");
    }

    // Drift: somebody edits.
    let deployment = objects::deployment(ns);
    let place = key(&deployment);
    let edit = json!({
        "metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}},
        "spec": {"replicas": 4, "paused": true, "template": {
            "metadata": {"annotations": {"restarted": "now"}},
            "spec": {"nodeSelector": {"a": "b"}, "containers": [
                {"name": "main", "image": "evil", "env": [{"name": "EVIL", "value": "1"}]}, {"name": "sidecar", "image": "evil"}]}}},
    });
    let params = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    let edited = api(&ctx.client, &place).patch(&place.name, &params, &Patch::Strategic(edit)).await.unwrap();
    seen(&ctx, std::slice::from_ref(&deployment), &[edited]).await;
    let mended = apply(&ctx, CONCERN, &deployment).await.unwrap();
    assert_eq!(ctx.metrics.applies.with_label_values(&["Deployment", "drift_removed"]).get(), 1);
    let spec = &mended.data["spec"];
    assert_eq!(spec["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
    assert_eq!(spec["template"]["spec"]["containers"][0]["image"], "registry.example/paddock@sha256:0000");
    assert_eq!(spec["template"]["spec"]["containers"][0]["env"].as_array().unwrap().len(), 3);
    assert_eq!(spec["template"]["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!((&spec["template"]["spec"]["nodeSelector"], &spec["paused"]), (&Value::Null, &Value::Null));
    assert_eq!(spec["replicas"], 4, "replicas belong to whoever scales");
    assert_eq!(mended.metadata.labels.as_ref().unwrap()["team"], "x", "foreign labels stay");
    assert_eq!(mended.metadata.annotations.as_ref().unwrap()["note"], "y", "foreign annotations stay");
    let all = || requests(&ctx.metrics).0;
    another_look_is_silent(all, async || apply(&ctx, CONCERN, &deployment).await).await;

    // A value of ours that somebody changes in an atomic list, and one that is deleted, come back.
    for (index, patch) in
        [(3, json!({"spec": {"egress": [{}]}})), (6, json!({"data": {"book.json": null, "other": "x"}}))]
    {
        let place = key(&wanted[index]);
        let edited = api(&ctx.client, &place).patch(&place.name, &params, &Patch::Merge(patch)).await.unwrap();
        seen(&ctx, std::slice::from_ref(&wanted[index]), &[edited]).await;
        let mended = apply(&ctx, CONCERN, &wanted[index]).await.unwrap();
        assert!(mended.data.pointer("/data/other").is_none());
        another_look_is_silent(all, async || apply(&ctx, CONCERN, &wanted[index]).await).await;
    }

    // What we no longer want goes.
    let mut fewer = deployment.clone();
    fewer["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().unwrap().remove(1);
    fewer["spec"]["template"]["spec"]["containers"][0]["resources"].as_object_mut().unwrap().remove("limits");
    let changed = apply(&ctx, CONCERN, &fewer).await.unwrap();
    let container = &changed.data["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((container["env"].as_array().unwrap().len(), &container["resources"]["limits"]), (2, &Value::Null));

    // A kind of an API that is not installed.
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "rates", "namespace": ns, "labels": {"app.kubernetes.io/managed-by": "paddock"}}, "spec": {}});
    assert_eq!(apply(&ctx, CONCERN, &route).await.unwrap_err().category, Category::KindMissing);
    eventually("the missing kind is told", async || {
        ctx.cache.troubles().get("HTTPRoute").is_some_and(|t| t.contains("not installed"))
    })
    .await;

    // Pruning: all but two.
    let keep = BTreeSet::from([key(&wanted[0]), key(&wanted[6])]);
    let kinds: Vec<ChildKind> = wanted.iter().map(|object| key(object).kind).collect();
    let deleted = prune(&ctx, &kinds, Some(ns), &[("test", "framework")], &keep).await.unwrap();
    assert!(deleted >= 13, "{deleted}");
    for object in &wanted {
        let key = key(object);
        let stays = keep.contains(&key) || matches!(key.kind, ChildKind::Namespace | ChildKind::DatabaseClaim);
        if stays || key.kind == ChildKind::Job {
            continue; // a Job ends when its finalizer's controller, which does not run here, lets it go
        }
        assert!(api(&ctx.client, &key).get_opt(&key.name).await.unwrap().is_none(), "{key}");
        eventually(&format!("{key} leaves the cache"), async || ctx.cache.object(&key).is_none()).await;
    }
    for key in &keep {
        assert!(api(&ctx.client, key).get_opt(&key.name).await.unwrap().is_some(), "{key}");
    }
    stop.cancel();
}

async fn foreign_objects_are_left_alone(server: &Apiserver) {
    let stop = CancellationToken::new();
    let ctx = context(server.config().await.unwrap(), &stop).await;
    let ns = "acme-foreign";
    apply(&ctx, CONCERN, &objects::namespace(ns)).await.unwrap();
    for object in objects::all(ns) {
        let key = key(&object);
        let mut theirs = object.clone();
        // Somebody's label; then the same values without any, so that no field would be in conflict.
        for labels in [json!({"app.kubernetes.io/managed-by": "somebody"}), json!({})] {
            theirs["metadata"]["labels"] = labels;
            let params = PatchParams::apply("somebody");
            let before = api(&ctx.client, &key).patch(&key.name, &params, &Patch::Apply(&theirs)).await.unwrap();
            let fault = apply(&ctx, CONCERN, &object).await.unwrap_err();
            assert_eq!(fault.category, Category::NotOurs, "{key}");
            assert!(fault.message.contains(&key.to_string()), "{fault}");
            let after = api(&ctx.client, &key).get(&key.name).await.unwrap();
            assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "{key}");
        }
    }
    one_that_took_the_place_of_ours_is_left_alone(&ctx).await;
    stop.cancel();
}

/// The watch still shows our object when somebody else has one of its name.
async fn one_that_took_the_place_of_ours_is_left_alone(ctx: &Ctx) {
    let blind = Ctx::detached(ctx.client.clone(), Settings::default()).unwrap();
    let ns = "acme-replaced";
    apply(&blind, CONCERN, &objects::namespace(ns)).await.unwrap();
    for kind in ["ConfigMap", "Service", "Deployment", "BettingService"] {
        let object = objects::all(ns).into_iter().find(|object| object["kind"] == kind).unwrap();
        let (key, mut changed) = (key(&object), object.clone());
        changed["metadata"]["labels"]["changed"] = json!("yes");
        let api = api(&ctx.client, &key);
        let ours = apply(&blind, CONCERN, &object).await.unwrap();
        blind.cache.observe_child(key.kind, ours);
        api.delete(&key.name, &DeleteParams::background()).await.unwrap();
        eventually(&format!("{key} goes"), async || api.get_opt(&key.name).await.unwrap().is_none()).await;
        assert_eq!(apply(&blind, CONCERN, &changed).await.unwrap_err().category, Category::Conflict, "{key} has gone");
        assert!(api.get_opt(&key.name).await.unwrap().is_none(), "{key} was made as if it were the one before");

        let mut theirs = object.clone();
        theirs["metadata"]["labels"] = json!({});
        let theirs = api.patch(&key.name, &PatchParams::apply("somebody"), &Patch::Apply(&theirs)).await.unwrap();
        assert_eq!(apply(&blind, CONCERN, &changed).await.unwrap_err().category, Category::Conflict, "{key} is theirs");
        let after = api.get(&key.name).await.unwrap();
        assert_eq!(after.metadata.resource_version, theirs.metadata.resource_version, "{key}");
    }
}

async fn faults_and_crashes_converge(server: &Apiserver) {
    let stop = CancellationToken::new();
    let good = context(server.config().await.unwrap(), &stop).await;
    let sample = |ns: &str| -> Vec<Value> {
        let mut all = vec![objects::namespace(ns)];
        all.extend(objects::all(ns).into_iter().filter(|object| {
            matches!(
                object["kind"].as_str(),
                Some("ServiceAccount" | "ConfigMap" | "Secret" | "Service" | "Deployment")
            )
        }));
        all
    };
    let end_state = async |ns: &str| -> Vec<Value> {
        let mut state = Vec::new();
        for object in sample(ns) {
            let key = key(&object);
            let live = api(&good.client, &key).get(&key.name).await.unwrap();
            let text = essence(&live, false).to_string().replace(ns, "NS");
            state.push(serde_json::from_str(&text).unwrap());
        }
        state
    };
    apply_all(&good, &sample("acme-plain")).await.unwrap();
    let reference = end_state("acme-plain").await;

    // Rule O6: the process dies after any single write, once with the last answer lost; the next one ends in the same state.
    let writes = u64::try_from(sample("x").len()).unwrap();
    for number in 0..writes {
        for (name, faults) in [
            ("dead", Faults::default().die_after(number)),
            ("lost", Faults::default().on_write(number + 1, Fault::AnswerLost).die_after(number + 1)),
        ] {
            let ns = format!("acme-{name}{number}");
            let first = CancellationToken::new();
            let ctx = faulty(server, &faults, Settings::default(), &first).await;
            apply_all(&ctx, &sample(&ns)).await.unwrap_err();
            first.cancel();
            apply_all(&good, &sample(&ns)).await.unwrap();
            assert_eq!(end_state(&ns).await, reference, "{ns}");
        }
    }

    // Refusals of every sort are told apart, and the next pass is whole.
    for (code, category) in
        [(409, Category::Conflict), (429, Category::Throttled), (500, Category::ServerError), (504, Category::Timeout)]
    {
        let ns = format!("acme-code{code}");
        let first = CancellationToken::new();
        let faults = Faults::default().on_write(3, Fault::Refused(code));
        let ctx = faulty(server, &faults, Settings::default(), &first).await;
        assert_eq!(apply_all(&ctx, &sample(&ns)).await.unwrap_err().category, category);
        apply_all(&ctx, &sample(&ns)).await.unwrap();
        assert_eq!(end_state(&ns).await, reference, "{ns}");
        first.cancel();
    }
    stop.cancel();
}

/// The roles of the table, as the chart renders them.
fn roles() -> Vec<Value> {
    let rules = |scope: Scope| -> Vec<Value> {
        let of_scope = RULES.iter().filter(|rule| rule.scope == scope);
        of_scope
            .map(|rule| {
                if !rule.paths.is_empty() {
                    return json!({"nonResourceURLs": rule.paths, "verbs": rule.verbs});
                }
                let mut value = json!({"apiGroups": [rule.group], "resources": rule.resources, "verbs": rule.verbs});
                if !rule.names.is_empty() {
                    value["resourceNames"] = json!(rule.names);
                }
                value
            })
            .collect()
    };
    let version = "rbac.authorization.k8s.io/v1";
    let subjects = json!([{"kind": "ServiceAccount", "name": "paddock-operator", "namespace": "paddock-system"}]);
    vec![
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "paddock-operator"}, "rules": rules(Scope::Cluster)}),
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": rbac::ENVIRONMENT_ROLE}, "rules": rules(Scope::Environment)}),
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "paddock-viewer"}, "rules": [
            {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}]}),
        json!({"apiVersion": version, "kind": "Role", "metadata": {"name": "paddock-operator", "namespace": "paddock-system"}, "rules": rules(Scope::Own)}),
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "paddock-operator"}, "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "paddock-operator"}}),
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "paddock-operator", "namespace": "paddock-system"}, "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "paddock-operator"}}),
    ]
}

async fn the_table_of_rights_is_enough_and_what_is_missing_is_named(server: &Apiserver) {
    for role in roles() {
        server.apply(&role.to_string()).await.unwrap();
    }
    let mut config = server.config().await.unwrap();
    config.auth_info.impersonate = Some("system:serviceaccount:paddock-system:paddock-operator".into());
    config.auth_info.impersonate_groups = Some(vec!["system:serviceaccounts".into(), "system:authenticated".into()]);
    let stop = CancellationToken::new();
    let ctx = context(config, &stop).await;
    let ns = "acme-rights";
    apply(&ctx, CONCERN, &objects::namespace(ns)).await.unwrap();
    // The watch of an environment's Secrets begins before its rights count: no trouble, and tried again quickly.
    let refused = || ctx.metrics.kube_requests.with_label_values(&["list", "403"]).get();
    let before = refused();
    ctx.cache.watch_secrets(ns);
    eventually("the operator has no right to Secrets yet", async || refused() > before + 2).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": rbac::ENVIRONMENT_ROLE, "namespace": ns, "labels": {"app.kubernetes.io/managed-by": "paddock", "test": "framework"}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": rbac::ENVIRONMENT_ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": "paddock-operator", "namespace": "paddock-system"}],
    });
    apply(&ctx, CONCERN, &binding).await.unwrap();
    eventually("the operator may list Secrets of the environment", async || ctx.cache.secrets_ready(ns)).await;
    assert_eq!(ctx.metrics.watch_errors.with_label_values(&["Secret"]).get(), 0);
    let wanted = objects::all(ns);
    let applied = apply_all(&ctx, &wanted).await.unwrap();
    seen(&ctx, &wanted, &applied).await;
    let kinds: Vec<ChildKind> =
        wanted.iter().map(|object| key(object).kind).filter(|kind| *kind != ChildKind::RoleBinding).collect();
    prune(&ctx, &kinds, Some(ns), &[("test", "framework")], &BTreeSet::new()).await.unwrap();
    ctx.events
        .normal(
            &k8s_openapi::api::core::v1::ConfigMap {
                metadata: kube::api::ObjectMeta {
                    name: Some("x".into()),
                    namespace: Some(ns.into()),
                    ..Default::default()
                },
                ..Default::default()
            },
            "Tested",
            "Test",
            "x",
        )
        .await;
    ctx.issuer.ask(&ctx.client).await.unwrap();
    for lost in ["error", "timeout", "overflow"] {
        assert_eq!(ctx.metrics.events_lost.with_label_values(&[lost]).get(), 0);
    }
    // Another role than the named ones is not in its gift.
    let mut admin = binding.clone();
    admin["metadata"]["name"] = json!("admin");
    admin["roleRef"]["name"] = json!("cluster-admin");
    assert_eq!(apply(&ctx, CONCERN, &admin).await.unwrap_err().category, Category::Forbidden);

    let leader = Leadership::alone(1);
    let cache = Cache::new();
    cache.set_ready();
    let readiness = Readiness::new(cache, leader);
    let check = async |readiness: &Readiness| {
        let done = readiness.wait_rights(&ctx.client, "paddock-system", &ctx.metrics, &stop);
        tokio::time::timeout(PATIENCE, done).await
    };
    check(&readiness).await.expect("the table is enough");
    assert!(!readiness.report().missing.iter().any(|text| text.contains("right")), "{:?}", readiness.report());

    // A right is taken away: once a request was forbidden it is named; it comes back: it is noticed without a restart.
    let following = {
        let (readiness, ctx, stop) = (readiness.clone(), ctx.clone(), stop.clone());
        tokio::spawn(async move { readiness.follow_rights(&ctx.client, "paddock-system", &ctx.metrics, &stop).await })
    };
    let mut restored = readiness.rights_restored();
    let mut poorer = roles().remove(0);
    poorer["rules"].as_array_mut().unwrap().retain(|rule| rule["resources"] != json!(["namespaces"]));
    server.apply(&poorer.to_string()).await.unwrap();
    assert!(!readiness.report().missing.iter().any(|text| text.contains("right")), "nobody has asked");
    let listing = Api::<k8s_openapi::api::core::v1::Namespace>::all(ctx.client.clone());
    eventually("it is forbidden", async || listing.list(&ListParams::default()).await.is_err()).await;
    readiness.doubt_rights();
    eventually("the missing right is named", async || {
        readiness.report().missing.iter().any(|text| text.contains("right to list namespaces"))
    })
    .await;
    assert_eq!(ctx.metrics.rights_missing.with_label_values(&["", "namespaces", "list"]).get(), 1);
    assert!(!restored.has_changed().unwrap());
    server.apply(&roles().remove(0).to_string()).await.unwrap();
    tokio::time::timeout(PATIENCE, restored.changed()).await.expect("it is noticed").unwrap();
    assert!(!readiness.report().missing.iter().any(|text| text.contains("right")), "{:?}", readiness.report());
    stop.cancel();
    following.await.unwrap();
}

async fn two_processes_hand_over(server: &Apiserver) {
    let mut first = Process::start(server, "first").await;
    eventually("the first is ready", async || first.get("/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    assert_eq!(first.epoch().await, 1);
    let second = Process::start(server, "second").await;
    eventually("the standby is ready", async || second.get("/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    assert_eq!(second.epoch().await, 0, "one leads");

    first.signal("TERM");
    let begin = Instant::now();
    eventually("the second leads", async || second.epoch().await == 2).await;
    assert!(
        begin.elapsed() < Timing::default().lease,
        "hand-over does not wait for the lease to end: {:?}",
        begin.elapsed()
    );
    let status = tokio::time::timeout(PATIENCE, first.child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");

    // Killed without a word: the next takes over when the lease has ended.
    let third = Process::start(server, "third").await;
    eventually("the third is ready", async || third.get("/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    second.signal("KILL");
    eventually("the third leads", async || third.epoch().await == 3).await;
}
