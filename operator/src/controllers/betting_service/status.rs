//! What a service's status says. Pure but for the write.

use super::apply::wanted;
use super::observe::{Count, Observation, Trouble};
use super::validate::Service;
use crate::kube::Conditions;
use crate::rollout::rolling::{Migration, Phase, Plan};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use paddock_crds::condition::{READY, RECONCILING, STALLED};
use paddock_crds::v1alpha1::{BettingServiceStatus, RevisionRecord};

/// Revisions in the history.
const HISTORY: usize = 10;
/// Conditions of this kind.
/// Condition: enough pods of what is to serve are ready.
pub const AVAILABLE: &str = "Available";
/// Condition: every claim has published its binding.
pub const CLAIMS_BOUND: &str = "ClaimsBound";
/// Condition: the migration of the wanted revision has ended well.
pub const MIGRATIONS_APPLIED: &str = "MigrationsApplied";
/// Its reason while no container of the Job has run: a Job that gives up so has changed nothing, and is made again.
pub const NOT_STARTED: &str = "NotStarted";
/// Reason: the migration's Job gave up.
const MIGRATION_FAILED: &str = "MigrationFailed";

/// The status after a step.
pub fn status(
    service: &Service,
    generation: Option<i64>,
    seen: &Observation,
    plan: &Plan,
    old: &BettingServiceStatus,
    now: Timestamp,
) -> BettingServiceStatus {
    let target = &seen.observed.target;
    let serving = plan.stable.as_ref().unwrap_or(target);
    let size = wanted(plan, seen).get(serving).copied().unwrap_or_default();
    let count = Count { size, ready: seen.pods.get(serving).map_or(0, |count| count.ready) };
    let history = history(service, seen, plan, old, now);
    let stable = history.iter().find(|record| Some(&record.revision) == plan.stable.as_ref());
    BettingServiceStatus {
        observed_generation: generation,
        revision: Some(target.clone()),
        stable_revision: plan.stable.clone(),
        stable_version: stable.map(|record| record.version.clone()),
        image: stable.map(|record| record.image.clone()),
        summary: Some(count.summary()),
        collision_count: (seen.collisions > 0).then_some(seen.collisions),
        conditions: conditions(service, generation, seen, plan, old, count, now),
        history,
    }
}

fn history(
    service: &Service,
    seen: &Observation,
    plan: &Plan,
    old: &BettingServiceStatus,
    now: Timestamp,
) -> Vec<RevisionRecord> {
    let target = &seen.observed.target;
    let mut records: Vec<_> = seen.records.values().filter(|record| plan.keep.contains(&record.hash)).collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.number));
    records
        .into_iter()
        .take(HISTORY)
        .map(|record| {
            let before = old.history.iter().find(|it| it.revision == record.hash);
            let is_stable = plan.stable.as_ref() == Some(&record.hash);
            let is_target = record.hash == *target;
            let waits = is_target && matches!(plan.phase, Phase::WaitingForPods | Phase::DeadlineExceeded);
            let since = before.filter(|it| it.outcome == "Progressing").and_then(|it| it.waiting_since.clone());
            RevisionRecord {
                revision: record.hash.clone(),
                // The same revision may come with a later Release: then that is what runs.
                version: match before {
                    _ if is_target => service.spec.version.clone(),
                    Some(before) => before.version.clone(),
                    None => record.version.clone(),
                },
                image: record.image().to_owned(),
                outcome: match (is_stable, is_target) {
                    (true, _) => "Available",
                    (false, true) => "Progressing",
                    (false, false) => "Superseded",
                }
                .into(),
                waiting_since: waits.then(|| since.unwrap_or(Time(now))),
            }
        })
        .collect()
}

