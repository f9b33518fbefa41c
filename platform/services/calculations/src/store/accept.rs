//! The steps of a ticket's acceptance, each one transaction.

use std::collections::BTreeMap;

use paddock_events::{LineResult, TicketMessage};
use paddock_market_book::Book;
use paddock_money::Money;
use paddock_settlement::OutcomeState;
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::place::{event_status, state_row};
use super::ticket::{Ticket, lock_due, parse};
use super::{Status, Store, StoreError, locks};
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
            // A result may have come before: nobody settles a bet that is refused, so it would be due for ever.
            sqlx::query("UPDATE bet SET due_at = NULL WHERE ticket_id = $1 AND due_at IS NOT NULL")
                .bind(id)
                .execute(&mut *tx)
                .await?;
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
    /// its hold. Returns the ticket as it is from now on; `None` if somebody else decided, or it is too early.
    pub async fn decide(
        &self,
        id: Uuid,
        book: &Book,
        offer: &OfferCopy,
        held: bool,
    ) -> Result<Option<Ticket>, StoreError> {
        let mut tx = self.pool().begin().await?;
        let Some(mut ticket) = lock_due(&mut tx, id, held).await? else { return Ok(None) };
        let basis = basis(&mut tx, &ticket).await?;
        if u64::try_from(basis.generation).is_ok_and(|newest| newest > book.generation()) {
            return Err(StoreError::BookBehind(basis.generation));
        }
        let now = jiff::Timestamp::now().as_millisecond();
        let asking = Asking { country: &ticket.country, odds_change: ticket.odds_change, now };
        let mut verdicts = Vec::with_capacity(ticket.bets.len());
        for bet in &ticket.bets {
            let (single, seen) = bet
                .single(ticket.currency)
                .ok_or_else(|| StoreError::Unreadable { id: bet.id.to_string(), what: "bet" })?;
            let mut offered = offered(offer, &single, &basis.states, now)?;
            if let Some(offered) = &mut offered {
                let known = basis.results.get(&single.line.to_string()).map_or(&[][..], std::slice::from_ref);
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
        ticket.certificate = Some(certificate);
        conclude(&mut ticket, &verdicts, refused);
        ticket.placed_at = write(&mut tx, &ticket, refused, &exposures).await?;
        self.tell_as(&mut tx, TicketMessage::TicketDecided(ticket.state())).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(Some(ticket))
    }
}

type Verdict<'a> = (Single, Option<Offered>, Result<Terms<'a>, Code>);

/// What a decision is made from, none of which changes until the transaction ends.
#[derive(Default)]
struct Basis {
    /// Highest generation of the market book in force anywhere.
    generation: i64,
    /// State rows of the ticket's lines and events.
    states: BTreeMap<String, (i64, String)>,
    /// Newest result of each of the ticket's lines.
    results: BTreeMap<String, (Uuid, LineResult)>,
}

