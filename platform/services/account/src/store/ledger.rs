//! The durable ledger.
//!
//! Every transfer concerns one customer and first locks that customer's row: transfers of one customer queue, those of
//! different customers never meet, and since it is the only lock that anybody waits for, there is no deadlock. (Resolving a hold
//! may wait for the janitor, who marks it as asked for and waits for nobody.)

use paddock_events::{LedgerEntry, LedgerMessage};
use paddock_ledger::{AccountCode, Balances, TransferError};
use paddock_money::{Currency, Money};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::entries;
use super::{Audit, Store, StoreError, broken_constraint, read};
use crate::domain::plan::{self, Book, Movement, Plan};

/// A request to move money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Made by the caller: applied once.
    pub id: Uuid,
    /// What.
    pub action: Action,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Hold a customer's money until a decision.
    Hold(Asked),
    /// Move money at once.
    Transfer(Asked),
    /// Post a hold.
    Post {
        /// The hold.
        hold: Uuid,
        /// The part to post, as decimal text in the hold's currency; none = all.
        part: Option<String>,
    },
    /// Void a hold.
    Void {
        /// The hold.
        hold: Uuid,
    },
}

/// A movement on a customer's book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Whose book.
    pub customer: Uuid,
    /// Which book.
    pub currency: Currency,
    /// From, to, how much and why.
    pub movement: Movement,
}

/// Where a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum TransferState {
    /// A hold that waits for a decision.
    Pending,
    /// Money has moved.
    Posted,
    /// A hold that was released.
    Voided,
}

/// A hold or transfer in its present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferResource {
    /// Its id.
    pub id: Uuid,
    /// What was asked for.
    pub asked: Asked,
    /// Whether it is a hold.
    pub is_hold: bool,
    /// Where it stands.
    pub state: TransferState,
    /// Minor units that have moved.
    pub posted: i64,
    /// When it was made, ms, database clock.
    pub created_at: i64,
}

/// What applying a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether this call moved the money; `false` if an earlier one did.
    pub created: bool,
    /// The transfer; for a post or void the hold that it resolves.
    pub resource: TransferResource,
}

/// A hold that waits for longer than a decision takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleHold {
    /// The hold.
    pub id: Uuid,
}

/// A row of `transfers`.
struct TransferRow {
    id: Uuid,
    kind: String,
    asked: Asked,
    hold: Option<Uuid>,
    requested: Option<i64>,
    created_at: i64,
}

/// What resolved a hold.
struct Resolution {
    kind: String,
    posted: i64,
}

/// A new row of `transfers` and what it does to the book.
pub(super) struct Booking {
    kind: &'static str,
    pub(super) asked: Asked,
    hold: Option<Uuid>,
    requested: Option<i64>,
    pub(super) before: Before,
    pub(super) plan: Plan,
}

/// What a transfer finds under the customer's lock.
pub(super) struct Before {
    pub(super) book: Book,
    /// Number of the customer's last entry.
    pub(super) sequence: i64,
    /// Now, ms, database clock: the time of the transfer and its entries.
    pub(super) now: i64,
}

impl Booking {
    /// Of a post what was posted, of a void what was released.
    fn amount(&self) -> i64 {
        self.requested.unwrap_or(self.asked.movement.amount)
    }

    fn row(&self, id: Uuid) -> TransferRow {
        TransferRow {
            id,
            kind: self.kind.to_owned(),
            asked: self.asked,
            hold: self.hold,
            requested: self.requested,
            created_at: self.before.now,
        }
    }
}

impl Store {
    /// Applies a command once. Repeating it gives the transfer in its present state; after [`StoreError::Database`] it is
    /// unknown whether it was applied: repeat it with the same id.
    pub async fn apply(&self, command: &Command) -> Result<Outcome, StoreError> {
        self.apply_audited(command, None).await
    }