fn conditions(
    service: &Service,
    generation: Option<i64>,
    seen: &Observation,
    plan: &Plan,
    old: &BettingServiceStatus,
    count: Count,
    now: Timestamp,
) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let mut all = Conditions::at(&old.conditions, generation, now);
    all = if service.needs.is_empty() {
        all.remove(CLAIMS_BOUND)
    } else if seen.unbound.is_empty() {
        all.set(CLAIMS_BOUND, true, "Bound", "every claim has published its binding")
    } else {
        all.set(CLAIMS_BOUND, false, "WaitingForClaims", seen.unbound.join("; "))
    };
    all = match (&seen.migration_job, seen.observed.migration) {
        (None, _) => all.remove(MIGRATIONS_APPLIED),
        (Some(job), Migration::Done) => all.set(MIGRATIONS_APPLIED, true, "Applied", format!("Job {job} ended well")),
        (Some(_), Migration::Failed) => {
            all.set(MIGRATIONS_APPLIED, false, MIGRATION_FAILED, migration_failed(service, seen))
        }
        (Some(job), _) if plan.phase == Phase::Migrating && !seen.migration_started => {
            let waits = format!("Job {job} has not started a container");
            let trouble = seen.migration_trouble.as_ref().map(|it| format!(": {}", it.message)).unwrap_or_default();
            all.set(MIGRATIONS_APPLIED, false, NOT_STARTED, waits + &trouble)
        }
        (Some(job), _) => all.set(MIGRATIONS_APPLIED, false, "Migrating", format!("Job {job} has not ended")),
    };
    let progress = progress(service, seen, plan);
    let (serves, counted) = (count.serves(), count.told());
    let (reason, message) = match (&plan.phase, serves) {
        (Phase::Suspended, _) => ("Suspended", "spec.suspended is set: it runs no pod".to_owned()),
        (_, true) => counted,
        // What is to serve is still on its way: its story is the reason.
        (_, false) if plan.stable.as_ref() != Some(&seen.observed.target) && plan.stable.is_none() => {
            progress.as_ref().map_or(counted, |it| (it.reason, it.message.clone()))
        }
        (_, false) => {
            let trouble = plan.stable.as_ref().and_then(|stable| seen.troubles.get(stable));
            match trouble {
                None => counted,
                Some(it) => (it.reason, format!("{}: {}", counted.1, it.message)),
            }
        }
    };
    let serves = serves && plan.phase != Phase::Suspended;
    all = all.set(AVAILABLE, serves, reason, message.clone()).set(READY, serves, reason, message);
    match (plan.phase, progress) {
        (Phase::Migrating, Some(it)) if lapsed(seen, old, generation) => {
            let message =
                format!("no pod of the migration started a container in time; it is tried again: {}", it.message);
            all.set(STALLED, true, MIGRATION_FAILED, message)
        }
        (Phase::MigrationFailed, Some(it)) => all.set(STALLED, true, it.reason, it.message),
        (Phase::DeadlineExceeded, Some(it)) => {
            let message = format!(
                "revision {} did not become available within {:?}: {}",
                seen.observed.target, service.progress_deadline, it.message
            );
            all.set(STALLED, true, "ProgressDeadlineExceeded", message)
        }
        (_, Some(it)) => all.set(RECONCILING, true, it.reason, it.message),
        (_, None) => all,
    }
    .build()
}

/// Whether the migration's Job gave up without having run anything, and none that took its place has run yet.
fn lapsed(seen: &Observation, old: &BettingServiceStatus, generation: Option<i64>) -> bool {
    let had = |type_: &str, reason: &str| old.conditions.iter().any(|it| it.type_ == type_ && it.reason == reason);
    let stalled = old.conditions.iter().find(|it| it.type_ == STALLED);
    let before = stalled.is_some_and(|it| it.reason == MIGRATION_FAILED && it.observed_generation == generation);
    seen.migration_lapsed || (before && had(MIGRATIONS_APPLIED, NOT_STARTED) && !seen.migration_started)
}

/// What the rollout waits for; `None` when nothing is under way.
fn progress(service: &Service, seen: &Observation, plan: &Plan) -> Option<Trouble> {
    let target = &seen.observed.target;
    match plan.phase {
        Phase::Settled | Phase::Suspended => None,
        Phase::WaitingForClaims => Some(Trouble { reason: "WaitingForClaims", message: seen.unbound.join("; ") }),
        Phase::Migrating => {
            let job = seen.migration_job.as_deref().unwrap_or_default();
            Some(seen.migration_trouble.as_ref().map_or_else(
                || Trouble { reason: "Migrating", message: format!("Job {job} has not ended") },
                |it| Trouble { reason: it.reason, message: format!("migration Job {job}: {}", it.message) },
            ))
        }
        Phase::MigrationFailed => Some(Trouble { reason: MIGRATION_FAILED, message: migration_failed(service, seen) }),
        Phase::WaitingForPods | Phase::DeadlineExceeded => {
            Some(seen.troubles.get(target).cloned().unwrap_or_else(|| {
                let count = seen.pods.get(target).copied().unwrap_or_default();
                Trouble {
                    reason: "Progressing",
                    message: format!("revision {target}: {} of {} pods are ready", count.ready, count.size),
                }
            }))
        }
    }
}

