//! The customer's money.

use axum::extract::State;
use paddock_service::{Problem, ProblemDocument, QueryParams};
use serde::Deserialize;

use super::AppState;
use super::guard::LoggedIn;
use super::model::{Entries, Wallets};
use crate::upstream::{Answer, Ask, Component};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    cursor: Option<i64>,
    limit: Option<u32>,
}

/// The customer's money
#[utoipa::path(
    get, path = "/wallet", tag = "wallet", security(("session" = [])),
    responses((status = 200, body = Wallets), (status = 401, body = ProblemDocument))
)]
pub(super) async fn wallet(State(state): State<AppState>, customer: LoggedIn) -> Result<Answer, Problem> {
    let path = format!("/customers/{}/wallet", customer.session.customer_id);
    state.upstream.ask(Ask::get(Component::Account, &path)).await
}

/// What moved the customer's money, newest first
#[utoipa::path(
    get, path = "/wallet/entries", tag = "wallet", security(("session" = [])),
    params(
        ("cursor" = Option<i64>, Query, description = "`nextCursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "Entries of a page, at most 200"),
    ),
    responses((status = 200, body = Entries), (status = 401, body = ProblemDocument))
)]
pub(super) async fn entries(
    State(state): State<AppState>,
    customer: LoggedIn,
    QueryParams(page): QueryParams<Page>,
) -> Result<Answer, Problem> {
    let cursor = page.cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
    let limit = page.limit.unwrap_or(50);
    let path = format!("/customers/{}/entries?limit={limit}{cursor}", customer.session.customer_id);
    state.upstream.ask(Ask::get(Component::Account, &path)).await
}