    /// Applies a command of a member of staff and writes what it changed to the audit, in one transaction; of a repetition that it
    /// changed nothing.
    pub async fn apply_audited(&self, command: &Command, audit: Option<&Audit>) -> Result<Outcome, StoreError> {
        let mut transaction = self.database.pool().begin().await?;
        let (asked, resolved) = match &command.action {
            Action::Hold(asked) | Action::Transfer(asked) => (Some(asked.customer), None),
            Action::Post { hold, .. } | Action::Void { hold } => (None, Some(*hold)),
        };
        let Some((customer, state)) = lock(&mut transaction, asked, resolved).await? else {
            return Err(match (asked, resolved) {
                (Some(customer), _) => StoreError::CustomerNotFound(customer),
                (None, hold) => TransferError::HoldNotFound(hold.unwrap_or(command.id)).into(),
            });
        };
        let found = find_all(&mut transaction, &[Some(command.id), resolved]).await?;
        let row = |id: Uuid| found.iter().find(|(row, _)| row.id == id);
        if let Some((known, resolution)) = row(command.id) {
            if !known.is_same(command)? {
                return Err(TransferError::IdReused(command.id).into());
            }
            // A post or void shows its hold.
            let (shown, resolution) = resolved.and_then(row).map_or((known, resolution), |(row, by)| (row, by));
            if let Some(audit) = audit {
                let Before { book, .. } = load(&mut transaction, customer, known.asked.currency).await?;
                let wallet = entries::wallet_json(&book, known.asked.currency);
                audit.write(&mut transaction, &wallet, &wallet).await?;
                transaction.commit().await?;
            }
            return Ok(Outcome { created: false, resource: shown.resource(resolution.as_ref()) });
        }
        let resolvable = |id: Uuid| {
            let found = row(id).filter(|(row, _)| row.is_hold());
            found.ok_or(TransferError::HoldNotFound(id)).map(|(row, resolution)| (row, resolution.as_ref()))
        };
        let booking = match &command.action {
            Action::Hold(asked) => {
                if state != "active" {
                    return Err(StoreError::CustomerNotAllowed(state));
                }
                let before = load(&mut transaction, customer, asked.currency).await?;
                let plan = plan::hold(&before.book, asked.movement)?;
                Booking { kind: "hold", asked: *asked, hold: None, requested: None, before, plan }
            }
            Action::Transfer(asked) => {
                let before = load(&mut transaction, customer, asked.currency).await?;
                let plan = plan::transfer(&before.book, asked.movement)?;
                Booking { kind: "transfer", asked: *asked, hold: None, requested: None, before, plan }
            }
            Action::Post { hold, part } => {
                let (row, resolution) = resolvable(*hold)?;
                let part = row.part(part.as_deref())?;
                if let Some(resolution) = resolution {
                    return match resolution.kind.as_str() {
                        "post" if resolution.posted == part.unwrap_or(row.asked.movement.amount) => {
                            Ok(Outcome { created: false, resource: row.resource(Some(resolution)) })
                        }
                        "post" => Err(TransferError::AlreadyPosted(*hold).into()),
                        _ => Err(TransferError::AlreadyVoided(*hold).into()),
                    };
                }
                let before = load(&mut transaction, customer, row.asked.currency).await?;
                let plan = plan::post(&before.book, row.asked.movement, part)?;
                Booking { kind: "post", asked: row.asked, hold: Some(*hold), requested: part, before, plan }
            }
            Action::Void { hold } => {
                let (row, resolution) = resolvable(*hold)?;
                if let Some(resolution) = resolution {
                    return match resolution.kind.as_str() {
                        "void" => Ok(Outcome { created: false, resource: row.resource(Some(resolution)) }),
                        _ => Err(TransferError::AlreadyPosted(*hold).into()),
                    };
                }
                let before = load(&mut transaction, customer, row.asked.currency).await?;
                let plan = plan::void(&before.book, row.asked.movement)?;
                Booking { kind: "void", asked: row.asked, hold: Some(*hold), requested: None, before, plan }
            }
        };
        let entries = entries::of(command.id, &booking)?;
        write(&mut transaction, command.id, &booking, &entries).await?;
        self.publish(&mut transaction, entries.into_iter().map(LedgerMessage::LedgerEntry).collect()).await?;
        if let Some(audit) = audit {
            let wallet = |book: &Book| entries::wallet_json(book, booking.asked.currency);
            audit.write(&mut transaction, &wallet(&booking.before.book), &wallet(&booking.plan.after)).await?;
        }
        transaction.commit().await?;
        self.outbox.committed();
        let resource = match resolved.and_then(row) {
            Some((row, _)) => {
                row.resource(Some(&Resolution { kind: booking.kind.to_owned(), posted: booking.amount() }))
            }
            None => booking.row(command.id).resource(None),
        };
        Ok(Outcome { created: true, resource })
    }

