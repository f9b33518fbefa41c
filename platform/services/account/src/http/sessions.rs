//! Logging in and out.

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use paddock_events::Context;
use paddock_money::Currency;
use paddock_service::{JsonBody, Problem};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::AppState;
use super::problem::too_many;
use crate::domain::customer::CustomerState;
use crate::store::NewSession;
use crate::token;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Body {
    email: String,
    password: String,
    #[serde(default)]
    context: Context,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Opened {
    token: String,
    customer_id: Uuid,
    expires_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Current {
    customer_id: Uuid,
    currency: Currency,
    country: String,
    state: CustomerState,
}

pub(super) async fn open(
    State(state): State<AppState>,
    JsonBody(body): JsonBody<Body>,
) -> Result<(StatusCode, Json<Opened>), Problem> {
    state.limiter.log_in(&body.email, &body.context.ip).map_err(too_many)?;
    let known = state.store.credentials(body.email.trim()).await?;
    let hash = known.as_ref().map(|known| known.password_hash.clone());
    let right = state.passwords.verify(body.password.into(), hash).await?;
    let Some(known) = known.filter(|_| right) else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "credentials-invalid",
            "address or password is wrong: check both, or register",
        ));
    };
    let token = token::create()?;
    let digest = token::digest(&token).ok_or(token::NoRandomness)?;
    let new =
        NewSession { digest, customer: known.customer, context: body.context, lifetime_s: state.session_lifetime_s };
    let expires_at = Timestamp::from_millisecond(state.store.open_session(&new).await?).map_err(Problem::internal)?;
    let opened = Opened { token: token.expose_secret().to_owned(), customer_id: known.customer, expires_at };
    Ok((StatusCode::CREATED, Json(opened)))
}

pub(super) async fn current(State(state): State<AppState>, headers: HeaderMap) -> Result<Json<Current>, Problem> {
    let digest = bearer(&headers).as_ref().and_then(token::digest).ok_or_else(not_in_force)?;
    let session = state.store.session(&digest).await?.ok_or_else(not_in_force)?;
    Ok(Json(Current {
        customer_id: session.customer,
        currency: session.currency,
        country: session.country,
        state: session.state,
    }))
}

pub(super) async fn close(State(state): State<AppState>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let digest = bearer(&headers).as_ref().and_then(token::digest).ok_or_else(not_in_force)?;
    state.store.close_session(&digest).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned().into())
}

fn not_in_force() -> Problem {
    Problem::unauthorized("the session is not in force: log in again")
}
