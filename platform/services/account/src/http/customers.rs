//! Registration.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use paddock_events::Context;
use paddock_service::{JsonBody, Problem};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::AppState;
use super::problem::too_many;
use crate::domain::customer::{Application, check};
use crate::store::NewCustomer;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Body {
    email: String,
    password: String,
    name: String,
    birth_date: String,
    country: String,
    currency: String,
    #[serde(default)]
    context: Context,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Registered {
    customer_id: Uuid,
}

pub(super) async fn register(
    State(state): State<AppState>,
    JsonBody(body): JsonBody<Body>,
) -> Result<(StatusCode, Json<Registered>), Problem> {
    let password = SecretString::from(body.password);
    let application = Application {
        email: &body.email,
        password: password.expose_secret(),
        name: &body.name,
        birth_date: &body.birth_date,
        country: &body.country,
        currency: &body.currency,
    };
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let applicant = check(&application, today, &state.currencies)?;
    state.limiter.registration(&body.context.ip).map_err(too_many)?;
    let password_hash = state.passwords.hash(password).await?;
    let new = NewCustomer { id: Uuid::now_v7(), applicant, password_hash };
    state.store.register(&new).await?;
    Ok((StatusCode::CREATED, Json(Registered { customer_id: new.id })))
}
