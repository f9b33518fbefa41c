//! Tickets as they are stored.

use std::collections::HashMap;

use paddock_events::{Context, LineKey, PricePhase, TicketBet, TicketSelection, TicketState};
use paddock_money::{Currency, Money};
use paddock_odds::{MarketType, Odds};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::decide::Seen;
use crate::domain::request::{OddsChange, Single};

/// State of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Status {
    /// Stored; the hold is being made.
    Received,
    /// The hold stands; the delay runs.
    PendingDelay,
    /// Placed.
    Accepted,
    /// Refused.
    Rejected,
    /// Every bet is settled.
    Settled,
    /// Every bet is void.
    Cancelled,
    /// A settlement was undone; open again.
    RolledBack,
}

impl Status {
    /// As the public API says it.
    pub const fn public(self) -> &'static str {
        match self {
            Self::Received | Self::PendingDelay => "pending",
            Self::Accepted | Self::RolledBack => "accepted",
            Self::Rejected => "rejected",
            Self::Settled => "settled",
            Self::Cancelled => "cancelled",
        }
    }

    /// What account asks about a hold.
    pub const fn decision(self) -> &'static str {
        match self {
            Self::Received | Self::PendingDelay => "pending",
            Self::Rejected => "rejected",
            Self::Accepted | Self::Settled | Self::Cancelled | Self::RolledBack => "accepted",
        }
    }
}

/// A stored ticket.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Id, also that of its hold.
    pub id: Uuid,
    /// Customer.
    pub customer: Uuid,
    /// Currency.
    pub currency: Currency,
    /// Country of the customer at the request.
    pub country: String,
    /// Policy.
    pub odds_change: OddsChange,
    /// State.
    pub status: Status,
    /// Why it was refused.
    pub code: Option<String>,
    /// Counts its states.
    pub sequence: i64,
    /// Sum of stakes, minor units.
    pub total_stake: i64,
    /// Ms.
    pub received_at: i64,
    /// Ms.
    pub placed_at: Option<i64>,
    /// Origin of the request.
    pub context: Context,
    /// Certificate of the decision.
    pub certificate: Option<Value>,
    /// Bets in order.
    pub bets: Vec<Bet>,
}

/// A stored bet.
#[derive(Debug, Clone)]
pub struct Bet {
    /// Id.
    pub id: Uuid,
    /// Minor units.
    pub stake: i64,
    /// Minor units.
    pub potential_payout: i64,
    /// Why it was refused.
    pub code: Option<String>,
    /// Settlements so far.
    pub settlement_version: i32,
    /// Minor units; none = open.
    pub payout: Option<i64>,
    /// Whether all of it was void.
    pub void: bool,
    /// Legs in order.
    pub selections: Vec<Selection>,
}

/// A stored leg.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Line.
    pub line: LineKey,
    /// Outcome id.
    pub outcome_id: String,
    /// Price that the customer saw.
    pub asked_odds: Odds,
    /// Price that it is placed at.
    pub odds: Odds,
    /// What was seen when the ticket arrived.
    pub seen: Seen,
    /// Why it was refused.
    pub code: Option<String>,
    /// What became of it.
    pub result: Option<String>,
}

impl Bet {
    /// The bet as a single, with the asked price.
    pub fn single(&self, currency: Currency) -> Option<(Single, Seen)> {
        let selection = self.selections.first()?;
        let single = Single {
            stake: Money::from_minor(self.stake, currency),
            line: selection.line.clone(),
            market: MarketType::of_feed_id(selection.line.market_id)?,
            outcome_id: selection.outcome_id.clone(),
            odds: selection.asked_odds,
        };
        Some((single, selection.seen))
    }
}

impl Ticket {
    fn amount(&self, minor: i64) -> String {
        Money::from_minor(minor, self.currency).amount()
    }

    /// Sum of potential payouts, minor units.
    pub fn potential_payout(&self) -> i64 {
        self.bets.iter().fold(0_i64, |sum, bet| sum.saturating_add(bet.potential_payout))
    }

