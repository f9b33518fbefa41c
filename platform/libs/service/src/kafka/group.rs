//! Reading topics as a member of a group.

use std::collections::{BTreeMap, BTreeSet};

use paddock_events::Topic;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset};
use tokio::sync::watch;

use super::follow::is_passing;
use super::{ANSWER, Bus, BusError};

/// A record read as a member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// Topic.
    pub topic: Topic,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key, empty if none.
    pub key: String,
    /// Value, `None` for a tombstone.
    pub value: Option<Vec<u8>>,
}

/// A step of reading as a member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A record.
    Record(Consumed),
    /// Everything of a partition was read; with several topics it is not said of which.
    End(i32),
}

/// Shares topics with the other members of a group. Offsets live with the data ([`crate::offsets`]): after each change of
/// [`GroupConsumer::assigned`] load and [`GroupConsumer::seek`] the new partitions.
pub struct GroupConsumer {
    consumer: StreamConsumer<Assignments>,
    names: BTreeMap<String, Topic>,
    assigned: watch::Receiver<BTreeSet<(String, i32)>>,
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupConsumer").field("topics", &self.names).finish_non_exhaustive()
    }
}

struct Assignments(watch::Sender<BTreeSet<(String, i32)>>);

impl ClientContext for Assignments {}

impl ConsumerContext for Assignments {
    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // With the eager protocol a revocation takes all partitions and an assignment names all.
        let now = match rebalance {
            Rebalance::Assign(partitions) => {
                partitions.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
            }
            Rebalance::Revoke(_) | Rebalance::Error(_) => BTreeSet::new(),
        };
        self.0.send_replace(now);
    }
}

impl GroupConsumer {
    pub(super) fn new(bus: &Bus, group: &str, topics: &[Topic]) -> Result<Self, BusError> {
        let (sender, assigned) = watch::channel(BTreeSet::new());
        let consumer: StreamConsumer<Assignments> = bus
            .config()?
            .set("group.id", bus.prefixed(group)?)
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1000")
            .set("max.poll.interval.ms", "60000")
            .set("partition.assignment.strategy", "range")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "16384")
            .create_with_context(Assignments(sender))?;
        let mut names = BTreeMap::new();
        for topic in topics {
            names.insert(bus.topic(*topic)?, *topic);
        }
        let list: Vec<&str> = names.keys().map(String::as_str).collect();
        consumer.subscribe(&list)?;
        Ok(Self { consumer, names, assigned })
    }

    /// The partitions that this member reads. The set is empty while the group is arranged anew. It changes only while
    /// [`GroupConsumer::next`] is awaited.
    pub fn assigned(&self) -> watch::Receiver<BTreeSet<(String, i32)>> {
        self.assigned.clone()
    }

    /// The logical topic of a name in [`GroupConsumer::assigned`].
    pub fn topic_of(&self, name: &str) -> Option<Topic> {
        self.names.get(name).copied()
    }

    /// The next record. Cancelling it loses nothing.
    pub async fn next(&self) -> Result<Consumed, BusError> {
        loop {
            if let Step::Record(record) = self.step().await? {
                return Ok(record);
            }
        }
    }

    /// The next record or end of a partition. Cancelling it loses nothing.
    pub async fn step(&self) -> Result<Step, BusError> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => {
                    let Some(topic) = self.topic_of(message.topic()) else { continue };
                    return Ok(Step::Record(Consumed {
                        topic,
                        partition: message.partition(),
                        offset: message.offset(),
                        key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                        value: message.payload().map(<[u8]>::to_vec),
                    }));
                }
                Err(KafkaError::PartitionEOF(partition)) => return Ok(Step::End(partition)),
                Err(error) if is_passing(&error) => tracing::warn!(%error, "bus is away, reading goes on"),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Continues a partition at an offset. Fails if it is no longer assigned.
    pub fn seek(&self, topic: Topic, partition: i32, offset: i64) -> Result<(), BusError> {
        Ok(self.consumer.seek(self.name_of(topic)?, partition, Offset::Offset(offset), ANSWER)?)
    }

    /// Tells the group that a record's effects are committed. Best effort: the truth is the stored offset.
    pub fn done(&self, topic: Topic, partition: i32, offset: i64) -> Result<(), BusError> {
        Ok(self.consumer.store_offset(self.name_of(topic)?, partition, offset)?)
    }

    fn name_of(&self, topic: Topic) -> Result<&str, BusError> {
        self.names
            .iter()
            .find_map(|(name, known)| (*known == topic).then_some(name.as_str()))
            .ok_or_else(|| BusError::UnknownTopic(topic.name().to_owned()))
    }
}
