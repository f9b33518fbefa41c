//! Results, settlements and their intents.

use paddock_events::{LineResult, TicketMessage, TicketState};
use paddock_money::Currency;
use paddock_service::offsets;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::ticket::{Bet, Ticket, load};
use super::{Store, StoreError, locks};
use crate::domain::money_moves::Move;

/// A bet with everything that decides its settlement.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its ticket.
    pub ticket: Ticket,
    /// The bet.
    pub bet: Bet,
    /// The set of result messages of each leg's line, in the order of the legs.
    pub results: Vec<Vec<(Uuid, LineResult)>>,
}

/// What a bet is to pay from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Minor units; `None` = open again.
    pub payout: Option<i64>,
    /// All of it is void.
    pub void: bool,
    /// What became of each leg, in order.
    pub results: Vec<String>,
    /// How the payout came to be.
    pub proof: Value,
    /// Transfers to make.
    pub transfers: Vec<Move>,
}

/// An intent that is not done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSettlement {
    /// Bet.
    pub bet: Uuid,
    /// Version.
    pub version: i32,
    /// Customer.
    pub customer: Uuid,
    /// Currency.
    pub currency: Currency,
    /// Transfers to make, in order.
    pub transfers: Vec<Move>,
}

impl Store {
    /// The offset of the next result to take in.
    pub async fn next_result(&self, topic: &str, partition: i32) -> Result<i64, StoreError> {
        Ok(offsets::load(&mut *self.pool().acquire().await?, topic, partition).await?)
    }

