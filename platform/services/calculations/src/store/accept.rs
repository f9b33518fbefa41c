//! The steps of a ticket's acceptance, each one transaction.

use std::collections::BTreeMap;

use paddock_events::{LineResult, TicketMessage, TicketState};
use paddock_market_book::Book;
use paddock_money::Money;
use paddock_settlement::OutcomeState;
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::place::{event_status, state_row};
use super::ticket::{Ticket, load, parse};
use super::{Status, Store, StoreError};
use crate::domain::Code;
use crate::domain::decide::{Asking, Offered, Terms, decide};
use crate::domain::exposure::Exposure;
use crate::domain::in_force::in_force;
use crate::domain::request::Single;
use crate::offer::OfferCopy;

/// What a ticket needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A hold at account.
    Hold {
        /// Customer.
        customer: Uuid,
        /// Sum of stakes.
        amount: Money,
        /// Delay after it, ms.
        delay_ms: i32,
        /// Time since the request, ms.
        age_ms: i64,
    },
    /// The decision, in so many ms.
    Decide {
        /// What is left of the delay.
        in_ms: i64,
    },
    /// Posting of the hold.
    Post,
    /// Voiding of the hold.
    Void,
    /// Nothing.
    Finished,
}

/// What deciding came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// Placed.
    Accepted,
    /// Refused.
    Rejected(Code),
    /// Somebody else decided, or it is too early.
    NotNow,
}

