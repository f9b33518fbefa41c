//! Control ports of two pods: one takes books as a service does, the other is connected to and never answers.

use axum::extract::State;
use axum::routing::put;
use axum::{Json, Router, http::HeaderMap, http::StatusCode};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Address of the pod that answers.
pub const QUICK: &str = "127.0.0.1";
/// Address of the pod that does not.
pub const SILENT: &str = "127.0.0.2";

/// Both pods; every pod has the same control port.
#[derive(Clone, Debug)]
pub struct ControlPorts {
    pub port: u16,
    book: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
}

impl ControlPorts {
    pub async fn start() -> Self {
        let (quick, silent) = loop {
            let quick = TcpListener::bind((QUICK, 0)).await.unwrap();
            // The port may be taken on the other address.
            if let Ok(silent) = TcpListener::bind((SILENT, quick.local_addr().unwrap().port())).await {
                break (quick, silent);
            }
        };
        let port = quick.local_addr().unwrap().port();
        let ports = Self { port, book: Arc::new(Mutex::new(Value::Null)), asked: Arc::default() };
        let app = Router::new().route("/market-book", put(take)).with_state(ports.clone());
        tokio::spawn(async move { axum::serve(quick, app).await });
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
