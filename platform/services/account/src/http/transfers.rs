//! Moving money: two-phase holds and transfers between accounts of the registry.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use paddock_ledger::{AccountCode, Reason, TransferError};
use paddock_money::{Currency, Money};
use paddock_service::{JsonBody, Problem};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::AppState;
use super::id::Id;
use crate::domain::plan::{Movement, hold_route};
use crate::store::{Action, Asked, Command, Outcome, StoreError, TransferResource};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Body {
    id: Uuid,
    customer_id: Uuid,
    kind: AskedKind,
    from: Option<AccountCode>,
    to: Option<AccountCode>,
    currency: Currency,
    amount: String,
    reason: Reason,
}

#[derive(Deserialize, Serialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum AskedKind {
    Hold,
    Transfer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostBody {
    id: Uuid,
    amount: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VoidBody {
    id: Uuid,
}

/// A hold or transfer as callers see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransferDocument {
    id: Uuid,
    customer_id: Uuid,
    kind: AskedKind,
    status: String,
    from: AccountCode,
    to: AccountCode,
    currency: Currency,
    amount: String,
    posted_amount: String,
    reason: Reason,
    created_at: Timestamp,
}

impl TransferDocument {
    pub(super) fn new(resource: &TransferResource) -> Result<Self, Problem> {
        let Asked { customer, currency, movement } = resource.asked;
        let amount = |minor| Money::from_minor(minor, currency).amount();
        Ok(Self {
            id: resource.id,
            customer_id: customer,
            kind: if resource.is_hold { AskedKind::Hold } else { AskedKind::Transfer },
            status: resource.state.to_string(),
            from: movement.debit,
            to: movement.credit,
            currency,
            amount: amount(movement.amount),
            posted_amount: amount(resource.posted),
            reason: movement.reason,
            created_at: Timestamp::from_millisecond(resource.created_at).map_err(Problem::internal)?,
        })
    }
}

pub(super) async fn create(
    State(state): State<AppState>,
    JsonBody(body): JsonBody<Body>,
) -> Result<(StatusCode, Json<TransferDocument>), Problem> {
    // What only staff or account itself may do does not come this way.
    if matches!(
        body.reason,
        Reason::CashierCredit | Reason::CashierDebit | Reason::Correction | Reason::Debt | Reason::DebtRepayment
    ) {
        return Err(Problem::forbidden(
            "reason-reserved",
            "this reason is reserved: components may not move money for it",
        ));
    }
    // Nothing begins in a currency that is not offered any more; what was begun in it is brought to its end.
    let begins = matches!(body.reason, Reason::BetStake | Reason::Deposit | Reason::Bonus);
    if begins && !state.currencies.contains(&body.currency) {
        return Err(Problem::unprocessable(
            "currency-not-offered",
            "the currency is not offered here: use one of the brand's currencies",
        ));
    }
    let amount = Money::parse(&body.amount, body.currency).map_err(StoreError::from)?.minor();
    let route = match body.kind {
        AskedKind::Hold => hold_route(body.reason).ok_or(TransferError::ReasonMismatch).map_err(StoreError::from)?,
        AskedKind::Transfer => body.from.zip(body.to).ok_or_else(|| {
            Problem::bad_request("accounts-missing", "a transfer names from and to: add both account codes")
        })?,
    };
    let (debit, credit) = (body.from.unwrap_or(route.0), body.to.unwrap_or(route.1));
    if matches!(body.kind, AskedKind::Hold) && (debit, credit) != route {
        return Err(StoreError::from(TransferError::ReasonMismatch).into());
    }
    let movement = Movement { debit, credit, amount, reason: body.reason };
    let asked = Asked { customer: body.customer_id, currency: body.currency, movement };
    let action = match body.kind {
        AskedKind::Hold => Action::Hold(asked),
        AskedKind::Transfer => Action::Transfer(asked),
    };
    let Outcome { created, resource } = state.store.apply(&Command { id: body.id, action }).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(TransferDocument::new(&resource)?)))
}

pub(super) async fn post(
    State(state): State<AppState>,
    Id(hold): Id,
    JsonBody(body): JsonBody<PostBody>,
) -> Result<Json<TransferDocument>, Problem> {
    let command = Command { id: body.id, action: Action::Post { hold, part: body.amount } };
    Ok(Json(TransferDocument::new(&state.store.apply(&command).await?.resource)?))
}

pub(super) async fn void(
    State(state): State<AppState>,
    Id(hold): Id,
    JsonBody(body): JsonBody<VoidBody>,
) -> Result<Json<TransferDocument>, Problem> {
    let command = Command { id: body.id, action: Action::Void { hold } };
    Ok(Json(TransferDocument::new(&state.store.apply(&command).await?.resource)?))
}