    /// Stakes held for longer than some seconds that nothing has resolved. Those that were given longest ago come first, so that
    /// ones that cannot be resolved stand in nobody's way.
    pub async fn stale_holds(&self, older_than_s: i64, limit: i64) -> Result<Vec<StaleHold>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "UPDATE open_holds SET asked_at = clock_timestamp() WHERE hold_id IN (
                 SELECT hold_id FROM open_holds
                 WHERE created_at < clock_timestamp() - make_interval(secs => $1::double precision)
                 ORDER BY asked_at NULLS FIRST, created_at LIMIT $2 FOR UPDATE SKIP LOCKED
             ) RETURNING hold_id",
        )
        .bind(older_than_s)
        .bind(limit)
        .fetch_all(&self.database.pool())
        .await?;
        Ok(ids.into_iter().map(|id| StaleHold { id }).collect())
    }

    /// A hold or transfer in its present state; for a post or void its hold.
    pub async fn transfer(&self, id: Uuid) -> Result<Option<TransferResource>, StoreError> {
        let mut connection = self.database.pool().acquire().await?;
        let found = find_all(&mut connection, &[Some(id)]).await?;
        let Some((row, resolution)) = found.first() else { return Ok(None) };
        let Some(hold) = row.hold else { return Ok(Some(row.resource(resolution.as_ref()))) };
        let found = find_all(&mut connection, &[Some(hold)]).await?;
        let (row, resolution) = found.first().ok_or(TransferError::HoldNotFound(hold))?;
        Ok(Some(row.resource(resolution.as_ref())))
    }
}

impl TransferRow {
    fn is_hold(&self) -> bool {
        self.kind == "hold"
    }

    /// The part of this hold that decimal text names, in minor units.
    fn part(&self, text: Option<&str>) -> Result<Option<i64>, StoreError> {
        Ok(text.map(|text| Money::parse(text, self.asked.currency)).transpose()?.map(Money::minor))
    }

    /// Whether a command has the body that this row was made with.
    fn is_same(&self, command: &Command) -> Result<bool, StoreError> {
        Ok(match &command.action {
            Action::Hold(asked) => self.kind == "hold" && self.asked == *asked,
            Action::Transfer(asked) => self.kind == "transfer" && self.asked == *asked,
            Action::Post { hold, part } => {
                self.kind == "post" && self.hold == Some(*hold) && self.requested == self.part(part.as_deref())?
            }
            Action::Void { hold } => self.kind == "void" && self.hold == Some(*hold),
        })
    }

    fn resource(&self, resolution: Option<&Resolution>) -> TransferResource {
        let (state, posted) = match (self.is_hold(), resolution) {
            (false, _) => (TransferState::Posted, self.asked.movement.amount),
            (true, None) => (TransferState::Pending, 0),
            (true, Some(resolution)) if resolution.kind == "post" => (TransferState::Posted, resolution.posted),
            (true, Some(_)) => (TransferState::Voided, 0),
        };
        let (id, asked, created_at) = (self.id, self.asked, self.created_at);
        TransferResource { id, asked, is_hold: self.is_hold(), state, posted, created_at }
    }
}

/// Locks a customer's row, or that of the customer whose hold it is, until the transaction ends; the id and the state.
async fn lock(
    connection: &mut PgConnection,
    customer: Option<Uuid>,
    hold: Option<Uuid>,
) -> Result<Option<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, state FROM customers
         WHERE id = coalesce($1, (SELECT customer_id FROM transfers WHERE id = $2)) FOR NO KEY UPDATE",
    )
    .bind(customer)
    .bind(hold)
    .fetch_optional(connection)
    .await
}

/// Rows of `transfers`, each with what resolved it.
async fn find_all(
    connection: &mut PgConnection,
    ids: &[Option<Uuid>],
) -> Result<Vec<(TransferRow, Option<Resolution>)>, StoreError> {
    let rows = sqlx::query(
        "SELECT t.id, t.kind, t.customer_id, t.debit, t.credit, t.currency, t.amount, t.reason, t.hold_id, t.requested,
                (extract(epoch FROM t.created_at) * 1000)::bigint AS created_at, by.kind AS by_kind, by.amount AS by_amount
         FROM transfers t LEFT JOIN transfers by ON by.hold_id = t.id WHERE t.id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((transfer_row(row)?, resolution(row)?))).collect()
}

fn transfer_row(row: &PgRow) -> Result<TransferRow, StoreError> {
    let movement = Movement {
        debit: read("debit", row.try_get("debit")?)?,
        credit: read("credit", row.try_get("credit")?)?,
        amount: row.try_get("amount")?,
        reason: read("reason", row.try_get("reason")?)?,
    };
    let currency = read("currency", row.try_get("currency")?)?;
    Ok(TransferRow {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        asked: Asked { customer: row.try_get("customer_id")?, currency, movement },
        hold: row.try_get("hold_id")?,
        requested: row.try_get("requested")?,
        created_at: row.try_get("created_at")?,
    })
}

fn resolution(row: &PgRow) -> Result<Option<Resolution>, StoreError> {
    let kind: Option<String> = row.try_get("by_kind")?;
    kind.map(|kind| Ok(Resolution { kind, posted: row.try_get("by_amount")? })).transpose()
}

