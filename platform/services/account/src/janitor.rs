//! Resolves holds that nobody resolved: asks calculations what became of the ticket, and does only what it answers.
//!
//! A hold for a stake has the id of its ticket. Age alone decides nothing: while the answer is `pending`, unknown or
//! missing, the hold stays and is asked for again.

use std::time::Duration;

use async_trait::async_trait;
use paddock_service::CallerToken;
use prometheus::IntGauge;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::{Action, Command, StaleHold, Store, StoreError};

/// Holds asked for in one round.
const BATCH: i64 = 100;
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// What became of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Not decided yet.
    Pending,
    /// Accepted: the hold is to be posted.
    Accepted,
    /// Rejected: the hold is to be voided.
    Rejected,
}

/// Why there is no answer about a ticket.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// No answer, or none that can be read.
    #[error("calculations does not answer: {0}; its holds wait")]
    Unreachable(#[from] reqwest::Error),
    /// Calculations does not know the ticket: a person has to look, because a ticket is written before its hold.
    #[error("calculations does not know ticket {0}: look at its database before resolving the hold by hand")]
    UnknownTicket(Uuid),
}

/// Whom to ask.
#[async_trait]
pub trait Decisions: Send + Sync {
    /// What became of a ticket.
    async fn decision(&self, ticket: Uuid) -> Result<Decision, DecisionError>;
}

/// Calculations over HTTP.
pub struct Calculations {
    client: reqwest::Client,
    base: String,
    token: CallerToken,
}

#[derive(Deserialize)]
struct Answer {
    decision: Decision,
}

impl Calculations {
    /// Calculations at an address such as `http://calculations:8080`.
    pub fn new(base: &str, token: CallerToken) -> Result<Self, reqwest::Error> {
        let client =
            reqwest::Client::builder().timeout(ASK_TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), token })
    }
}

#[async_trait]
impl Decisions for Calculations {
    async fn decision(&self, ticket: Uuid) -> Result<Decision, DecisionError> {
        let url = format!("{}/internal/v1/tickets/{ticket}/decision", self.base);
        let response = self.token.attach(self.client.get(url)).send().await?;
        if response.status() == http::StatusCode::NOT_FOUND {
            return Err(DecisionError::UnknownTicket(ticket));
        }
        Ok(response.error_for_status()?.json::<Answer>().await?.decision)
    }
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Holds posted.
    pub posted: usize,
    /// Holds voided.
    pub voided: usize,
    /// Holds that wait further.
    pub waiting: usize,
}

/// Looks at stale holds once, or at those that come before the end.
pub async fn round(
    store: &Store,
    decisions: &dyn Decisions,
    older_than_s: i64,
    end: &CancellationToken,
) -> Result<Round, StoreError> {
    let mut round = Round::default();
    for StaleHold { id } in store.stale_holds(older_than_s, BATCH).await? {
        if end.is_cancelled() {
            break;
        }
        // The id derives from the hold, so that a round that is repeated repeats its transfer.
        let resolve = |name: &str| Uuid::new_v5(&id, name.as_bytes());
        let (command, count) = match decisions.decision(id).await {
            Ok(Decision::Accepted) => {
                (Command { id: resolve("post"), action: Action::Post { hold: id, part: None } }, &mut round.posted)
            }
            Ok(Decision::Rejected) => {
                (Command { id: resolve("void"), action: Action::Void { hold: id } }, &mut round.voided)
            }
            Ok(Decision::Pending) => {
                round.waiting += 1;
                continue;
            }
            Err(error) => {
                tracing::warn!(hold = %id, %error, "hold waits");
                round.waiting += 1;
                continue;
            }
        };
        match store.apply(&command).await {
            Ok(_) => *count += 1,
            // Resolved by its owner in the meantime.
            Err(StoreError::Transfer(error)) => tracing::info!(hold = %id, %error, "hold was resolved meanwhile"),
            Err(error) => return Err(error),
        }
    }
    Ok(round)
}

/// Looks every `period` until told to end; the gauge counts holds that wait for longer than they should.
pub async fn run(
    store: Store,
    decisions: impl Decisions,
    older_than_s: i64,
    period: Duration,
    waiting: IntGauge,
    end: CancellationToken,
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _tick = ticks.tick() => {},
            () = end.cancelled() => return,
        }
        match round(&store, &decisions, older_than_s, &end).await {
            Ok(done) => {
                waiting.set(i64::try_from(done.waiting).unwrap_or(i64::MAX));
                if done != Round::default() {
                    tracing::info!(posted = done.posted, voided = done.voided, waiting = done.waiting, "stale holds");
                }
            }
            Err(error) => tracing::warn!(%error, "stale holds are looked at again"),
        }
        if let Err(error) = store.forget_sessions().await {
            tracing::warn!(%error, "expired sessions are removed later");
        }
    }
}
