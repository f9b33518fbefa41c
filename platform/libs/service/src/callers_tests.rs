use axum::body::Body;
use axum::routing::{get, post};
use jsonwebtoken::{EncodingKey, Header, encode};
use paddock_test_callers::{Issuer, publish};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::{ProblemDocument, Readiness};

const TABLE: &[Allowed] =
    &[("gateway", "GET", "/internal/v1/customers/{id}"), ("settlement", "POST", "/internal/v1/transfers")];

struct World {
    folder: tempfile::TempDir,
    issuer: Issuer,
    callers: Callers,
    app: Router,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new("k1").unwrap();
    issuer.publish(folder.path()).unwrap();
    let callers = Callers::new("account", "acme-prod", TABLE);
    callers.load(folder.path()).unwrap();
    let routes = Router::new()
        .route("/customers/{id}", get(async || "a customer").delete(async || "gone"))
        .route("/transfers", post(async || "moved"));
    let app = callers.guard(Router::new().nest("/internal/v1", routes));
    World { folder, issuer, callers, app }
}

impl World {
    async fn call(&self, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(CALLER_HEADER, token);
        }
        let response = self.app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let code = serde_json::from_slice::<ProblemDocument>(&body).map(|problem| problem.code);
        (status, code.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned()))
    }

    async fn customer(&self, token: &str) -> (u16, String) {
        self.call("GET", "/internal/v1/customers/7", Some(token)).await
    }

    fn token(&self, caller: &str) -> String {
        self.issuer.token("acme-prod", caller, "account").unwrap()
    }

    /// What the gateway gets with its own claims but for these.
    async fn with_claims(&self, change: impl FnOnce(&mut Value)) -> (u16, String) {
        let mut claims = Issuer::claims("acme-prod", "gateway", "account");
        change(&mut claims);
        self.customer(&self.issuer.sign(&claims).unwrap()).await
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), poll).await.is_ok(), "never: {what}");
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn only_callers_of_the_table_come_in() {
    let world = world();
    let gateway = world.token("gateway");
    assert_eq!(world.customer(&gateway).await, (200, "a customer".to_owned()));
    assert_eq!(world.customer(&gateway).await.0, 200, "remembered");
    let settlement = world.token("settlement");
    assert_eq!(world.call("POST", "/internal/v1/transfers", Some(&settlement)).await, (200, "moved".to_owned()));

    let not_allowed = refused(403, "caller-not-allowed");
    assert_eq!(world.customer(&settlement).await, not_allowed, "a route of another");
    assert_eq!(world.call("DELETE", "/internal/v1/customers/7", Some(&gateway)).await, not_allowed, "a method");
    assert_eq!(world.customer(&world.token("feed")).await, not_allowed, "a component that the table does not have");
    assert_eq!(world.call("GET", "/internal/v1/nowhere", Some(&gateway)).await, not_allowed);
    assert_eq!(world.call("GET", "/internal/v1/customers/7", None).await, refused(401, "caller-token-missing"));
}

#[tokio::test]
async fn every_claim_counts() {
    let world = world();
    let invalid = refused(401, "caller-token-invalid");
    let now = jiff::Timestamp::now().as_second();
    assert_eq!(world.with_claims(|_| {}).await.0, 200);
    assert_eq!(world.with_claims(|claims| claims["aud"] = json!(["rates"])).await, invalid, "for another component");
    assert_eq!(world.with_claims(|claims| claims["iss"] = json!("https://elsewhere")).await, invalid);
    assert_eq!(world.with_claims(|claims| claims["exp"] = json!(now - 60)).await, invalid);
    assert_eq!(world.with_claims(|claims| claims["nbf"] = json!(now + 600)).await, invalid);
    for claim in ["aud", "iss", "exp", "kubernetes.io"] {
        let without = world.with_claims(|claims| drop(claims.as_object_mut().unwrap().remove(claim))).await;
        assert_eq!(without, invalid, "without {claim}");
    }
    let other = world.with_claims(|claims| claims["kubernetes.io"]["namespace"] = json!("acme-dev")).await;
    assert_eq!(other, refused(403, "caller-of-other-environment"));
}

#[tokio::test]
async fn a_remembered_token_ends_with_its_time() {
    let world = world();
    let mut claims = Issuer::claims("acme-prod", "gateway", "account");
    // Within the leeway for two seconds more.
    claims["exp"] = json!(jiff::Timestamp::now().as_second() - i64::try_from(LEEWAY).unwrap() + 2);
    let token = world.issuer.sign(&claims).unwrap();
    assert_eq!(world.customer(&token).await.0, 200);
    until("it ends", async || world.customer(&token).await.0 == 401).await;
}

