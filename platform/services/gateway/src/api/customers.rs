//! Registration.

use axum::extract::State;
use paddock_service::{JsonBody, Problem, ProblemDocument};

use super::AppState;
use super::model::{Registered, Registration};
use crate::upstream::{Answer, Ask, Component};

/// Become a customer
#[utoipa::path(
    post, path = "/customers", tag = "customers", request_body = Registration,
    responses(
        (status = 201, body = Registered),
        (status = 409, description = "`email-taken`", body = ProblemDocument),
        (status = 422, description = "`underage`, `currency-not-offered`, …", body = ProblemDocument),
    )
)]
pub(super) async fn register(
    State(state): State<AppState>,
    JsonBody(body): JsonBody<Registration>,
) -> Result<Answer, Problem> {
    let body = serde_json::to_value(&body).map_err(Problem::internal)?;
    state.upstream.ask(Ask::post(Component::Account, "/customers", &body)).await
}
