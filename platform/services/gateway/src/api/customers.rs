//! Registration.

use axum::extract::State;
use paddock_service::{JsonBody, Problem, ProblemDocument};
use serde_json::json;

use super::AppState;
use super::model::{Registered, Registration};
use super::sessions::context;
use crate::client::Client;
use crate::upstream::{Answer, Ask, Component};

/// Become a customer
#[utoipa::path(
    post, path = "/customers", tag = "customers", request_body = Registration,
    responses(
        (status = 201, body = Registered),
        (status = 409, description = "`email-taken`", body = ProblemDocument),
        (status = 429, description = "`too-many-attempts`", body = ProblemDocument),
        (status = 422, description = "`underage`, `currency-not-offered`, …", body = ProblemDocument),
    )
)]
pub(super) async fn register(
    State(state): State<AppState>,
    client: Client,
    JsonBody(body): JsonBody<Registration>,
) -> Result<Answer, Problem> {
    let mut body = serde_json::to_value(&body).map_err(Problem::internal)?;
    if let Some(body) = body.as_object_mut() {
        body.insert("context".to_owned(), json!(context(&client, String::new())));
    }
    state.upstream.ask(Ask::post(Component::Account, "/customers", &body)).await
}
