//! Apply, prune, status and finalizer against a scripted apiserver: what is asked, and above all what is not.

use super::*;
use crate::{
    kube::{Cache, ChildKind, prune, write_status},
    settings::Settings,
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use paddock_crds::v1alpha1::Tenant;
use serde_json::json;
use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex},
};

/// One request as the server saw it.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    path: String,
    query: String,
    body: Value,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// A context whose apiserver gives the answers in turn, and the requests that it saw.
fn context(answers: Vec<(u16, Value)>) -> (Ctx, Log) {
    let log = Log::default();
    let seen = log.clone();
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (seen, answers) = (seen.clone(), answers.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            seen.lock().unwrap().push(Seen {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            });
            let (code, answer) = answers.lock().unwrap().next().unwrap_or((500, failure(500)));
            let status = StatusCode::from_u16(code).unwrap();
            let body = Body::from(serde_json::to_vec(&answer).unwrap());
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    });
    (Ctx::detached(Client::new(service, "default"), Settings::default()).unwrap(), log)
}

fn failure(code: u16) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no", "reason": reason})
}

fn methods(log: &Log) -> Vec<String> {
    log.lock().unwrap().iter().map(|seen| seen.method.clone()).collect()
}

fn config_map(value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "book", "namespace": "acme-prod", "labels": {"app.kubernetes.io/managed-by": "paddock"}},
        "data": {"a": value},
    })
}

/// The object as the server holds it after we applied it.
fn stored(value: &str, version: &str) -> Value {
    let mut object = config_map(value);
    object["metadata"]["uid"] = json!("u1");
    object["metadata"]["resourceVersion"] = json!(version);
    object["metadata"]["managedFields"] = json!([{
        "manager": "paddock/market", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:app.kubernetes.io/managed-by": {}}}, "f:data": {"f:a": {}}},
    }]);
    object
}

fn observe(cache: &Cache, object: Value) {
    assert!(cache.observe_child(ChildKind::ConfigMap, serde_json::from_value(object).unwrap()));
}

#[tokio::test]
async fn at_rest_there_is_no_request_at_all() {
    let (ctx, log) = context(vec![]);
    observe(&ctx.cache, stored("1", "5"));
    for _ in 0..3 {
        let object = apply(&ctx, "market", &config_map("1")).await.unwrap();
        assert_eq!(object.metadata.resource_version.as_deref(), Some("5"));
    }
    assert_eq!(methods(&log), Vec::<String>::new());
    assert_eq!(ctx.metrics.applies.with_label_values(&["ConfigMap", "unchanged"]).get(), 3);
}

#[tokio::test]
async fn a_change_is_one_forced_apply_and_then_there_is_rest() {
    let (ctx, log) = context(vec![(200, stored("2", "6"))]);
    observe(&ctx.cache, stored("1", "5"));
    apply(&ctx, "market", &config_map("2")).await.unwrap();
    apply(&ctx, "market", &config_map("2")).await.unwrap();
    let seen = log.lock().unwrap().clone();
    assert_eq!(seen.len(), 1, "the answer is in the cache before the watch brings it: {seen:?}");
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("PATCH", "/api/v1/namespaces/acme-prod/configmaps/book")
    );
    assert!(
        seen[0].query.contains("force=true") && seen[0].query.contains("fieldManager=paddock%2Fmarket"),
        "{}",
        seen[0].query
    );
    assert!(seen[0].query.contains("fieldValidation=Strict"));
    let mut guarded = config_map("2");
    guarded["metadata"]["uid"] = json!("u1");
    assert_eq!(seen[0].body, guarded, "of the very object that was compared");
}

