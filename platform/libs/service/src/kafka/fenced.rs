//! A producer of which one is alive: the broker's producer epoch fences older ones (rule R6).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use paddock_events::partition_of;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::sending::{News, Sending, delivered};
use super::{ANSWER, Bus, BusError, Record};

/// Longest wait for a step of a transaction.
const STEP: Duration = Duration::from_secs(10);
/// Longest wait for the end of a transaction, longer than the broker lets one be open.
const END: Duration = Duration::from_secs(25);

/// A transaction was not committed.
#[derive(Debug, thiserror::Error)]
pub enum FencedError {
    /// A newer producer of the same name exists; this one must stop for good.
    #[error("a newer producer took over; this one publishes nothing more")]
    Fenced,
    /// Aborted; the same records may be sent again.
    #[error("the transaction was aborted: {0}; it is tried again")]
    Aborted(#[source] BusError),
    /// Committed or not, nobody knows; this producer is of no use any more. A new one ends the transaction, whichever way.
    #[error("the end of the transaction is not known: {0}; a new producer takes over")]
    Unknown(#[source] BusError),
}

/// Publishes batches of records, each all or nothing. Use it from one task.
pub struct FencedProducer {
    producer: Sending,
    topics: HashMap<String, (String, u32)>,
    bus: Bus,
}

impl std::fmt::Debug for FencedProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FencedProducer").finish_non_exhaustive()
    }
}

impl FencedProducer {
    pub(super) fn new(bus: &Bus, name: &str) -> Result<Self, BusError> {
        let mut config = bus.config()?;
        config
            .set("transactional.id", bus.prefixed(name)?)
            .set("transaction.timeout.ms", "15000")
            .set("delivery.timeout.ms", "10000")
            // The coordinator may still write the end of the transaction before; it is asked again soon, not after 100 ms.
            .set("retry.backoff.ms", "5")
            // A batch is queued whole.
            .set("linger.ms", "0");
        Ok(Self { producer: Sending::new(&config)?, topics: HashMap::new(), bus: bus.clone() })
    }

    /// Takes over: every older producer of the name is fenced from here on.
    pub async fn take_over(&self) -> Result<(), FencedError> {
        self.step(|producer| producer.init_transactions(STEP)).await
    }

    /// Publishes a batch: readers of committed records see all or none.
    pub async fn publish(&mut self, records: &[Record]) -> Result<(), FencedError> {
        for record in records {
            self.learn(&record.topic).await?;
        }
        self.step(rdkafka::producer::Producer::begin_transaction).await.map_err(FencedError::of_the_end)?;
        if let Err(error) = self.fill(records).await {
            self.abort().await?;
            return Err(FencedError::Aborted(error));
        }
        match self.step(|producer| until_known(|| producer.commit_transaction(STEP))).await {
            Err(FencedError::Aborted(error)) => {
                self.abort().await?;
                Err(FencedError::Aborted(error))
            }
            done => done,
        }
    }

    async fn abort(&self) -> Result<(), FencedError> {
        let aborted = self.step(|producer| until_known(|| producer.abort_transaction(STEP))).await;
        aborted.map_err(FencedError::of_the_end)
    }

    async fn learn(&mut self, logical: &str) -> Result<(), FencedError> {
        if self.topics.contains_key(logical) {
            return Ok(());
        }
        let name = self.bus.topic_named(logical).map_err(FencedError::Aborted)?;
        let (producer, asked) = (self.producer.clone(), name.clone());
        let partitions = tokio::task::spawn_blocking(move || count(&producer, &asked))
            .await
            .map_err(|_| FencedError::Aborted(BusError::Ending))?
            .map_err(FencedError::Aborted)?;
        self.topics.insert(logical.to_owned(), (name, partitions));
        Ok(())
    }

    async fn fill(&self, records: &[Record]) -> Result<(), BusError> {
        let mut deliveries = Vec::with_capacity(records.len());
        for record in records {
            let Some((topic, partitions)) = self.topics.get(&record.topic) else {
                return Err(BusError::UnknownTopic(record.topic.clone()));
            };
            let partition = record.partition.unwrap_or_else(|| partition_i32(&record.partition_key, *partitions));
            deliveries.push(self.producer.queue(topic, partition, record)?);
        }
        delivered(deliveries).await
    }

    /// The client library's transaction calls block.
    async fn step(
        &self,
        call: impl FnOnce(&BaseProducer<News>) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<(), FencedError> {
        let producer = self.producer.clone();
        let done = tokio::task::spawn_blocking(move || {
            let result = call(producer.client());
            (result, producer.client().client().fatal_error().map(|(code, _)| code))
        })
        .await
        .map_err(|_| FencedError::Aborted(BusError::Ending))?;
        match done {
            (Ok(()), _) => Ok(()),
            (Err(error), fatal) if fatal.is_some() || is_fenced(&error) => {
                tracing::warn!(%error, "producer fenced");
                Err(FencedError::Fenced)
            }
            (Err(error), _) => Err(FencedError::Aborted(error.into())),
        }
    }
}

impl FencedError {
    /// A transaction that could not even be aborted, or begun, is in a state that this producer does not leave.
    fn of_the_end(self) -> Self {
        match self {
            Self::Aborted(error) => Self::Unknown(error),
            other => other,
        }
    }
}

/// A call that timed out goes on by itself. Only the same call again tells how it ended; every other one is refused until then.
fn until_known(call: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let until = Instant::now() + END;
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < until => {
                tracing::warn!(%error, "the end of a transaction is asked for again");
            }
            done => return done,
        }
    }
}

fn partition_i32(partition_key: &str, partitions: u32) -> i32 {
    i32::try_from(partition_of(partition_key, partitions)).unwrap_or(0)
}

/// Number of partitions of a topic, by its name on the broker.
fn count(producer: &Sending, topic: &str) -> Result<u32, BusError> {
    let metadata = producer.client().client().fetch_metadata(Some(topic), ANSWER)?;
    let count =
        metadata.topics().iter().find(|found| found.name() == topic).map_or(0, |found| found.partitions().len());
    match u32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(BusError::UnknownTopic(topic.to_owned())),
    }
}

fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::InvalidProducerEpoch | RDKafkaErrorCode::ProducerFenced)
    )
}
