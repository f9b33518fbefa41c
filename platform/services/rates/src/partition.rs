//! One partition of topic `feed`: its events in memory, and the transaction that takes records in.
//!
//! Memory is a copy of committed rows. A transaction that fails drops it; it is loaded again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use paddock_events::{
    CancelledRange, CatalogueEvent, Envelope, FeedMessage, LineKey, LineName, MarketStatus, OfferHeartbeat,
    OfferMessage, Origin, ResultMessage, Topic, decode,
};
use paddock_market_book::Book;
use paddock_service::kafka::Consumed;
use paddock_service::offsets;
use paddock_service::outbox::{Outbox, OutboxError};
use prometheus::IntCounter;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::{Change, Conditions, EventState, Fact, differs, fold, next_sequence, offer};
use crate::producers::Producers;
use crate::store;

/// A partition's transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// Another replica has the partition, or had it meanwhile.
    #[error("another replica works on the partition; it is loaded again")]
    Lost,
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// An event could not be written.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

impl PartitionError {
    /// Whether the values of the records are what the database refuses, so that trying again helps nothing: characters that no
    /// text holds, numbers out of range, keys too long for an index.
    fn is_of_the_records(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Encode(_)) => true,
            Self::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("54"))
            }
            _ => false,
        }
    }
}

/// What holds for all partitions at a moment.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The book in force.
    pub book: Arc<Book>,
    /// The producers.
    pub producers: Producers,
    /// Our clock, ms.
    pub now: i64,
}

/// What the transactions need.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// Of the envelopes.
    pub origin: Origin,
    /// Of the events.
    pub outbox: Outbox,
    /// Counts records that nobody can read.
    pub unreadable: IntCounter,
}

/// A partition that this replica works on.
#[derive(Debug)]
pub struct Partition {
    number: i32,
    next_offset: i64,
    events: BTreeMap<String, EventState>,
    checked_until: i64,
    complete_until: Option<i64>,
}

/// What a transaction has touched so far.
#[derive(Default)]
struct Touched {
    /// Catalogue entry before the transaction, for comparison.
    events: BTreeMap<String, Option<CatalogueEvent>>,
    lines: BTreeMap<String, BTreeSet<LineName>>,
    results: BTreeSet<(String, LineName)>,
}

impl Partition {
    /// Loads what is committed.
    pub async fn load(pool: &PgPool, number: i32) -> Result<Self, PartitionError> {
        let mut connection = pool.acquire().await?;
        let next_offset = offsets::load(&mut connection, Topic::Feed.name(), number).await?;
        let events = store::partition(&mut connection, number).await?;
        Ok(Self { number, next_offset, events, checked_until: 0, complete_until: None })
    }

    /// Offset of the next record to take effect.
    pub const fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Everything that the feed said in this partition up to then was taken in, ms by its clock, which counts as right unless it is
    /// ahead of ours; `None` before the first heartbeat.
    pub const fn complete_until(&self) -> Option<i64> {
        self.complete_until
    }

    /// Takes in records of this partition, in order. On an error nothing was committed: load again.
    pub async fn take(
        &mut self,
        pool: &PgPool,
        outlet: &Outlet,
        around: &Surroundings,
        records: &[Consumed],
    ) -> Result<(), PartitionError> {
        let Some(last) = records.iter().map(|record| record.offset).max().filter(|last| *last >= self.next_offset)
        else {
            return Ok(());
        };
        let mut transaction = pool.begin().await?;
        self.keep(&mut transaction, last + 1).await?;
        let (mut touched, mut unreadable, mut complete_until) = (Touched::default(), 0, self.complete_until);
        let first = self.next_offset;
        for record in records.iter().filter(|record| record.offset >= first) {
            let Some(value) = &record.value else { continue };
            match decode::<FeedMessage>(value) {
                Ok(Some(Envelope { body: FeedMessage::Heartbeat(beat), .. })) => {
                    complete_until = complete_until.max(Some(beat.at.min(around.now)));
                }
                Ok(Some(Envelope { id, body, .. })) => {
                    // That a line was closed is told, also if the next record opens it again: no bet may wait out its delay over that.
                    if self.apply(&mut transaction, around, &mut touched, id, body, record.offset).await? {
                        self.publish(&mut transaction, outlet, around, &std::mem::take(&mut touched)).await?;
                    }
                }
                Ok(None) => {}
                // One bad record never stops the others.
                Err(error) => {
                    unreadable += 1;
                    tracing::error!(offset = record.offset, %error, "a feed record is skipped");
                }
            }
        }
        self.publish(&mut transaction, outlet, around, &touched).await?;
        transaction.commit().await?;
        outlet.unreadable.inc_by(unreadable);
        self.next_offset = last + 1;
        self.complete_until = complete_until;
        self.events.retain(|_, event| !event.is_over());
        outlet.outbox.committed();
        Ok(())
    }

