//! Logging in and out.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use paddock_events::Context;
use paddock_service::{JsonBody, Problem, ProblemDocument};
use serde_json::json;

use super::AppState;
use super::guard::LoggedIn;
use super::model::{Current, LogIn, Opened};
use crate::client::Client;
use crate::upstream::{Answer, Ask, Component};

/// Log in
#[utoipa::path(
    post, path = "/sessions", tag = "sessions", request_body = LogIn,
    responses(
        (status = 201, body = Opened),
        (status = 401, description = "`credentials-invalid`", body = ProblemDocument),
        (status = 429, description = "`too-many-attempts`", body = ProblemDocument),
    )
)]
pub(super) async fn open(
    State(state): State<AppState>,
    client: Client,
    JsonBody(body): JsonBody<LogIn>,
) -> Result<Answer, Problem> {
    let context = context(&client, body.device_id.chars().take(128).collect());
    let body = json!({ "email": body.email, "password": body.password, "context": context });
    state.upstream.ask(Ask::post(Component::Account, "/sessions", &body)).await
}

/// Who am I
#[utoipa::path(
    get, path = "/sessions/current", tag = "sessions", security(("session" = [])),
    responses((status = 200, body = Current), (status = 401, body = ProblemDocument))
)]
pub(super) async fn current(customer: LoggedIn) -> Json<Current> {
    let session = customer.session;
    Json(Current {
        customer_id: session.customer_id,
        currency: session.currency.to_string(),
        country: session.country,
        state: session.state,
    })
}

/// Log out
#[utoipa::path(
    delete, path = "/sessions/current", tag = "sessions", security(("session" = [])),
    responses((status = 204, description = "The token is worth nothing any more"), (status = 401, body = ProblemDocument))
)]
pub(super) async fn close(State(state): State<AppState>, customer: LoggedIn) -> Result<StatusCode, Problem> {
    state.sessions.close(&customer.token).await
}

/// Where a request came from.
pub(super) fn context(client: &Client, device_id: String) -> Context {
    Context {
        channel: "web".to_owned(),
        ip: client.ip.to_string(),
        country: client.country.clone(),
        device_id,
        ..Context::default()
    }
}