#[tokio::test]
async fn a_new_object_is_made_by_a_request_that_touches_none() {
    let (ctx, log) = context(vec![(201, stored("1", "5"))]);
    apply(&ctx, "market", &config_map("1")).await.unwrap();
    let seen = log.lock().unwrap().clone();
    assert_eq!(methods(&log), ["PATCH"]);
    assert!(!seen[0].query.contains("force=true"), "somebody else's object is not taken over: {}", seen[0].query);
    let mut guarded = config_map("1");
    guarded["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(seen[0].body, guarded);
    let (ctx, _) = context(vec![(409, failure(409)), (404, failure(404))]);
    let fault = apply(&ctx, "market", &config_map("1")).await.unwrap_err();
    assert_eq!(fault.category, Category::Conflict, "made by another, and gone since");
}

#[tokio::test]
async fn a_secret_that_nobody_listed_is_asked_for_first() {
    let mut secret = config_map("1");
    secret["kind"] = json!("Secret");
    let (ctx, log) = context(vec![(200, secret.clone())]);
    let ctx = Ctx { cache: Cache::new(), ..ctx };
    apply(&ctx, "market", &secret).await.ok();
    assert_eq!(methods(&log)[0], "GET");
}

#[tokio::test]
async fn an_object_of_someone_else_is_left_alone() {
    let mut foreign = stored("1", "5");
    foreign["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "Helm"});
    let (ctx, log) = context(vec![(409, failure(409)), (200, foreign)]);
    let fault = apply(&ctx, "market", &config_map("2")).await.unwrap_err();
    assert_eq!(fault.category, Category::NotOurs);
    assert!(fault.message.contains("ConfigMap acme-prod/book"), "{fault}");
    assert_eq!(methods(&log), ["PATCH", "GET"]);
}

#[tokio::test]
async fn an_object_of_ours_that_the_cache_does_not_show_yet_is_not_written_again() {
    let (ctx, log) = context(vec![(409, failure(409)), (200, stored("1", "5"))]);
    apply(&ctx, "market", &config_map("1")).await.unwrap();
    assert_eq!(methods(&log), ["PATCH", "GET"]);
}

#[tokio::test]
async fn drift_is_removed_over_the_compared_version_only() {
    let mut drifted = stored("1", "7");
    drifted["data"]["evil"] = json!("x");
    drifted["metadata"]["managedFields"].as_array_mut().unwrap().push(json!(
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:data": {"f:evil": {}}}}
    ));
    let (ctx, log) = context(vec![(200, stored("1", "8"))]);
    observe(&ctx.cache, drifted.clone());
    apply(&ctx, "market", &config_map("1")).await.unwrap();
    // The event about it goes out by itself.
    let seen: Vec<Seen> = log.lock().unwrap().iter().filter(|seen| seen.method != "POST").cloned().collect();
    assert_eq!(seen.len(), 1, "nothing of ours changed, so nothing is applied");
    assert_eq!(
        seen[0].body,
        json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}, {"op": "remove", "path": "/data/evil"}])
    );
    assert_eq!(ctx.metrics.applies.with_label_values(&["ConfigMap", "drift_removed"]).get(), 1);
    let (ctx, _) = context(vec![(409, failure(409))]);
    observe(&ctx.cache, drifted);
    assert_eq!(apply(&ctx, "market", &config_map("1")).await.unwrap_err().category, Category::Conflict);
}

#[tokio::test]
async fn objects_that_end_missing_apis_and_defects_are_told_apart() {
    let (ctx, log) = context(vec![]);
    let mut ending = stored("1", "5");
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    observe(&ctx.cache, ending);
    assert_eq!(apply(&ctx, "market", &config_map("2")).await.unwrap_err().category, Category::Terminating);

    let bare = Ctx { cache: Cache::new(), ..context(vec![]).0 };
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": "n", "labels": {"app.kubernetes.io/managed-by": "paddock"}}});
    assert_eq!(apply(&bare, "x", &route).await.unwrap_err().category, Category::KindMissing);

    for (path, value) in [
        ("/metadata/labels", json!({})),
        ("/kind", json!("Node")),
        ("/metadata/namespace", Value::Null),
        ("/metadata/name", Value::Null),
    ] {
        let mut object = config_map("1");
        *object.pointer_mut(path).unwrap() = value;
        assert_eq!(apply(&ctx, "market", &object).await.unwrap_err().category, Category::Panic, "{path}");
    }
    assert_eq!(methods(&log), Vec::<String>::new());
}

#[tokio::test]
async fn only_the_leader_writes() {
    let (ctx, log) = context(vec![(404, failure(404))]);
    let ctx = Ctx { leader: crate::leader::Leadership::new(), ..ctx };
    observe(&ctx.cache, stored("1", "5"));
    assert_eq!(apply(&ctx, "market", &config_map("2")).await.unwrap_err().category, Category::NotLeader);
    let labels = [("app.kubernetes.io/managed-by", "paddock")];
    let fault = prune(&ctx, &[ChildKind::ConfigMap], None, &labels, &BTreeSet::new()).await.unwrap_err();
    assert_eq!(fault.category, Category::NotLeader);
    assert_eq!(methods(&log), Vec::<String>::new());
}

