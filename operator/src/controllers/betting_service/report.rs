//! What people are told beside the status: events when a story changes, and faults that end a reconcile.

use crate::controllers::{Category, Ctx, Fault};
use crate::kube::{Conditions, write_status};
use paddock_crds::condition::{READY, RECONCILING, STALLED};
use paddock_crds::v1alpha1::{BettingService, BettingServiceStatus};

/// Reasons that an operator of the platform wants to hear of once.
const WARNINGS: [&str; 7] = [
    "ImagePullFailed",
    "ContainerNotStarted",
    "ContainerCrashing",
    "PodsRefused",
    "Unschedulable",
    "MigrationFailed",
    "ProgressDeadlineExceeded",
];

/// Publishes an event for a new trouble and for a revision that took over.
pub async fn tell(ctx: &Ctx, object: &BettingService, old: &BettingServiceStatus, new: &BettingServiceStatus) {
    for (reason, message) in news(old, new) {
        ctx.events.warning(object, &reason, "Rollout", message).await;
    }
    if let Some(stable) = &new.stable_revision
        && old.stable_revision.as_ref() != Some(stable)
    {
        let version = new.stable_version.as_deref().unwrap_or_default();
        let note = format!("revision {stable} of version {version} is available and serves");
        ctx.events.normal(object, "RevisionAvailable", "Rollout", note).await;
    }
}

/// Troubles of the new status that the old one did not have.
fn news(old: &BettingServiceStatus, new: &BettingServiceStatus) -> Vec<(String, String)> {
    let known = |reason: &str| old.conditions.iter().any(|condition| condition.reason == reason);
    let mut news: Vec<(String, String)> = Vec::new();
    for condition in &new.conditions {
        let reason = condition.reason.as_str();
        if WARNINGS.contains(&reason) && !known(reason) && !news.iter().any(|(told, _)| told == reason) {
            news.push((reason.to_owned(), condition.message.clone()));
        }
    }
    news
}

/// Puts a fault into the status. What serves goes on serving: `Ready` stays as it is if a revision was available.
pub async fn report(object: &BettingService, ctx: &Ctx, fault: &Fault) -> Result<(), Fault> {
    let status = with_fault(object, fault);
    write_status(ctx, object, serde_json::to_value(&status).map_err(defect)?).await
}

fn with_fault(object: &BettingService, fault: &Fault) -> BettingServiceStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let reason = fault.category.as_str();
    let progress = if fault.category.waits_for_a_person() { STALLED } else { RECONCILING };
    let serves = status.stable_revision.is_some()
        && status.conditions.iter().any(|condition| condition.type_ == READY && condition.status == "True");
    let mut conditions =
        Conditions::from(&status.conditions, object.metadata.generation).set(progress, true, reason, &fault.message);
    if !serves {
        conditions = conditions.set(READY, false, reason, &fault.message);
    }
    status.conditions = conditions.build();
    status.observed_generation = object.metadata.generation;
    status
}

/// A value of ours that has no JSON form.
pub fn defect(error: serde_json::Error) -> Fault {
    Fault::new(Category::Panic, "a status has no JSON form: report this defect").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::betting_service;
    use super::*;
    use serde_json::{Value, json};

    fn status(conditions: Value) -> BettingServiceStatus {
        serde_json::from_value(json!({"stableRevision": "abc", "conditions": conditions})).unwrap()
    }

    fn condition(type_: &str, status: &str, reason: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn a_trouble_is_told_once() {
        let quiet = status(json!([condition("Ready", "True", "Available")]));
        let failing = status(json!([
            condition("Ready", "False", "ImagePullFailed"), condition("Reconciling", "True", "ImagePullFailed")
        ]));
        assert_eq!(news(&quiet, &failing), [("ImagePullFailed".to_owned(), "m".to_owned())]);
        assert!(news(&failing, &failing).is_empty());
        let late = status(json!([
            condition("Ready", "False", "ImagePullFailed"), condition("Stalled", "True", "ProgressDeadlineExceeded")
        ]));
        assert_eq!(news(&failing, &late).len(), 1);
    }

    #[test]
    fn a_fault_does_not_say_that_what_serves_does_not() {
        let mut object = betting_service(Value::Null);
        object.status = Some(status(json!([condition("Ready", "True", "Available")])));
        let words = |status: BettingServiceStatus| -> Vec<String> {
            status.conditions.iter().map(|it| format!("{}={}/{}", it.type_, it.status, it.reason)).collect()
        };
        let fault = Fault::invalid_spec("no");
        assert_eq!(words(with_fault(&object, &fault)), ["Ready=True/Available", "Stalled=True/InvalidSpec"]);
        object.status = None;
        assert_eq!(words(with_fault(&object, &fault)), ["Ready=False/InvalidSpec", "Stalled=True/InvalidSpec"]);
    }
}