/// Bets on one event and market type in one currency share a lock and a limit.
type ExposureKey = (String, &'static str);

impl Store {
    /// What a ticket needs next.
    pub async fn step(&self, id: Uuid) -> Result<Step, StoreError> {
        let row = sqlx::query(
            "SELECT customer_id, currency, status, hold, total_stake, delay_ms,
                (extract(epoch FROM clock_timestamp() - received_at) * 1000)::bigint AS age_ms,
                ceil(extract(epoch FROM decide_at - clock_timestamp()) * 1000)::bigint AS in_ms
             FROM ticket WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool())
        .await?;
        let Some(row) = row else { return Ok(Step::Finished) };
        let text = |column: &str| row.try_get::<String, _>(column);
        let status: Status = parse(id, "status", &text("status")?)?;
        Ok(match (status, text("hold")?.as_str()) {
            (Status::Received, _) => Step::Hold {
                customer: row.try_get("customer_id")?,
                amount: Money::from_minor(row.try_get("total_stake")?, parse(id, "currency", &text("currency")?)?),
                delay_ms: row.try_get("delay_ms")?,
                age_ms: row.try_get("age_ms")?,
            },
            (Status::PendingDelay, _) => {
                Step::Decide { in_ms: row.try_get::<Option<i64>, _>("in_ms")?.unwrap_or(0).max(0) }
            }
            (Status::Rejected, "open") => Step::Void,
            (_, "open") => Step::Post,
            _ => Step::Finished,
        })
    }

    /// The hold stands and a delay begins.
    pub async fn held(&self, id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.pool().begin().await?;
        let moved = sqlx::query(
            "UPDATE ticket SET status = 'pending_delay', sequence = sequence + 1,
                decide_at = clock_timestamp() + delay_ms * interval '1 millisecond',
                attempt_at = clock_timestamp() + delay_ms * interval '1 millisecond'
             WHERE id = $1 AND status = 'received'",
        )
        .bind(id)
        .execute(&mut *tx)
        .await?;
        if moved.rows_affected() == 1 {
            self.tell(&mut tx, id, TicketMessage::TicketDecided).await?;
        }
        tx.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    /// Refuses a ticket that is not decided yet. `held`: a hold may exist and is to be voided.
    pub async fn reject(&self, id: Uuid, code: &str, held: bool) -> Result<bool, StoreError> {
        let mut tx = self.pool().begin().await?;
        let moved = sqlx::query(
            "UPDATE ticket SET status = 'rejected', code = $2, hold = $3, sequence = sequence + 1
             WHERE id = $1 AND status IN ('received', 'pending_delay')",
        )
        .bind(id)
        .bind(code)
        .bind(if held { "open" } else { "none" })
        .execute(&mut *tx)
        .await?;
        let is_moved = moved.rows_affected() == 1;
        if is_moved {
            self.tell(&mut tx, id, TicketMessage::TicketDecided).await?;
        }
        tx.commit().await?;
        self.outbox.committed();
        Ok(is_moved)
    }

    /// The hold of a decided ticket is resolved.
    pub async fn resolved(&self, id: Uuid, posted: bool) -> Result<(), StoreError> {
        sqlx::query("UPDATE ticket SET hold = $2 WHERE id = $1 AND hold = 'open'")
            .bind(id)
            .bind(if posted { "posted" } else { "voided" })
            .execute(&self.pool())
            .await?;
        Ok(())
    }

    /// Nobody goes on with the ticket before.
    pub async fn later(&self, id: Uuid, in_ms: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE ticket SET attempt_at = clock_timestamp() + $2 * interval '1 millisecond' WHERE id = $1")
            .bind(id)
            .bind(in_ms)
            .execute(&self.pool())
            .await?;
        Ok(())
    }

    /// Unfinished tickets whose time has come; they are leased for a while, so that two replicas seldom meet.
    pub async fn lease(&self, limit: i64) -> Result<Vec<Uuid>, StoreError> {
        Ok(sqlx::query_scalar(
            "UPDATE ticket SET attempt_at = clock_timestamp() + interval '10 seconds' WHERE id IN (
                SELECT id FROM ticket WHERE unfinished AND attempt_at <= clock_timestamp()
                ORDER BY attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED
             ) RETURNING id",
        )
        .bind(limit)
        .fetch_all(&self.pool())
        .await?)
    }

    /// The decision, one transaction: market state, price, phase and exposure are checked again under locks; then the ticket is
    /// accepted or refused. The caller holds the book in force until this returns. `held` says that a ticket without delay has
    /// its hold.
    pub async fn decide(&self, id: Uuid, book: &Book, offer: &OfferCopy, held: bool) -> Result<Decided, StoreError> {
        let mut tx = self.pool().begin().await?;
        let row = sqlx::query(
            "SELECT (status = 'received' AND delay_ms = 0 AND $2)
                OR (status = 'pending_delay' AND decide_at <= clock_timestamp()) AS due
             FROM ticket WHERE id = $1 FOR UPDATE",
        )
        .bind(id)
        .bind(held)
        .fetch_optional(&mut *tx)
        .await?;
        let is_due = row.map(|row| row.try_get::<bool, _>("due")).transpose()?.unwrap_or(false);
        let ticket = load(&mut tx, id).await?.filter(|_| is_due);
        let Some(ticket) = ticket else { return Ok(Decided::NotNow) };
        let generation: i64 =
            sqlx::query_scalar("SELECT generation FROM market_book FOR SHARE").fetch_one(&mut *tx).await?;
        if u64::try_from(generation).is_ok_and(|newest| newest > book.generation()) {
            return Err(StoreError::BookBehind(generation));
        }
        let states = lock_states(&mut tx, &ticket).await?;
        let results = newest_results(&mut tx, &ticket).await?;
        let now = jiff::Timestamp::now().as_millisecond();
        let asking = Asking { country: &ticket.country, odds_change: ticket.odds_change, now };
        let mut verdicts = Vec::with_capacity(ticket.bets.len());
        for bet in &ticket.bets {
            let (single, seen) = bet
                .single(ticket.currency)
                .ok_or_else(|| StoreError::Unreadable { id: bet.id.to_string(), what: "bet" })?;
            let mut offered = offered(offer, &single, &states, now)?;
            if let Some(offered) = &mut offered {
                let known = results.get(&single.line.to_string()).map_or(&[][..], std::slice::from_ref);
                offered.decided = in_force(known).outcome_state(&single.outcome_id, now) != OutcomeState::Open;
            }
            let verdict = decide(&single, offered.as_ref(), book, asking, Some(seen));
            verdicts.push((single, offered, verdict));
        }
        let exposures = if verdicts.iter().all(|(_, _, verdict)| verdict.is_ok()) {
            reserve(&mut tx, &mut verdicts).await?
        } else {
            BTreeMap::new()
        };
        let certificate = certificate(&ticket, book, now, &verdicts, &exposures);
        let refused = verdicts.iter().find_map(|(_, _, verdict)| verdict.as_ref().err().copied());
        if refused.is_none() {
            write_exposures(&mut tx, &ticket, &exposures).await?;
        }
        for (bet, (_, _, verdict)) in ticket.bets.iter().zip(&verdicts) {
            write_verdict(&mut tx, bet.id, verdict).await?;
        }
        finish(&mut tx, id, refused, &certificate).await?;
        self.tell(&mut tx, id, TicketMessage::TicketDecided as fn(TicketState) -> TicketMessage).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(refused.map_or(Decided::Accepted, Decided::Rejected))
    }
}

type Verdict<'a> = (Single, Option<Offered>, Result<Terms<'a>, Code>);

