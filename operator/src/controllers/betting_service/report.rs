//! What people are told beside the status: events when a story changes, and faults that end a reconcile.

use super::build::selector;
use super::observe::{Count, count};
use super::status::AVAILABLE;
use crate::controllers::{Category, Ctx, Fault};
use crate::kube::{Cache, ChildKind, Conditions, write_status};
use jiff::Timestamp;
use paddock_crds::condition::{READY, RECONCILING, STALLED};
use paddock_crds::labels;
use paddock_crds::v1alpha1::{BettingService, BettingServiceStatus};

/// Reason of a rollout whose pods did not become available in time.
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// Metric label.
pub const STRATEGY: &str = "Rolling";

/// Reasons that an operator of the platform wants to hear of once.
const WARNINGS: [&str; 7] = [
    "ImagePullFailed",
    "ContainerNotStarted",
    "ContainerCrashing",
    "PodsRefused",
    "Unschedulable",
    "MigrationFailed",
    DEADLINE_EXCEEDED,
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

/// Puts a fault into the status, as it is now: the reconcile may have written it before it failed. What serves is looked at here
/// too: a reconcile that ends before its status must not leave a Ready that is no longer true.
pub async fn report(object: &BettingService, ctx: &Ctx, fault: &Fault) -> Result<(), Fault> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let Some(object) = ctx.cache.get::<BettingService>(object.metadata.namespace.as_deref(), name) else {
        return Ok(());
    };
    let generation = object.metadata.generation;
    let mut status = object.status.clone().unwrap_or_default();
    if let Some(count) = serving(&ctx.cache, &object) {
        status = counted(status, generation, count);
    }
    let status = with_fault(status, generation, fault);
    write_status(ctx, object.as_ref(), serde_json::to_value(&status).map_err(defect)?).await
}

/// Pods of the stable revision; `None` if there is none, or none is to run.
fn serving(cache: &Cache, object: &BettingService) -> Option<Count> {
    let stable = object.status.as_ref()?.stable_revision.as_deref().filter(|_| !object.spec.suspended)?;
    let name = object.metadata.name.as_deref()?;
    let mut labels = selector(name, &object.spec.component).to_vec();
    labels.push((labels::REVISION, stable));
    let found = cache.children(ChildKind::Deployment, object.metadata.namespace.as_deref(), &labels);
    Some(found.first().map_or(Count { size: object.spec.spec.replicas.min, ready: 0 }, |it| count(it)))
}

/// The status with what serves as it was counted.
fn counted(mut status: BettingServiceStatus, generation: Option<i64>, count: Count) -> BettingServiceStatus {
    let (reason, message) = count.told();
    status.conditions = Conditions::from(&status.conditions, generation)
        .set(AVAILABLE, count.serves(), reason, message.clone())
        .set(READY, count.serves(), reason, message)
        .build();
    status.summary = Some(count.summary());
    status
}

/// The status with a fault. What serves goes on serving: `Ready` stays as it is if a revision was available.
pub fn with_fault(mut status: BettingServiceStatus, generation: Option<i64>, fault: &Fault) -> BettingServiceStatus {
    let reason = fault.category.as_str();
    let progress = if fault.category.waits_for_a_person() { STALLED } else { RECONCILING };
    let serves = status.stable_revision.is_some()
        && status.conditions.iter().any(|condition| condition.type_ == READY && condition.status == "True");
    let mut conditions = Conditions::from(&status.conditions, generation).set(progress, true, reason, &fault.message);
    if !serves {
        conditions = conditions.set(READY, false, reason, &fault.message);
    }
    status.conditions = conditions.build();
    status.observed_generation = generation;
    status
}

/// How long the rollout that just ended took.
pub fn measure(ctx: &Ctx, old: &BettingServiceStatus, new: &BettingServiceStatus, now: Timestamp) {
    if let Some((outcome, seconds)) = ended(old, new, now) {
        ctx.metrics.rollout_duration.with_label_values(&[STRATEGY, outcome]).observe(seconds);
    }
}

/// How a rollout ended, if it just did, and the seconds since its pods started. It ends once: what comes of one that failed is not
/// another end.
fn ended(old: &BettingServiceStatus, new: &BettingServiceStatus, now: Timestamp) -> Option<(&'static str, f64)> {
    let failed = |status: &BettingServiceStatus| status.conditions.iter().any(|it| it.reason == DEADLINE_EXCEEDED);
    if failed(old) {
        return None;
    }
    // Only the revision that was asked for waits.
    let waited = old.history.iter().find(|record| record.waiting_since.is_some())?;
    let outcome = if new.stable_revision.as_ref() == Some(&waited.revision) {
        "available"
    } else if new.revision.as_ref() != Some(&waited.revision) {
        "superseded"
    } else if failed(new) {
        "failed"
    } else {
        return None;
    };
    let since = waited.waiting_since.as_ref()?;
    Some((outcome, now.duration_since(since.0).as_secs_f64().max(0.0)))
}

