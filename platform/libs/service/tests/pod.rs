//! A pod's life, over its real ports.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use paddock_service::{Apps, Layout, Problem, Service, Settings};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

fn settings(bindings: &Path) -> Settings {
    let pairs = [
        ("PADDOCK_TENANT", "acme"),
        ("PADDOCK_ENVIRONMENT", "test"),
        ("PADDOCK_CURRENCIES", "EUR,JPY"),
        ("SERVICE_BINDING_ROOT", bindings.to_str().unwrap()),
    ];
    Settings::from_variables(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
}

fn client() -> reqwest::Client {
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_start_to_exit() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout {
        address: Ipv4Addr::LOCALHOST,
        ports: [0; 4],
        control_token: folder.path().join("token"),
        market_book: folder.path().join("book.json"),
        tokens: folder.path().join("tokens"),
        token_issuer: folder.path().join("token-issuer"),
    };
    std::fs::write(&layout.control_token, "s3cret\n").unwrap();
    let service = Service::start_at("demo", settings(folder.path()), layout.clone(), true).await.unwrap();
    let [http, _, metrics, control] = service.addresses().map(|address| format!("http://{address}"));
    let client = client();
    let status = async |url: String| client.get(url).send().await.unwrap().status().as_u16();

    assert_eq!(status(format!("{metrics}/livez")).await, 200);
    let missing: Vec<String> = client.get(format!("{metrics}/readyz")).send().await.unwrap().json().await.unwrap();
    assert!(missing.iter().any(|line| line.starts_with("market-book: ")), "{missing:?}");

    // The control port wants the token; a lower generation of the book is refused.
    let put = async |generation: u64, token: &str| {
        let body = format!(r#"{{"schema":1,"generation":{generation},"rules":[]}}"#);
        let request = client.put(format!("{control}/market-book")).bearer_auth(token).body(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<serde_json::Value>().await.unwrap())
    };
    assert_eq!(put(3, "guess").await.0, 401);
    assert_eq!(put(3, "s3cret").await.0, 200);
    let (refused, in_force) = put(2, "s3cret").await;
    assert_eq!((refused, &in_force["generation"]), (409, &3.into()));
    assert_eq!(status(format!("{metrics}/readyz")).await, 200);
    // The file is read too, and the operator's replacement of the token is honoured.
    std::fs::write(&layout.market_book, r#"{"schema":1,"generation":4,"rules":[]}"#).unwrap();
    std::fs::write(&layout.control_token, "next").unwrap();
    until("the book's file is in force", async || put(3, "next").await.1["generation"] == 4).await;
    assert_eq!(put(9, "s3cret").await.0, 401);

    let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, awaited) = (Arc::clone(&arrived), Arc::clone(&go_on));
    let slow = move || {
        let (told, awaited) = (Arc::clone(&told), Arc::clone(&awaited));
        async move {
            told.notify_one();
            awaited.notified().await;
            "done"
        }
    };
    let app = Router::new()
        .route("/slow", get(slow))
        .route("/broken", get(async || Err::<(), _>(Problem::internal(anyhow::anyhow!("the cause")))));
    let draining = service.draining();
    service.spawn("task", async move {
        draining.cancelled().await;
        Ok(())
    });
    let served = tokio::spawn(service.serve(Apps { http: app, internal: Router::new() }));

    assert_eq!(status(format!("{http}/broken")).await, 500);
    assert_eq!(status(format!("{http}/nowhere")).await, 404);
    let text = client.get(format!("{metrics}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(text.contains(r#"route="/broken",status="500""#) && text.contains(r#"tenant="acme""#), "{text}");
    assert!(!text.contains("nowhere"), "paths of callers are no label values");

    // A request in flight ends; new ones find readiness gone.
    let in_flight = tokio::spawn({
        let (client, url) = (client.clone(), format!("{http}/slow"));
        async move { client.get(url).send().await.unwrap().text().await.unwrap() }
    });
    arrived.notified().await;
    let drain = async || {
        let response = client.post(format!("{control}/drain")).bearer_auth("next").send().await.unwrap();
        assert_eq!(response.status().as_u16(), 202);
        response.json::<serde_json::Value>().await.unwrap()["drained"] == true
    };
    assert!(!drain().await);
    assert_eq!(status(format!("{metrics}/readyz")).await, 503);
    assert!(!drain().await, "the request is still in flight");
    go_on.notify_one();
    assert_eq!(in_flight.await.unwrap(), "done");
    until("drained", drain).await;
    assert!(!served.is_finished(), "draining alone is no exit");

    let process = std::process::id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    timeout(Duration::from_secs(10), served).await.unwrap().unwrap().unwrap();
}