/// Locks the state rows of the ticket's lines and events against change until the transaction ends.
async fn lock_states(
    connection: &mut PgConnection,
    ticket: &Ticket,
) -> Result<BTreeMap<String, (i64, String)>, StoreError> {
    let lines = ticket.bets.iter().flat_map(|bet| &bet.selections).map(|selection| &selection.line);
    let keys: Vec<String> = lines.flat_map(|line| [line.to_string(), line.event_id.clone()]).collect();
    let rows = sqlx::query(
        "SELECT key, sequence, status FROM offer_state WHERE key = ANY($1) ORDER BY key COLLATE \"C\" FOR SHARE",
    )
    .bind(&keys)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("key")?, (row.try_get("sequence")?, row.try_get("status")?)))).collect()
}

/// The newest result of each of the ticket's lines. Behind the lock of their state rows: a result that comes later waits for the
/// decision.
async fn newest_results(
    connection: &mut PgConnection,
    ticket: &Ticket,
) -> Result<BTreeMap<String, (Uuid, LineResult)>, StoreError> {
    let lines = ticket.bets.iter().flat_map(|bet| &bet.selections).map(|selection| selection.line.to_string());
    let rows = sqlx::query(
        "SELECT DISTINCT ON (line_key) line_key, id, result FROM result_message WHERE line_key = ANY($1)
         ORDER BY line_key, sequence DESC, id DESC",
    )
    .bind(lines.collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let Json(result) = row.try_get("result")?;
            Ok((row.try_get("line_key")?, (row.try_get("id")?, result)))
        })
        .collect()
}

/// The offer as far as it concerns a bet; `None` if this copy or the rows do not know the line.
pub(crate) fn offered(
    offer: &OfferCopy,
    bet: &Single,
    states: &BTreeMap<String, (i64, String)>,
    now: i64,
) -> Result<Option<Offered>, StoreError> {
    let key = bet.line.to_string();
    let Some(copied) = offer.line(&bet.line, now) else { return Ok(None) };
    let (Some(line_row), Some(event_row)) = (states.get(&key), states.get(&bet.line.event_id)) else { return Ok(None) };
    Ok(Some(Offered {
        line: copied.line,
        event: copied.event,
        fresh: copied.fresh,
        state: state_row(&key, line_row)?,
        event_status: event_status(&bet.line.event_id, event_row)?,
        decided: false,
    }))
}

