//! The client library's producer with a thread that tells senders what became of their records.
//!
//! rdkafka's `FutureProducer` does the same, but its thread asks for news ten times a second and spins through the last millisecond
//! of each wait: 1 % of a core for every producer that has nothing to do, more than all else that an idle service costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, NoCustomPartitioner, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::oneshot;

use super::{BusError, Record};

/// Between two looks of the thread whether it should end. News wake it at once.
const LOOK: Duration = Duration::from_secs(1);

/// Comes when the broker has a record, or has it not.
pub(super) type Delivery = oneshot::Receiver<Result<(), KafkaError>>;

/// Of which record it is news.
pub(super) type Waiting = Box<oneshot::Sender<Result<(), KafkaError>>>;

/// Hands each record's news to who waits for it.
pub(super) struct News;

impl ClientContext for News {}

impl ProducerContext<NoCustomPartitioner> for News {
    type DeliveryOpaque = Waiting;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Waiting) {
        // Who does not wait any more has given up the record's batch.
        let _gone = waiting.send(result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone()));
    }
}

/// Sends records one by one. Clones share the client, whose thread ends within a second of the last one.
#[derive(Clone)]
pub(super) struct Sending {
    client: Arc<BaseProducer<News>>,
    _thread: Arc<Thread>,
}

struct Thread {
    end: Arc<AtomicBool>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

impl Sending {
    /// A client of a configuration.
    pub(super) fn new(config: &ClientConfig) -> Result<Self, BusError> {
        let client: Arc<BaseProducer<News>> = Arc::new(config.create_with_context(News)?);
        let end = Arc::new(AtomicBool::new(false));
        let (polled, told) = (Arc::clone(&client), Arc::clone(&end));
        let poll = move || {
            while !told.load(Ordering::Relaxed) {
                polled.poll(LOOK);
            }
        };
        let thread = std::thread::Builder::new().name("kafka-news".to_owned()).spawn(poll);
        thread.map_err(|error| KafkaError::ClientCreation(format!("no thread for the producer: {error}")))?;
        Ok(Self { client, _thread: Arc::new(Thread { end }) })
    }

    /// The client itself.
    pub(super) fn client(&self) -> &BaseProducer<News> {
        &self.client
    }

    /// Queues a record, behind those queued before.
    pub(super) fn queue(&self, topic: &str, partition: i32, record: &Record) -> Result<Delivery, KafkaError> {
        let (waiting, delivery) = oneshot::channel();
        let message = BaseRecord::with_opaque_to(topic, Box::new(waiting)).key(&record.key).partition(partition);
        let message = match &record.value {
            Some(value) => message.payload(value),
            None => message,
        };
        self.client.send(message).map_err(|(error, _)| error)?;
        Ok(delivery)
    }
}

/// Waits until the broker has all of them.
pub(super) async fn delivered(deliveries: Vec<Delivery>) -> Result<(), BusError> {
    for delivery in deliveries {
        delivery.await.map_err(|_canceled| BusError::Ending)??;
    }
    Ok(())
}