    /// The ticket as topic `tickets` tells it.
    pub fn state(&self) -> TicketState {
        TicketState {
            ticket_id: self.id,
            customer_id: self.customer,
            sequence: self.sequence,
            status: self.status.to_string(),
            code: self.code.clone(),
            currency: self.currency.to_string(),
            total_stake: self.amount(self.total_stake),
            potential_payout: self.amount(self.potential_payout()),
            received_at: self.received_at,
            placed_at: self.placed_at,
            bets: self.bets.iter().map(|bet| self.bet_state(bet)).collect(),
            context: self.context.clone(),
        }
    }

    fn bet_state(&self, bet: &Bet) -> TicketBet {
        TicketBet {
            bet_id: bet.id,
            kind: "single".to_owned(),
            code: bet.code.clone(),
            lines: 1,
            stake: self.amount(bet.stake),
            potential_payout: self.amount(bet.potential_payout),
            settlement_version: u32::try_from(bet.settlement_version).unwrap_or(0),
            payout: bet.payout.map(|payout| self.amount(payout)),
            selections: bet.selections.iter().map(Selection::state).collect(),
        }
    }
}

impl Selection {
    fn state(&self) -> TicketSelection {
        TicketSelection {
            event_id: self.line.event_id.clone(),
            market_id: self.line.market_id,
            specifiers: self.line.specifiers.clone(),
            outcome_id: self.outcome_id.clone(),
            odds: self.odds,
            banker: false,
            code: self.code.clone(),
            result: self.result.clone(),
        }
    }
}

/// The columns that [`ticket`] reads.
macro_rules! columns {
    () => {
        "id, customer_id, currency, country, odds_change, status, code, sequence, total_stake, context, certificate,
            (extract(epoch FROM received_at) * 1000)::bigint AS received_ms,
            (extract(epoch FROM placed_at) * 1000)::bigint AS placed_ms"
    };
}

impl Store {
    /// A ticket.
    pub async fn ticket(&self, id: Uuid) -> Result<Option<Ticket>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        load(&mut connection, id).await
    }

    /// A customer's tickets, newest first, older than a ticket.
    pub async fn tickets_of(
        &self,
        customer: Uuid,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Ticket>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM ticket WHERE customer_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3"
        ))
        .bind(customer)
        .bind(before)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
        with_bets(&mut connection, &rows).await
    }

    /// State of a ticket alone.
    pub async fn status(&self, id: Uuid) -> Result<Option<Status>, StoreError> {
        let text: Option<String> =
            sqlx::query_scalar("SELECT status FROM ticket WHERE id = $1").bind(id).fetch_optional(&self.pool()).await?;
        text.map(|text| parse(id, "status", &text)).transpose()
    }

    /// The proofs of a ticket's settlements in force, by bet.
    pub async fn proofs(&self, ticket: Uuid) -> Result<Vec<(Uuid, Value)>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.bet_id, s.proof FROM settlement s JOIN bet b ON b.id = s.bet_id
             WHERE b.ticket_id = $1 AND s.version = b.settlement_version",
        )
        .bind(ticket)
        .fetch_all(&self.pool())
        .await?;
        rows.iter().map(|row| Ok((row.try_get("bet_id")?, row.try_get("proof")?))).collect()
    }
}

/// A column's text as a value.
pub(super) fn parse<T: std::str::FromStr>(
    id: impl std::fmt::Display,
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Unreadable { id: id.to_string(), what })
}

/// Loads a whole ticket.
pub(super) async fn load(connection: &mut PgConnection, id: Uuid) -> Result<Option<Ticket>, StoreError> {
    let row = sqlx::query(concat!("SELECT ", columns!(), " FROM ticket WHERE id = $1"))
        .bind(id)
        .fetch_all(&mut *connection)
        .await?;
    Ok(with_bets(connection, &row).await?.pop())
}

