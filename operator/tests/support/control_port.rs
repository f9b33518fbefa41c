//! Control ports of three pods: one takes books as a service does, one is connected to and never answers, one claims to have others.

use axum::extract::State;
use axum::routing::put;
use axum::{Json, Router, http::HeaderMap, http::StatusCode};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Address of the pod that answers.
pub const QUICK: &str = "127.0.0.1";
/// Address of the pod that does not.
pub const SILENT: &str = "127.0.0.2";
/// Address of the pod that claims books.
pub const LIAR: &str = "127.0.0.3";

/// The pods; every pod has the same control port.
#[derive(Clone, Debug)]
pub struct ControlPorts {
    pub port: u16,
    book: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
    claim: Arc<AtomicU64>,
    claimed: Arc<AtomicUsize>,
}

impl ControlPorts {
    pub async fn start() -> Self {
        let (quick, silent, liar) = loop {
            let quick = TcpListener::bind((QUICK, 0)).await.unwrap();
            let port = quick.local_addr().unwrap().port();
            // The port may be taken on another address.
            if let (Ok(silent), Ok(liar)) =
                (TcpListener::bind((SILENT, port)).await, TcpListener::bind((LIAR, port)).await)
            {
                break (quick, silent, liar);
            }
        };
        let port = quick.local_addr().unwrap().port();
        let ports = Self {
            port,
            book: Arc::new(Mutex::new(Value::Null)),
            asked: Arc::default(),
            claim: Arc::default(),
            claimed: Arc::default(),
        };
        let app = Router::new().route("/market-book", put(take)).with_state(ports.clone());
        tokio::spawn(async move { axum::serve(quick, app).await });
        let app = Router::new().route("/market-book", put(lie)).with_state(ports.clone());
        tokio::spawn(async move { axum::serve(liar, app).await });
        let asked = ports.asked.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(connection) = silent.accept().await {
                held.push(connection);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        ports
    }

    /// The book of the pod that answers.
    pub fn book(&self) -> Value {
        self.book.lock().unwrap().clone()
    }

    /// The pod that answers has this book, wherever it comes from.
    pub fn hold(&self, book: Value) {
        *self.book.lock().unwrap() = book;
    }

    /// The third pod claims this book from now on; 0: always the next one.
    pub fn claim(&self, generation: u64) {
        self.claim.store(generation, Ordering::Relaxed);
    }

    /// How often it has claimed one.
    pub fn claimed(&self) -> usize {
        self.claimed.load(Ordering::Relaxed)
    }

    /// How often the silent pod was connected to.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn take(
    State(ports): State<ControlPorts>,
    headers: HeaderMap,
    Json(book): Json<Value>,
) -> (StatusCode, Json<Value>) {
    if headers.get("authorization").is_none_or(|it| it != "Bearer t") {
        return (StatusCode::UNAUTHORIZED, Json(json!({})));
    }
    let mut held = ports.book.lock().unwrap();
    let newer = held["generation"].as_u64() >= book["generation"].as_u64() && *held != book;
    if !newer {
        *held = book;
    }
    let status = if newer { StatusCode::CONFLICT } else { StatusCode::OK };
    (status, Json(json!({"generation": held["generation"], "digest": "d"})))
}

async fn lie(State(ports): State<ControlPorts>, Json(book): Json<Value>) -> (StatusCode, Json<Value>) {
    ports.claimed.fetch_add(1, Ordering::Relaxed);
    let claim = match ports.claim.load(Ordering::Relaxed) {
        0 => book["generation"].as_u64().unwrap() + 1,
        claim => claim,
    };
    (StatusCode::CONFLICT, Json(json!({"generation": claim, "digest": "d"})))
}
