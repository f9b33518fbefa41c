//! Sending records.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paddock_events::{Body, Envelope, partition_of};
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use rdkafka::types::RDKafkaErrorCode;

use super::sending::{Delivery, Sending, delivered};
use super::{ANSWER, Bus, BusError};

/// A record for the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Logical name of the topic.
    pub topic: String,
    /// Record key.
    pub key: String,
    /// What decides the partition.
    pub partition_key: String,
    /// A given partition instead.
    pub partition: Option<i32>,
    /// Value; `None` is a tombstone: the key leaves a compacted topic.
    pub value: Option<Vec<u8>>,
}

impl Record {
    /// The record of an envelope.
    pub fn of<B: Body>(event: &Envelope<B>) -> Result<Self, serde_json::Error> {
        Ok(Self {
            topic: B::TOPIC.name().to_owned(),
            key: event.body.key(),
            partition_key: event.body.partition_key(),
            partition: None,
            value: Some(event.to_json()?),
        })
    }

    /// For one partition.
    #[must_use]
    pub fn to_partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}

/// Records were not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The bus is unusable.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The broker did not take a record within the delivery timeout.
    #[error("a record was not delivered: {0}; it is sent again")]
    NotDelivered(#[from] rdkafka::error::KafkaError),
}

/// Sends records. Clones share the client; a new version of the binding makes a new one.
#[derive(Clone)]
pub struct Producer {
    bus: Bus,
    client: Arc<Mutex<Client>>,
}

struct Client {
    version: String,
    producer: Sending,
    partitions: HashMap<String, u32>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

fn client(bus: &Bus) -> Result<Client, BusError> {
    let mut config = bus.config()?;
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "2")
        .set("delivery.timeout.ms", "20000")
        .set("queue.buffering.max.messages", "50000");
    Ok(Client { version: bus.version(), producer: Sending::new(&config)?, partitions: HashMap::new() })
}

impl Producer {
    pub(super) fn new(bus: Bus) -> Result<Self, BusError> {
        let client = client(&bus)?;
        Ok(Self { bus, client: Arc::new(Mutex::new(client)) })
    }

    fn present(&self) -> Result<Sending, BusError> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if held.version != self.bus.version() {
            *held = client(&self.bus)?;
        }
        Ok(held.producer.clone())
    }

    /// Number of partitions of a topic by its name on the broker, asked once.
    async fn partitions(&self, name: &str) -> Result<u32, BusError> {
        let known = self.client.lock().unwrap_or_else(PoisonError::into_inner).partitions.get(name).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let (producer, topic) = (self.present()?, name.to_owned());
        let count =
            tokio::task::spawn_blocking(move || count(&producer, &topic)).await.map_err(|_| BusError::Ending)??;
        self.client.lock().unwrap_or_else(PoisonError::into_inner).partitions.insert(name.to_owned(), count);
        Ok(count)
    }

    /// Sends records in order and waits until the broker has them all.
    pub async fn send_all(&self, records: &[Record]) -> Result<(), SendError> {
        let producer = self.present()?;
        let mut deliveries = Vec::with_capacity(records.len());
        for record in records {
            let topic = self.bus.topic_named(&record.topic)?;
            let partition = match record.partition {
                Some(partition) => partition,
                None => partition_i32(&record.partition_key, self.partitions(&topic).await?),
            };
            // Queued here, in order; awaited below.
            deliveries.push(queue(&producer, &topic, partition, record).await?);
        }
        delivered(deliveries).await.map_err(|error| match error {
            BusError::Kafka(error) => SendError::NotDelivered(error),
            error => error.into(),
        })
    }

    /// Sends one envelope.
    pub async fn send<B: Body>(&self, event: &Envelope<B>) -> Result<(), SendError> {
        let record = Record::of(event)
            .map_err(|error| KafkaError::ClientCreation(format!("an event cannot be written as JSON: {error}")))?;
        self.send_all(std::slice::from_ref(&record)).await
    }
}

/// A full queue waits for room.
async fn queue(producer: &Sending, topic: &str, partition: i32, record: &Record) -> Result<Delivery, SendError> {
    const TRIES: u32 = 400;
    const FULL: RDKafkaErrorCode = RDKafkaErrorCode::QueueFull;
    for _try in 0..TRIES {
        match producer.queue(topic, partition, record) {
            Err(error) if error.rdkafka_error_code() == Some(FULL) => {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            queued => return Ok(queued?),
        }
    }
    Err(KafkaError::MessageProduction(FULL).into())
}

pub(super) fn partition_i32(partition_key: &str, partitions: u32) -> i32 {
    i32::try_from(partition_of(partition_key, partitions)).unwrap_or(0)
}

pub(super) fn count(producer: &Sending, topic: &str) -> Result<u32, BusError> {
    let metadata = producer.client().client().fetch_metadata(Some(topic), ANSWER)?;
    let count =
        metadata.topics().iter().find(|found| found.name() == topic).map_or(0, |found| found.partitions().len());
    match u32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(BusError::UnknownTopic(topic.to_owned())),
    }
}