async fn basis(connection: &mut PgConnection, ticket: &Ticket) -> Result<Basis, StoreError> {
    let lines = || ticket.bets.iter().flat_map(|bet| &bet.selections).map(|selection| &selection.line);
    let events: Vec<&str> = lines().map(|line| line.event_id.as_str()).collect();
    locks::share(connection, &events).await?;
    let keys: Vec<String> = lines().flat_map(|line| [line.to_string(), line.event_id.clone()]).collect();
    let rows = sqlx::query(
        "SELECT generation, key, state.sequence, status, newest.id, newest.result
         FROM market_book LEFT JOIN offer_state state ON key = ANY($1) LEFT JOIN LATERAL (
            SELECT id, result FROM result_message WHERE line_key = key ORDER BY sequence DESC, id DESC LIMIT 1
         ) newest ON true",
    )
    .bind(&keys)
    .fetch_all(connection)
    .await?;
    let mut basis = Basis::default();
    for row in &rows {
        basis.generation = row.try_get("generation")?;
        let Some(key) = row.try_get::<Option<String>, _>("key")? else { continue };
        if let Some(id) = row.try_get("id")? {
            let Json(result) = row.try_get("result")?;
            basis.results.insert(key.clone(), (id, result));
        }
        basis.states.insert(key, (row.try_get("sequence")?, row.try_get("status")?));
    }
    Ok(basis)
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
        let row = if let Some(row) = lock_exposure(connection, event, market, currency).await? {
            row
        } else {
            // Somebody else may make it at the same time: then this waits for them.
            sqlx::query(
                "INSERT INTO exposure (event_id, market_type, currency) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            )
            .bind(event)
            .bind(*market)
            .bind(currency)
            .execute(&mut *connection)
            .await?;
            lock_exposure(connection, event, market, currency).await?.ok_or(sqlx::Error::RowNotFound)?
        };
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

async fn lock_exposure(
    connection: &mut PgConnection,
    event: &str,
    market: &str,
    currency: &str,
) -> Result<Option<PgRow>, sqlx::Error> {
    sqlx::query(
        "SELECT lines, liability FROM exposure WHERE event_id = $1 AND market_type = $2 AND currency = $3 FOR UPDATE",
    )
    .bind(event)
    .bind(market)
    .bind(currency)
    .fetch_optional(connection)
    .await
}

/// What the verdicts make of a ticket. All bets or none.
fn conclude(ticket: &mut Ticket, verdicts: &[Verdict<'_>], refused: Option<Code>) {
    ticket.sequence += 1;
    ticket.status = if refused.is_some() { Status::Rejected } else { Status::Accepted };
    ticket.code = refused.map(|code| code.to_string());
    for (bet, (_, _, verdict)) in ticket.bets.iter_mut().zip(verdicts) {
        bet.code = verdict.as_ref().err().map(ToString::to_string);
        if let Ok(terms) = verdict {
            bet.potential_payout = terms.payout.minor();
        }
        for selection in &mut bet.selections {
            selection.code.clone_from(&bet.code);
            if let Ok(terms) = verdict {
                selection.odds = terms.odds;
            }
        }
    }
}

/// Writes a decided ticket with what it reserves, in one statement; returns the time of its placing, ms.
async fn write(
    connection: &mut PgConnection,
    ticket: &Ticket,
    refused: Option<Code>,
    exposures: &BTreeMap<ExposureKey, (Exposure, i64, i64)>,
) -> Result<Option<i64>, StoreError> {
    // Nothing is reserved for a ticket that is refused.
    let exposures = || exposures.iter().filter(|_| refused.is_none());
    let legs = || ticket.bets.iter().flat_map(|bet| bet.selections.iter().map(move |selection| (bet, selection)));
    let placed: Option<i64> = sqlx::query_scalar(
        "WITH decided AS (
            UPDATE ticket SET status = $2, code = $3, certificate = $4, sequence = $5,
                placed_at = CASE WHEN $2 = 'accepted' THEN clock_timestamp() END
            WHERE id = $1 RETURNING placed_at
         ), reserved AS (
            UPDATE exposure SET lines = new.lines, liability = new.liability
            FROM unnest($6::text[], $7::text[], $8::jsonb[], $9::bigint[]) AS new (event_id, market_type, lines, liability)
            WHERE exposure.event_id = new.event_id AND exposure.market_type = new.market_type AND exposure.currency = $10
         ), legs AS (
            UPDATE selection SET odds = new.odds, code = new.code
            FROM unnest($11::uuid[], $12::text[], $13::text[]) AS new (bet_id, odds, code)
            WHERE selection.bet_id = new.bet_id
         ), bets AS (
            -- A result may have come before; its consumer marks only bets that it sees.
            UPDATE bet SET potential_payout = new.payout, code = new.code, due_at = CASE
                WHEN $2 <> 'accepted' THEN NULL
                WHEN EXISTS (SELECT FROM selection s JOIN result_message r ON r.line_key = s.line_key WHERE s.bet_id = bet.id)
                    THEN clock_timestamp()
                ELSE due_at END
            FROM unnest($14::uuid[], $15::bigint[], $16::text[]) AS new (id, payout, code)
            WHERE bet.id = new.id
         )
         SELECT (extract(epoch FROM placed_at) * 1000)::bigint FROM decided",
    )
    .bind(ticket.id)
    .bind(ticket.status.to_string())
    .bind(&ticket.code)
    .bind(&ticket.certificate)
    .bind(ticket.sequence)
    .bind(exposures().map(|((event, _), _)| event.clone()).collect::<Vec<_>>())
    .bind(exposures().map(|((_, market), _)| *market).collect::<Vec<_>>())
    .bind(exposures().map(|(_, (exposure, ..))| Json(exposure)).collect::<Vec<_>>())
    .bind(exposures().map(|(_, (_, _, after))| *after).collect::<Vec<_>>())
    .bind(ticket.currency.code())
    .bind(legs().map(|(bet, _)| bet.id).collect::<Vec<_>>())
    .bind(legs().map(|(_, leg)| leg.odds.to_string()).collect::<Vec<_>>())
    .bind(legs().map(|(_, leg)| leg.code.clone()).collect::<Vec<_>>())
    .bind(ticket.bets.iter().map(|bet| bet.id).collect::<Vec<_>>())
    .bind(ticket.bets.iter().map(|bet| bet.potential_payout).collect::<Vec<_>>())
    .bind(ticket.bets.iter().map(|bet| bet.code.clone()).collect::<Vec<_>>())
    .fetch_one(connection)
    .await?;
    Ok(placed)
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
