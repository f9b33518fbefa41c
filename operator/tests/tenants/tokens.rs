//! Tokens by which the components of an environment know each other.

use crate::world::World;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use kube::api::DeleteParams;
use paddock_operator::issuer::IssuerKeys;
use paddock_operator::kube::ChildKind;
use paddock_service::{Allowed, CALLER_HEADER, Callers};
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// The keys of the token issuer are there as the apiserver has them, follow a rotation, are repaired, and rest.
pub(crate) async fn token_issuer_is_published_and_followed(world: &World) {
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
    world.ctx.issuer.ask(&world.client).await.unwrap();
    world.another_look_is_silent("acme").await;
    callers_are_known_by_real_tokens(world, &published).await;
}

/// What the apiserver issues to pods is what services take, by the published keys alone.
pub(crate) async fn callers_are_known_by_real_tokens(world: &World, published: &Value) {
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
