//! Acceptance of tickets: from the request to the posted hold, over any number of replicas and crashes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use paddock_service::{BookHolder, Gate, Problem, idempotency};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bank::{Bank, BankError};
use crate::domain::Code;
use crate::domain::decide::{Asking, decide};
use crate::domain::request::{PlaceTicket, Single};
use crate::metrics::AcceptanceMetrics;
use crate::offer::OfferCopy;
use crate::store::{NewTicket, Placed, Status, Step, Store, StoreError, Ticket};

/// A request waits for delays up to this; longer ones are answered `pending`.
const PATIENCE: Duration = Duration::from_millis(500);
/// A ticket whose hold account did not answer for so long is refused.
const HOLD_PATIENCE_MS: i64 = 10_000;
/// Before account is asked again.
const ASK_AGAIN_MS: i64 = 500;
/// Tickets that one round resumes.
const ROUND: i64 = 50;
/// Between two looks for tickets to resume.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks for old keys.
const FORGET: Duration = Duration::from_hours(1);

/// Between two looks at the generation that other replicas have.
const ANNOUNCE: Duration = Duration::from_secs(1);

/// Everything that acceptance works with. Clones share it.
#[derive(Clone)]
pub struct Acceptance {
    /// Rows.
    pub store: Store,
    /// Copy of the offer.
    pub offer: OfferCopy,
    /// Book in force.
    pub book: BookHolder,
    /// Account.
    pub bank: Arc<dyn Bank>,
    /// Metrics.
    pub metrics: AcceptanceMetrics,
}

/// A ticket and whether this request made it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// In its present state.
    pub ticket: Ticket,
    /// Made by this request.
    pub is_new: bool,
}

impl Acceptance {
    /// Places a ticket, or finds the one that the key stands for, and goes on with it as far as patience reaches.
    pub async fn place(&self, request: &PlaceTicket) -> Result<Answer, Problem> {
        let started = Instant::now();
        let fingerprint = idempotency::fingerprint(&request.ticket).map_err(Problem::internal)?;
        let (singles, total) = match request.ticket.understand(request.currency) {
            Ok(understood) => understood,
            // It was never stored; but the key may stand for another ticket.
            Err(error) => {
                return match self.store.known(request.customer_id, &request.idempotency_key).await? {
                    Some(known) => self.replay(known, &fingerprint).await,
                    None => Err(Problem::unprocessable(error.code(), error.to_string())),
                };
            }
        };
        let new = self.receive(request, fingerprint.clone(), singles, total).await?;
        let decided = match self.store.place(&new).await? {
            known @ Placed::Known { .. } => return self.replay(known, &fingerprint).await,
            Placed::New { rejected: Some(code) } => {
                self.metrics.decided("rejected", code.into());
                None
            }
            Placed::New { rejected: None } => {
                let delay_ms = i32::try_from(new.delay_ms).unwrap_or(i32::MAX);
                let step = Step::Hold { customer: new.customer, amount: new.total, delay_ms, age_ms: 0 };
                // The ticket is stored: whatever fails from here on, a replica resumes it.
                match self.go_on(new.id, step, PATIENCE).await {
                    Ok(decided) => decided,
                    Err(error) => {
                        tracing::warn!(ticket = %new.id, %error, "the ticket waits to be resumed");
                        self.store.later(new.id, ASK_AGAIN_MS).await?;
                        None
                    }
                }
            }
        };
        self.metrics.latency.observe(started.elapsed().as_secs_f64());
        let ticket = match decided {
            Some(ticket) => ticket,
            None => self.ticket(new.id).await?,
        };
        Ok(Answer { ticket, is_new: true })
    }

    async fn replay(&self, placed: Placed, fingerprint: &[u8]) -> Result<Answer, Problem> {
        let Placed::Known { ticket, fingerprint: stored } = placed else {
            return Err(Problem::internal(anyhow::anyhow!("a new ticket cannot be replayed")));
        };
        idempotency::check_same(&stored, fingerprint)?;
        Ok(Answer { ticket: self.ticket(ticket).await?, is_new: false })
    }

    async fn ticket(&self, id: Uuid) -> Result<Ticket, Problem> {
        let ticket = self.store.ticket(id).await?;
        ticket.ok_or_else(|| Problem::not_found("there is no such ticket; use an id from the list of tickets"))
    }

