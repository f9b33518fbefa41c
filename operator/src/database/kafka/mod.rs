//! Claims on a shared Kafka broker: topics whose names start with the claim's prefix, and the published topics of Tenant `platform`.
//!
//! Topics are made, given partitions and configured; never deleted. A broker has no place for a marker: the derived prefix is the
//! claim's, and who may write is decided by the logins that bus ACLs will bring.

mod admin;
mod plan;

use super::{DatabaseError, Holding, Identity, Observed, Plan, Provisioner, ServerFacts, Writer};
use async_trait::async_trait;

/// What the names of published topics start with, on every broker.
const PUBLISHED: &str = "paddock.";

/// A Kafka broker (or cluster) of a DatabaseClass.
#[derive(Clone, Debug)]
pub struct KafkaBroker {
    /// Name in the class.
    pub name: String,
    /// `host:port` of a broker to begin with.
    pub bootstrap: String,
}

/// Name on the broker of a topic that Tenant `platform` publishes.
pub fn published_name(logical: &str) -> String {
    format!("{PUBLISHED}{logical}")
}

#[async_trait]
impl Provisioner for KafkaBroker {
    async fn check(&self, _: &Writer) -> Result<ServerFacts, DatabaseError> {
        self.with_admin(|admin| admin.topics().map(|_| ServerFacts { version: None, epoch: None })).await
    }

    async fn holds(&self, identity: &Identity, _: &Writer) -> Result<Holding, DatabaseError> {
        let prefix = identity.topic_prefix();
        self.with_admin(move |admin| {
            let topics = admin.topics()?;
            Ok(if topics.partitions.keys().any(|name| name.starts_with(&prefix)) {
                Holding::Ours
            } else {
                Holding::Nothing
            })
        })
        .await
    }

    async fn ensure(&self, plan: &Plan) -> Result<Observed, DatabaseError> {
        let wanted = plan.topics.clone();
        let (bound, server) = (plan.bound, self.name.clone());
        let prefix = plan.identity.topic_prefix();
        self.with_admin(move |admin| {
            let found = admin.found(&wanted)?;
            if bound && plan::lost(&wanted, &found.topics) {
                return Err(DatabaseError::DataMissing { server, object: format!("topic {prefix}*") });
            }
            let changes = plan::changes(&wanted, &found.topics);
            let mut observed = Observed {
                created: !wanted.is_empty() && found.topics.is_empty(),
                taken_back: false,
                ..Observed::default()
            };
            for change in &changes {
                admin.apply(change, found.brokers)?;
                match change {
                    plan::Change::Configure { .. } => observed.repaired.push("topic configuration".to_owned()),
                    // Its messages are gone.
                    plan::Change::Create { .. } if bound => observed.repaired.push("a deleted topic".to_owned()),
                    plan::Change::Create { .. } | plan::Change::Grow { .. } => {}
                }
            }
            observed.repaired.sort();
            observed.repaired.dedup();
            tracing::debug!(%prefix, changes = changes.len(), "topics compared");
            Ok(observed)
        })
        .await
    }

    /// There are no logins yet to shut; topics stay.
    async fn release(&self, _: &Identity, _: &str, _: &Writer) -> Result<(), DatabaseError> {
        Ok(())
    }
}
