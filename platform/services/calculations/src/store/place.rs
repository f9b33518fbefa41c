//! Storing a new ticket with its idempotency key.

use std::collections::BTreeMap;

use paddock_events::{Context, TicketMessage};
use paddock_money::Money;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::ticket::parse;
use super::{Store, StoreError};
use crate::domain::Code;
use crate::domain::decide::{Seen, StateRow};
use crate::domain::request::{OddsChange, Single};

/// What was found of a bet at its arrival: the state of its line and the payout if it wins, or why it is refused.
pub type Found = Result<(Seen, Money), Code>;

/// A ticket to be stored.
#[derive(Debug, Clone)]
pub struct NewTicket {
    /// Id.
    pub id: Uuid,
    /// Customer.
    pub customer: Uuid,
    /// Country, upper case.
    pub country: String,
    /// Policy.
    pub odds_change: OddsChange,
    /// Origin of the request.
    pub context: Context,
    /// The customer's key.
    pub key: String,
    /// Fingerprint of the body.
    pub fingerprint: Vec<u8>,
    /// Sum of stakes.
    pub total: Money,
    /// Longest delay of the bets' rules.
    pub delay_ms: u32,
    /// Bets with what was found at their arrival.
    pub bets: Vec<(Single, Found)>,
}

/// What storing a ticket came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// It is new; `rejected` if a bet was refused at once.
    New {
        /// Code of the first refused bet.
        rejected: Option<Code>,
    },
    /// The key was used before.
    Known {
        /// For this ticket.
        ticket: Uuid,
        /// With a body of this fingerprint.
        fingerprint: Vec<u8>,
    },
}

impl Store {
    /// Which ticket a customer's key stands for.
    pub async fn known(&self, customer: Uuid, key: &str) -> Result<Option<Placed>, StoreError> {
        let row = sqlx::query("SELECT ticket_id, fingerprint FROM idempotency WHERE customer_id = $1 AND key = $2")
            .bind(customer)
            .bind(key)
            .fetch_optional(&self.pool())
            .await?;
        row.map(|row| Ok(Placed::Known { ticket: row.try_get("ticket_id")?, fingerprint: row.try_get("fingerprint")? }))
            .transpose()
    }

    /// The state rows of lines and events.
    pub async fn states(&self, keys: &[String]) -> Result<BTreeMap<String, (i64, String)>, StoreError> {
        let rows = sqlx::query("SELECT key, sequence, status FROM offer_state WHERE key = ANY($1)")
            .bind(keys)
            .fetch_all(&self.pool())
            .await?;
        rows.iter().map(|row| Ok((row.try_get("key")?, (row.try_get("sequence")?, row.try_get("status")?)))).collect()
    }

    /// Stores a ticket with its key, or finds the one that the key stands for. All bets or none: one refused bet rejects it.
    pub async fn place(&self, new: &NewTicket) -> Result<Placed, StoreError> {
        let rejected = new.bets.iter().find_map(|(_, found)| found.as_ref().err().copied());
        let stored = if rejected.is_some() {
            let mut tx = self.pool().begin().await?;
            let stored = insert(&mut tx, new, rejected).await?;
            if stored {
                self.tell(&mut tx, new.id, TicketMessage::TicketDecided).await?;
            }
            tx.commit().await?;
            self.outbox.committed();
            stored
        } else {
            insert(&mut *self.pool().acquire().await?, new, rejected).await?
        };
        if stored {
            return Ok(Placed::New { rejected });
        }
        let unreadable = || StoreError::Unreadable { id: new.customer.to_string(), what: "idempotency key" };
        self.known(new.customer, &new.key).await?.ok_or_else(unreadable)
    }
}

