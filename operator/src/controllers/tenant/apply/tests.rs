//! A pass over an environment whose cache is behind, before an apiserver that answers as the test says.

use super::super::build::fixtures::{identity, surroundings, tenant};
use super::*;
use crate::kube::Cache;
use crate::settings::Settings;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Mutex;

type Asked = Arc<Mutex<Vec<String>>>;

/// A context of an empty cache, and what is asked of its apiserver.
fn context(answer: impl Fn(&Cache, &Method) -> (u16, Value) + Clone + Send + 'static) -> (Ctx, Asked) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (cache, asked) = (Cache::new(), Asked::default());
    let (seen, log) = (cache.clone(), asked.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        log.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
        let (code, answer) = answer(&seen, request.method());
        let answer = Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer).unwrap())).unwrap();
        async move { Ok::<_, Infallible>(answer) }
    });
    let ctx = Ctx::detached(Client::new(service, "default"), Settings::default()).unwrap();
    (Ctx { cache, ..ctx }, asked)
}

fn pass(tenant: &Tenant) -> Applied<'_> {
    Applied {
        identity: identity(),
        spec: &tenant.spec.environments[0],
        services: Vec::new(),
        wanted: None,
        findings: Vec::new(),
        retry: None,
        again: None,
    }
}

#[tokio::test]
async fn a_host_that_was_given_up_is_not_held_any_more() {
    let tenant = tenant(json!([{"name": "prod", "class": "Production", "release": "r"}]));
    for (code, outcome) in [(200, Ok(())), (404, Ok(())), (409, Err(Category::Conflict))] {
        let live = serde_json::to_value(&tenant).unwrap();
        let ended = json!({"kind": "Status", "status": "Failure", "code": code, "reason": "", "message": ""});
        let (ctx, asked) = context(move |_, method| match *method {
            Method::GET => (200, live.clone()),
            _ => (code, if code == 200 { json!({}) } else { ended.clone() }),
        });
        let around = surroundings();
        let mut claim = domain_claim::claim(&identity(), "bet.acme.example", &around);
        claim.metadata.uid = Some("1".into());
        ctx.cache.observe_child(ChildKind::ConfigMap, claim);
        let confirmed = Confirmed::new(&ctx, &tenant);
        let freed = free_domains(&ctx, &around, &confirmed, "acme", &tenant.spec.environments).await;
        assert_eq!(freed.map_err(|fault| fault.category), outcome, "{code}");
        assert!(asked.lock().unwrap().last().unwrap().starts_with("DELETE "));
        let held = ctx.cache.child(ChildKind::ConfigMap, Some("paddock-system"), "domain.bet.acme.example");
        // The environment that it moves to asks the apiserver; one that stays is given up by another look.
        assert_eq!(held.is_none(), outcome.is_ok(), "{code}");
    }
}

#[tokio::test]
async fn listeners_that_were_not_listed_in_time_are_left_alone() {
    let tenant = tenant(json!([{
        "name": "prod", "class": "Production", "release": "r",
        "domains": [{"host": "a.example", "tls": {"secretName": "own"}}, {"host": "b.example"}],
    }]));
    // They come while somebody looks for the certificate of a host, which cannot be read.
    let (ctx, asked) = context(|cache, _| {
        cache.set_ready();
        (
            503,
            json!({"kind": "Status", "status": "Failure", "code": 503, "reason": "ServiceUnavailable", "message": ""}),
        )
    });
    let around = surroundings();
    for host in ["a.example", "b.example"] {
        ctx.cache.observe_child(ChildKind::ConfigMap, domain_claim::claim(&identity(), host, &around));
    }
    let mut pass = pass(&tenant);
    hosts::domains(&ctx, &around, &mut pass).await;
    let asked = asked.lock().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|it| it.starts_with("GET ")), "no host is taken away: {asked:?}");
    let told: Vec<&str> = pass.findings.iter().map(|finding| finding.reason).collect();
    assert!(told.contains(&"KindMissing"), "{told:?}");
}

#[tokio::test]
async fn a_service_that_was_just_made_counts_before_the_watch_shows_it() {
    let tenant = tenant(json!([{"name": "prod", "class": "Production", "release": "r"}]));
    let service = |uid: Option<&str>| {
        json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService",
            "metadata": {"name": "rates", "namespace": "acme-prod", "uid": uid, "labels": identity().labels()},
            "spec": {"component": "rates", "version": "1", "image": "r.example/p"},
        })
    };
    let made = service(Some("1"));
    let (ctx, _) = context(move |_, _| (201, made.clone()));
    ctx.cache.set_ready();
    let mut pass = pass(&tenant);
    let wanted = serde_json::from_value(service(None)).unwrap();
    run_services(&ctx, &Confirmed::new(&ctx, &tenant), &mut pass, &[wanted]).await;
    let counted: Vec<_> = pass.services.iter().filter_map(|service| service.metadata.uid.as_deref()).collect();
    assert_eq!((counted.as_slice(), pass.findings.as_slice()), (&["1"][..], &[][..]));
}
