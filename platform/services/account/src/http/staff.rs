//! What staff may do here; every call that is not refused is audited.

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use paddock_ledger::{AccountCode, Reason};
use paddock_money::{Currency, Money};
use paddock_service::{JsonBody, Problem};
use secrecy::ExposeSecret;
use serde::Deserialize;
use uuid::Uuid;

use super::id::Id;
use super::transfers::TransferDocument;
use super::{AppState, sessions};
use crate::domain::customer::CustomerState;
use crate::domain::plan::Movement;
use crate::staff::Staff;
use crate::store::{Action, Asked, Audit, Command, Outcome, StoreError};

const MAX_NOTE: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credit {
    id: Uuid,
    currency: Currency,
    amount: String,
    /// Why, in the cashier's words.
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewState {
    state: CustomerState,
    reason: String,
}

pub(super) async fn credit(
    State(state): State<AppState>,
    Id(customer): Id,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Credit>,
) -> Result<(StatusCode, Json<TransferDocument>), Problem> {
    let staff = caller(&state, &headers, "cashier")?;
    let reason = note(&body.reason)?;
    if !state.currencies.contains(&body.currency) {
        return Err(Problem::unprocessable(
            "currency-not-offered",
            "the currency is not offered here: use one of the brand's currencies",
        ));
    }
    let amount = Money::parse(&body.amount, body.currency).map_err(StoreError::from)?;
    let movement = Movement {
        debit: AccountCode::HouseCashier,
        credit: AccountCode::PlayerCash,
        amount: amount.minor(),
        reason: Reason::CashierCredit,
    };
    let asked = Asked { customer, currency: body.currency, movement };
    let audit = Audit {
        who: staff.subject,
        what: serde_json::json!({ "call": "credit", "transfer": body.id, "amount": amount, "reason": reason }),
        subject: format!("customer/{customer}"),
    };
    let command = Command { id: body.id, action: Action::Transfer(asked) };
    let Outcome { created, resource } = state.store.apply_audited(&command, Some(&audit)).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(TransferDocument::new(&resource)?)))
}

pub(super) async fn set_state(
    State(state): State<AppState>,
    Id(customer): Id,
    headers: HeaderMap,
    JsonBody(body): JsonBody<NewState>,
) -> Result<StatusCode, Problem> {
    let staff = caller(&state, &headers, "compliance")?;
    let audit = Audit {
        who: staff.subject,
        what: serde_json::json!({ "call": "set-state", "state": body.state, "reason": note(&body.reason)? }),
        subject: format!("customer/{customer}"),
    };
    state.store.set_state(customer, body.state, &audit).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn caller(state: &AppState, headers: &HeaderMap, role: &'static str) -> Result<Staff, Problem> {
    let tokens = state.staff.as_ref().ok_or_else(|| {
        Problem::unavailable(
            "staff-issuer-missing",
            "no staff issuer is configured: set STAFF_ISSUER, STAFF_AUDIENCE and STAFF_JWKS",
        )
    })?;
    let token =
        sessions::bearer(headers).ok_or_else(|| Problem::unauthorized("send the staff token as a bearer token"))?;
    let staff = tokens.verify(token.expose_secret())?;
    staff.require(role)?;
    Ok(staff)
}

fn note(text: &str) -> Result<&str, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_NOTE {
        return Err(Problem::unprocessable("reason-missing", "say why, in 1 to 500 characters"));
    }
    Ok(text)
}
