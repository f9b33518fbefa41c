//! Components that answer as the service contract says, and a gateway in front of them.
#![allow(dead_code, reason = "each test file uses a part")]

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use paddock_gateway::api::{AppState, Brand, StreamPlaces};
use paddock_gateway::client::Trust;
use paddock_gateway::upstream::{Addresses, Tokens, Upstream};
use paddock_market_book::Book;
use paddock_service::binding::Bindings;
use paddock_service::{CALLER_HEADER, CallerToken, Environment, Problem, Settings};
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

pub const ANN: &str = "0190b5a0-0000-7000-8000-000000000001";
pub const BOB: &str = "0190b5a0-0000-7000-8000-000000000002";
pub const TOKEN: &str = "token-of-ann";
/// The gateway's own token for whom it calls, by component.
pub const OUR_TOKENS: [(&str, &str); 3] =
    [("rates", "for-rates"), ("account", "for-account"), ("calculations", "for-calculations")];

/// What the fake components have heard, and what they say.
#[derive(Clone, Default)]
pub struct Behind {
    /// Bodies and paths of requests.
    pub heard: Arc<Mutex<Vec<(String, Value)>>>,
    /// Whether Ann's session is in force.
    pub revoked: Arc<Mutex<bool>>,
    /// While somebody writes, account does not answer about sessions and calculations not about tickets.
    pub slow: Arc<RwLock<()>>,
}

impl Behind {
    fn hear(&self, path: impl Into<String>, body: &Value) {
        self.heard.lock().unwrap().push((path.into(), body.clone()));
    }

    pub fn last(&self) -> (String, Value) {
        self.heard.lock().unwrap().last().cloned().unwrap()
    }

    pub fn count(&self, path: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|(heard, _)| heard == path).count()
    }
}

async fn session(State(behind): State<Behind>, headers: HeaderMap) -> Response {
    behind.hear("/sessions/current", &Value::Null);
    let _answers = behind.slow.read().await;
    let known = headers.get("authorization").is_some_and(|value| value == format!("Bearer {TOKEN}").as_str());
    if known && !*behind.revoked.lock().unwrap() {
        Json(json!({"customerId": ANN, "currency": "EUR", "country": "GB", "state": "active"})).into_response()
    } else {
        (StatusCode::UNAUTHORIZED, Json(json!({"status": 401, "code": "unauthorized", "detail": "no"}))).into_response()
    }
}

async fn close(State(behind): State<Behind>) -> StatusCode {
    *behind.revoked.lock().unwrap() = true;
    StatusCode::NO_CONTENT
}

async fn log_in(State(behind): State<Behind>, Json(body): Json<Value>) -> Response {
    behind.hear("/sessions", &body);
    if body["password"] == "correct horse" {
        let opened = json!({"token": TOKEN, "customerId": ANN, "expiresAt": "2030-01-01T00:00:00Z"});
        (StatusCode::CREATED, Json(opened)).into_response()
    } else {
        let headers = [("content-type", "application/problem+json")];
        let body = json!({"status": 401, "code": "credentials-invalid", "detail": "address or password is wrong"});
        (StatusCode::UNAUTHORIZED, headers, body.to_string()).into_response()
    }
}

/// Nobody registers here twice.
async fn register(State(behind): State<Behind>, Json(body): Json<Value>) -> Response {
    behind.hear("/customers", &body);
    let headers = [("content-type", "application/problem+json"), ("retry-after", "7")];
    let body = json!({"status": 429, "code": "too-many-attempts", "detail": "wait"});
    (StatusCode::TOO_MANY_REQUESTS, headers, body.to_string()).into_response()
}

async fn place(State(behind): State<Behind>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    behind.hear("/tickets", &body);
    (StatusCode::CREATED, Json(json!({"ticketId": ANN, "status": "accepted"})))
}

