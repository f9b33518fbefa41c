//! The HTTP APIs, as the other components and staff use them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;

use argon2::Params;
use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use paddock_account::domain::plan::Movement;
use paddock_account::http::{AppState, CALLERS, backoffice, internal};
use paddock_account::limiter::Limiter;
use paddock_account::password::Passwords;
use paddock_account::staff::StaffTokens;
use paddock_account::store::{Action, Asked, Command};
use paddock_ledger::{AccountCode, Reason};
use paddock_money::Currency;
use paddock_service::{CALLER_HEADER, Callers};
use paddock_test_callers::Issuer;
use serde_json::{Value, json};
use support::Fixture;
use tower::ServiceExt;
use uuid::Uuid;

/// A test key pair: Ed25519, RFC 8410 PKCS#8 of the seed of RFC 8032's test 1, and its public half as a JWKS.
const SEED: &str = "302e020100300506032b6570042204209d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","alg":"EdDSA","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

struct Api {
    fixture: Fixture,
    issuer: Issuer,
    internal: Router,
    backoffice: Router,
}

impl Api {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let tokens =
            StaffTokens::new(JWKS, "https://staff".into(), "backoffice".into(), "acme".into(), "prod".into()).unwrap();
        let state = AppState {
            store: fixture.store.clone(),
            passwords: Passwords::new(2, Params::new(Params::MIN_M_COST, 1, 1, None).unwrap()).unwrap(),
            limiter: Limiter::per_minute(NonZeroU32::new(5).unwrap(), NonZeroU32::new(20).unwrap()),
            staff: Some(Arc::new(tokens)),
            currencies: Arc::new([Currency::EUR, Currency::JPY]),
            session_lifetime_s: 3600,
        };
        let (issuer, folder) = (Issuer::new("k1").unwrap(), tempfile::tempdir().unwrap());
        issuer.publish(folder.path()).unwrap();
        let callers = Callers::new("account", "acme-prod", CALLERS);
        callers.load(folder.path()).unwrap();
        Self { fixture, issuer, internal: internal(state.clone(), &callers), backoffice: backoffice(state) }
    }

    /// As the component whose business it is.
    async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> (StatusCode, Value) {
        let caller = if path.contains("/transfers") { "calculations" } else { "gateway" };
        self.call_as(Some(caller), method, path, token, body).await
    }

    async fn call_as(
        &self,
        caller: Option<&str>,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let router = if path.starts_with("/backoffice") { &self.backoffice } else { &self.internal };
        let mut request = Request::builder().method(method).uri(path);
        if let Some(caller) = caller.filter(|_| path.starts_with("/internal")) {
            request = request.header(CALLER_HEADER, self.issuer.token("acme-prod", caller, "account").unwrap());
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let response = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, None, Some(body)).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, None, None).await
    }

    async fn registered(&self) -> Uuid {
        let (status, body) = self.post("/internal/v1/customers", ann()).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["customerId"].as_str().unwrap().parse().unwrap()
    }

    async fn credit(&self, customer: Uuid, amount: &str) {
        let body = json!({"id": Uuid::new_v4(), "currency": "EUR", "amount": amount, "reason": "cash at the counter"});
        let path = format!("/backoffice/v1/customers/{customer}/credits");
        let (status, body) = self.call(Method::POST, &path, Some(&staff(&["cashier"])), Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
}

fn ann() -> Value {
    json!({"email": "Ann@example.com", "password": "correct horse", "name": "Ann Example", "birthDate": "1990-01-01",
           "country": "GB", "currency": "EUR"})
}

fn claims(roles: &[&str]) -> Value {
    json!({"sub": "carol", "iss": "https://staff", "aud": "backoffice", "exp": jiff::Timestamp::now().as_second() + 60,
           "roles": roles, "tenant": "acme", "environment": "prod"})
}

fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_ed_der(&data_encoding::HEXLOWER.decode(SEED.as_bytes()).unwrap());
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::EdDSA) };
    encode(&header, claims, &key).unwrap()
}

fn staff(roles: &[&str]) -> String {
    signed(&claims(roles))
}

