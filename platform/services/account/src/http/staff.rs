//! What staff may do here; every call is audited, a refused one with the code of its refusal.

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use paddock_ledger::{AccountCode, Reason};
use paddock_money::{Currency, Money};
use paddock_service::{JsonBody, Problem};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;
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
    let staff = caller(&state, &headers)?;
    let asked = json!({
        "call": "credit", "transfer": body.id, "amount": short(&body.amount), "currency": body.currency, "reason": short(&body.reason)
    });
    let audit = Audit { who: staff.subject.clone(), what: asked, subject: format!("customer/{customer}") };
    let credited = credited(&state, &staff, customer, &body, &audit).await;
    let Outcome { created, resource } = told(&state, &audit, credited).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(TransferDocument::new(&resource)?)))
}

async fn credited(
    state: &AppState,
    staff: &Staff,
    customer: Uuid,
    body: &Credit,
    audit: &Audit,
) -> Result<Outcome, Problem> {
    staff.require("cashier")?;
    why(&body.reason)?;
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
    let command = Command { id: body.id, action: Action::Transfer(asked) };
    Ok(state.store.apply_audited(&command, Some(audit)).await?)
}

pub(super) async fn set_state(
    State(state): State<AppState>,
    Id(customer): Id,
    headers: HeaderMap,
    JsonBody(body): JsonBody<NewState>,
) -> Result<StatusCode, Problem> {
    let staff = caller(&state, &headers)?;
    let audit = Audit {
        who: staff.subject.clone(),
        what: json!({ "call": "set-state", "state": body.state, "reason": short(&body.reason) }),
        subject: format!("customer/{customer}"),
    };
    let set = async {
        staff.require("compliance")?;
        why(&body.reason)?;
        Ok::<(), Problem>(state.store.set_state(customer, body.state, &audit).await?)
    }
    .await;
    told(&state, &audit, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Passes on what came of a call, and leaves a line of a refusal: of what was done there is one, written with it. After a fault of ours nobody
/// knows whether the call was refused.
async fn told<T>(state: &AppState, audit: &Audit, outcome: Result<T, Problem>) -> Result<T, Problem> {
    if let Err(problem) = &outcome
        && problem.status().is_client_error()
    {
        state.store.refused(audit, problem.code()).await?;
    }
    outcome
}

/// Who is calling; without a token of this environment nobody is, and no line is left.
fn caller(state: &AppState, headers: &HeaderMap) -> Result<Staff, Problem> {
    let tokens = state.staff.as_ref().ok_or_else(|| {
        Problem::unavailable(
            "staff-issuer-missing",
            "no staff issuer is configured: set STAFF_ISSUER, STAFF_AUDIENCE and STAFF_JWKS",
        )
    })?;
    let token =
        sessions::bearer(headers).ok_or_else(|| Problem::unauthorized("send the staff token as a bearer token"))?;
    Ok(tokens.verify(token.expose_secret())?)
}

fn why(reason: &str) -> Result<(), Problem> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_NOTE {
        return Err(Problem::unprocessable("reason-missing", "say why, in 1 to 500 characters"));
    }
    Ok(())
}

/// As much of what somebody wrote as a line of the audit takes.
fn short(text: &str) -> String {
    text.trim().chars().take(MAX_NOTE).collect()
}