    /// Step 1: the legs against the own copy of the offer.
    async fn receive(
        &self,
        request: &PlaceTicket,
        fingerprint: Vec<u8>,
        singles: Vec<Single>,
        total: paddock_money::Money,
    ) -> Result<NewTicket, Problem> {
        let book = self.book.now().ok_or_else(|| {
            Problem::unavailable("market-book-missing", "this replica has no market book yet; try again in a moment")
        })?;
        let keys: Vec<String> =
            singles.iter().flat_map(|bet| [bet.line.to_string(), bet.line.event_id.clone()]).collect();
        let states = self.store.states(&keys).await?;
        let now = Timestamp::now().as_millisecond();
        let country = request.country.to_uppercase();
        let asking = Asking { country: &country, odds_change: request.ticket.odds_change, now };
        let mut delay_ms = 0;
        let mut bets = Vec::with_capacity(singles.len());
        let newer = request.book.iter().filter(|newer| newer.generation > book.generation());
        let refused = newer.flat_map(|newer| &newer.refused).copied().chain(std::iter::repeat(None));
        for (single, refused) in singles.into_iter().zip(refused) {
            let offered = crate::store::offered(&self.offer, &single, &states, now)?;
            let verdict = decide(&single, offered.as_ref(), &book, asking, None).and_then(|terms| {
                if let Some(refusal) = refused {
                    return Err(Code::from(refusal));
                }
                delay_ms = delay_ms.max(terms.delay_ms);
                Ok((terms.seen, terms.payout))
            });
            bets.push((single, verdict));
        }
        Ok(NewTicket {
            id: Uuid::now_v7(),
            customer: request.customer_id,
            country,
            odds_change: request.ticket.odds_change,
            context: request.context.clone(),
            key: request.idempotency_key.clone(),
            fingerprint,
            total,
            delay_ms,
            bets,
        })
    }

    /// Goes on with a ticket until it is finished, waits longer than `patience`, or account does not answer.
    pub async fn advance(&self, id: Uuid, patience: Duration) -> Result<(), StoreError> {
        let step = self.store.step(id).await?;
        self.go_on(id, step, patience).await.map(drop)
    }

    /// Goes on from a step; returns the ticket if it was decided here.
    async fn go_on(&self, id: Uuid, mut step: Step, patience: Duration) -> Result<Option<Ticket>, StoreError> {
        let mut decided = None;
        loop {
            let ticket = match step {
                Step::Hold { customer, amount, delay_ms, age_ms } => match self.bank.hold(id, customer, amount).await {
                    Ok(()) if delay_ms == 0 => self.decide(id, true).await?,
                    Ok(()) => {
                        self.store.held(id).await?;
                        None
                    }
                    Err(BankError::Refused(code)) => {
                        self.reject(id, &code, false).await?;
                        None
                    }
                    Err(BankError::Unavailable(_)) if age_ms > HOLD_PATIENCE_MS => {
                        self.reject(id, Code::AccountUnavailable.into(), true).await?;
                        None
                    }
                    Err(error) => {
                        self.ask_again(id, &error).await?;
                        return Ok(decided);
                    }
                },
                Step::Decide { in_ms: 0 } => self.decide(id, false).await?,
                Step::Decide { in_ms } => {
                    let left = Duration::from_millis(u64::try_from(in_ms).unwrap_or(0));
                    if left > patience {
                        return Ok(decided);
                    }
                    // The delay of the rule itself, not a wait for something else.
                    tokio::time::sleep(left).await;
                    None
                }
                Step::Post | Step::Void => {
                    let posts = step == Step::Post;
                    let answer = if posts { self.bank.post(id).await } else { self.bank.void(id).await };
                    match answer {
                        Ok(()) => self.store.resolved(id, posts).await?,
                        Err(error) => self.ask_again(id, &error).await?,
                    }
                    return Ok(decided);
                }
                Step::Finished => return Ok(decided),
            };
            step = match &ticket {
                Some(ticket) if ticket.status == Status::Accepted => Step::Post,
                Some(_) => Step::Void,
                None => self.store.step(id).await?,
            };
            decided = decided.or(ticket);
        }
    }