#[tokio::test]
async fn prunes_ours_by_uid_and_nothing_else() {
    let (ctx, log) = context(vec![(200, json!({"kind": "Status", "status": "Success"})), (404, failure(404))]);
    let named = |name: &str, labels: Value| {
        let mut object = stored("1", "5");
        object["metadata"]["name"] = json!(name);
        object["metadata"]["uid"] = json!(format!("uid-{name}"));
        object["metadata"]["labels"] = labels;
        object
    };
    let ours = json!({"app.kubernetes.io/managed-by": "paddock", "x": "1"});
    observe(&ctx.cache, named("kept", ours.clone()));
    observe(&ctx.cache, named("old", ours.clone()));
    observe(&ctx.cache, named("older", ours.clone()));
    observe(&ctx.cache, named("other", json!({"app.kubernetes.io/managed-by": "paddock", "x": "2"})));
    observe(&ctx.cache, named("theirs", json!({"x": "1"})));
    let keep = BTreeSet::from([ObjectKey::new(ChildKind::ConfigMap, Some("acme-prod"), "kept")]);
    let kinds = [ChildKind::ConfigMap, ChildKind::Namespace, ChildKind::DatabaseClaim];
    assert_eq!(
        prune(&ctx, &kinds, Some("acme-prod"), &[("x", "1")], &keep).await.unwrap(),
        1,
        "one had gone by itself"
    );
    let seen = log.lock().unwrap().clone();
    let paths: Vec<_> = seen.iter().map(|seen| seen.path.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(paths, ["old", "older"]);
    assert_eq!(seen[0].body["preconditions"]["uid"], "uid-old");
    assert_eq!(prune(&ctx, &kinds, None, &[], &keep).await.unwrap_err().category, Category::Panic);
}

fn tenant() -> Tenant {
    serde_json::from_value(json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant",
        "metadata": {"name": "acme", "uid": "t", "resourceVersion": "3", "generation": 1},
        "spec": {"displayName": "Acme", "licences": [{"name": "m", "jurisdiction": "MT"}], "currencies": ["EUR"], "environments": []},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }))
    .unwrap()
}

#[tokio::test]
async fn a_status_is_written_only_when_it_says_something_new() {
    let mut answer = serde_json::to_value(tenant()).unwrap();
    answer["metadata"]["resourceVersion"] = json!("4");
    let (ctx, log) = context(vec![(200, answer), (409, failure(409)), (404, failure(404))]);
    let tenant = tenant();
    ctx.cache.observe(tenant.clone());
    let mut status = serde_json::to_value(&tenant.status).unwrap();
    status["conditions"][0]["lastTransitionTime"] = json!("2026-05-05T00:00:00Z");
    write_status(&ctx, &tenant, status.clone()).await.unwrap();
    assert_eq!(methods(&log), Vec::<String>::new());
    status["conditions"][0]["status"] = json!("False");
    write_status(&ctx, &tenant, status.clone()).await.unwrap();
    let seen = log.lock().unwrap().clone();
    assert_eq!(seen[0].path, "/apis/paddock.bet/v1alpha1/tenants/acme/status");
    assert_eq!(seen[0].body["metadata"]["resourceVersion"], "3", "only over the state that it was computed from");
    assert_eq!(ctx.cache.get::<Tenant>(None, "acme").unwrap().metadata.resource_version.as_deref(), Some("4"));
    assert_eq!(write_status(&ctx, &tenant, status.clone()).await.unwrap_err().category, Category::Conflict);
    write_status(&ctx, &tenant, status).await.unwrap();
}

#[tokio::test]
async fn the_finalizer_is_added_and_removed_over_the_version_that_was_read() {
    let (ctx, log) = context(vec![(200, json!({})), (404, failure(404))]);
    let mut object = tenant();
    crate::kube::finalizer::remove(&ctx, &object).await.unwrap();
    crate::kube::finalizer::add(&ctx, &object).await.unwrap();
    object.metadata.finalizers = Some(vec!["x/y".into(), "paddock.bet/cleanup".into()]);
    crate::kube::finalizer::add(&ctx, &object).await.unwrap();
    crate::kube::finalizer::remove(&ctx, &object).await.unwrap();
    let bodies: Vec<_> = log.lock().unwrap().iter().map(|seen| seen.body.clone()).collect();
    let guard = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "3"});
    assert_eq!(
        bodies,
        [
            json!([guard, {"op": "add", "path": "/metadata/finalizers", "value": ["paddock.bet/cleanup"]}]),
            json!([guard, {"op": "remove", "path": "/metadata/finalizers/1"}]),
        ]
    );
}
