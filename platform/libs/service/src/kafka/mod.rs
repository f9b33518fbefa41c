//! Kafka through a binding: topic names, producers, consumers.

mod fenced;
mod follow;
mod group;
mod record;
mod sending;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use paddock_events::Topic;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::sync::watch;

pub use fenced::{FencedError, FencedProducer};
pub use follow::{Followed, Follower, Start};
pub use group::{Consumed, GroupConsumer, Step};
pub use record::Record;

use crate::Gate;
use crate::binding::{Binding, BindingError};

/// Longest wait for an answer of the broker outside of a transaction.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// Kafka does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The binding is unusable.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The topic is not in the binding.
    #[error("topic {0} is not in the bus binding; name it in the component's needs")]
    UnknownTopic(String),
    /// The broker or the client library failed.
    #[error("the bus does not answer as it should: {0}; check the broker and the network policy")]
    Kafka(#[from] KafkaError),
    /// A blocking call was cut off.
    #[error("the process is ending")]
    Ending,
}

/// A bus of a need. Clones share its binding.
#[derive(Debug, Clone)]
pub struct Bus {
    binding: watch::Receiver<Arc<Binding>>,
}

impl Bus {
    /// A bus over a binding; nothing connects yet. Fails if the binding is unusable.
    pub fn new(binding: watch::Receiver<Arc<Binding>>) -> Result<Self, BusError> {
        let bus = Self { binding };
        let present = bus.present();
        if present.text("type")? != "kafka" {
            return Err(present.fail("type", "is not \"kafka\"").into());
        }
        bus.topics()?;
        bus.config()?;
        Ok(bus)
    }

    fn present(&self) -> Arc<Binding> {
        Arc::clone(&self.binding.borrow())
    }

    /// Version of the binding as loaded.
    pub fn version(&self) -> String {
        self.present().version().to_owned()
    }

    /// Logical name → name on the broker.
    pub fn topics(&self) -> Result<BTreeMap<String, String>, BusError> {
        let binding = self.present();
        let text = binding.text("topics")?;
        Ok(serde_json::from_str(text).map_err(|_| binding.fail("topics", "is no JSON object of names"))?)
    }

    /// Name on the broker.
    pub fn topic(&self, topic: Topic) -> Result<String, BusError> {
        self.topic_named(topic.name())
    }

    pub(crate) fn topic_named(&self, logical: &str) -> Result<String, BusError> {
        self.topics()?.remove(logical).ok_or_else(|| BusError::UnknownTopic(logical.to_owned()))
    }

    /// A group or transactional id: the binding's prefix and a name.
    pub fn prefixed(&self, name: &str) -> Result<String, BusError> {
        Ok(format!("{}{name}", self.present().text("group-prefix")?))
    }

    pub(crate) fn config(&self) -> Result<ClientConfig, BusError> {
        let binding = self.present();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", binding.text("bootstrap-servers")?)
            .set("security.protocol", binding.optional("security-protocol").unwrap_or("PLAINTEXT"))
            .set("client.id", "paddock")
            .set("socket.timeout.ms", "10000")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "60000");
        Ok(config)
    }

    /// A producer of transactions; starting it fences every older one of the same name.
    pub fn fenced_producer(&self, name: &str) -> Result<FencedProducer, BusError> {
        FencedProducer::new(self, name)
    }

    /// Reads a whole topic for itself, without a group.
    pub async fn follow(&self, topic: Topic, start: Start) -> Result<Follower, BusError> {
        Follower::new(self, topic, start).await
    }

    /// Shares the partitions of topics with the other members of a group.
    pub fn group(&self, group: &str, topics: &[Topic]) -> Result<GroupConsumer, BusError> {
        GroupConsumer::new(self, group, topics)
    }

    /// Number of partitions of a topic.
    pub async fn partitions(&self, topic: Topic) -> Result<i32, BusError> {
        let (config, name) = (self.config()?, self.topic(topic)?);
        tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = config.create()?;
            count_partitions(&client, &name)
        })
        .await
        .map_err(|_| BusError::Ending)?
    }

    /// Keeps a gate open while the broker answers; three missed answers close it.
    pub(crate) async fn watch_server(self, gate: Gate) {
        let mut missed = 0_u32;
        let mut ticks = tokio::time::interval(Duration::from_secs(3));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut client: Option<Arc<BaseConsumer>> = None;
        loop {
            ticks.tick().await;
            if client.is_none() {
                client = self.config().and_then(|config| Ok(Arc::new(config.create()?))).ok();
            }
            let Some(present) = client.clone() else { continue };
            // Of one topic of ours: a broker may have very many of others.
            let topic = self.topics().ok().and_then(|topics| topics.into_values().next());
            let asked =
                tokio::task::spawn_blocking(move || present.client().fetch_metadata(topic.as_deref(), ANSWER)).await;
            if matches!(asked, Ok(Ok(_))) {
                missed = 0;
                gate.open();
            } else {
                missed += 1;
                client = None;
            }
            if missed >= 3 {
                gate.close("the broker does not answer");
            }
        }
    }
}

pub(crate) fn count_partitions(client: &BaseConsumer, topic: &str) -> Result<i32, BusError> {
    let metadata = client.client().fetch_metadata(Some(topic), ANSWER)?;
    let count =
        metadata.topics().iter().find(|found| found.name() == topic).map_or(0, |found| found.partitions().len());
    match i32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(BusError::UnknownTopic(topic.to_owned())),
    }
}