/// One statement, so that a ticket that is not refused at once needs no transaction around it. `false` if the key is known: then
/// nothing is stored.
async fn insert(connection: &mut PgConnection, new: &NewTicket, rejected: Option<Code>) -> Result<bool, StoreError> {
    let bet_id = |position: usize| Uuid::new_v5(&new.id, format!("bet/{position}").as_bytes());
    let bets = || new.bets.iter().map(|(bet, _)| bet);
    let found = || new.bets.iter().map(|(_, found)| found);
    let seen = || found().map(|found| found.as_ref().ok().map(|(seen, _)| *seen));
    // The time of the first attempt is a lease: until then only the request itself goes on with the ticket.
    let stored = sqlx::query(
        "WITH keyed AS (
            INSERT INTO idempotency (customer_id, key, fingerprint, ticket_id) VALUES ($2, $3, $4, $1)
            ON CONFLICT DO NOTHING RETURNING ticket_id
         ), stored AS (
            INSERT INTO ticket (id, customer_id, currency, country, odds_change, status, code, total_stake, hold, delay_ms,
                context, attempt_at)
            SELECT ticket_id, $2, $5, $6, $7, $8, $9, $10, $11, $12, $13, clock_timestamp() + interval '10 seconds' FROM keyed
            RETURNING id
         ), bets AS (
            INSERT INTO bet (id, ticket_id, position, stake, potential_payout, code)
            SELECT bet.id, stored.id, bet.position - 1, stake, payout, bet.code FROM stored,
                unnest($14::uuid[], $15::bigint[], $16::bigint[], $17::text[])
                    WITH ORDINALITY AS bet (id, stake, payout, code, position)
         ), legs AS (
            INSERT INTO selection (bet_id, position, line_key, event_id, market_id, specifiers, outcome_id, asked_odds, odds,
                seen_state, seen_phase, code)
            SELECT leg.bet_id, 0, line_key, event_id, market_id, specifiers, outcome_id, odds, odds, seen_state, seen_phase, leg.code
            FROM stored, unnest($14::uuid[], $18::text[], $19::text[], $20::integer[], $21::text[], $22::text[], $23::text[],
                    $24::bigint[], $25::text[], $17::text[])
                AS leg (bet_id, line_key, event_id, market_id, specifiers, outcome_id, odds, seen_state, seen_phase, code)
         )
         SELECT FROM stored",
    )
    .bind(new.id)
    .bind(new.customer)
    .bind(&new.key)
    .bind(&new.fingerprint)
    .bind(new.total.currency().code())
    .bind(&new.country)
    .bind(new.odds_change.to_string())
    .bind(if rejected.is_some() { "rejected" } else { "received" })
    .bind(rejected.map(|code| code.to_string()))
    .bind(new.total.minor())
    .bind(if rejected.is_some() { "none" } else { "open" })
    .bind(i32::try_from(new.delay_ms).unwrap_or(i32::MAX))
    .bind(Json(&new.context))
    .bind((0..new.bets.len()).map(bet_id).collect::<Vec<_>>())
    .bind(bets().map(|bet| bet.stake.minor()).collect::<Vec<_>>())
    .bind(found().map(|found| found.as_ref().map_or(0, |(_, payout)| payout.minor())).collect::<Vec<_>>())
    .bind(found().map(|found| found.as_ref().err().map(ToString::to_string)).collect::<Vec<_>>())
    .bind(bets().map(|bet| bet.line.to_string()).collect::<Vec<_>>())
    .bind(bets().map(|bet| bet.line.event_id.clone()).collect::<Vec<_>>())
    .bind(bets().map(|bet| i32::try_from(bet.line.market_id).unwrap_or(i32::MAX)).collect::<Vec<_>>())
    .bind(bets().map(|bet| bet.line.specifiers.to_string()).collect::<Vec<_>>())
    .bind(bets().map(|bet| bet.outcome_id.clone()).collect::<Vec<_>>())
    .bind(bets().map(|bet| bet.odds.to_string()).collect::<Vec<_>>())
    .bind(seen().map(|seen| seen.map_or(0, |seen| seen.state)).collect::<Vec<_>>())
    .bind(seen().map(|seen| seen.map_or("pre_match", |seen| seen.phase.into())).collect::<Vec<&str>>())
    .fetch_optional(connection)
    .await?;
    Ok(stored.is_some())
}

/// A state row as the decision takes it.
pub(crate) fn state_row(key: &str, row: &(i64, String)) -> Result<StateRow, StoreError> {
    Ok(StateRow { sequence: row.0, status: parse(key, "status", &row.1)? })
}

/// Status of an event as any replica has seen it.
pub(crate) fn event_status(key: &str, row: &(i64, String)) -> Result<paddock_events::EventStatus, StoreError> {
    parse(key, "status", &row.1)
}