async fn ticket(Path(id): Path<String>, Query(query): Query<Value>) -> Response {
    let owner = query["customerId"].as_str().unwrap_or_default();
    match id.as_str() {
        ANN | BOB if owner == id => Json(json!({"ticketId": id, "status": "accepted"})).into_response(),
        ANN | BOB => StatusCode::NOT_FOUND.into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn tickets(State(behind): State<Behind>, Query(query): Query<Value>) -> Json<Value> {
    behind.hear("/tickets?", &query);
    let _answers = behind.slow.read().await;
    Json(json!({"tickets": []}))
}

async fn event(Path(id): Path<String>) -> Json<Value> {
    Json(json!({"event": catalogue_event(&id, 1), "lines": [offer_line(&id, 1, "2.10")], "results": []}))
}

/// An event as rates writes it.
pub fn catalogue_event(id: &str, sequence: i64) -> Value {
    json!({
        "eventId": id, "sequence": sequence, "sport": {"id": "sr:sport:1", "name": "Soccer"},
        "category": {"id": "sr:category:1", "name": "England"},
        "tournament": {"id": "sr:tournament:17", "name": "Premier League"},
        "competitors": [], "startTime": 1, "status": "live", "score": {"home": 0, "away": 0},
    })
}

/// An active line as rates writes it.
pub fn offer_line(event: &str, sequence: i64, odds: &str) -> Value {
    json!({
        "eventId": event, "marketId": 1, "marketType": "match-result", "specifiers": "", "sequence": sequence,
        "status": "active", "phase": "live",
        "outcomes": [{"id": "1", "name": "Home", "active": true, "odds": odds, "probability": "0.45"}],
        "source": {"product": 1, "timestamp": 1, "feedPartition": 0, "feedOffset": 1, "bookGeneration": 1},
    })
}

/// A market book with one rule, for match results.
pub fn book(generation: u64, state: &str, deny: &[&str]) -> String {
    json!({"schema": 1, "generation": generation, "rules": [{
        "name": "results", "sport": "soccer", "marketType": "match-result",
        "selector": {"tournaments": ["premier-league"], "phases": ["PreMatch", "Live"]},
        "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}, "ladder": "Standard"},
        "limits": [], "betDelayMs": {"preMatch": 0, "live": 0}, "geography": {"deny": deny}, "state": state,
    }]})
    .to_string()
}

fn components(behind: Behind) -> Router {
    let wallet = json!({"sequence": 3, "wallets": [{"currency": "EUR", "available": "10.00", "held": "0.00", "atStake": "5.00"}]});
    let routes = Router::new()
        .route("/sessions", post(log_in))
        .route("/sessions/current", get(session).delete(close))
        .route("/customers", post(register))
        .route("/customers/{id}/wallet", get(async move || Json(wallet)))
        .route("/sports", get(async || Json(json!({"sports": []}))))
        .route(
            "/events",
            get(async |State(behind): State<Behind>, Query(query): Query<Value>| {
                behind.hear("/events?", &query);
                Json(json!({"events": [], "next": null}))
            }),
        )
        .route("/events/{id}", get(event))
        .route("/tickets", post(place).get(tickets))
        .route("/tickets/{id}", get(ticket));
    let routes = Router::new().nest("/internal/v1", routes).with_state(behind);
    routes.layer(axum::middleware::from_fn(ours))
}

/// As components do it: a call with another component's token is refused.
async fn ours(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let part = request.uri().path().split('/').nth(3).unwrap_or_default();
    let component = match part {
        "sports" | "events" => "rates",
        "tickets" => "calculations",
        _ => "account",
    };
    let (_, token) = OUR_TOKENS.into_iter().find(|(name, _)| *name == component).unwrap();
    if request.headers().get(CALLER_HEADER).is_some_and(|given| given == token) {
        next.run(request).await
    } else {
        Problem::new(StatusCode::UNAUTHORIZED, "caller-token-invalid", "not yours").into_response()
    }
}

pub struct Gateway {
    pub behind: Behind,
    pub state: AppState,
    pub draining: CancellationToken,
}

impl Gateway {
    pub async fn new() -> Self {
        Self::limited(1000, 1000, 10).await
    }

    pub async fn limited(by_ip: u32, by_session: u32, places: usize) -> Self {
        Self::with_tokens(OUR_TOKENS.map(|(_, token)| token), (by_ip, by_session), Self::places(places, 10, 10)).await
    }

    pub fn places(all: usize, address: u32, customer: u32) -> StreamPlaces {
        let [address, customer] = [address, customer].map(|most| NonZeroU32::new(most).unwrap());
        StreamPlaces { all, address, customer }
    }

    /// With these tokens for rates, account and calculations.
    pub async fn with_tokens(ours: [&str; 3], (by_ip, by_session): (u32, u32), places: StreamPlaces) -> Self {
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let behind = Behind::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, components(behind.clone())).into_future());
        let addresses = Addresses { rates: address.clone(), account: address.clone(), calculations: address };
        let trust = Trust {
            proxies: vec!["10.0.0.0/8".parse().unwrap(), "127.0.0.0/8".parse().unwrap()],
            country_header: Some(http::HeaderName::from_static("x-country")),
        };
        let draining = CancellationToken::new();
        let limits = (NonZeroU32::new(by_ip).unwrap(), NonZeroU32::new(by_session).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let files = Bindings::new(folder.path().to_owned());
        let [rates, account, calculations] = [0, 1, 2].map(|place| {
            let (component, token) = (OUR_TOKENS[place].0, ours[place]);
            std::fs::create_dir(folder.path().join(component)).unwrap();
            std::fs::write(folder.path().join(component).join("token"), token).unwrap();
            CallerToken::new(files.watch(component).unwrap()).unwrap()
        });
        let upstream = Upstream::new(addresses, Tokens { rates, account, calculations }).unwrap();
        let said = [
            ("PADDOCK_TENANT", "acme"),
            ("PADDOCK_ENVIRONMENT", "prod"),
            ("PADDOCK_BRAND", "Acme Bet"),
            ("PADDOCK_LICENCE", "mga-1"),
            ("PADDOCK_JURISDICTION", "MT"),
            ("PADDOCK_CURRENCIES", "EUR,SEK"),
            ("PADDOCK_LOCALES", "en,sv"),
        ];
        let mut settings = Settings::from_variables(said.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let brand = Brand::of(&Environment::read(&mut settings));
        let state = AppState::new(brand, upstream, trust, limits, places, draining.clone());
        let open = Book::from_json(book(1, "Open", &[]).as_bytes()).unwrap();
        state.live.enforce(&Arc::new(open));
        Self { behind, state, draining }
    }

    /// Serves on a port of its own.
    pub async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = paddock_gateway::api::app(self.state.clone());
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(axum::serve(listener, service).into_future());
        address
    }
}