    /// Takes in a result with its offset. `false`: another reader was here.
    pub async fn take_in(
        &self,
        (topic, partition, expected, offset): (&str, i32, i64, i64),
        result: Option<(Uuid, &LineResult)>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool().begin().await?;
        if !offsets::advance(&mut tx, topic, partition, expected, offset + 1).await? {
            return Ok(false);
        }
        if let Some((id, result)) = result {
            add_result(&mut tx, id, result).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Adds a result message to the set of its line, whatever came before.
    pub async fn add_result(&self, id: Uuid, result: &LineResult) -> Result<(), StoreError> {
        let mut tx = self.pool().begin().await?;
        add_result(&mut tx, id, result).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Marks bets of lines whose results have news, about so many: they are due. A line with more of them takes several turns, between
    /// which others have theirs. Returns how many it looked at.
    pub async fn mark_due(&self, limit: i64) -> Result<usize, StoreError> {
        let mut left = limit;
        while left > 0 {
            let Some(marked) = self.mark_a_line(left).await? else { break };
            left -= marked.max(1);
        }
        Ok(usize::try_from(limit - left).unwrap_or(0))
    }

    /// A turn of the line that waits longest; `None` if there is none that nobody else works on.
    async fn mark_a_line(&self, limit: i64) -> Result<Option<i64>, StoreError> {
        let mut tx = self.pool().begin().await?;
        // News that come meanwhile wait for this transaction, and begin from the first bet again.
        let row =
            sqlx::query("SELECT line_key, marked_to FROM line_due ORDER BY turn_at LIMIT 1 FOR UPDATE SKIP LOCKED")
                .fetch_optional(&mut *tx)
                .await?;
        let Some(row) = row else { return Ok(None) };
        let (line, marked_to): (String, Uuid) = (row.try_get("line_key")?, row.try_get("marked_to")?);
        let row = sqlx::query(
            "WITH page AS (
                SELECT DISTINCT bet_id FROM selection WHERE line_key = $1 AND bet_id > $2 ORDER BY bet_id LIMIT $3
             ), locked AS (
                SELECT b.id FROM page JOIN bet b ON b.id = page.bet_id JOIN ticket t ON t.id = b.ticket_id
                WHERE t.status <> 'rejected' ORDER BY b.id FOR NO KEY UPDATE OF b
             ), marked AS (
                UPDATE bet SET due_at = clock_timestamp() FROM locked WHERE bet.id = locked.id
             )
             SELECT count(*) AS bets, (SELECT bet_id FROM page ORDER BY bet_id DESC LIMIT 1) AS last FROM page",
        )
        .bind(&line)
        .bind(marked_to)
        .bind(limit)
        .fetch_one(&mut *tx)
        .await?;
        let (bets, last): (i64, Option<Uuid>) = (row.try_get("bets")?, row.try_get("last")?);
        match last.filter(|_| bets == limit) {
            Some(last) => {
                sqlx::query("UPDATE line_due SET marked_to = $2, turn_at = clock_timestamp() WHERE line_key = $1")
                    .bind(&line)
                    .bind(last)
                    .execute(&mut *tx)
                    .await?
            }
            None => sqlx::query("DELETE FROM line_due WHERE line_key = $1").bind(&line).execute(&mut *tx).await?,
        };
        tx.commit().await?;
        Ok(Some(bets))
    }

    /// Placed bets whose results have news, leased for a while.
    pub async fn lease_due(&self, limit: i64) -> Result<Vec<Uuid>, StoreError> {
        Ok(sqlx::query_scalar(
            "UPDATE bet SET due_at = clock_timestamp() + interval '10 seconds' WHERE id IN (
                SELECT b.id FROM bet b JOIN ticket t ON t.id = b.ticket_id
                WHERE b.due_at <= clock_timestamp() AND t.placed_at IS NOT NULL AND t.hold = 'posted'
                ORDER BY b.due_at LIMIT $1 FOR UPDATE OF b SKIP LOCKED
             ) RETURNING id",
        )
        .bind(limit)
        .fetch_all(&self.pool())
        .await?)
    }

    /// Settles a bet by what `plan` makes of its results: stores the intent, or nothing if the settlement stands. A bet whose
    /// former intent is not done waits.
    pub async fn settle(
        &self,
        bet: Uuid,
        plan: impl FnOnce(&Due) -> anyhow::Result<Option<Intent>>,
    ) -> Result<Option<OpenSettlement>, anyhow::Error> {
        let mut tx = self.pool().begin().await?;
        let row = sqlx::query(
            "SELECT ticket_id, EXISTS (SELECT FROM settlement s WHERE s.bet_id = bet.id AND NOT s.done) AS waits
             FROM bet WHERE id = $1 FOR UPDATE",
        )
        .bind(bet)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row.filter(|row| !row.try_get("waits").unwrap_or(true)) else { return Ok(None) };
        let Some(ticket) = load(&mut tx, row.try_get("ticket_id")?).await? else { return Ok(None) };
        let Some(found) = ticket.bets.iter().find(|found| found.id == bet).cloned() else { return Ok(None) };
        let mut results = Vec::with_capacity(found.selections.len());
        for selection in &found.selections {
            results.push(results_of(&mut tx, &selection.line.to_string()).await?);
        }
        let due = Due { ticket, bet: found, results };
        let intent = plan(&due)?;
        sqlx::query("UPDATE bet SET due_at = NULL WHERE id = $1").bind(bet).execute(&mut *tx).await?;
        let version = due.bet.settlement_version + 1;
        if let Some(intent) = &intent {
            sqlx::query(
                "INSERT INTO settlement (bet_id, version, payout, void, results, proof, transfers, attempt_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + interval '10 seconds')",
            )
            .bind(bet)
            .bind(version)
            .bind(intent.payout)
            .bind(intent.void)
            .bind(Json(&intent.results))
            .bind(&intent.proof)
            .bind(Json(&intent.transfers))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(intent.map(|intent| OpenSettlement {
            bet,
            version,
            customer: due.ticket.customer,
            currency: due.ticket.currency,
            transfers: intent.transfers,
        }))
    }

    /// Intents that nobody finished in time, leased for a while.
    pub async fn lease_open(&self, limit: i64) -> Result<Vec<OpenSettlement>, StoreError> {
        let rows = sqlx::query(
            "UPDATE settlement s SET attempt_at = clock_timestamp() + interval '10 seconds'
             FROM bet b, ticket t
             WHERE b.id = s.bet_id AND t.id = b.ticket_id AND (s.bet_id, s.version) IN (
                SELECT bet_id, version FROM settlement WHERE NOT done AND attempt_at <= clock_timestamp()
                ORDER BY attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED
             ) RETURNING s.bet_id, s.version, s.transfers, t.customer_id, t.currency",
        )
        .bind(limit)
        .fetch_all(&self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let bet: Uuid = row.try_get("bet_id")?;
                let Json(transfers) = row.try_get("transfers")?;
                let currency = super::ticket::parse(bet, "currency", row.try_get("currency")?)?;
                let (version, customer) = (row.try_get("version")?, row.try_get("customer_id")?);
                Ok(OpenSettlement { bet, version, customer, currency, transfers })
            })
            .collect()
    }

    /// The transfers of an intent are made: bet and ticket take its state. Returns its kind, once.
    pub async fn settled(&self, bet: Uuid, version: i32) -> Result<Option<&'static str>, StoreError> {
        let mut tx = self.pool().begin().await?;
        let ticket: Uuid = sqlx::query_scalar(
            "SELECT t.id FROM ticket t JOIN bet b ON b.ticket_id = t.id WHERE b.id = $1 FOR UPDATE OF t",
        )
        .bind(bet)
        .fetch_one(&mut *tx)
        .await?;
        let row = sqlx::query(
            "UPDATE settlement SET done = true WHERE bet_id = $1 AND version = $2 AND NOT done
             RETURNING payout, void, results",
        )
        .bind(bet)
        .bind(version)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (payout, void): (Option<i64>, bool) = (row.try_get("payout")?, row.try_get("void")?);
        let Json(results) = row.try_get::<Json<Vec<String>>, _>("results")?;
        sqlx::query(
            "UPDATE bet SET settlement_version = $2, payout = $3, void = $4, due_at = least(due_at, clock_timestamp())
             WHERE id = $1",
        )
        .bind(bet)
        .bind(version)
        .bind(payout)
        .bind(void)
        .execute(&mut *tx)
        .await?;
        for (position, result) in (0_i32..).zip(&results) {
            sqlx::query("UPDATE selection SET result = $3 WHERE bet_id = $1 AND position = $2")
                .bind(bet)
                .bind(position)
                .bind(result)
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query(
            "UPDATE ticket SET sequence = sequence + 1, status = (
                SELECT CASE
                    WHEN bool_and(payout IS NOT NULL AND void) THEN 'cancelled'
                    WHEN bool_and(payout IS NOT NULL) THEN 'settled'
                    WHEN bool_or(payout IS NULL AND settlement_version > 0) THEN 'rolled_back'
                    ELSE 'accepted' END
                FROM bet WHERE ticket_id = $1)
             WHERE id = $1",
        )
        .bind(ticket)
        .execute(&mut *tx)
        .await?;
        self.tell(&mut tx, ticket, TicketMessage::TicketSettled as fn(TicketState) -> TicketMessage).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(Some(match (payout, void) {
            (None, _) => "rolled-back",
            (Some(_), true) => "void",
            (Some(_), false) => "settled",
        }))
    }