#[tokio::test]
async fn registers_once_and_logs_in() {
    let api = Api::new().await;
    let customer = api.registered().await;
    let mut again = ann();
    again["email"] = "ann@EXAMPLE.com".into();
    let (status, body) = api.post("/internal/v1/customers", again).await;
    assert_eq!((status, body["code"].as_str()), (StatusCode::CONFLICT, Some("email-taken")));
    let events: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT topic, value FROM outbox").fetch_all(&api.fixture.pool).await.unwrap();
    let [(topic, event)] = events.as_slice() else { panic!("one registration, one event: {events:?}") };
    let event: Value = serde_json::from_slice(event).unwrap();
    assert_eq!(
        (topic.as_str(), event["payload"]["customerId"].as_str()),
        ("customers", Some(customer.to_string().as_str()))
    );
    assert!(!event.to_string().contains("example.com"), "no personal data");
    let (status, body) = api.get("/internal/v1/customers/ann/wallet").await;
    assert_eq!((status, body["code"].as_str()), (StatusCode::BAD_REQUEST, Some("malformed-id")));

    let (status, body) =
        api.post("/internal/v1/sessions", json!({"email": "ann@example.com", "password": "wrong horse"})).await;
    assert_eq!((status, body["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("credentials-invalid")));
    let log_in = json!({"email": "ANN@example.com", "password": "correct horse",
                        "context": {"channel": "web", "ip": "10.0.0.1", "country": "GB"}});
    let (status, session) = api.post("/internal/v1/sessions", log_in).await;
    assert_eq!(status, StatusCode::CREATED, "{session}");
    let token = session["token"].as_str().unwrap();
    assert_eq!(session["customerId"], customer.to_string());

    let (status, current) = api.call(Method::GET, "/internal/v1/sessions/current", Some(token), None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(current, json!({"customerId": customer, "currency": "EUR", "country": "GB", "state": "active"}));

    let raw: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions WHERE token_digest::text LIKE '%' || $1 || '%'")
        .bind(token)
        .fetch_one(&api.fixture.pool)
        .await
        .unwrap();
    assert_eq!(raw, 0);
    let (status, _) = api.call(Method::DELETE, "/internal/v1/sessions/current", Some(token), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = api.call(Method::GET, "/internal/v1/sessions/current", Some(token), None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "a closed session ends at once");
}

#[tokio::test]
async fn log_ins_are_limited_per_address_and_ip() {
    let api = Api::new().await;
    let mut last = StatusCode::OK;
    for _ in 0..6 {
        let body = json!({"email": "ann@example.com", "password": "wrong horse", "context": {"ip": "10.0.0.1"}});
        last = api.post("/internal/v1/sessions", body).await.0;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let other = json!({"email": "ann@example.com", "password": "wrong horse", "context": {"ip": "10.0.0.2"}});
    assert_eq!(api.post("/internal/v1/sessions", other).await.0, StatusCode::UNAUTHORIZED);
}

/// PostgreSQL holds no NUL: that is no failure of ours.
#[tokio::test]
async fn a_log_in_with_nul_is_malformed() {
    let api = Api::new().await;
    api.registered().await;
    for (email, device) in [("ann\0@example.com", "phone"), ("ann@example.com", "ph\0ne")] {
        let body = json!({"email": email, "password": "correct horse", "context": {"deviceId": device}});
        let (status, problem) = api.post("/internal/v1/sessions", body).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (StatusCode::BAD_REQUEST, Some("value-not-storable")),
            "{problem}"
        );
    }
}

/// Each unknown email address costs a hash too: one network must not keep the others from logging in.
#[tokio::test]
async fn a_network_tries_and_registers_only_so_often() {
    let api = Api::new().await;
    let log_in = |number: usize, ip: &str| json!({"email": format!("{number}@example.com"), "password": "wrong horse", "context": {"ip": ip}});
    let register = |number: usize, ip: &str| {
        let mut body = ann();
        body["email"] = format!("{number}@example.com").into();
        body["context"] = json!({"ip": ip});
        body
    };
    for (path, body, taken) in [
        ("/internal/v1/sessions", &log_in as &dyn Fn(usize, &str) -> Value, StatusCode::UNAUTHORIZED),
        ("/internal/v1/customers", &register, StatusCode::CREATED),
    ] {
        // One more is allowed every three seconds: a slow machine takes a few more.
        let mut number = 0;
        let (status, problem) = loop {
            let answer = api.post(path, body(number, "10.0.0.1")).await;
            if answer.0 != taken || number == 100 {
                break answer;
            }
            number += 1;
        };
        assert!(number >= 20, "{path} {number}");
        assert_eq!(
            (status, problem["code"].as_str()),
            (StatusCode::TOO_MANY_REQUESTS, Some("too-many-attempts")),
            "{path}"
        );
        assert_eq!(api.post(path, body(101, "10.0.0.2")).await.0, taken, "{path}: another network");
    }
}

#[tokio::test]
async fn a_stake_goes_from_available_over_held_to_at_stake() {
    let api = Api::new().await;
    let customer = api.registered().await;
    api.credit(customer, "20.00").await;
    let hold = json!({"id": Uuid::new_v4(), "customerId": customer, "kind": "hold", "currency": "EUR", "amount": "5.00",
                      "reason": "bet-stake"});
    let path = format!("/internal/v1/transfers/{}/post", hold["id"].as_str().unwrap());
    let wallet = format!("/internal/v1/customers/{customer}/wallet");
    let figures = |body: &Value| {
        let wallet = body["wallets"][0].clone();
        ["available", "held", "atStake"].map(|figure| wallet[figure].as_str().unwrap().to_owned())
    };

    let (status, made) = api.post("/internal/v1/transfers", hold.clone()).await;
    assert_eq!((status, made["status"].as_str()), (StatusCode::CREATED, Some("pending")), "{made}");
    assert_eq!(figures(&api.get(&wallet).await.1), ["15.00", "5.00", "0.00"]);

    let resolve = json!({"id": Uuid::new_v4()});
    for _repetition in 0..2 {
        let (status, posted) = api.post(&path, resolve.clone()).await;
        assert_eq!((status, posted["status"].as_str()), (StatusCode::OK, Some("posted")), "{posted}");
    }
    assert_eq!(figures(&api.get(&wallet).await.1), ["15.00", "0.00", "5.00"]);

    let (status, same) = api.post("/internal/v1/transfers", hold.clone()).await;
    assert_eq!((status, same["status"].as_str()), (StatusCode::OK, Some("posted")), "its present state: {same}");
    let mut other = hold.clone();
    other["amount"] = "6.00".into();
    let (status, refused) = api.post("/internal/v1/transfers", other).await;
    assert_eq!((status, refused["code"].as_str()), (StatusCode::UNPROCESSABLE_ENTITY, Some("idempotency-key-reused")));

    let win = json!({"id": Uuid::new_v4(), "customerId": customer, "kind": "transfer", "from": "house:bets",
                     "to": "player:cash", "currency": "EUR", "amount": "5.00", "reason": "bet-return"});
    assert_eq!(api.post("/internal/v1/transfers", win).await.0, StatusCode::CREATED);
    assert_eq!(figures(&api.get(&wallet).await.1), ["20.00", "0.00", "0.00"]);

    let (_, first) = api.get(&format!("/internal/v1/customers/{customer}/entries?limit=3")).await;
    let changes: Vec<&str> =
        first["entries"].as_array().unwrap().iter().map(|e| e["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["5.00", "0.00", "-5.00"], "newest first");
    let cursor = first["nextCursor"].as_str().unwrap();
    let (_, rest) = api.get(&format!("/internal/v1/customers/{customer}/entries?cursor={cursor}")).await;
    assert_eq!(rest["entries"].as_array().unwrap().len(), 1);
    assert_eq!(rest["entries"][0]["reason"], "cashier-credit");
    assert_eq!(rest.get("nextCursor"), None);
}

#[tokio::test]
async fn refuses_what_funds_registry_or_state_forbid() {
    let api = Api::new().await;
    let customer = api.registered().await;
    let hold = |amount: &str, currency: &str| {
        json!({"id": Uuid::new_v4(), "customerId": customer, "kind": "hold", "currency": currency, "amount": amount,
               "reason": "bet-stake"})
    };
    let code =
        async |body: Value| api.post("/internal/v1/transfers", body).await.1["code"].as_str().unwrap().to_owned();
    assert_eq!(code(hold("0.01", "EUR")).await, "insufficient-funds");
    assert_eq!(code(hold("0.001", "EUR")).await, "amount-invalid");
    assert_eq!(code(hold("-1.00", "EUR")).await, "amount-not-positive");
    assert_eq!(code(hold("1.00", "USD")).await, "currency-not-offered");
    let mut gift = hold("1.00", "EUR");
    gift["kind"] = "transfer".into();
    (gift["from"], gift["to"]) = ("house:cashier".into(), "player:cash".into());
    gift["reason"] = "cashier-credit".into();
    assert_eq!(code(gift.clone()).await, "reason-reserved");
    gift["reason"] = "bet-loss".into();
    assert_eq!(code(gift).await, "reason-mismatch");
    let mut stranger = hold("1.00", "EUR");
    stranger["customerId"] = Uuid::new_v4().to_string().into();
    assert_eq!(code(stranger).await, "customer-not-found");

    api.credit(customer, "10.00").await;
    let (_, session) =
        api.post("/internal/v1/sessions", json!({"email": "ann@example.com", "password": "correct horse"})).await;
    let path = format!("/backoffice/v1/customers/{customer}/state");
    let body = json!({"state": "suspended", "reason": "asked by the customer"});
    let (status, refused) = api.call(Method::PUT, &path, Some(&staff(&["cashier"])), Some(body.clone())).await;
    assert_eq!((status, refused["code"].as_str()), (StatusCode::FORBIDDEN, Some("role-missing")));
    for _ in 0..2 {
        let (status, _) = api.call(Method::PUT, &path, Some(&staff(&["compliance"])), Some(body.clone())).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    let audit: Vec<(Value, Value)> =
        sqlx::query_as("SELECT before, after FROM audit WHERE what ->> 'call' = 'set-state' AND what ->> 'refused' IS NULL ORDER BY seq")
            .fetch_all(&api.fixture.pool)
            .await
            .unwrap();
    let [active, suspended] = ["active", "suspended"].map(|state| json!({"state": state}));
    let changed_nothing = (suspended.clone(), suspended.clone());
    assert_eq!(audit, [(active, suspended), changed_nothing], "also the call that changed nothing");
    assert_eq!(code(hold("1.00", "EUR")).await, "customer-not-allowed");
    let (status, _) = api.call(Method::GET, "/internal/v1/sessions/current", session["token"].as_str(), None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "a suspension ends all sessions");
}

/// The brand gives a currency up while bets in it are open.
#[tokio::test]
async fn bets_in_a_currency_that_is_no_longer_offered_are_paid() {
    let api = Api::new().await;
    let customer = api.registered().await;
    let asked = |debit, credit, reason| {
        let movement = Movement { debit, credit, amount: 1000, reason };
        Asked { customer, currency: Currency::USD, movement }
    };
    let stake = Uuid::new_v4();
    for (id, action) in [
        (Uuid::new_v4(), Action::Transfer(asked(AccountCode::HousePsp, AccountCode::PlayerCash, Reason::Deposit))),
        (stake, Action::Hold(asked(AccountCode::PlayerCash, AccountCode::HouseBets, Reason::BetStake))),
    ] {
        api.fixture.store.apply(&Command { id, action }).await.unwrap();
    }
    let post = api.post(&format!("/internal/v1/transfers/{stake}/post"), json!({"id": Uuid::new_v4()})).await;
    assert_eq!(post.0, StatusCode::OK, "{}", post.1);
    let transfer = |from: &str, to: &str, reason: &str| {
        json!({"id": Uuid::new_v4(), "customerId": customer, "kind": "transfer", "from": from, "to": to,
               "currency": "USD", "amount": "10.00", "reason": reason})
    };
    for (from, to, reason) in [
        ("house:bets", "player:cash", "bet-return"),
        ("house:pnl", "player:cash", "bet-win"),
        ("player:cash", "house:pnl", "bet-rollback"),
    ] {
        let (status, body) = api.post("/internal/v1/transfers", transfer(from, to, reason)).await;
        assert_eq!(status, StatusCode::CREATED, "{reason}: {body}");
    }
    let (status, body) = api.post("/internal/v1/transfers", transfer("house:psp", "player:cash", "deposit")).await;
    assert_eq!((status, body["code"].as_str()), (StatusCode::UNPROCESSABLE_ENTITY, Some("currency-not-offered")));
}

#[tokio::test]
async fn staff_credits_need_the_right_token_and_are_audited() {
    let api = Api::new().await;
    let customer = api.registered().await;
    let path = format!("/backoffice/v1/customers/{customer}/credits");
    let body = json!({"id": Uuid::new_v4(), "currency": "EUR", "amount": "10.00", "reason": "goodwill"});
    let call = async |token: Option<&str>| api.call(Method::POST, &path, token, Some(body.clone())).await.0;
    assert_eq!(call(None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(call(Some("nonsense")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(call(Some(&staff(&["trader"]))).await, StatusCode::FORBIDDEN);
    for (claim, value) in [("tenant", json!("other")), ("environment", json!("uat"))] {
        let mut wrong = claims(&["cashier"]);
        wrong[claim] = value;
        assert_eq!(call(Some(&signed(&wrong))).await, StatusCode::FORBIDDEN, "{claim}");
    }
    for (claim, value) in [
        ("iss", json!("https://evil")),
        ("aud", json!("shop")),
        ("exp", json!(1_000_000)),
        ("nbf", json!(jiff::Timestamp::now().as_second() + 3600)),
    ] {
        let mut wrong = claims(&["cashier"]);
        wrong[claim] = value;
        assert_eq!(call(Some(&signed(&wrong))).await, StatusCode::UNAUTHORIZED, "{claim}");
    }
    let symmetric =
        encode(&Header::new(Algorithm::HS256), &claims(&["cashier"]), &EncodingKey::from_secret(b"k1")).unwrap();
    assert_eq!(call(Some(&symmetric)).await, StatusCode::UNAUTHORIZED, "only public-key signatures");
    assert_eq!(call(Some(&staff(&["cashier"]))).await, StatusCode::CREATED);
    assert_eq!(call(Some(&staff(&["cashier"]))).await, StatusCode::OK, "a repetition credits nothing");
    let dollars = json!({"id": Uuid::new_v4(), "currency": "USD", "amount": "10.00", "reason": "goodwill"});
    let (status, _) = api.call(Method::POST, &path, Some(&staff(&["cashier"])), Some(dollars)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);

    let audit: Vec<(String, String, Value, Value, Value)> =
        sqlx::query_as("SELECT who, subject, what, before, after FROM audit ORDER BY seq")
            .fetch_all(&api.fixture.pool)
            .await
            .unwrap();
    let [refused, (who, subject, what, before, after), repetition, wrong] = audit.as_slice() else {
        panic!("one call, one line: {audit:?}")
    };
    assert_eq!(
        (refused.0.as_str(), &refused.2["refused"], &refused.2["amount"]),
        ("carol", &json!("role-missing"), &json!("10.00"))
    );
    assert_eq!((&wrong.2["refused"], &wrong.3, &wrong.4), (&json!("currency-not-offered"), &Value::Null, &Value::Null));
    assert_eq!((who.as_str(), subject.as_str()), ("carol", format!("customer/{customer}").as_str()));
    assert_eq!(what["reason"], "goodwill");
    assert_eq!((&before["available"], &after["available"]), (&json!("0.00"), &json!("10.00")));
    let nothing = (who.clone(), subject.clone(), what.clone(), after.clone(), after.clone());
    assert_eq!(*repetition, nothing, "the same call, which changed nothing");
}

#[tokio::test]
async fn components_without_a_token_or_without_a_place_in_the_table_are_refused() {
    let api = Api::new().await;
    let customer = api.registered().await;
    api.credit(customer, "20.00").await;
    let hold = json!({"id": Uuid::new_v4(), "customerId": customer, "kind": "hold", "currency": "EUR", "amount": "5.00",
                      "reason": "bet-stake"});
    let transfers = "/internal/v1/transfers";
    let place = async |caller: Option<&str>, path: &str| {
        let (status, body) = api.call_as(caller, Method::POST, path, None, Some(hold.clone())).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |status, code: &str| (status, code.to_owned());
    assert_eq!(place(None, transfers).await, refused(StatusCode::UNAUTHORIZED, "caller-token-missing"));
    let not_allowed = refused(StatusCode::FORBIDDEN, "caller-not-allowed");
    for caller in ["gateway", "rates", "account"] {
        assert_eq!(place(Some(caller), transfers).await, not_allowed, "{caller} moves no money");
    }
    let post = format!("{transfers}/{}/post", hold["id"].as_str().unwrap());
    assert_eq!(place(Some("settlement"), &post).await, not_allowed);
    let wallet = format!("/internal/v1/customers/{customer}/wallet");
    let (status, _) = api.call_as(Some("settlement"), Method::GET, &wallet, None, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (_, figures) = api.get(&wallet).await;
    assert_eq!(figures["wallets"][0]["available"], "20.00", "nothing was held");

    // A session's token is no component's, and the reverse.
    let (status, body) = api.call_as(None, Method::GET, "/internal/v1/sessions/current", Some("guess"), None).await;
    assert_eq!((status, body["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("caller-token-missing")));
    let (status, body) = api.get("/internal/v1/sessions/current").await;
    assert_eq!((status, body["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("unauthorized")));
}

#[tokio::test]
async fn every_row_of_the_table_is_a_route() {
    let api = Api::new().await;
    for &(caller, method, route) in CALLERS {
        let path = route.replace("{id}", &Uuid::nil().to_string());
        let method = method.parse().unwrap();
        let (status, body) = api.call_as(Some(caller), method, &path, None, None).await;
        assert!(!body["code"].as_str().unwrap_or_default().starts_with("caller-"), "{caller} {route}: {body}");
        assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{caller} {route}");
    }
}
