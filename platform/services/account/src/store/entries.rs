//! Writes a transfer's entries and says them as events.

use paddock_events::{EntrySide, LedgerEntry, LedgerMessage};
use paddock_ledger::TransferError;
use paddock_money::{Currency, Money};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;
use super::ledger::Asked;
use crate::domain::plan::{Book, Plan};

/// Inserts the entries of a plan, in order, with the wallet after each.
pub(super) async fn write(
    connection: &mut PgConnection,
    transfer: Uuid,
    asked: &Asked,
    before: &Book,
    plan: &Plan,
) -> Result<Vec<LedgerMessage>, StoreError> {
    let Asked { customer, currency, .. } = *asked;
    // Safe under the customer's lock.
    let last: i64 = sqlx::query_scalar("SELECT coalesce(max(sequence), 0) FROM entries WHERE customer_id = $1")
        .bind(customer)
        .fetch_one(&mut *connection)
        .await?;
    let amount = |minor| Money::from_minor(minor, currency).amount();
    let mut book = before.clone();
    let mut events = Vec::with_capacity(plan.entries.len());
    for (entry, sequence) in plan.entries.iter().zip(last.saturating_add(1)..) {
        book.apply(*entry)?;
        let id = Uuid::now_v7();
        let kind: &'static str = entry.phase.into();
        let booked_at: i64 = sqlx::query_scalar(
            "INSERT INTO entries (id, customer_id, sequence, transfer_id, kind, debit, credit, currency, amount, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             RETURNING (extract(epoch FROM created_at) * 1000)::bigint",
        )
        .bind(id)
        .bind(customer)
        .bind(sequence)
        .bind(transfer)
        .bind(kind)
        .bind(entry.debit.to_string())
        .bind(entry.credit.to_string())
        .bind(currency.code())
        .bind(entry.amount)
        .bind(entry.reason.to_string())
        .fetch_one(&mut *connection)
        .await?;
        let (account, counter, is_debit) = entry.seen_by_customer();
        events.push(LedgerMessage::LedgerEntry(LedgerEntry {
            entry_id: id,
            sequence,
            transfer_id: transfer,
            customer_id: customer,
            account: account.to_string(),
            counter_account: counter.to_string(),
            kind: kind.to_owned(),
            reason: entry.reason.to_string(),
            side: if is_debit { EntrySide::Debit } else { EntrySide::Credit },
            currency: currency.to_string(),
            amount: amount(entry.amount),
            available: amount(book.available()),
            held: amount(book.held()),
            at_stake: amount(book.at_stake()),
            booked_at,
        }));
    }
    if book == plan.after { Ok(events) } else { Err(TransferError::Overflow.into()) }
}

/// A wallet for the audit.
pub(super) fn wallet_json(book: &Book, currency: Currency) -> serde_json::Value {
    let amount = |minor| Money::from_minor(minor, currency).amount();
    serde_json::json!({
        "currency": currency,
        "available": amount(book.available()),
        "held": amount(book.held()),
        "atStake": amount(book.at_stake()),
    })
}
