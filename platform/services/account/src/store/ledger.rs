//! The durable ledger.
//!
//! Every transfer concerns one customer and first locks that customer's row: transfers of one customer queue, those of
//! different customers never meet, and since it is the only lock that anybody waits for, there is no deadlock. (Resolving a hold
//! may wait for the janitor, who marks it as asked for and waits for nobody.)

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
struct Booking {
    kind: &'static str,
    asked: Asked,
    hold: Option<Uuid>,
    requested: Option<i64>,
    before: Book,
    plan: Plan,
}

impl Store {
    /// Applies a command once. Repeating it gives the transfer in its present state; after [`StoreError::Database`] it is
    /// unknown whether it was applied: repeat it with the same id.
    pub async fn apply(&self, command: &Command) -> Result<Outcome, StoreError> {
        self.apply_audited(command, None).await
    }

    /// Applies a command of a member of staff and writes what it changed to the audit, in one transaction.
    pub async fn apply_audited(&self, command: &Command, audit: Option<&Audit>) -> Result<Outcome, StoreError> {
        let mut transaction = self.database.pool().begin().await?;
        let customer = match &command.action {
            Action::Hold(asked) | Action::Transfer(asked) => asked.customer,
            Action::Post { hold, .. } | Action::Void { hold } => {
                let row = find(&mut transaction, *hold).await?.ok_or(TransferError::HoldNotFound(*hold))?;
                row.asked.customer
            }
        };
        let state: Option<String> = sqlx::query_scalar("SELECT state FROM customers WHERE id = $1 FOR NO KEY UPDATE")
            .bind(customer)
            .fetch_optional(&mut *transaction)
            .await?;
        let state = state.ok_or(StoreError::CustomerNotFound(customer))?;
        if let Some(known) = find(&mut transaction, command.id).await? {
            if !known.is_same(command)? {
                return Err(TransferError::IdReused(command.id).into());
            }
            return Ok(Outcome { created: false, resource: present(&mut transaction, known).await? });
        }
        let booking = match &command.action {
            Action::Hold(asked) => {
                if state != "active" {
                    return Err(StoreError::CustomerNotAllowed(state));
                }
                let before = load(&mut transaction, customer, asked.currency).await?;
                let plan = plan::hold(&before, asked.movement)?;
                Booking { kind: "hold", asked: *asked, hold: None, requested: None, before, plan }
            }
            Action::Transfer(asked) => {
                let before = load(&mut transaction, customer, asked.currency).await?;
                let plan = plan::transfer(&before, asked.movement)?;
                Booking { kind: "transfer", asked: *asked, hold: None, requested: None, before, plan }
            }
            Action::Post { hold, part } => {
                let held = find(&mut transaction, *hold).await?.filter(TransferRow::is_hold);
                let held = held.ok_or(TransferError::HoldNotFound(*hold))?;
                let part = held.part(part.as_deref())?;
                if let Some(resolution) = resolution(&mut transaction, *hold).await? {
                    return match resolution.kind.as_str() {
                        "post" if resolution.posted == part.unwrap_or(held.asked.movement.amount) => {
                            Ok(Outcome { created: false, resource: held.resource(Some(&resolution)) })
                        }
                        "post" => Err(TransferError::AlreadyPosted(*hold).into()),
                        _ => Err(TransferError::AlreadyVoided(*hold).into()),
                    };
                }
                let before = load(&mut transaction, customer, held.asked.currency).await?;
                let plan = plan::post(&before, held.asked.movement, part)?;
                Booking { kind: "post", asked: held.asked, hold: Some(*hold), requested: part, before, plan }
            }
            Action::Void { hold } => {
                let held = find(&mut transaction, *hold).await?.filter(TransferRow::is_hold);
                let held = held.ok_or(TransferError::HoldNotFound(*hold))?;
                if let Some(resolution) = resolution(&mut transaction, *hold).await? {
                    return match resolution.kind.as_str() {
                        "void" => Ok(Outcome { created: false, resource: held.resource(Some(&resolution)) }),
                        _ => Err(TransferError::AlreadyPosted(*hold).into()),
                    };
                }
                let before = load(&mut transaction, customer, held.asked.currency).await?;
                let plan = plan::void(&before, held.asked.movement)?;
                Booking { kind: "void", asked: held.asked, hold: Some(*hold), requested: None, before, plan }
            }
        };
        let created_at = insert(&mut transaction, command.id, &booking).await?;
        let events =
            entries::write(&mut transaction, command.id, &booking.asked, &booking.before, &booking.plan).await?;
        save(&mut transaction, &booking).await?;
        self.publish(&mut transaction, events).await?;
        if let Some(audit) = audit {
            let wallet = |book: &Book| entries::wallet_json(book, booking.asked.currency);
            audit.write(&mut transaction, &wallet(&booking.before), &wallet(&booking.plan.after)).await?;
        }
        let row = TransferRow {
            id: command.id,
            kind: booking.kind.to_owned(),
            asked: booking.asked,
            hold: booking.hold,
            requested: booking.requested,
            created_at,
        };
        let resource = present(&mut transaction, row).await?;
        transaction.commit().await?;
        self.outbox.committed();
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
        match find(&mut connection, id).await? {
            Some(row) => present(&mut connection, row).await.map(Some),
            None => Ok(None),
        }
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

/// The resource that a row belongs to: a post or void shows its hold.
async fn present(connection: &mut PgConnection, row: TransferRow) -> Result<TransferResource, StoreError> {
    let row = match row.hold {
        Some(hold) => find(connection, hold).await?.ok_or(TransferError::HoldNotFound(hold))?,
        None => row,
    };
    let resolution = if row.is_hold() { resolution(connection, row.id).await? } else { None };
    Ok(row.resource(resolution.as_ref()))
}

async fn find(connection: &mut PgConnection, id: Uuid) -> Result<Option<TransferRow>, StoreError> {
    let row = sqlx::query(
        "SELECT id, kind, customer_id, debit, credit, currency, amount, reason, hold_id, requested,
                (extract(epoch FROM created_at) * 1000)::bigint AS created_at
         FROM transfers WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(connection)
    .await?;
    row.map(|row: PgRow| {
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
    })
    .transpose()
}

async fn resolution(connection: &mut PgConnection, hold: Uuid) -> Result<Option<Resolution>, StoreError> {
    let row: Option<(String, i64)> = sqlx::query_as("SELECT kind, amount FROM transfers WHERE hold_id = $1")
        .bind(hold)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|(kind, posted)| Resolution { kind, posted }))
}

/// The book of a customer in a currency.
pub(super) async fn load(
    connection: &mut PgConnection,
    customer: Uuid,
    currency: Currency,
) -> Result<Book, StoreError> {
    let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT code, debits_pending, debits_posted, credits_pending, credits_posted
         FROM accounts WHERE customer_id = $1 AND currency = $2",
    )
    .bind(customer)
    .bind(currency.code())
    .fetch_all(connection)
    .await?;
    let accounts: Result<Vec<(AccountCode, Balances)>, StoreError> = rows
        .into_iter()
        .map(|(code, debits_pending, debits_posted, credits_pending, credits_posted)| {
            let balances = Balances { debits_pending, debits_posted, credits_pending, credits_posted };
            Ok((read("code", &code)?, balances))
        })
        .collect();
    Ok(Book::new(accounts?))
}

