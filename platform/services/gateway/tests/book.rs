//! The market book in a gateway's pod: over its real ports, from the operator's PUT to what customers see and place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use paddock_gateway::api;
use paddock_service::{Apps, Layout, Service, Settings};
use serde_json::{Value, json};
use support::{Gateway, TOKEN, book, catalogue_event, offer_line};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A pod with an event that rates offers all the time.
struct Pod {
    gateway: Gateway,
    addresses: [SocketAddr; 4],
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Pod {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With the file that kubelet mounted.
    async fn start_with(file: Option<String>) -> Self {
        let gateway = Gateway::new().await;
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout {
            address: Ipv4Addr::LOCALHOST,
            ports: [0; 4],
            control_token: folder.path().join("token"),
            market_book: folder.path().join("book.json"),
            tokens: folder.path().join("tokens"),
            token_issuer: folder.path().join("token-issuer"),
        };
        std::fs::write(&layout.control_token, "s3cret").unwrap();
        if let Some(book) = file {
            std::fs::write(&layout.market_book, book).unwrap();
        }
        let variables = [("PADDOCK_TENANT", "acme"), ("PADDOCK_ENVIRONMENT", "test")];
        let settings = Settings::from_variables(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let service = Service::start_at("gateway", settings, layout, true).await.unwrap();
        gateway.state.follow_book(&service.market_book().unwrap()).await;
        let addresses = service.addresses();
        tokio::spawn(service.serve(Apps { http: api::app(gateway.state.clone()), ..Apps::default() }));
        let fresh = json!({"feedPartitions": [0], "at": i64::MAX, "bookGeneration": 1});
        for (offset, kind, payload) in [
            (0, "heartbeat", fresh),
            (1, "event", catalogue_event("m:1", 1)),
            (2, "line", offer_line("m:1", 1, "2.10")),
        ] {
            let message = serde_json::from_value(json!({"type": kind, "payload": payload})).unwrap();
            gateway.state.live.offer(0, offset, message);
        }
        gateway.state.live.look(0);
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        Self { gateway, addresses, http, _folder: folder }
    }

    /// As the operator does.
    async fn put(&self, book: String) -> (u16, Value) {
        let url = format!("http://{}/market-book", self.addresses[3]);
        let response = self.http.put(url).bearer_auth("s3cret").body(book).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The generation in force, as the operator asks for it; 0 = none.
    async fn in_force(&self) -> u64 {
        let url = format!("http://{}/market-book", self.addresses[3]);
        let response = self.http.get(url).bearer_auth("s3cret").send().await.unwrap();
        response.json::<Value>().await.unwrap()["generation"].as_u64().unwrap_or_default()
    }

    async fn ready(&self) -> Vec<String> {
        let url = format!("http://{}/readyz", self.addresses[2]);
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// The line of `GET /events/{id}` for a country, and how it may be cached.
    async fn line(&self, country: &str) -> (Value, String) {
        let url = format!("http://{}/api/v1/events/m:1", self.addresses[0]);
        let response = self.http.get(url).header("x-country", country).send().await.unwrap();
        let lifetime = response.headers()["cache-control"].to_str().unwrap().to_owned();
        (response.json::<Value>().await.unwrap()["lines"][0].clone(), lifetime)
    }

    /// What calculations is told of the market book with a ticket of two bets, the second on a line that nobody offers.
    async fn ticket(&self, country: &str) -> Value {
        let bet = |market: Value| {
            json!({"type": "single", "stake": "1.00", "selections": [{
            "eventId": "m:1", "marketId": market, "outcomeId": "1", "odds": "2.10"}]})
        };
        let ticket = json!({"currency": "EUR", "bets": [bet(json!("1")), bet(json!(404))]});
        let request = self.http.post(format!("http://{}/api/v1/tickets", self.addresses[0]));
        let request = request.bearer_auth(TOKEN).header("idempotency-key", "k").header("x-country", country);
        assert!(request.json(&ticket).send().await.unwrap().status().is_success());
        let (path, body) = self.gateway.behind.last();
        assert_eq!((path.as_str(), &body["ticket"]), ("/tickets", &ticket));
        body["book"].clone()
    }

    /// A client of the stream that follows the event.
    async fn client(&self, country: &str) -> Client {
        let mut request = format!("ws://{}/api/v1/stream", self.addresses[0]).into_client_request().unwrap();
        request.headers_mut().insert("x-country", country.parse().unwrap());
        let mut client = Client { socket: tokio_tungstenite::connect_async(request).await.unwrap().0 };
        let subscribe = json!({"type": "subscribe", "channel": "event:m:1"});
        client.socket.send(Message::text(subscribe.to_string())).await.unwrap();
        client
    }
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    /// Type of the next frame and status of its line.
    async fn line(&mut self) -> (String, String) {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.socket.next()).await;
            if let Message::Text(text) = message.expect("a frame within 10 s").unwrap().unwrap() {
                let frame: Value = serde_json::from_str(&text).unwrap();
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return (text(&frame["type"]), text(&frame["payload"]["lines"][0]["status"]));
            }
        }
    }
}

fn frame(kind: &str, status: &str) -> (String, String) {
    (kind.to_owned(), status.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_puts_in_force_is_shown_and_taken() {
    let pod = Pod::start().await;
    assert_eq!(pod.ready().await.iter().filter(|line| line.starts_with("market-book: ")).count(), 1);
    assert_eq!(pod.put(book(1, "Open", &[])).await.0, 200);
    assert_eq!(pod.ready().await, [] as [String; 0], "ready with a book");
    let mut client = pod.client("MT").await;
    assert_eq!(client.line().await, frame("snapshot", "active"));
    assert_eq!(pod.line("").await.0["status"], "active");
    assert_eq!(pod.ticket("MT").await, json!({"generation": 1, "refused": [null, null]}));

    // Rates goes on offering it; what is acknowledged here counts.
    let (status, in_force) = pod.put(book(2, "Suspended", &[])).await;
    assert_eq!((status, &in_force["generation"]), (200, &json!(2)));
    assert_eq!(client.line().await, frame("delta", "suspended"));
    assert_eq!(pod.client("MT").await.line().await, frame("snapshot", "suspended"));
    let (line, lifetime) = pod.line("MT").await;
    assert_eq!((&line["status"], &line["suspendedBy"]), (&json!("suspended"), &json!("rule")));
    assert_eq!(lifetime, "public, max-age=1");
    assert_eq!(pod.ticket("MT").await, json!({"generation": 2, "refused": ["market-suspended", null]}));

    assert_eq!(pod.put(book(3, "Closed", &[])).await.0, 200);
    assert_eq!(client.line().await, frame("delta", "deactivated"));
    let line = pod.line("MT").await.0;
    assert_eq!((&line["status"], line["outcomes"][0].get("odds")), (&json!("deactivated"), None));
    assert_eq!(pod.ticket("MT").await["refused"][0], "market-closed");

    assert_eq!(pod.put(book(1, "Open", &[])).await.0, 409);
    assert_eq!(pod.line("MT").await.0["status"], "deactivated", "a lower generation changes nothing");
    assert_eq!(pod.put(book(4, "Open", &[])).await.0, 200);
    assert_eq!(client.line().await, frame("delta", "active"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_country_sees_and_places_what_it_may() {
    let pod = Pod::start().await;
    assert_eq!(pod.put(book(1, "Open", &["FR"])).await.0, 200);
    let (mut malta, mut france) = (pod.client("MT").await, pod.client("FR").await);
    assert_eq!(malta.line().await, frame("snapshot", "active"));
    assert_eq!(france.line().await, frame("snapshot", "deactivated"));
    for (country, status, refused) in [
        ("MT", "active", Value::Null),
        ("FR", "deactivated", json!("country-not-allowed")),
        ("", "deactivated", json!("country-not-allowed")),
    ] {
        let (line, lifetime) = pod.line(country).await;
        assert_eq!((&line["status"], lifetime.as_str()), (&json!(status), "private, max-age=1"), "{country}");
        assert_eq!(pod.ticket(country).await["refused"][0], refused, "{country}");
    }
    // Only France hears of what changes for France.
    assert_eq!(pod.put(book(2, "Open", &[])).await.0, 200);
    assert_eq!(france.line().await, frame("delta", "active"));
    assert_eq!(pod.put(book(3, "Suspended", &[])).await.0, 200);
    assert_eq!(malta.line().await, frame("delta", "suspended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_starts_with_an_old_book_serves_only_by_the_present_one() {
    // Written before the market was suspended, mounted after that.
    let pod = Pod::start_with(Some(book(1, "Open", &[]))).await;
    let read = async {
        while pod.in_force().await != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("the file is read");
    assert_eq!(pod.ready().await.len(), 1, "not ready by a file that may be old");
    assert_eq!(pod.put(book(2, "Suspended", &[])).await.0, 200);
    assert_eq!(pod.ready().await, [] as [String; 0]);
    assert_eq!(pod.line("MT").await.0["status"], "suspended");
    assert_eq!(pod.client("MT").await.line().await, frame("snapshot", "suspended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_without_markets_has_a_book_that_offers_nothing() {
    let pod = Pod::start().await;
    assert_eq!(pod.put(json!({"schema": 1, "generation": 1, "rules": []}).to_string()).await.0, 200);
    assert_eq!(pod.ready().await, [] as [String; 0], "ready with an empty book");
    assert_eq!(pod.line("MT").await.0["status"], "deactivated");
    assert_eq!(pod.ticket("MT").await["refused"][0], "market-closed");
}