#[tokio::test]
async fn only_signatures_of_the_issuer_count() {
    let world = world();
    let claims = Issuer::claims("acme-prod", "gateway", "account");
    let invalid = refused(401, "caller-token-invalid");
    let stranger = Issuer::new("k1").unwrap();
    assert_eq!(world.customer(&stranger.sign(&claims).unwrap()).await, invalid, "another key of the same id");
    assert_eq!(world.customer(&Issuer::new("k2").unwrap().sign(&claims).unwrap()).await, invalid, "an unknown key");

    // What the token's header says of the algorithm counts for nothing.
    let public = world.issuer.jwk().unwrap();
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
    for secret in [public["x"].as_str().unwrap(), &public.to_string()] {
        let forged = encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
        assert_eq!(world.customer(&forged).await, invalid, "signed with the public key");
    }
    let part = |value: &Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    for algorithm in ["none", "None"] {
        let header = json!({"alg": algorithm, "kid": "k1"});
        assert_eq!(world.customer(&format!("{}.{}.", part(&header), part(&claims))).await, invalid);
    }
    let good = world.token("gateway");
    let (head, signature) = (good.split_once('.').unwrap().0, good.rsplit_once('.').unwrap().1);
    let mut settlement = claims;
    settlement["kubernetes.io"]["serviceaccount"]["name"] = json!("settlement");
    assert_eq!(world.customer(&format!("{head}.{}.{signature}", part(&settlement))).await, invalid, "changed claims");
    for nonsense in ["", "x", "a.b.c", &"a".repeat(MAX_TOKEN + 1)] {
        assert_eq!(world.customer(nonsense).await, invalid);
    }
}

#[tokio::test]
async fn rsa_keys_are_for_rs256_alone() {
    let world = world();
    let made = std::process::Command::new("openssl").args(["genrsa", "2048"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let key = EncodingKey::from_rsa_pem(&made.stdout).unwrap();
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
    jwk.common.key_id = Some("rsa".to_owned());
    publish(world.folder.path(), &[serde_json::to_value(jwk).unwrap()]).unwrap();
    world.callers.load(world.folder.path()).unwrap();
    let claims = Issuer::claims("acme-prod", "gateway", "account");
    for (algorithm, status) in [(Algorithm::RS256, 200), (Algorithm::RS512, 401), (Algorithm::PS256, 401)] {
        let header = Header { kid: Some("rsa".to_owned()), ..Header::new(algorithm) };
        assert_eq!(world.customer(&encode(&header, &claims, &key).unwrap()).await.0, status, "{algorithm:?}");
    }
}

#[tokio::test]
async fn keys_follow_their_file_and_are_never_lost() {
    let world = world();
    let old = world.token("gateway");
    let next = Issuer::new("k2").unwrap();
    let new = next.token("acme-prod", "gateway", "account").unwrap();
    assert_eq!((world.customer(&old).await.0, world.customer(&new).await.0), (200, 401));
    publish(world.folder.path(), &[world.issuer.jwk().unwrap(), next.jwk().unwrap()]).unwrap();
    world.callers.load(world.folder.path()).unwrap();
    assert_eq!((world.customer(&old).await.0, world.customer(&new).await.0), (200, 200));
    publish(world.folder.path(), &[next.jwk().unwrap()]).unwrap();
    world.callers.load(world.folder.path()).unwrap();
    assert_eq!(
        (world.customer(&old).await.0, world.customer(&new).await.0),
        (401, 200),
        "also one that was remembered"
    );

    for broken in ["", "{", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","kid":"k3","k":"AAAA"}]}"#] {
        std::fs::write(world.folder.path().join("jwks.json"), broken).unwrap();
        assert!(world.callers.load(world.folder.path()).is_err(), "{broken}");
        assert_eq!(world.customer(&new).await.0, 200);
    }
}

#[tokio::test]
async fn without_keys_nobody_comes_in_and_the_pod_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new("k1").unwrap();
    let readiness = Readiness::default();
    let callers = Callers::new("account", "acme-prod", TABLE);
    let app = callers.guard(Router::new().route("/internal/v1/transfers", post(async || "moved")));
    let call = async || {
        let token = issuer.token("acme-prod", "settlement", "account").unwrap();
        let request = Request::post("/internal/v1/transfers").header(CALLER_HEADER, token).body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    let gate = readiness.gate("token-issuer", "not read yet");
    let following = tokio::spawn(callers.clone().follow(folder.path().to_owned(), gate));
    until("it says why", async || readiness.missing().iter().any(|line| line.contains("cannot be read"))).await;
    assert_eq!(call().await, 503);
    issuer.publish(folder.path()).unwrap();
    until("the keys come", async || readiness.missing().is_empty()).await;
    assert_eq!(call().await, 200);
    following.abort();
}
