//! The public REST API and the page.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::net::SocketAddr;
use std::time::Instant;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{HeaderMap, Method, Request, StatusCode};
use paddock_events::OfferFreshness;
use serde_json::{Value, json};
use support::{ANN, BOB, Gateway, TOKEN, offer_line};
use tower::ServiceExt;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

impl Gateway {
    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request = request.body(body).unwrap();
        let peer: SocketAddr = "10.0.0.1:4000".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = paddock_gateway::api::app(self.state.clone()).oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], None).await
    }
}

const BEARER: (&str, &str) = ("authorization", "Bearer token-of-ann");

#[tokio::test]
async fn the_brand_is_the_tenants() {
    let gateway = Gateway::new().await;
    let answer = gateway.get("/api/v1/brand").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.json(),
        json!({
            "name": "Acme Bet", "licence": {"name": "mga-1", "jurisdiction": "MT"}, "currencies": ["EUR", "SEK"], "locales": ["en", "sv"]
        })
    );
}

#[tokio::test]
async fn public_gets_have_an_entity_tag_that_saves_the_body() {
    let gateway = Gateway::new().await;
    let first = gateway.get("/api/v1/events/sr:match:1").await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(first.headers["cache-control"], "public, max-age=1");
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    let again = gateway.call(Method::GET, "/api/v1/events/sr:match:1", &[("if-none-match", &tag)], None).await;
    assert_eq!((again.status, again.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    let other = gateway.call(Method::GET, "/api/v1/events/sr:match:2", &[("if-none-match", &tag)], None).await;
    assert_eq!(other.status, StatusCode::OK);
    assert_eq!(gateway.get("/api/v1/events?sport=sr:sport:1&limit=5").await.status, StatusCode::OK);
    assert_eq!(gateway.behind.last(), ("/events?".to_owned(), json!({"sport": "sr:sport:1", "limit": "5"})));
}

#[tokio::test]
async fn what_the_house_believes_stays_inside() {
    let gateway = Gateway::new().await;
    let outcome = gateway.get("/api/v1/events/sr:match:1").await.json()["lines"][0]["outcomes"][0].clone();
    assert_eq!(outcome, json!({"id": "1", "name": "Home", "active": true, "odds": "2.10"}));
}

/// Calculations takes no bet on it either: rates may have answered from a copy that nobody feeds any more.
#[tokio::test]
async fn an_offer_without_heartbeats_is_not_open() {
    let gateway = Gateway::new().await;
    let status = async || gateway.get("/api/v1/events/sr:match:1").await.json()["lines"][0]["status"].clone();
    assert_eq!(status().await, "suspended");
    let beat = json!({"feedPartitions": [0], "at": 1_000, "bookGeneration": 1});
    for (offset, kind, payload) in [(1, "line", offer_line("sr:match:1", 1, "2.10")), (2, "heartbeat", beat)] {
        let message = serde_json::from_value(json!({"type": kind, "payload": payload})).unwrap();
        gateway.state.live.offer(0, offset, message);
    }
    gateway.state.live.look(1_000);
    assert_eq!(status().await, "active");
    gateway.state.live.look(1_000 + OfferFreshness::LIMIT_MS + 1);
    assert_eq!(status().await, "suspended");
}

#[tokio::test]
async fn ids_never_lead_to_another_path() {
    let gateway = Gateway::new().await;
    for path in ["/api/v1/events/..%2Fsports", "/api/v1/events/a%3Fb", "/api/v1/events/a%2Fb", "/api/v1/events/.."] {
        assert_eq!(gateway.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let cursor = "/api/v1/tickets?cursor=a%26customerId%3Db";
    assert_eq!(gateway.call(Method::GET, cursor, &[BEARER], None).await.code(), "malformed-query");
}

#[tokio::test]
async fn problems_of_components_pass_through() {
    let gateway = Gateway::new().await;
    let body = json!({"email": "ann@example.com", "password": "wrong horse"});
    let answer = gateway.call(Method::POST, "/api/v1/sessions", &[], Some(body)).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::UNAUTHORIZED, "credentials-invalid"));
    assert_eq!(answer.headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_log_in_tells_where_it_came_from() {
    let gateway = Gateway::new().await;
    let body = json!({"email": "ann@example.com", "password": "correct horse"});
    let headers = [("x-forwarded-for", "203.0.113.7"), ("x-country", "gb")];
    let answer = gateway.call(Method::POST, "/api/v1/sessions", &headers, Some(body)).await;
    assert_eq!((answer.status, answer.json()["token"].as_str()), (StatusCode::CREATED, Some(TOKEN)));
    assert_eq!(answer.headers["cache-control"], "no-store");
    let context = gateway.behind.last().1["context"].clone();
    assert_eq!((context["ip"].as_str(), context["country"].as_str()), (Some("203.0.113.7"), Some("GB")));
}

#[tokio::test]
async fn a_registration_tells_where_it_came_from_and_is_told_when_to_try_again() {
    let gateway = Gateway::new().await;
    let body = json!({"email": "ann@example.com", "password": "correct horse", "name": "Ann", "birthDate": "1990-01-01",
                      "country": "GB", "currency": "EUR"});
    let headers = [("x-forwarded-for", "203.0.113.7")];
    let answer = gateway.call(Method::POST, "/api/v1/customers", &headers, Some(body)).await;
    assert_eq!(gateway.behind.last().1["context"]["ip"], "203.0.113.7");
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::TOO_MANY_REQUESTS, "too-many-attempts"));
    assert_eq!(answer.headers["retry-after"], "7");
}

#[tokio::test]
async fn sessions_are_asked_for_once_a_second_and_end_at_once_here() {
    let gateway = Gateway::new().await;
    let start = Instant::now();
    for _ in 0..50 {
        assert_eq!(gateway.call(Method::GET, "/api/v1/wallet", &[BEARER], None).await.status, StatusCode::OK);
    }
    assert!(gateway.behind.count("/sessions/current") <= usize::try_from(start.elapsed().as_secs() + 1).unwrap());
    let answer = gateway.call(Method::DELETE, "/api/v1/sessions/current", &[BEARER], None).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(gateway.call(Method::GET, "/api/v1/wallet", &[BEARER], None).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(gateway.get("/api/v1/wallet").await.code(), "unauthorized");
}

#[tokio::test]
async fn a_ticket_goes_on_with_customer_key_and_origin() {
    let gateway = Gateway::new().await;
    let ticket = json!({"currency": "EUR", "bets": []});
    let place = async |headers: &[(&str, &str)]| {
        gateway.call(Method::POST, "/api/v1/tickets", headers, Some(ticket.clone())).await
    };
    assert_eq!(place(&[("idempotency-key", "k1")]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(place(&[BEARER]).await.code(), "idempotency-key-missing");
    let headers = [BEARER, ("idempotency-key", "k1"), ("x-forwarded-for", "203.0.113.7"), ("x-country", "ES")];
    let answer = place(&headers).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (StatusCode::CREATED, Some("accepted")));
    let sent = gateway.behind.last().1;
    assert_eq!((&sent["customerId"], &sent["currency"], &sent["country"]), (&json!(ANN), &json!("EUR"), &json!("ES")));
    assert_eq!((&sent["idempotencyKey"], &sent["ticket"]), (&json!("k1"), &ticket));
    assert_eq!(sent["context"]["ip"], "203.0.113.7");
    assert!(!sent.to_string().contains(TOKEN));
}

#[tokio::test]
async fn somebody_elses_ticket_does_not_exist() {
    let gateway = Gateway::new().await;
    let show =
        async |id: &str| gateway.call(Method::GET, &format!("/api/v1/tickets/{id}"), &[BEARER], None).await.status;
    assert_eq!(show(ANN).await, StatusCode::OK);
    assert_eq!(show(BOB).await, StatusCode::NOT_FOUND);
    assert_eq!(show("x").await, StatusCode::NOT_FOUND);
    gateway.call(Method::GET, "/api/v1/tickets?limit=7", &[BEARER], None).await;
    assert_eq!(gateway.behind.last().1, json!({"customerId": ANN, "limit": "7"}));
}

#[tokio::test]
async fn failures_behind_are_503_without_their_words() {
    let gateway = Gateway::new().await;
    let path = "/api/v1/tickets/0190b5a0-0000-7000-8000-000000000009";
    let answer = gateway.call(Method::GET, path, &[BEARER], None).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "upstream-failed"));
}

/// Asks until it is too often: what is allowed in a second comes back by the second, so that a slow machine may ask a few times more.
async fn until_refused(ask: impl AsyncFn(usize) -> Answer) -> Answer {
    for number in 1..200 {
        let answer = ask(number).await;
        if answer.status != StatusCode::OK {
            assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
            assert!(number > 4, "a burst of four is allowed, number {number} was refused");
            return answer;
        }
    }
    panic!("nothing limits");
}

#[tokio::test]
async fn addresses_and_sessions_have_limits_of_their_own() {
    let gateway = Gateway::limited(1000, 2, 10).await;
    let wallet = async |_| gateway.call(Method::GET, "/api/v1/wallet", &[BEARER], None).await;
    until_refused(wallet).await;
    assert_eq!(gateway.get("/api/v1/sports").await.status, StatusCode::OK);

    let gateway = Gateway::limited(2, 1000, 10).await;
    let last = until_refused(async |_| gateway.get("/api/v1/sports").await).await;
    assert_eq!(last.code(), "too-many-requests");
    assert_eq!(last.headers["retry-after"], "1");
    let from = async |ip: &str| gateway.call(Method::GET, "/api/v1/sports", &[("x-forwarded-for", ip)], None).await;
    assert_eq!(from("203.0.113.7").await.status, StatusCode::OK);
    // One subscriber of IPv6, a new address each time.
    until_refused(async |number| from(&format!("2001:db8:1:2::{number}")).await).await;
    assert_eq!(from("2001:db8:1:3::1").await.status, StatusCode::OK, "the neighbour");
}

#[tokio::test]
async fn the_page_is_served_with_a_strict_policy_and_all_its_files() {
    let gateway = Gateway::new().await;
    let page = gateway.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.text.contains("<script>") && !page.text.contains(" style=") && !page.text.contains("onclick"));
    let mut files = vec!["/page/app.css".to_owned(), "/page/icon.svg".to_owned(), "/page/app.js".to_owned()];
    let mut at = 0;
    while let Some(file) = files.get(at).cloned() {
        at += 1;
        let answer = gateway.get(&file).await;
        assert_eq!(answer.status, StatusCode::OK, "{file}");
        for line in answer.text.lines().filter(|line| line.starts_with("import ")) {
            let module = line.split('\'').nth(1).unwrap().trim_start_matches("./");
            let module = format!("/page/{module}");
            if !files.contains(&module) {
                files.push(module);
            }
        }
    }
    assert!(files.len() >= 8, "modules are followed: {files:?}");
}

#[tokio::test]
async fn the_description_is_served_as_it_is_committed() {
    let gateway = Gateway::new().await;
    let served = gateway.get("/api/v1/openapi.json").await.json();
    assert_eq!(served, serde_json::to_value(paddock_gateway::api::openapi()).unwrap());
}

#[tokio::test]
async fn a_component_that_refuses_the_gateway_says_nothing_about_the_customer() {
    let gateway = Gateway::with_tokens(["for-account"; 3], (1000, 1000), Gateway::places(10, 10, 10)).await;
    let answer = gateway.get("/api/v1/sports").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "upstream-failed"));
    assert_eq!(gateway.call(Method::GET, "/api/v1/wallet", &[BEARER], None).await.status, StatusCode::OK);
    let gateway = Gateway::with_tokens(["for-rates"; 3], (1000, 1000), Gateway::places(10, 10, 10)).await;
    let answer = gateway.call(Method::GET, "/api/v1/wallet", &[BEARER], None).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "her session is not over: {}", answer.text);
}