/// Loads a ticket that is due to be decided and locks it until the transaction ends. `held` says that a ticket without delay has
/// its hold.
pub(super) async fn lock_due(
    connection: &mut PgConnection,
    id: Uuid,
    held: bool,
) -> Result<Option<Ticket>, StoreError> {
    let row = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        ", (status = 'received' AND delay_ms = 0 AND $2) OR (status = 'pending_delay' AND decide_at <= clock_timestamp()) AS due
         FROM ticket WHERE id = $1 FOR UPDATE"
    ))
    .bind(id)
    .bind(held)
    .fetch_optional(&mut *connection)
    .await?;
    match row {
        Some(row) if row.try_get::<Option<bool>, _>("due")?.unwrap_or(false) => {
            Ok(with_bets(connection, std::slice::from_ref(&row)).await?.pop())
        }
        _ => Ok(None),
    }
}

/// The tickets of rows with their bets: one query for all.
async fn with_bets(connection: &mut PgConnection, tickets: &[PgRow]) -> Result<Vec<Ticket>, StoreError> {
    let ids: Vec<Uuid> = tickets.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT b.ticket_id, b.id, b.stake, b.potential_payout, b.code, b.settlement_version, b.payout, b.void,
            s.line_key, s.outcome_id, s.asked_odds, s.odds, s.seen_state, s.seen_phase, s.code AS leg_code, s.result
         FROM bet b JOIN selection s ON s.bet_id = b.id WHERE b.ticket_id = ANY($1)
         ORDER BY b.ticket_id, b.position, s.position",
    )
    .bind(&ids)
    .fetch_all(connection)
    .await?;
    let mut bets: HashMap<Uuid, Vec<Bet>> = HashMap::new();
    for row in &rows {
        let id = row.try_get("ticket_id")?;
        let (bet, selection) = (bet(row)?, selection(id, row)?);
        let bets = bets.entry(id).or_default();
        match bets.last_mut().filter(|last| last.id == bet.id) {
            Some(last) => last.selections.push(selection),
            None => bets.push(Bet { selections: vec![selection], ..bet }),
        }
    }
    tickets.iter().zip(ids).map(|(row, id)| ticket(row, id, bets.remove(&id).unwrap_or_default())).collect()
}

fn ticket(row: &PgRow, id: Uuid, bets: Vec<Bet>) -> Result<Ticket, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let Json(context) = row.try_get::<Json<Context>, _>("context")?;
    Ok(Ticket {
        id,
        customer: row.try_get("customer_id")?,
        currency: parse(id, "currency", &text("currency")?)?,
        country: text("country")?,
        odds_change: parse(id, "odds_change", &text("odds_change")?)?,
        status: parse(id, "status", &text("status")?)?,
        code: row.try_get("code")?,
        sequence: row.try_get("sequence")?,
        total_stake: row.try_get("total_stake")?,
        received_at: row.try_get("received_ms")?,
        placed_at: row.try_get("placed_ms")?,
        context,
        certificate: row.try_get("certificate")?,
        bets,
    })
}

fn bet(row: &PgRow) -> Result<Bet, StoreError> {
    Ok(Bet {
        id: row.try_get("id")?,
        stake: row.try_get("stake")?,
        potential_payout: row.try_get("potential_payout")?,
        code: row.try_get("code")?,
        settlement_version: row.try_get("settlement_version")?,
        payout: row.try_get("payout")?,
        void: row.try_get("void")?,
        selections: Vec::new(),
    })
}

fn selection(ticket: Uuid, row: &PgRow) -> Result<Selection, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let phase: PricePhase = parse(ticket, "seen_phase", &text("seen_phase")?)?;
    Ok(Selection {
        line: parse(ticket, "line_key", &text("line_key")?)?,
        outcome_id: text("outcome_id")?,
        asked_odds: parse(ticket, "asked_odds", &text("asked_odds")?)?,
        odds: parse(ticket, "odds", &text("odds")?)?,
        seen: Seen { state: row.try_get("seen_state")?, phase },
        code: row.try_get("leg_code")?,
        result: row.try_get("result")?,
    })
}