/// A value of ours that has no JSON form.
pub fn defect(error: serde_json::Error) -> Fault {
    Fault::new(Category::Panic, "a status has no JSON form: report this defect").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn status(conditions: &Value) -> BettingServiceStatus {
        serde_json::from_value(json!({"stableRevision": "abc", "conditions": conditions})).unwrap()
    }

    fn condition(type_: &str, status: &str, reason: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn a_trouble_is_told_once() {
        let quiet = status(&json!([condition("Ready", "True", "Available")]));
        let failing = status(&json!([
            condition("Ready", "False", "ImagePullFailed"),
            condition("Reconciling", "True", "ImagePullFailed")
        ]));
        assert_eq!(news(&quiet, &failing), [("ImagePullFailed".to_owned(), "m".to_owned())]);
        assert!(news(&failing, &failing).is_empty());
        let late = status(&json!([
            condition("Ready", "False", "ImagePullFailed"),
            condition("Stalled", "True", "ProgressDeadlineExceeded")
        ]));
        assert_eq!(news(&failing, &late).len(), 1);
    }

    #[test]
    fn a_fault_does_not_say_that_what_serves_does_not() {
        let serving = status(&json!([condition("Ready", "True", "Available")]));
        let words = |status: BettingServiceStatus| -> Vec<String> {
            status.conditions.iter().map(|it| format!("{}={}/{}", it.type_, it.status, it.reason)).collect()
        };
        let fault = Fault::invalid_spec("no");
        assert_eq!(words(with_fault(serving, Some(1), &fault)), ["Ready=True/Available", "Stalled=True/InvalidSpec"]);
        let never = BettingServiceStatus::default();
        assert_eq!(words(with_fault(never, Some(1), &fault)), ["Ready=False/InvalidSpec", "Stalled=True/InvalidSpec"]);
    }

    #[test]
    fn a_fault_hides_no_outage() {
        let cache = Cache::new();
        let mut object = super::super::build::fixtures::betting_service(Value::Null);
        object.status = Some(status(&json!([condition("Ready", "True", "Available")])));
        let deployment = |ready: i32, version: &str| {
            serde_json::from_value(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "odds-abc", "namespace": "acme-prod", "resourceVersion": version, "labels": {
                    "app.kubernetes.io/managed-by": "paddock", "app.kubernetes.io/instance": "odds",
                    "paddock.bet/component": "rates", "paddock.bet/revision": "abc",
                }},
                "spec": {"replicas": 2}, "status": {"readyReplicas": ready},
            }))
            .unwrap()
        };
        let ready = |cache: &Cache| {
            let now = counted(object.status.clone().unwrap(), Some(4), serving(cache, &object).unwrap());
            let now = with_fault(now, Some(4), &Fault::invalid_spec("no"));
            let found = now.conditions.iter().find(|it| it.type_ == "Ready").unwrap().status.clone();
            (found, now.summary.unwrap())
        };
        assert_eq!(ready(&cache), ("False".into(), "0/2".into()), "its Deployment has gone");
        cache.observe_child(ChildKind::Deployment, deployment(0, "1"));
        assert_eq!(ready(&cache), ("False".into(), "0/2".into()));
        cache.observe_child(ChildKind::Deployment, deployment(2, "2"));
        assert_eq!(ready(&cache), ("True".into(), "2/2".into()));
    }

    #[test]
    fn a_rollout_is_measured_once_however_it_ends() {
        let rollout = |stable: &str, target: &str, waits: bool, reason: &str| -> BettingServiceStatus {
            let since = waits.then_some("1970-01-01T00:00:10Z");
            serde_json::from_value(json!({
                "revision": target, "stableRevision": stable, "conditions": [condition("Stalled", "True", reason)],
                "history": [
                    {"revision": target, "version": "2", "image": "i", "outcome": "Progressing", "waitingSince": since},
                    {"revision": "old", "version": "1", "image": "i", "outcome": "Available"}
                ]
            }))
            .unwrap()
        };
        let under_way = rollout("old", "new", true, "Progressing");
        let available = rollout("new", "new", false, "Available");
        let superseded = rollout("old", "newest", true, "Progressing");
        let failed = rollout("old", "new", true, DEADLINE_EXCEEDED);
        let now = Timestamp::from_second(25).unwrap();
        for (old, new, outcome) in [
            (&under_way, &under_way, None),
            (&under_way, &available, Some("available")),
            (&under_way, &superseded, Some("superseded")),
            (&under_way, &failed, Some("failed")),
            (&failed, &failed, None),
            (&failed, &available, None),
            (&failed, &superseded, None),
            (&available, &available, None),
            (&available, &under_way, None),
        ] {
            assert_eq!(ended(old, new, now), outcome.map(|outcome| (outcome, 15.0)), "{:?}", new.conditions);
        }
    }
}
