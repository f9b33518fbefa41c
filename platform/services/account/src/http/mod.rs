//! Account's HTTP APIs: for the other components, and for staff.

mod customers;
mod id;
mod problem;
mod sessions;
mod staff;
mod transfers;
mod wallet;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use paddock_money::Currency;
use paddock_service::{Allowed, Callers};

use crate::limiter::Limiter;
use crate::password::Passwords;
use crate::staff::StaffTokens;
use crate::store::Store;

const MAX_BODY: usize = 16 * 1024;

/// Which component may ask what here: money is moved by calculations and settlement alone.
pub const CALLERS: &[Allowed] = &[
    ("gateway", "POST", "/internal/v1/customers"),
    ("gateway", "GET", "/internal/v1/customers/{id}/wallet"),
    ("gateway", "GET", "/internal/v1/customers/{id}/entries"),
    ("gateway", "POST", "/internal/v1/sessions"),
    ("gateway", "GET", "/internal/v1/sessions/current"),
    ("gateway", "DELETE", "/internal/v1/sessions/current"),
    ("calculations", "POST", "/internal/v1/transfers"),
    ("calculations", "POST", "/internal/v1/transfers/{id}/post"),
    ("calculations", "POST", "/internal/v1/transfers/{id}/void"),
    ("settlement", "POST", "/internal/v1/transfers"),
];

/// What the handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// Tables.
    pub store: Store,
    /// Hashing.
    pub passwords: Passwords,
    /// How often who may log in and register.
    pub limiter: Limiter,
    /// Staff tokens; none = no staff API.
    pub staff: Option<Arc<StaffTokens>>,
    /// What customers may choose.
    pub currencies: Arc<[Currency]>,
    /// Seconds that a session lasts.
    pub session_lifetime_s: i64,
}

/// The API for components of the same environment, as `callers` says.
pub fn internal(state: AppState, callers: &Callers) -> Router {
    let routes = Router::new()
        .route("/customers", post(customers::register))
        .route("/customers/{id}/wallet", get(wallet::wallets))
        .route("/customers/{id}/entries", get(wallet::entries))
        .route("/sessions", post(sessions::open))
        .route("/sessions/current", get(sessions::current).delete(sessions::close))
        .route("/transfers", post(transfers::create))
        .route("/transfers/{id}/post", post(transfers::post))
        .route("/transfers/{id}/void", post(transfers::void));
    let app = Router::new().nest("/internal/v1", routes).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(state);
    callers.guard(app)
}

/// The API for staff.
pub fn backoffice(state: AppState) -> Router {
    let routes = Router::new()
        .route("/customers/{id}/credits", post(staff::credit))
        .route("/customers/{id}/state", put(staff::set_state));
    Router::new().nest("/backoffice/v1", routes).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(state)
}