    async fn ask_again(&self, id: Uuid, error: &BankError) -> Result<(), StoreError> {
        match error {
            BankError::Refused(code) => tracing::error!(ticket = %id, code, "account refuses to resolve a hold"),
            BankError::Unavailable(_) => tracing::warn!(ticket = %id, %error, "ticket waits for account"),
        }
        self.store.later(id, ASK_AGAIN_MS).await
    }

    async fn reject(&self, id: Uuid, code: &str, held: bool) -> Result<(), StoreError> {
        if self.store.reject(id, code, held).await? {
            self.metrics.decided("rejected", code);
        }
        Ok(())
    }

    /// Step 5. The book in force is held until the transaction has ended, so that a newer one waits for it.
    async fn decide(&self, id: Uuid, held: bool) -> Result<Option<Ticket>, StoreError> {
        let Some(book) = self.book.hold().await else { return Err(StoreError::BookBehind(0)) };
        let decided = self.store.decide(id, &book, &self.offer, held).await;
        drop(book);
        let decided = decided?;
        if let Some(ticket) = &decided {
            self.metrics.decided(ticket.status.into(), ticket.code.as_deref().unwrap_or_default());
        }
        Ok(decided)
    }

    /// Resumes tickets whose time has come, once; returns how many it looked at.
    pub async fn resume(&self) -> Result<usize, StoreError> {
        let due = self.store.lease(ROUND).await?;
        let count = due.len();
        let resumed = due.into_iter().map(|id| async move {
            if let Err(error) = self.advance(id, Duration::ZERO).await {
                tracing::warn!(ticket = %id, %error, "ticket is resumed later");
                if let Err(error) = self.store.later(id, ASK_AGAIN_MS).await {
                    tracing::warn!(ticket = %id, %error, "ticket is resumed when its lease ends");
                }
            }
        });
        futures::StreamExt::for_each_concurrent(futures::stream::iter(resumed), 8, |work| work).await;
        Ok(count)
    }

    /// Resumes tickets until told to end. Waits until the offer is known, because what is not known is refused.
    pub async fn resume_forever(self, end: CancellationToken) -> anyhow::Result<()> {
        let mut last_forget: Option<Instant> = None;
        while !end.is_cancelled() {
            let age = self.offer.age(Timestamp::now().as_millisecond());
            self.metrics.offer_age.set(age.unwrap_or(-1));
            let mut count = 0;
            if self.offer.is_caught_up() && self.book.now().is_some() {
                match self.resume().await {
                    Ok(resumed) => count = resumed,
                    Err(error) => tracing::warn!(%error, "tickets are resumed later"),
                }
            }
            if last_forget.is_none_or(|at| at.elapsed() > FORGET) {
                last_forget = Some(Instant::now());
                if let Err(error) = self.store.forget_old_keys().await {
                    tracing::warn!(%error, "old keys are forgotten later");
                }
            }
            if count < usize::try_from(ROUND).unwrap_or(usize::MAX) {
                tokio::select! { () = tokio::time::sleep(LOOK) => {}, () = end.cancelled() => {} }
            }
        }
        Ok(())
    }

    /// Tells the other replicas of each new book, until told to end. The gate is open while no other replica has a newer one:
    /// behind it nothing can be accepted.
    pub async fn announce_books(self, gate: Gate, end: CancellationToken) -> anyhow::Result<()> {
        let mut changes = self.book.changes();
        loop {
            let own = changes.borrow_and_update().as_ref().map(|book| book.generation());
            match self.store.book_in_force(own.unwrap_or_default()).await {
                Ok(highest) => {
                    self.book.in_force_elsewhere(highest);
                    match own {
                        Some(own) if own < highest => gate.close(format!(
                            "generation {highest} is in force elsewhere, {own} here: PUT a book that is not older"
                        )),
                        Some(_) => gate.open(),
                        None => {}
                    }
                }
                Err(error) => tracing::warn!(%error, "the book's generation is announced again"),
            }
            tokio::select! {
                news = changes.changed() => if news.is_err() { end.cancelled().await },
                () = tokio::time::sleep(ANNOUNCE) => {},
                () = end.cancelled() => return Ok(()),
            }
        }
    }
}