async fn insert(connection: &mut PgConnection, id: Uuid, booking: &Booking) -> Result<i64, StoreError> {
    let Asked { customer, currency, movement } = booking.asked;
    // The row of a post says what was posted; that of a void what was released.
    let amount = booking.requested.unwrap_or(movement.amount);
    sqlx::query_scalar(
        "INSERT INTO transfers (id, customer_id, kind, debit, credit, currency, amount, reason, hold_id, requested)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         RETURNING (extract(epoch FROM created_at) * 1000)::bigint",
    )
    .bind(id)
    .bind(customer)
    .bind(booking.kind)
    .bind(movement.debit.to_string())
    .bind(movement.credit.to_string())
    .bind(currency.code())
    .bind(amount)
    .bind(movement.reason.to_string())
    .bind(booking.hold)
    .bind(booking.requested)
    .fetch_one(connection)
    .await
    .map_err(|error| match broken_constraint(&error) {
        // Another customer's transfer has the id: that customer's lock is not ours, so only the key tells.
        Some("transfers_pkey") => TransferError::IdReused(id).into(),
        _ => error.into(),
    })
}

/// Writes the balances of the accounts that the plan changed.
async fn save(connection: &mut PgConnection, booking: &Booking) -> Result<(), StoreError> {
    let changed: Vec<(AccountCode, Balances)> =
        booking.plan.after.accounts().filter(|(code, balances)| booking.before.balances(*code) != *balances).collect();
    let column = |of: fn(&Balances) -> i64| -> Vec<i64> { changed.iter().map(|(_, balances)| of(balances)).collect() };
    let codes: Vec<String> = changed.iter().map(|(code, _)| code.to_string()).collect();
    sqlx::query(
        "INSERT INTO accounts (customer_id, currency, code, debits_pending, debits_posted, credits_pending, credits_posted)
         SELECT $1, $2, * FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
         ON CONFLICT (customer_id, currency, code) DO UPDATE SET
             debits_pending = excluded.debits_pending, debits_posted = excluded.debits_posted,
             credits_pending = excluded.credits_pending, credits_posted = excluded.credits_posted",
    )
    .bind(booking.asked.customer)
    .bind(booking.asked.currency.code())
    .bind(codes)
    .bind(column(|balances| balances.debits_pending))
    .bind(column(|balances| balances.debits_posted))
    .bind(column(|balances| balances.credits_pending))
    .bind(column(|balances| balances.credits_posted))
    .execute(connection)
    .await?;
    Ok(())
}