    /// An intent is tried again later.
    pub async fn settle_later(&self, bet: Uuid, version: i32, in_ms: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE settlement SET attempt_at = clock_timestamp() + $3 * interval '1 millisecond'
             WHERE bet_id = $1 AND version = $2",
        )
        .bind(bet)
        .bind(version)
        .bind(in_ms)
        .execute(&self.pool())
        .await?;
        Ok(())
    }
}

async fn add_result(connection: &mut PgConnection, id: Uuid, result: &LineResult) -> Result<(), StoreError> {
    let key = result.line_key().to_string();
    // Against acceptance: either it sees the message, or its bet is seen here.
    locks::take_events(connection, &[locks::event_of(&key)]).await?;
    sqlx::query(
        "INSERT INTO result_message (id, line_key, sequence, result) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(id)
    .bind(&key)
    .bind(result.sequence)
    .bind(Json(result))
    .execute(&mut *connection)
    .await?;
    // Not the bets themselves: with very many of them this would take longer than a statement may, and stop the topic for ever.
    sqlx::query(
        "INSERT INTO line_due (line_key) SELECT $1 WHERE EXISTS (SELECT FROM selection WHERE line_key = $1)
         ON CONFLICT (line_key) DO UPDATE SET marked_to = excluded.marked_to",
    )
    .bind(&key)
    .execute(connection)
    .await?;
    Ok(())
}

async fn results_of(connection: &mut PgConnection, line: &str) -> Result<Vec<(Uuid, LineResult)>, StoreError> {
    let rows = sqlx::query("SELECT id, result FROM result_message WHERE line_key = $1")
        .bind(line)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            let Json(result) = row.try_get("result")?;
            Ok((row.try_get("id")?, result))
        })
        .collect()
}