fn migration_failed(service: &Service, seen: &Observation) -> String {
    let job = seen.migration_job.as_deref().unwrap_or_default();
    let namespace = &service.namespace;
    format!(
        "migration Job {job} gave up; see `kubectl -n {namespace} logs -l batch.kubernetes.io/job-name={job}`. Release a \
         corrected image, or delete the Job to run it again: `kubectl -n {namespace} delete job {job}`"
    )
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::service;
    use super::super::dereference::Found;
    use super::super::observe::observe;
    use super::*;
    use crate::rollout::rolling::step;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn assess(service: &Service, found: &Found, old: &BettingServiceStatus, now: i64) -> BettingServiceStatus {
        let seen = observe(service, found, old, at(now));
        let plan = step(&seen.observed);
        status(service, Some(3), &seen, &plan, old, at(now))
    }

    fn deployment(hash: &str, size: i32, ready: i32) -> Arc<kube::api::DynamicObject> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": hash, "generation": 1, "labels": {"paddock.bet/revision": hash}},
                "spec": {"replicas": size},
                "status": {"observedGeneration": 1, "readyReplicas": ready, "availableReplicas": ready},
            }))
            .unwrap(),
        )
    }

    fn words(status: &BettingServiceStatus) -> Vec<String> {
        status.conditions.iter().map(|it| format!("{}={}/{}", it.type_, it.status, it.reason)).collect()
    }

    #[test]
    fn a_first_rollout_from_nothing_to_ready_and_silent() {
        let service = service(Value::Null);
        let mut found = Found::default();
        let start = assess(&service, &found, &BettingServiceStatus::default(), 100);
        assert_eq!(
            words(&start),
            ["Available=False/Progressing", "Ready=False/Progressing", "Reconciling=True/Progressing"]
        );
        let target = start.revision.clone().unwrap();
        assert_eq!((start.summary.as_deref(), start.stable_revision.as_deref()), (Some("0/2"), None));
        assert_eq!(start.history[0].waiting_since, Some(Time(at(100))));
        found.deployments = vec![deployment(&target, 2, 2)];
        found.records = observe(&service, &Found::default(), &start, at(100)).records.into_values().collect();
        let done = assess(&service, &found, &start, 110);
        assert_eq!(words(&done), ["Available=True/Available", "Ready=True/Available"]);
        assert_eq!(done.stable_revision, Some(target));
        assert_eq!((done.stable_version.as_deref(), done.summary.as_deref()), (Some("1.0"), Some("2/2")));
        assert_eq!((done.history[0].outcome.as_str(), &done.history[0].waiting_since), ("Available", &None));
        assert_eq!(assess(&service, &found, &done, 999), done, "time alone changes nothing (O1)");
    }

    #[test]
    fn a_failing_rollout_leaves_the_old_one_ready_and_is_stalled() {
        let one = service(Value::Null);
        let first = assess(&one, &Found::default(), &BettingServiceStatus::default(), 0);
        let old = first.revision.clone().unwrap();
        let mut found = Found {
            records: observe(&one, &Found::default(), &first, at(0)).records.into_values().collect(),
            deployments: vec![deployment(&old, 2, 2)],
            ..Found::default()
        };
        let first = assess(&one, &found, &first, 1);
        let two = service(json!({"config": {"A": "1"}, "version": "2.0"}));
        let rolling = assess(&two, &found, &first, 10);
        assert_eq!(
            words(&rolling),
            ["Available=True/Available", "Ready=True/Available", "Reconciling=True/Progressing"]
        );
        let new = rolling.revision.clone().unwrap();
        found.records = observe(&two, &found, &rolling, at(10)).records.into_values().collect();
        found.deployments.push(deployment(&new, 2, 0));
        found.pods = vec![Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "p", "labels": {"paddock.bet/revision": new}},
                "spec": {"containers": [{"image": "r.example/none:1"}]},
                "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]},
            }))
            .unwrap(),
        )];
        let pulling = assess(&two, &found, &rolling, 20);
        assert_eq!(words(&pulling).last().unwrap(), "Reconciling=True/ImagePullFailed");
        let late = assess(&two, &found, &pulling, 10 + 600);
        assert_eq!(
            words(&late),
            ["Available=True/Available", "Ready=True/Available", "Stalled=True/ProgressDeadlineExceeded"]
        );
        assert!(late.conditions.last().unwrap().message.contains("r.example/none:1"));
        assert_eq!((late.stable_revision.as_ref(), late.stable_version.as_deref()), (Some(&old), Some("1.0")));
        let outcomes: Vec<_> = late.history.iter().map(|it| (it.version.as_str(), it.outcome.as_str())).collect();
        assert_eq!(outcomes, [("2.0", "Progressing"), ("1.0", "Available")]);
    }

    #[test]
    fn a_failed_migration_says_how_to_see_the_log() {
        let service = service(json!({
            "needs": [{"name": "db", "engine": "PostgreSQL"}],
            "migrations": {"need": "db", "expand": {"command": ["m"]}},
        }));
        let start = assess(&service, &Found::default(), &BettingServiceStatus::default(), 0);
        assert_eq!(
            words(&start),
            [
                "Available=False/WaitingForClaims",
                "ClaimsBound=False/WaitingForClaims",
                "MigrationsApplied=False/Migrating",
                "Ready=False/WaitingForClaims",
                "Reconciling=True/WaitingForClaims"
            ]
        );
        let job = super::super::build::migration::job_name(&service, service.migration.as_ref().unwrap());
        let mut found = Found::default();
        found.claims.insert(
            "odds-db".into(),
            Arc::new(
                serde_json::from_value(json!({
                    "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "metadata": {"name": "odds-db"},
                    "spec": {"engine": "PostgreSQL", "className": "pg-prod", "roles": []},
                    "status": {"conditions": [{"type": "Bound", "status": "True", "reason": "Bound", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
                }))
                .unwrap(),
            ),
        );
        found.jobs = vec![Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": job}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}),
            )
            .unwrap(),
        )];
        let failed = assess(&service, &found, &start, 5);
        assert!(!words(&failed).iter().any(|it| it.ends_with("NotStarted")), "it may have run");
        let stalled = failed.conditions.iter().find(|it| it.type_ == "Stalled").unwrap();
        assert_eq!(stalled.reason, "MigrationFailed");
        assert!(stalled.message.contains("kubectl -n acme-prod logs"), "{}", stalled.message);
    }

    #[test]
    fn a_migration_that_never_started_is_told_and_tried_again() {
        let service = service(json!({
            "needs": [{"name": "db", "engine": "PostgreSQL"}],
            "migrations": {"need": "db", "expand": {"command": ["m"]}},
        }));
        let job = super::super::build::migration::job_name(&service, service.migration.as_ref().unwrap());
        let object = |value: Value| Arc::new(serde_json::from_value::<kube::api::DynamicObject>(value).unwrap());
        let claim = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "metadata": {"name": "odds-db"},
            "spec": {"engine": "PostgreSQL", "className": "pg-prod", "roles": []},
            "status": {"conditions": [{"type": "Bound", "status": "True", "reason": "Bound", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        let running = object(json!({"metadata": {"name": job}}));
        let failed = object(json!({
            "metadata": {"name": job}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}
        }));
        let pod = |state: Value| {
            object(json!({
                "metadata": {"name": "p", "labels": {"batch.kubernetes.io/job-name": job}},
                "spec": {"containers": [{"image": "r.example/none:1"}]}, "status": {"containerStatuses": [{"state": state}]},
            }))
        };
        let mut found = Found { jobs: vec![running.clone()], ..Found::default() };
        found.claims.insert("odds-db".into(), Arc::new(serde_json::from_value(claim).unwrap()));
        found.job_pods = vec![pod(json!({"waiting": {"reason": "ImagePullBackOff"}}))];
        let pulling = assess(&service, &found, &BettingServiceStatus::default(), 0);
        assert!(words(&pulling).contains(&"MigrationsApplied=False/NotStarted".into()), "{:?}", words(&pulling));
        assert_eq!(words(&pulling).last().unwrap(), "Reconciling=True/ImagePullFailed");
        assert!(pulling.conditions.last().unwrap().message.contains("r.example/none:1"));

        // The Job gives up and takes its pods along: it is made again, and what keeps it is told as stalled until one starts.
        found.job_pods.clear();
        found.jobs = vec![failed.clone()];
        assert!(observe(&service, &found, &pulling, at(1)).migration_lapsed);
        let lapsed = assess(&service, &found, &pulling, 1);
        found.jobs.clear();
        let due = assess(&service, &found, &lapsed, 2);
        found.jobs = vec![running];
        let again = assess(&service, &found, &due, 3);
        for status in [&lapsed, &due, &again] {
            assert_eq!(words(status).last().unwrap(), "Stalled=True/MigrationFailed");
        }
        found.job_pods = vec![pod(json!({"running": {}}))];
        let started = assess(&service, &found, &again, 4);
        assert_eq!(words(&started).last().unwrap(), "Reconciling=True/Migrating");

        // One that has run is not repeated by itself, also when its pods are gone.
        found.job_pods.clear();
        found.jobs = vec![failed];
        assert!(!observe(&service, &found, &started, at(5)).migration_lapsed);
        assert_eq!(words(&assess(&service, &found, &started, 5)).last().unwrap(), "Stalled=True/MigrationFailed");
    }

    #[test]
    fn suspended_is_said_and_wants_nothing() {
        let service = service(json!({"suspended": true}));
        let status = assess(&service, &Found::default(), &BettingServiceStatus::default(), 0);
        assert_eq!(words(&status), ["Available=False/Suspended", "Ready=False/Suspended"]);
        assert_eq!(status.summary.as_deref(), Some("0/0"));
    }
}