/// The book of a customer in a currency, under the customer's lock.
pub(super) async fn load(
    connection: &mut PgConnection,
    customer: Uuid,
    currency: Currency,
) -> Result<Before, StoreError> {
    let rows = sqlx::query(
        "SELECT (SELECT coalesce(max(sequence), 0) FROM entries WHERE customer_id = $1) AS sequence,
                (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now,
                code, debits_pending, debits_posted, credits_pending, credits_posted
         FROM (SELECT) AS once LEFT JOIN accounts ON customer_id = $1 AND currency = $2",
    )
    .bind(customer)
    .bind(currency.code())
    .fetch_all(connection)
    .await?;
    let mut accounts = Vec::with_capacity(rows.len());
    let (mut sequence, mut now) = (0, 0);
    for row in &rows {
        (sequence, now) = (row.try_get("sequence")?, row.try_get("now")?);
        let Some(code) = row.try_get::<Option<String>, _>("code")? else { continue };
        let balances = Balances {
            debits_pending: row.try_get("debits_pending")?,
            debits_posted: row.try_get("debits_posted")?,
            credits_pending: row.try_get("credits_pending")?,
            credits_posted: row.try_get("credits_posted")?,
        };
        accounts.push((read("code", &code)?, balances));
    }
    Ok(Before { book: Book::new(accounts), sequence, now })
}

/// Writes a transfer, its entries and the balances of the accounts that it changes, in one statement.
async fn write(
    connection: &mut PgConnection,
    id: Uuid,
    booking: &Booking,
    entries: &[LedgerEntry],
) -> Result<(), StoreError> {
    let Asked { customer, currency, movement } = booking.asked;
    let (before, after) = (&booking.before.book, &booking.plan.after);
    let changed: Vec<(AccountCode, Balances)> =
        after.accounts().filter(|(code, balances)| before.balances(*code) != *balances).collect();
    let column = |of: fn(&Balances) -> i64| -> Vec<i64> { changed.iter().map(|(_, balances)| of(balances)).collect() };
    let planned = &booking.plan.entries;
    let written = sqlx::query(
        "WITH moved AS (SELECT timestamptz 'epoch' + $12 * interval '1 millisecond' AS at), transfer AS (
            INSERT INTO transfers (id, customer_id, kind, debit, credit, currency, amount, reason, hold_id, requested, created_at)
            SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, at FROM moved
         ), entry AS (
            INSERT INTO entries (id, customer_id, sequence, transfer_id, kind, debit, credit, currency, amount, reason, created_at)
            SELECT entry.id, $2, sequence, $1, kind, debit, credit, $6, amount, reason, at
            FROM moved, unnest($11::uuid[], $13::bigint[], $14::text[], $15::text[], $16::text[], $17::bigint[], $18::text[])
                AS entry (id, sequence, kind, debit, credit, amount, reason)
         )
         INSERT INTO accounts (customer_id, currency, code, debits_pending, debits_posted, credits_pending, credits_posted)
         SELECT $2, $6, * FROM unnest($19::text[], $20::bigint[], $21::bigint[], $22::bigint[], $23::bigint[])
         ON CONFLICT (customer_id, currency, code) DO UPDATE SET
             debits_pending = excluded.debits_pending, debits_posted = excluded.debits_posted,
             credits_pending = excluded.credits_pending, credits_posted = excluded.credits_posted",
    )
    .bind(id)
    .bind(customer)
    .bind(booking.kind)
    .bind(movement.debit.to_string())
    .bind(movement.credit.to_string())
    .bind(currency.code())
    .bind(booking.amount())
    .bind(movement.reason.to_string())
    .bind(booking.hold)
    .bind(booking.requested)
    .bind(entries.iter().map(|entry| entry.entry_id).collect::<Vec<_>>())
    .bind(booking.before.now)
    .bind(entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>())
    .bind(planned.iter().map(|entry| entry.phase.to_string()).collect::<Vec<_>>())
    .bind(planned.iter().map(|entry| entry.debit.to_string()).collect::<Vec<_>>())
    .bind(planned.iter().map(|entry| entry.credit.to_string()).collect::<Vec<_>>())
    .bind(planned.iter().map(|entry| entry.amount).collect::<Vec<_>>())
    .bind(planned.iter().map(|entry| entry.reason.to_string()).collect::<Vec<_>>())
    .bind(changed.iter().map(|(code, _)| code.to_string()).collect::<Vec<_>>())
    .bind(column(|balances| balances.debits_pending))
    .bind(column(|balances| balances.debits_posted))
    .bind(column(|balances| balances.credits_pending))
    .bind(column(|balances| balances.credits_posted))
    .execute(connection)
    .await;
    match written {
        Ok(_) => Ok(()),
        // Another customer's transfer has the id: that customer's lock is not ours, so only the key tells.
        Err(error) if broken_constraint(&error) == Some("transfers_pkey") => Err(TransferError::IdReused(id).into()),
        Err(error) => Err(error.into()),
    }
}
