//! What to change so that topics are as wanted: a pure function of both.

use crate::database::TopicPlan;
use paddock_crds::v1alpha1::Cleanup;
use std::collections::BTreeMap;

/// A topic on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundTopic {
    pub(super) partitions: i32,
    /// Settings of the topic itself, without the broker's defaults.
    pub(super) config: BTreeMap<String, String>,
}

/// One change. There is none that loses messages that were to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Make it.
    Create { name: String, partitions: i32, config: BTreeMap<String, String> },
    /// Give it more partitions.
    Grow { name: String, partitions: i32 },
    /// Make these all of its settings.
    Configure { name: String, config: BTreeMap<String, String> },
}

/// Whether nothing is left of what a claim had. One topic of several may be new in the spec, or somebody deleted it: it is made beside
/// the others. When all are gone it is the broker that lost them, or another one.
pub(super) fn lost(wanted: &[TopicPlan], found: &BTreeMap<String, FoundTopic>) -> bool {
    !wanted.is_empty() && found.is_empty()
}

pub(super) fn changes(wanted: &[TopicPlan], found: &BTreeMap<String, FoundTopic>) -> Vec<Change> {
    let mut changes = Vec::new();
    for topic in wanted {
        let config = config(topic);
        let name = topic.name.clone();
        let Some(found) = found.get(&topic.name) else {
            changes.push(Change::Create { name, partitions: topic.partitions, config });
            continue;
        };
        if found.partitions < topic.partitions {
            changes.push(Change::Grow { name: name.clone(), partitions: topic.partitions });
        }
        if found.config != config {
            changes.push(Change::Configure { name, config });
        }
    }
    changes
}

/// Settings of a topic, as the broker names them.
fn config(topic: &TopicPlan) -> BTreeMap<String, String> {
    let retention = topic.retention.as_millis().to_string();
    match topic.cleanup {
        Cleanup::Delete => {
            [("cleanup.policy".to_owned(), "delete".to_owned()), ("retention.ms".to_owned(), retention)].into()
        }
        // The last message of a key stays; what says that a key is gone stays as long as a reader may take to see it.
        Cleanup::Compact => {
            [("cleanup.policy".to_owned(), "compact".to_owned()), ("delete.retention.ms".to_owned(), retention)].into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn topic(partitions: i32, cleanup: Cleanup) -> TopicPlan {
        TopicPlan { name: "t.x.offer".into(), partitions, cleanup, retention: Duration::from_mins(1) }
    }

    fn found(partitions: i32, config: &[(&str, &str)]) -> BTreeMap<String, FoundTopic> {
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        [("t.x.offer".to_owned(), FoundTopic { partitions, config })].into()
    }

    const DELETE: &[(&str, &str)] = &[("cleanup.policy", "delete"), ("retention.ms", "60000")];

    #[test]
    fn a_broker_without_any_topic_lost_them() {
        let one = [topic(3, Cleanup::Delete)];
        let two = [topic(3, Cleanup::Delete), TopicPlan { name: "t.x.new".into(), ..topic(3, Cleanup::Delete) }];
        assert!(lost(&one, &BTreeMap::new()));
        assert!(!lost(&two, &found(3, DELETE)) && !lost(&[], &BTreeMap::new()));
    }

    #[test]
    fn what_is_right_is_left_alone() {
        assert_eq!(changes(&[topic(3, Cleanup::Delete)], &found(3, DELETE)), []);
    }

    #[test]
    fn partitions_grow_and_never_shrink() {
        let grow = Change::Grow { name: "t.x.offer".into(), partitions: 6 };
        assert_eq!(changes(&[topic(6, Cleanup::Delete)], &found(3, DELETE)), [grow]);
        assert_eq!(changes(&[topic(1, Cleanup::Delete)], &found(3, DELETE)), []);
    }

    #[test]
    fn settings_that_differ_or_were_added_are_put_right() {
        for (cleanup, config) in [
            (Cleanup::Compact, DELETE),
            (Cleanup::Delete, &[("cleanup.policy", "delete"), ("retention.ms", "1")][..]),
            (Cleanup::Delete, &[("cleanup.policy", "delete"), ("retention.ms", "60000"), ("segment.ms", "1")][..]),
            (Cleanup::Delete, &[][..]),
        ] {
            let changes = changes(&[topic(3, cleanup)], &found(3, config));
            assert!(matches!(&changes[..], [Change::Configure { .. }]), "{changes:?}");
        }
    }

    #[test]
    fn a_topic_nobody_wants_any_more_keeps_its_data() {
        assert_eq!(changes(&[], &found(3, DELETE)), []);
    }

    #[test]
    fn an_absent_topic_is_made_with_all_its_settings() {
        let changes = changes(&[topic(3, Cleanup::Compact)], &BTreeMap::new());
        let [Change::Create { partitions: 3, config, .. }] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!(config.get("delete.retention.ms").map(String::as_str), Some("60000"));
    }
}
