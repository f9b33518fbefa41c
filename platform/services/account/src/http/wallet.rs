//! What customers see of their money.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use paddock_ledger::{AccountCode, Reason};
use paddock_money::{Currency, Money};
use paddock_service::{Problem, QueryParams};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::AppState;
use super::id::Id;
use crate::store::EntryResource;

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 200;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WalletsDocument {
    /// Sequence of the newest entry that the figures contain.
    sequence: i64,
    wallets: Vec<WalletDocument>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WalletDocument {
    currency: Currency,
    available: String,
    held: String,
    at_stake: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    cursor: Option<i64>,
    limit: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EntriesDocument {
    entries: Vec<EntryDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryDocument {
    id: Uuid,
    sequence: i64,
    transfer_id: Uuid,
    kind: &'static str,
    reason: Reason,
    from: AccountCode,
    to: AccountCode,
    currency: Currency,
    amount: String,
    /// Signed: what the entry did to `available`.
    change: String,
    booked_at: Timestamp,
}

impl EntryDocument {
    fn new(resource: &EntryResource) -> Result<Self, Problem> {
        let amount = |minor| Money::from_minor(minor, resource.currency).amount();
        let entry = resource.entry;
        Ok(Self {
            id: resource.id,
            sequence: resource.sequence,
            transfer_id: resource.transfer,
            kind: entry.phase.into(),
            reason: entry.reason,
            from: entry.debit,
            to: entry.credit,
            currency: resource.currency,
            amount: amount(entry.amount),
            change: amount(entry.change()),
            booked_at: Timestamp::from_millisecond(resource.booked_at).map_err(Problem::internal)?,
        })
    }
}

pub(super) async fn wallets(State(state): State<AppState>, Id(customer): Id) -> Result<Json<WalletsDocument>, Problem> {
    let (sequence, wallets) = state.store.wallets(customer).await?;
    let document = |wallet: &crate::store::Wallet| WalletDocument {
        currency: wallet.available.currency(),
        available: wallet.available.amount(),
        held: wallet.held.amount(),
        at_stake: wallet.at_stake.amount(),
    };
    Ok(Json(WalletsDocument { sequence, wallets: wallets.iter().map(document).collect() }))
}

pub(super) async fn entries(
    State(state): State<AppState>,
    Id(customer): Id,
    QueryParams(page): QueryParams<Page>,
) -> Result<Json<EntriesDocument>, Problem> {
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let page = state.store.entries(customer, page.cursor, limit).await?;
    let entries = page.entries.iter().map(EntryDocument::new).collect::<Result<_, _>>()?;
    Ok(Json(EntriesDocument { entries, next_cursor: page.next.map(|next| next.to_string()) }))
}
