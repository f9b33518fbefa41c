//! What a Release's status says: pure.

use crate::kube::Conditions;
use paddock_crds::condition::{READY, RECONCILING, STALLED};
use paddock_crds::v1alpha1::{Release, ReleaseStatus};

/// How many users and problems a message names.
const NAMED: usize = 5;

/// The status: whether it can run, how many environments ask for it, and what a deletion waits for.
pub fn status(release: &Release, users: &[String], problems: &[String]) -> ReleaseStatus {
    let old = release.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let mut conditions = Conditions::from(old, release.metadata.generation);
    if problems.is_empty() {
        conditions = conditions.set(READY, true, "Ready", "environments can run it");
    } else {
        let message = format!("a Release cannot be changed: create another. {}", listed(problems, "; "));
        conditions = conditions.set(READY, false, "InvalidSpec", &message).set(STALLED, true, "InvalidSpec", message);
    }
    if release.metadata.deletion_timestamp.is_some() && !users.is_empty() {
        let message = format!(
            "it is deleted when no environment asks for it or runs it any more: point {} at another Release",
            listed(users, ", ")
        );
        conditions = conditions.set(READY, false, "InUse", &message).set(RECONCILING, true, "InUse", message);
    }
    ReleaseStatus {
        observed_generation: release.metadata.generation,
        environment_count: i32::try_from(users.len()).unwrap_or(i32::MAX),
        conditions: conditions.build(),
    }
}

fn listed(items: &[String], separator: &str) -> String {
    let mut text = items.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(separator);
    if items.len() > NAMED {
        text = format!("{text} and {} more", items.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::tenant::build::fixtures::{DIGEST, release};
    use serde_json::json;

    fn reasons(status: &ReleaseStatus) -> Vec<(&str, &str, &str)> {
        status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
    }

    #[test]
    fn a_good_release_is_ready_and_counts_its_users() {
        let release = release("r", json!([{"name": "rates", "image": DIGEST}]));
        let status = status(&release, &["acme/prod".into()], &[]);
        assert_eq!(status.environment_count, 1);
        assert_eq!(reasons(&status), [("Ready", "True", "Ready")]);
    }

    #[test]
    fn a_broken_release_stalls() {
        let release = release("r", json!([{"name": "rates", "image": DIGEST}]));
        let status = status(&release, &[], &["component rates: port 1 has two names".into()]);
        assert_eq!(reasons(&status), [("Ready", "False", "InvalidSpec"), ("Stalled", "True", "InvalidSpec")]);
        assert!(status.conditions[0].message.contains("port 1"));
    }

    #[test]
    fn a_deletion_waits_and_says_for_whom() {
        let mut release = release("r", json!([{"name": "rates", "image": DIGEST}]));
        release.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("time");
        let users: Vec<String> = (0..7).map(|n| format!("t{n}/prod")).collect();
        let status = status(&release, &users, &[]);
        assert_eq!(reasons(&status), [("Ready", "False", "InUse"), ("Reconciling", "True", "InUse")]);
        assert!(
            status.conditions[0].message.contains("t0/prod") && status.conditions[0].message.contains("and 2 more")
        );
    }
}