/// Exposure rows, locked in order, with the bets added; a bet that passes its rule's limit is refused.
async fn reserve(
    connection: &mut PgConnection,
    verdicts: &mut [Verdict<'_>],
) -> Result<BTreeMap<ExposureKey, (Exposure, i64, i64)>, StoreError> {
    let mut exposures: BTreeMap<ExposureKey, (Exposure, i64, i64)> = BTreeMap::new();
    for (bet, _, _) in verdicts.iter() {
        exposures.entry((bet.line.event_id.clone(), bet.market.name())).or_default();
    }
    let Some(currency) = verdicts.first().map(|(bet, _, _)| bet.stake.currency().code()) else { return Ok(exposures) };
    for ((event, market), (exposure, before, after)) in &mut exposures {
        sqlx::query(
            "INSERT INTO exposure (event_id, market_type, currency) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(event)
        .bind(*market)
        .bind(currency)
        .execute(&mut *connection)
        .await?;
        let row = sqlx::query(
            "SELECT lines, liability FROM exposure WHERE event_id = $1 AND market_type = $2 AND currency = $3 FOR UPDATE",
        )
        .bind(event)
        .bind(*market)
        .bind(currency)
        .fetch_one(&mut *connection)
        .await?;
        Json(*exposure) = row.try_get("lines")?;
        *before = row.try_get("liability")?;
        *after = *before;
    }
    for (bet, _, verdict) in verdicts.iter_mut() {
        let Ok(terms) = verdict else { continue };
        let limit = terms.rule.limits_in(bet.stake.currency()).map_or(0, |limits| limits.liability.minor());
        let key = (bet.line.event_id.clone(), bet.market.name());
        let Some((exposure, _, after)) = exposures.get_mut(&key) else { continue };
        let specifiers = bet.line.specifiers.to_string();
        exposure.add(&specifiers, &bet.outcome_id, bet.stake.minor(), terms.payout.minor())?;
        let liability = exposure.liability(bet.market)?;
        // A bet that lowers the liability is welcome even above the limit, which may have been lowered.
        if liability > limit && liability > *after {
            *verdict = Err(Code::LimitExceeded);
        }
        *after = liability;
    }
    Ok(exposures)
}

async fn write_exposures(
    connection: &mut PgConnection,
    ticket: &Ticket,
    exposures: &BTreeMap<ExposureKey, (Exposure, i64, i64)>,
) -> Result<(), StoreError> {
    for ((event, market), (exposure, _, after)) in exposures {
        sqlx::query(
            "UPDATE exposure SET lines = $4, liability = $5 WHERE event_id = $1 AND market_type = $2 AND currency = $3",
        )
        .bind(event)
        .bind(market)
        .bind(ticket.currency.code())
        .bind(Json(exposure))
        .bind(after)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn write_verdict(
    connection: &mut PgConnection,
    bet: Uuid,
    verdict: &Result<Terms<'_>, Code>,
) -> Result<(), StoreError> {
    match verdict {
        Ok(terms) => {
            sqlx::query("UPDATE bet SET potential_payout = $2 WHERE id = $1")
                .bind(bet)
                .bind(terms.payout.minor())
                .execute(&mut *connection)
                .await?;
            sqlx::query("UPDATE selection SET odds = $2 WHERE bet_id = $1")
                .bind(bet)
                .bind(terms.odds.to_string())
                .execute(connection)
                .await?;
        }
        Err(code) => {
            sqlx::query("UPDATE bet SET code = $2 WHERE id = $1")
                .bind(bet)
                .bind(code.to_string())
                .execute(&mut *connection)
                .await?;
            sqlx::query("UPDATE selection SET code = $2 WHERE bet_id = $1")
                .bind(bet)
                .bind(code.to_string())
                .execute(connection)
                .await?;
        }
    }
    Ok(())
}

async fn finish(
    connection: &mut PgConnection,
    id: Uuid,
    refused: Option<Code>,
    certificate: &Value,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE ticket SET status = $2, code = $3, certificate = $4, sequence = sequence + 1,
            placed_at = CASE WHEN $2 = 'accepted' THEN clock_timestamp() END
         WHERE id = $1",
    )
    .bind(id)
    .bind(if refused.is_some() { "rejected" } else { "accepted" })
    .bind(refused.map(|code| code.to_string()))
    .bind(certificate)
    .execute(&mut *connection)
    .await?;
    if refused.is_some() {
        sqlx::query("UPDATE bet SET due_at = NULL WHERE ticket_id = $1").bind(id).execute(connection).await?;
    } else {
        // A result may have come before; its consumer marks only bets that it sees.
        sqlx::query(
            "UPDATE bet SET due_at = clock_timestamp() WHERE ticket_id = $1 AND EXISTS (
                SELECT FROM selection s JOIN result_message r ON r.line_key = s.line_key WHERE s.bet_id = bet.id)",
        )
        .bind(id)
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// What the decision was made from: kept with the ticket.
fn certificate(
    ticket: &Ticket,
    book: &Book,
    now: i64,
    verdicts: &[Verdict<'_>],
    exposures: &BTreeMap<ExposureKey, (Exposure, i64, i64)>,
) -> Value {
    let bets: Vec<Value> = verdicts
        .iter()
        .zip(&ticket.bets)
        .map(|((single, offered, verdict), bet)| {
            let terms = verdict.as_ref().ok();
            let limits = terms.and_then(|terms| terms.rule.limits_in(single.stake.currency()));
            let amount = |minor: i64| Money::from_minor(minor, ticket.currency).amount();
            let exposure = exposures.get(&(single.line.event_id.clone(), single.market.name()));
            json!({
                "betId": bet.id,
                "code": verdict.as_ref().err().map(ToString::to_string),
                "line": single.line.to_string(),
                "outcomeId": single.outcome_id,
                "askedOdds": single.odds,
                "odds": terms.map(|terms| terms.odds),
                "offer": offered.as_ref().map(|offered| json!({
                    "sequence": offered.line.sequence,
                    "stateSequence": offered.state.sequence,
                    "status": offered.state.status,
                    "phase": offered.line.phase,
                    "fresh": offered.fresh,
                    "decided": offered.decided,
                    "source": offered.line.source,
                })),
                "rule": terms.map(|terms| &terms.rule.name),
                "limits": limits,
                "liability": exposure.map(|(_, before, after)| json!({ "before": amount(*before), "after": amount(*after) })),
            })
        })
        .collect();
    json!({
        "id": Uuid::new_v5(&ticket.id, b"certificate"),
        "decidedAt": now,
        "bookGeneration": book.generation(),
        "oddsChange": ticket.odds_change,
        "country": ticket.country,
        "bets": bets,
    })
}
