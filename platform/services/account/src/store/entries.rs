//! A transfer's entries, as they are stored and told.

use paddock_events::{EntrySide, LedgerEntry};
use paddock_ledger::TransferError;
use paddock_money::{Currency, Money};
use uuid::Uuid;

use super::StoreError;
use super::ledger::{Asked, Booking};
use crate::domain::plan::Book;

/// The entries that a booking makes, in order, with the wallet after each.
pub(super) fn of(transfer: Uuid, booking: &Booking) -> Result<Vec<LedgerEntry>, StoreError> {
    let Asked { customer, currency, .. } = booking.asked;
    let amount = |minor| Money::from_minor(minor, currency).amount();
    let mut book = booking.before.book.clone();
    let mut entries = Vec::with_capacity(booking.plan.entries.len());
    for (entry, sequence) in booking.plan.entries.iter().zip(booking.before.sequence.saturating_add(1)..) {
        book.apply(*entry)?;
        let (account, counter, is_debit) = entry.seen_by_customer();
        entries.push(LedgerEntry {
            entry_id: Uuid::now_v7(),
            sequence,
            transfer_id: transfer,
            customer_id: customer,
            account: account.to_string(),
            counter_account: counter.to_string(),
            kind: entry.phase.to_string(),
            reason: entry.reason.to_string(),
            side: if is_debit { EntrySide::Debit } else { EntrySide::Credit },
            currency: currency.to_string(),
            amount: amount(entry.amount),
            available: amount(book.available()),
            held: amount(book.held()),
            at_stake: amount(book.at_stake()),
            booked_at: booking.before.now,
        });
    }
    if book == booking.plan.after { Ok(entries) } else { Err(TransferError::Overflow.into()) }
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
