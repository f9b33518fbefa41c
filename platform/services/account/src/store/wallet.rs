//! What customers see of their money.

use paddock_money::{Currency, Money};
use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError, ledger, read};
use crate::domain::plan::Entry;

/// A customer's money in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wallet {
    /// Can be spent.
    pub available: Money,
    /// Waits for decisions.
    pub held: Money,
    /// Stakes of open bets.
    pub at_stake: Money,
}

/// An entry as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryResource {
    /// Id.
    pub id: Uuid,
    /// Counts the customer's entries from 1.
    pub sequence: i64,
    /// Transfer that it belongs to.
    pub transfer: Uuid,
    /// Currency.
    pub currency: Currency,
    /// The entry.
    pub entry: Entry,
    /// When it was booked, ms, database clock.
    pub booked_at: i64,
}

/// Entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntriesPage {
    /// The entries.
    pub entries: Vec<EntryResource>,
    /// Where the next page begins; none = this is the last.
    pub next: Option<i64>,
}

impl Store {
    /// The wallets of a customer, the customer's own currency always among them, and the sequence of the newest entry that
    /// they contain.
    pub async fn wallets(&self, customer: Uuid) -> Result<(i64, Vec<Wallet>), StoreError> {
        // One snapshot for sequence and balances.
        let mut transaction = self.database.pool().begin().await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *transaction).await?;
        let own: Option<String> = sqlx::query_scalar("SELECT currency FROM customers WHERE id = $1")
            .bind(customer)
            .fetch_optional(&mut *transaction)
            .await?;
        let own: Currency = read("currency", &own.ok_or(StoreError::CustomerNotFound(customer))?)?;
        let sequence: i64 = sqlx::query_scalar("SELECT coalesce(max(sequence), 0) FROM entries WHERE customer_id = $1")
            .bind(customer)
            .fetch_one(&mut *transaction)
            .await?;
        let codes: Vec<String> =
            sqlx::query_scalar("SELECT DISTINCT currency FROM accounts WHERE customer_id = $1 ORDER BY currency")
                .bind(customer)
                .fetch_all(&mut *transaction)
                .await?;
        let mut currencies = vec![own];
        for code in &codes {
            let currency: Currency = read("currency", code)?;
            if currency != own {
                currencies.push(currency);
            }
        }
        let mut wallets = Vec::with_capacity(currencies.len());
        for currency in currencies {
            let book = ledger::load(&mut transaction, customer, currency).await?.book;
            let money = |minor| Money::from_minor(minor, currency);
            wallets.push(Wallet {
                available: money(book.available()),
                held: money(book.held()),
                at_stake: money(book.at_stake()),
            });
        }
        transaction.commit().await?;
        Ok((sequence, wallets))
    }

    /// A page of a customer's entries below a sequence, newest first.
    pub async fn entries(&self, customer: Uuid, below: Option<i64>, limit: i64) -> Result<EntriesPage, StoreError> {
        let rows = sqlx::query(
            "SELECT id, sequence, transfer_id, kind, debit, credit, currency, amount, reason,
                    (extract(epoch FROM created_at) * 1000)::bigint AS booked_at
             FROM entries WHERE customer_id = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT $3",
        )
        .bind(customer)
        .bind(below.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.database.pool())
        .await?;
        let entries: Result<Vec<EntryResource>, StoreError> = rows
            .iter()
            .map(|row| {
                let entry = Entry {
                    phase: read("kind", row.try_get("kind")?)?,
                    debit: read("debit", row.try_get("debit")?)?,
                    credit: read("credit", row.try_get("credit")?)?,
                    amount: row.try_get("amount")?,
                    reason: read("reason", row.try_get("reason")?)?,
                };
                Ok(EntryResource {
                    id: row.try_get("id")?,
                    sequence: row.try_get("sequence")?,
                    transfer: row.try_get("transfer_id")?,
                    currency: read("currency", row.try_get("currency")?)?,
                    entry,
                    booked_at: row.try_get("booked_at")?,
                })
            })
            .collect();
        let entries = entries?;
        // Sequences have no gaps: after the first entry there is nothing.
        let next = entries.last().map(|entry| entry.sequence).filter(|sequence| *sequence > 1);
        Ok(EntriesPage { entries, next })
    }
}
