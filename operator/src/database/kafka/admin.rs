//! The broker's administration. librdkafka blocks in places, so a whole call runs on a thread for blocking work.

use super::KafkaBroker;
use super::plan::{Change, FoundTopic};
use crate::database::{DatabaseError, TopicPlan};
use futures::executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(8);
/// Longest time for one call of a Provisioner.
const CALL: Duration = Duration::from_secs(35);
/// Most copies of a topic.
const REPLICAS: i32 = 3;

/// A connection to the broker.
pub(super) struct Admin {
    broker: KafkaBroker,
    client: AdminClient<DefaultClientContext>,
    options: AdminOptions,
}

/// Topics of the broker.
pub(super) struct Topics {
    /// Number of partitions by name.
    pub(super) partitions: BTreeMap<String, i32>,
    /// Number of brokers.
    pub(super) brokers: i32,
}

/// Those of the wanted topics that are there.
pub(super) struct Found {
    pub(super) topics: BTreeMap<String, FoundTopic>,
    pub(super) brokers: i32,
}

impl KafkaBroker {
    pub(super) async fn with_admin<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Admin) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let broker = self.clone();
        let work = tokio::task::spawn_blocking(move || call(&Admin::new(broker)?));
        match tokio::time::timeout(CALL, work).await {
            Ok(Ok(result)) => result,
            _ => Err(self.unreachable("no answer in time")),
        }
    }

    fn unreachable(&self, cause: &str) -> DatabaseError {
        DatabaseError::Unreachable {
            server: self.name.clone(),
            address: self.bootstrap.clone(),
            cause: cause.to_owned(),
        }
    }

    fn fault(&self, action: &str, error: &KafkaError) -> DatabaseError {
        match error.rdkafka_error_code() {
            Some(code) => self.refusal(action, code),
            None => self.unreachable("the connection could not be used"),
        }
    }

    fn refusal(&self, action: &str, code: RDKafkaErrorCode) -> DatabaseError {
        match code {
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::NotController
            | RDKafkaErrorCode::LeaderNotAvailable => self.unreachable(&format!("{code:?}")),
            _ => DatabaseError::Refused {
                server: self.name.clone(),
                action: action.to_owned(),
                code: format!("{code:?}"),
            },
        }
    }
}

impl Admin {
    fn new(broker: KafkaBroker) -> Result<Self, DatabaseError> {
        let client = ClientConfig::new()
            .set("bootstrap.servers", &broker.bootstrap)
            .set("client.id", "paddock-operator")
            .set("socket.timeout.ms", "8000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .create()
            .map_err(|error| broker.fault("make a client", &error))?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        Ok(Self { broker, client, options })
    }

    pub(super) fn topics(&self) -> Result<Topics, DatabaseError> {
        let metadata = self
            .client
            .inner()
            .fetch_metadata(None, REQUEST)
            .map_err(|error| self.broker.fault("list its topics", &error))?;
        let count = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
        Ok(Topics {
            partitions: metadata
                .topics()
                .iter()
                .map(|topic| (topic.name().to_owned(), count(topic.partitions().len())))
                .collect(),
            brokers: count(metadata.brokers().len()),
        })
    }

    pub(super) fn found(&self, wanted: &[TopicPlan]) -> Result<Found, DatabaseError> {
        let all = self.topics()?;
        let there: Vec<&TopicPlan> = wanted.iter().filter(|topic| all.partitions.contains_key(&topic.name)).collect();
        let mut topics = BTreeMap::new();
        if !there.is_empty() {
            let specifiers: Vec<ResourceSpecifier<'_>> =
                there.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
            let described = block_on(self.client.describe_configs(&specifiers, &self.options))
                .map_err(|error| self.broker.fault("describe topics", &error))?;
            for (topic, described) in there.iter().zip(described) {
                let resource = described.map_err(|code| self.broker.refusal("describe a topic", code))?;
                let config = resource
                    .entries
                    .into_iter()
                    .filter(|entry| matches!(entry.source, ConfigSource::DynamicTopic))
                    .filter_map(|entry| entry.value.map(|value| (entry.name, value)))
                    .collect();
                let partitions = all.partitions.get(&topic.name).copied().unwrap_or_default();
                topics.insert(topic.name.clone(), FoundTopic { partitions, config });
            }
        }
        Ok(Found { topics, brokers: all.brokers })
    }

    pub(super) fn apply(&self, change: &Change, brokers: i32) -> Result<(), DatabaseError> {
        match change {
            Change::Create { name, partitions, config } => {
                let replication = TopicReplication::Fixed(brokers.clamp(1, REPLICAS));
                let mut topic = NewTopic::new(name, *partitions, replication);
                for (key, value) in config {
                    topic = topic.set(key, value);
                }
                let action = "make a topic";
                let results = block_on(self.client.create_topics(&[topic], &self.options))
                    .map_err(|error| self.broker.fault(action, &error))?;
                self.each(action, results.into_iter().map(|result| result.err().map(|(_, code)| code)))
            }
            Change::Grow { name, partitions } => {
                let count = usize::try_from(*partitions).unwrap_or(1);
                let action = "give a topic more partitions";
                let results =
                    block_on(self.client.create_partitions(&[NewPartitions::new(name, count)], &self.options))
                        .map_err(|error| self.broker.fault(action, &error))?;
                self.each(action, results.into_iter().map(|result| result.err().map(|(_, code)| code)))
            }
            Change::Configure { name, config } => {
                let mut alter = AlterConfig::new(ResourceSpecifier::Topic(name));
                for (key, value) in config {
                    alter = alter.set(key, value);
                }
                let action = "configure a topic";
                let results = block_on(self.client.alter_configs(&[alter], &self.options))
                    .map_err(|error| self.broker.fault(action, &error))?;
                self.each(action, results.into_iter().map(|result| result.err().map(|(_, code)| code)))
            }
        }
    }

    /// The first refusal among the answers; somebody who made the same topic meanwhile is no refusal.
    fn each(&self, action: &str, codes: impl Iterator<Item = Option<RDKafkaErrorCode>>) -> Result<(), DatabaseError> {
        match codes.flatten().find(|code| *code != RDKafkaErrorCode::TopicAlreadyExists) {
            Some(code) => Err(self.broker.refusal(action, code)),
            None => Ok(()),
        }
    }
}
