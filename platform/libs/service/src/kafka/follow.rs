//! Reading a whole topic without a group: every replica has its own copy.

use std::collections::BTreeSet;

use paddock_events::Topic;
use rdkafka::consumer::{BaseConsumer, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::{ANSWER, Bus, BusError, count_partitions};

/// Where a follower starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With everything that is kept: the way to fill a copy of a compacted topic.
    Beginning,
    /// With what comes now.
    End,
    /// With the last few records of each partition, at most this many.
    Tail(u32),
}

/// A step of following.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// A record.
    Record {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// Key, empty if none.
        key: String,
        /// Value; `None` is a tombstone: the key is gone.
        value: Option<Vec<u8>>,
    },
    /// Every partition was read to its end once: the copy is filled. Said once.
    CaughtUp,
}

/// Follows a topic from a start; a new partition is seen after a restart.
pub struct Follower {
    consumer: StreamConsumer,
    behind: BTreeSet<i32>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("behind", &self.behind).finish_non_exhaustive()
    }
}

impl Follower {
    pub(super) async fn new(bus: &Bus, topic: Topic, start: Start) -> Result<Self, BusError> {
        let name = bus.topic(topic)?;
        let mut config = bus.config()?;
        config
            // Required by the library, never used: partitions are assigned, offsets are not committed.
            .set("group.id", bus.prefixed("follow")?)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "16384");
        tokio::task::spawn_blocking(move || {
            let probe: BaseConsumer = config.create()?;
            let partitions = count_partitions(&probe, &name)?;
            let consumer: StreamConsumer = config.create()?;
            let mut assignment = TopicPartitionList::new();
            for partition in 0..partitions {
                let offset = match start {
                    Start::Beginning => Offset::Beginning,
                    // Pinned now, so that nothing written after this call is missed.
                    Start::End => Offset::Offset(probe.fetch_watermarks(&name, partition, ANSWER)?.1),
                    Start::Tail(count) => {
                        let (low, high) = probe.fetch_watermarks(&name, partition, ANSWER)?;
                        Offset::Offset((high - i64::from(count)).max(low))
                    }
                };
                assignment.add_partition_offset(&name, partition, offset)?;
            }
            consumer.assign(&assignment)?;
            Ok(Self { consumer, behind: (0..partitions).collect() })
        })
        .await
        .map_err(|_| BusError::Ending)?
    }

    /// The next step. Cancelling it loses nothing. After an error make a new follower.
    pub async fn next(&mut self) -> Result<Followed, BusError> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => {
                    return Ok(Followed::Record {
                        partition: message.partition(),
                        offset: message.offset(),
                        key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                        value: message.payload().map(<[u8]>::to_vec),
                    });
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    if self.behind.remove(&partition) && self.behind.is_empty() {
                        return Ok(Followed::CaughtUp);
                    }
                }
                Err(error) if is_passing(&error) => tracing::warn!(%error, "bus is away, following goes on"),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Errors that the client library mends by itself.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::Resolve
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::BrokerNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
        )
    )
}