    /// Takes in records of this partition, in order. One that the database cannot store never stops the others (rule O4): it is
    /// left out, and its offset is among those returned.
    pub async fn take_what_can_be_stored(
        &mut self,
        pool: &PgPool,
        outlet: &Outlet,
        around: &Surroundings,
        records: &[Consumed],
    ) -> Result<Vec<i64>, PartitionError> {
        match self.take(pool, outlet, around, records).await {
            Err(error) if error.is_of_the_records() => {}
            taken => return taken.map(|()| Vec::new()),
        }
        let mut left_out = Vec::new();
        for record in records {
            // Nothing was committed, but memory may have half of it.
            *self = Self::load(pool, self.number).await?;
            match self.take(pool, outlet, around, std::slice::from_ref(record)).await {
                Ok(()) => {}
                Err(error) if error.is_of_the_records() => {
                    tracing::error!(offset = record.offset, key = record.key, %error, "a feed record cannot be stored");
                    left_out.push(record.offset);
                    *self = Self::load(pool, self.number).await?;
                    self.pass_over(pool, record.offset).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(left_out)
    }

    /// Moves on behind a record without taking it in.
    async fn pass_over(&mut self, pool: &PgPool, offset: i64) -> Result<(), PartitionError> {
        if offset < self.next_offset {
            return Ok(());
        }
        let mut transaction = pool.begin().await?;
        self.keep(&mut transaction, offset + 1).await?;
        transaction.commit().await?;
        self.next_offset = offset + 1;
        Ok(())
    }

    /// Goes on at an offset before the stored one, because the topic begins anew.
    pub async fn begin_anew(&mut self, pool: &PgPool, offset: i64) -> Result<(), PartitionError> {
        let mut transaction = pool.begin().await?;
        self.keep(&mut transaction, offset).await?;
        transaction.commit().await?;
        self.next_offset = offset;
        Ok(())
    }

    /// Makes every offer anew, after producers or book changed, and publishes those that differ.
    pub async fn refresh(
        &mut self,
        pool: &PgPool,
        outlet: &Outlet,
        around: &Surroundings,
    ) -> Result<(), PartitionError> {
        let all: Vec<String> = self.events.keys().cloned().collect();
        self.refresh_events(pool, outlet, around, &all).await
    }

    /// Makes the offers anew of events whose kick-off has passed since the last call.
    pub async fn refresh_begun(
        &mut self,
        pool: &PgPool,
        outlet: &Outlet,
        around: &Surroundings,
    ) -> Result<(), PartitionError> {
        let since = std::mem::replace(&mut self.checked_until, around.now);
        let begun: Vec<String> = self
            .events
            .values()
            .filter(|event| event.start_time > since && event.start_time <= around.now)
            .map(|event| event.id.clone())
            .collect();
        self.refresh_events(pool, outlet, around, &begun).await
    }

    async fn refresh_events(
        &mut self,
        pool: &PgPool,
        outlet: &Outlet,
        around: &Surroundings,
        ids: &[String],
    ) -> Result<(), PartitionError> {
        let mut touched = Touched::default();
        for event in ids.iter().filter_map(|id| self.events.get(id)) {
            let lines = event.lines.iter().filter(|(name, line)| {
                let new = offer(event, name, line, &self.conditions(around, line.product));
                new.is_some_and(|new| differs(line.offered.as_ref(), &new))
            });
            let lines: BTreeSet<LineName> = lines.map(|(name, _)| name.clone()).collect();
            if !lines.is_empty() {
                touched.lines.insert(event.id.clone(), lines);
            }
        }
        if touched.lines.is_empty() {
            return Ok(());
        }
        let mut transaction = pool.begin().await?;
        self.keep(&mut transaction, self.next_offset).await?;
        self.publish(&mut transaction, outlet, around, &touched).await?;
        transaction.commit().await?;
        outlet.outbox.committed();
        Ok(())
    }

    /// Takes events out of topic `offer` that closed before a time.
    pub async fn withdraw(&self, pool: &PgPool, outlet: &Outlet, closed_before: i64) -> Result<(), PartitionError> {
        let mut transaction = pool.begin().await?;
        self.keep(&mut transaction, self.next_offset).await?;
        let withdrawn = store::withdraw(&mut transaction, self.number, closed_before).await?;
        if withdrawn.is_empty() {
            return Ok(());
        }
        for (event_id, lines) in withdrawn {
            for line in lines {
                let key = LineKey::new(&event_id, line.market_id, line.specifiers).to_string();
                outlet.outbox.forget(&mut transaction, Topic::Offer, &key, &event_id).await?;
            }
            outlet.outbox.forget(&mut transaction, Topic::Offer, &event_id, &event_id).await?;
        }
        transaction.commit().await?;
        outlet.outbox.committed();
        Ok(())
    }

    /// The fence: fails if another replica has moved the offset. Each transaction begins with it: while one waits here for another
    /// replica's, it has added nothing to the outbox, whose order is then that of the commits.
    async fn keep(&self, connection: &mut PgConnection, next: i64) -> Result<(), PartitionError> {
        let kept = offsets::advance(connection, Topic::Feed.name(), self.number, self.next_offset, next).await?;
        if kept { Ok(()) } else { Err(PartitionError::Lost) }
    }

    fn conditions<'a>(&self, around: &'a Surroundings, product: u32) -> Conditions<'a> {
        Conditions {
            book: &around.book,
            producer_up: around.producers.is_up(product),
            now: around.now,
            feed_partition: self.number,
        }
    }

    /// Takes in what a message says; whether that closes a line that readers see as open.
    async fn apply(
        &mut self,
        connection: &mut PgConnection,
        around: &Surroundings,
        touched: &mut Touched,
        id: Uuid,
        message: FeedMessage,
        offset: i64,
    ) -> Result<bool, PartitionError> {
        let Some(head) = message.head() else { return Ok(false) };
        let event_id = head.event_id.clone();
        if !self.events.contains_key(&event_id)
            && let Some(known) = store::one_event(connection, &event_id).await?
        {
            self.events.insert(event_id.clone(), known);
        }
        let before = self.events.get(&event_id).map(EventState::catalogue);
        let event = self.events.get_mut(&event_id);
        let change = match (message, event) {
            (FeedMessage::Fixture(fixture), Some(event)) => event.fixture(&fixture),
            (FeedMessage::Fixture(fixture), None) => {
                self.events.insert(event_id.clone(), EventState::new(&fixture));
                Change { event: true, lines: Vec::new() }
            }
            (FeedMessage::OddsChange(odds), Some(event)) => {
                event.odds_change(&odds, around.producers.scope(odds.head.product), offset)
            }
            (FeedMessage::BetStop(stop), Some(event)) => event.bet_stop(&stop, offset),
            (FeedMessage::OddsChange(_) | FeedMessage::BetStop(_), None) => {
                // Its fixture comes by recovery; until then nobody could show it.
                tracing::debug!(event_id, "an event without fixture is skipped");
                Change::default()
            }
            (results, _) => {
                for (line, fact) in facts(results) {
                    store::add_fact(connection, &event_id, &line, id, &fact).await?;
                    touched.results.insert((event_id.clone(), line));
                }
                Change::default()
            }
        };
        if change.event {
            touched.events.entry(event_id.clone()).or_insert(before);
        }
        let closes = self.closes(around, &event_id, &change.lines);
        if !change.lines.is_empty() {
            touched.lines.entry(event_id).or_default().extend(change.lines);
        }
        Ok(closes)
    }

    /// Whether one of an event's lines was last published as open and is so no more.
    fn closes(&self, around: &Surroundings, event_id: &str, names: &[LineName]) -> bool {
        let Some(event) = self.events.get(event_id) else { return false };
        let is_open = |status| status == MarketStatus::Active;
        names.iter().any(|name| {
            event.lines.get(name).is_some_and(|line| {
                line.offered.as_ref().is_some_and(|offered| is_open(offered.status))
                    && offer(event, name, line, &self.conditions(around, line.product))
                        .is_some_and(|new| !is_open(new.status))
            })
        })
    }

    /// Writes what was touched, and what readers need to know of it.
    async fn publish(
        &mut self,
        connection: &mut PgConnection,
        outlet: &Outlet,
        around: &Surroundings,
        touched: &Touched,
    ) -> Result<(), PartitionError> {
        for (id, before) in &touched.events {
            let Some(event) = self.events.get_mut(id) else { continue };
            let shown = before.as_ref() != Some(&event.catalogue());
            if shown {
                event.sequence = next_sequence(event.sequence, around.now);
            }
            store::save_event(connection, event, self.number).await?;
            if shown {
                let message = OfferMessage::Event(event.catalogue());
                outlet.outbox.add(connection, &Envelope::now(&outlet.origin, message)).await?;
            }
        }
        for (id, names) in &touched.lines {
            self.publish_lines(connection, outlet, around, id, names).await?;
        }
        for (event_id, line) in &touched.results {
            let (facts, published) = store::facts(connection, event_id, line).await?;
            let mut result = fold(event_id, line, &facts);
            result.sequence = published.as_ref().map_or(0, |published| published.sequence);
            if published.as_ref() != Some(&result) {
                result.sequence = next_sequence(result.sequence, around.now);
                store::save_result(connection, &result).await?;
                let message = ResultMessage::LineResult(result);
                outlet.outbox.add(connection, &Envelope::now(&outlet.origin, message)).await?;
            }
        }
        Ok(())
    }

    async fn publish_lines(
        &mut self,
        connection: &mut PgConnection,
        outlet: &Outlet,
        around: &Surroundings,
        event_id: &str,
        names: &BTreeSet<LineName>,
    ) -> Result<(), PartitionError> {
        for name in names {
            let Some(event) = self.events.get(event_id) else { continue };
            let Some(line) = event.lines.get(name) else { continue };
            let new = offer(event, name, line, &self.conditions(around, line.product));
            let new = new.filter(|new| differs(line.offered.as_ref(), new));
            let Some(line) = self.events.get_mut(event_id).and_then(|event| event.lines.get_mut(name)) else {
                continue;
            };
            if let Some(mut new) = new {
                new.sequence = next_sequence(new.sequence, around.now);
                let message = OfferMessage::Line(new.clone());
                outlet.outbox.add(connection, &Envelope::now(&outlet.origin, message)).await?;
                line.offered = Some(new);
            }
            store::save_line(connection, event_id, name, line).await?;
        }
        Ok(())
    }
}

/// Tells readers on every partition of topic `offer` that all changes of these feed partitions up to a time stand before it. Fails
/// if one of them is another replica's by now.
pub async fn heartbeat(
    pool: &PgPool,
    outlet: &Outlet,
    around: &Surroundings,
    partitions: &[&Partition],
    at: i64,
    offer_partitions: i32,
) -> Result<(), PartitionError> {
    let mut transaction = pool.begin().await?;
    for partition in partitions {
        partition.keep(&mut transaction, partition.next_offset).await?;
    }
    let beat = OfferHeartbeat {
        feed_partitions: partitions.iter().map(|partition| partition.number).collect(),
        at,
        book_generation: around.book.generation(),
    };
    for offer_partition in 0..offer_partitions {
        let message = OfferMessage::Heartbeat(beat.clone());
        let envelope = Envelope::now(&outlet.origin, message);
        outlet.outbox.add_to_partition(&mut transaction, &envelope, offer_partition).await?;
    }
    transaction.commit().await?;
    outlet.outbox.committed();
    Ok(())
}

/// The facts of a message about results; none of another message.
fn facts(message: FeedMessage) -> Vec<(LineName, Fact)> {
    match message {
        FeedMessage::BetSettlement(it) => it
            .markets
            .into_iter()
            .map(|market| {
                let fact = Fact::Settled {
                    at: it.head.timestamp,
                    certainty: it.certainty,
                    void_reason: market.void_reason,
                    outcomes: market.outcomes,
                };
                (market.line, fact)
            })
            .collect(),
        FeedMessage::RollbackBetSettlement(it) => {
            it.lines.into_iter().map(|line| (line, Fact::SettlementUndone { at: it.head.timestamp })).collect()
        }
        FeedMessage::BetCancel(it) => {
            let range =
                CancelledRange { start_time: it.start_time, end_time: it.end_time, void_reason: it.void_reason };
            let fact = Fact::Cancelled { at: it.head.timestamp, range };
            it.lines.into_iter().map(|line| (line, fact.clone())).collect()
        }
        FeedMessage::RollbackBetCancel(it) => {
            let fact = Fact::CancelUndone { at: it.head.timestamp, start_time: it.start_time, end_time: it.end_time };
            it.lines.into_iter().map(|line| (line, fact.clone())).collect()
        }
        FeedMessage::Fixture(_) | FeedMessage::OddsChange(_) | FeedMessage::BetStop(_) | FeedMessage::Heartbeat(_) => {
            Vec::new()
        }
    }
}
