//! From what was read to what the rollout machine sees. Pure.

use super::build::migration::{Run, has_started, is_of, job_name, may_write, run};
use super::build::revision::Record;
use super::dereference::Found;
use super::status::{MIGRATIONS_APPLIED, NOT_STARTED};
use super::validate::Service;
use crate::rollout::revision::{hash, identity};
use crate::rollout::rolling::{Migration, Observed, Revision};
use jiff::Timestamp;
use kube::api::DynamicObject;
use paddock_crds::labels;
use paddock_crds::v1alpha1::{BettingServiceStatus, DatabaseClaim};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Restarts from which a container that is not ready counts as one that keeps ending.
const CRASHES: i64 = 2;

/// What the rollout machine sees, and what the steps after it need.
#[derive(Debug)]
pub struct Observation {
    /// For the machine.
    pub observed: Observed,
    /// Every kept revision and the target, by hash.
    pub records: BTreeMap<String, Record>,
    /// Hashes that meant another revision already.
    pub collisions: i32,
    /// Pods by revision.
    pub pods: BTreeMap<String, Count>,
    /// What keeps pods from becoming ready, by revision.
    pub troubles: BTreeMap<String, Trouble>,
    /// Claims that are not bound yet, with why.
    pub unbound: Vec<String>,
    /// The migration's Job.
    pub migration_job: Option<String>,
    /// Whether a container of it has run.
    pub migration_started: bool,
    /// Its Job gave up without having run anything: it is made again.
    pub migration_lapsed: bool,
    /// What keeps its pods from starting.
    pub migration_trouble: Option<Trouble>,
}

/// Pods of a Deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Size that it has.
    pub size: i32,
    /// Ready ones.
    pub ready: i32,
}

impl Count {
    /// Whether enough are ready: three quarters, rounded up.
    pub fn serves(self) -> bool {
        self.size > 0 && self.ready >= self.size.saturating_mul(3).saturating_add(3) / 4
    }

    /// For the eye: `2/2`.
    pub fn summary(self) -> String {
        format!("{}/{}", self.ready.min(self.size), self.size)
    }

    /// Reason and message of what is told of it.
    pub fn told(self) -> (&'static str, String) {
        let reason = if self.serves() { "Available" } else { "PodsNotReady" };
        (reason, format!("{} of {} pods are ready", self.ready, self.size))
    }
}

/// Why pods do not become ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A stable reason.
    pub reason: &'static str,
    /// What to do.
    pub message: String,
}

/// Sees.
pub fn observe(service: &Service, found: &Found, status: &BettingServiceStatus, now: Timestamp) -> Observation {
    let mut records: BTreeMap<String, Record> =
        found.records.iter().map(|record| (record.hash.clone(), record.clone())).collect();
    let identity = identity(&service.name, &service.spec.spec, &service.values);
    let mut collisions = status.collision_count.unwrap_or_default();
    let mut target = hash(&identity, collisions);
    while records.get(&target).is_some_and(|record| record.identity != identity) {
        collisions = collisions.saturating_add(1);
        target = hash(&identity, collisions);
    }
    let newest = records.values().map(|record| record.number).max().unwrap_or_default();
    let record = records.entry(target.clone()).or_insert_with(|| Record::new(service, &target, identity, newest + 1));
    if record.number < newest {
        record.number = newest + 1;
    }
    let migration_job = service.migration.as_ref().map(|migration| job_name(service, migration));
    let mut migration = migration(migration_job.as_deref(), found, records.values());
    let job_pods = || found.job_pods.iter().filter(|pod| migration_job.as_deref().is_some_and(|job| is_of(pod, job)));
    let migration_started = job_pods().any(|pod| has_started(pod));
    let migration_trouble = job_pods().filter_map(|pod| pod_trouble(service, pod)).min_by_key(|(rank, _)| *rank);
    // A Job that gives up takes its waiting pods along: that none of them had started a container is known from before.
    let told = migration_job.as_deref().is_some_and(|job| told_not_started(status, job));
    let migration_lapsed = migration == Migration::Failed && !migration_started && told;
    if migration_lapsed {
        migration = Migration::Running;
    }
    if let (Migration::Done, Some(job), Some(record)) = (migration, &migration_job, records.get_mut(&target)) {
        record.migrated = Some(job.clone());
    }
    let unbound = unbound(service, found);
    let deployments: BTreeMap<&str, &DynamicObject> = found
        .deployments
        .iter()
        .filter(|it| it.metadata.deletion_timestamp.is_none())
        .filter_map(|it| Some((revision_of(it)?, it.as_ref())))
        .collect();
    let waiting = status.history.iter().find(|it| it.revision == target && it.outcome == "Progressing");
    let waited = waiting
        .and_then(|record| record.waiting_since.as_ref())
        .map(|since| Duration::try_from(now.duration_since(since.0)).unwrap_or_default());
    let observed = Observed {
        stable: status.stable_revision.clone(),
        suspended: service.spec.suspended,
        bounds: service.bounds,
        deadline: service.progress_deadline,
        waited,
        claims_bound: unbound.is_empty(),
        migration,
        revisions: records
            .iter()
            .map(|(hash, record)| (hash.clone(), revision(record.number, deployments.get(hash.as_str()).copied())))
            .collect(),
        target,
    };
    let pods = deployments.iter().map(|(hash, it)| ((*hash).to_owned(), count(it))).collect();
    Observation {
        observed,
        records,
        collisions,
        pods,
        troubles: troubles(service, found),
        unbound,
        migration_job,
        migration_started,
        migration_lapsed,
        migration_trouble: migration_trouble.map(|(_, trouble)| trouble),
    }
}

/// Whether the status says that no container of the Job had started.
fn told_not_started(status: &BettingServiceStatus, job: &str) -> bool {
    let told = status.conditions.iter().find(|condition| condition.type_ == MIGRATIONS_APPLIED);
    told.is_some_and(|it| it.reason == NOT_STARTED && it.message.contains(job))
}

/// The revision that an object belongs to.
fn revision_of(object: &DynamicObject) -> Option<&str> {
    object.metadata.labels.as_ref()?.get(labels::REVISION).map(String::as_str)
}

fn number(object: &DynamicObject, pointer: &str) -> Option<i32> {
    object.data.pointer(pointer)?.as_i64().and_then(|it| i32::try_from(it).ok())
}

fn revision(number_of: i64, deployment: Option<&DynamicObject>) -> Revision {
    let Some(deployment) = deployment else { return Revision { number: number_of, size: None, available: 0 } };
    let seen = deployment.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
    // A status that is older than the spec may count pods of another size.
    let current = seen >= deployment.metadata.generation;
    Revision {
        number: number_of,
        size: Some(number(deployment, "/spec/replicas").unwrap_or(1)),
        available: if current { number(deployment, "/status/availableReplicas").unwrap_or(0) } else { 0 },
    }
}

/// Counts the pods of a Deployment.
pub fn count(deployment: &DynamicObject) -> Count {
    Count {
        size: number(deployment, "/spec/replicas").unwrap_or(1),
        ready: number(deployment, "/status/readyReplicas").unwrap_or(0),
    }
}

fn migration<'a>(job: Option<&str>, found: &Found, mut records: impl Iterator<Item = &'a Record>) -> Migration {
    let Some(job) = job else { return Migration::Done };
    if records.any(|record| record.migrated.as_deref() == Some(job)) {
        return Migration::Done;
    }
    let mine = found.jobs.iter().find(|it| it.metadata.name.as_deref() == Some(job));
    match mine.map(|job| (run(job), job.metadata.deletion_timestamp.is_some())) {
        Some((Run::Succeeded, _)) => Migration::Done,
        Some((Run::Failed, false)) => Migration::Failed,
        // A Job that is being deleted is made again when it has gone.
        Some((Run::Going, _) | (Run::Failed, true)) => Migration::Running,
        // One after the other: also after what is left of a Job that gave up or was deleted.
        None if found.jobs.iter().any(|it| run(it) == Run::Going) => Migration::Running,
        None if found.job_pods.iter().any(|pod| may_write(pod)) => Migration::Running,
        None => Migration::Due,
    }
}

fn unbound(service: &Service, found: &Found) -> Vec<String> {
    let mut waits = Vec::new();
    for need in &service.needs {
        if let Some(why) = found.refused.get(&need.claim) {
            waits.push(why.clone());
            continue;
        }
        match found.claims.get(&need.claim) {
            None => waits.push(format!("claim {} is being made", need.claim)),
            Some(claim) => {
                if let Some(why) = not_bound(claim) {
                    waits.push(format!("claim {}: {why}", need.claim));
                }
            }
        }
    }
    if waits.is_empty() {
        let missing = found.bindings.iter().filter(|(_, exists)| !**exists);
        waits.extend(missing.map(|(secret, _)| format!("binding Secret {secret} is not there yet")));
    }
    waits
}

/// Why a claim is not bound; `None` if it is.
fn not_bound(claim: &DatabaseClaim) -> Option<String> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".into());
    }
    let conditions = claim.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match conditions.iter().find(|condition| condition.type_ == "Bound") {
        // A claim whose binding could not be looked at again yet tells of the one before: it may lack what is new.
        Some(bound) if bound.status == "True" && bound.observed_generation < claim.metadata.generation => {
            Some("it is not bound yet as it is wanted now".into())
        }
        Some(bound) if bound.status == "True" => None,
        Some(bound) => Some(format!("{}: {}", bound.reason, bound.message)),
        None => Some("not provisioned yet".into()),
    }
}

/// The worst trouble of each revision.
fn troubles(service: &Service, found: &Found) -> BTreeMap<String, Trouble> {
    let mut worst: BTreeMap<String, (u8, Trouble)> = BTreeMap::new();
    let pods = found.pods.iter().filter_map(|it| Some((revision_of(it)?, pod_trouble(service, it)?)));
    let deployments = found.deployments.iter().filter_map(|it| Some((revision_of(it)?, refused(it)?)));
    for (hash, trouble) in pods.chain(deployments) {
        match worst.get(hash) {
            Some((rank, _)) if *rank <= trouble.0 => {}
            _ => _ = worst.insert(hash.to_owned(), trouble),
        }
    }
    worst.into_iter().map(|(hash, (_, trouble))| (hash, trouble)).collect()
}

fn pod_trouble(service: &Service, pod: &Arc<DynamicObject>) -> Option<(u8, Trouble)> {
    let text =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let namespace = &service.namespace;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    for status in pod.data.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten() {
        let message = text(status, "/state/waiting/message");
        let restarts = status.get("restartCount").and_then(Value::as_i64).unwrap_or_default();
        let ready = status.get("ready").and_then(Value::as_bool).unwrap_or_default();
        match text(status, "/state/waiting/reason").as_str() {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "RegistryUnavailable"
            | "ImageInspectError" => {
                // The image of the spec, not of the status: an image that was never pulled has none there. What the kubelet says
                // alternates between the attempt and the pause after it.
                let image = text(&pod.data, "/spec/containers/0/image");
                let message =
                    format!("the image {image} cannot be pulled; check that it exists and that the nodes may read it");
                return Some((0, Trouble { reason: "ImagePullFailed", message }));
            }
            // Not by the state: between two crashes the container runs.
            _ if restarts >= CRASHES && !ready => {
                let message =
                    format!("the container keeps ending; see `kubectl -n {namespace} logs {name} --previous`");
                return Some((2, Trouble { reason: "ContainerCrashing", message }));
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                let message = format!("a container cannot be started: {message}");
                return Some((1, Trouble { reason: "ContainerNotStarted", message }));
            }
            _ => {}
        }
    }
    let conditions = pod.data.pointer("/status/conditions").and_then(Value::as_array);
    let unscheduled = conditions.into_iter().flatten().find(|condition| {
        text(condition, "/type") == "PodScheduled" && text(condition, "/reason") == "Unschedulable"
    })?;
    let message = format!("no node takes the pod: {}", text(unscheduled, "/message"));
    Some((4, Trouble { reason: "Unschedulable", message }))
}

/// A Deployment whose pods the apiserver refuses: quota, limits or pod security.
fn refused(deployment: &DynamicObject) -> Option<(u8, Trouble)> {
    let conditions = deployment.data.pointer("/status/conditions")?.as_array()?;
    let field =
        |condition: &Value, name: &str| condition.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let failure = conditions
        .iter()
        .find(|condition| field(condition, "type") == "ReplicaFailure" && field(condition, "status") == "True")?;
    let message = format!("the apiserver refuses pods: {}", field(failure, "message"));
    Some((3, Trouble { reason: "PodsRefused", message }))
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::service;
    use super::super::build::migration;
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Arc<DynamicObject> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn see(service: &Service, found: &Found) -> Observation {
        observe(service, found, &BettingServiceStatus::default(), Timestamp::UNIX_EPOCH)
    }

    fn deployment(hash: &str, size: i32, available: i32, lag: i64) -> Arc<DynamicObject> {
        object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": format!("odds-{hash}"), "generation": 5, "labels": {"paddock.bet/revision": hash}},
            "spec": {"replicas": size},
            "status": {"observedGeneration": 5 - lag, "availableReplicas": available, "readyReplicas": available},
        }))
    }

    #[test]
    fn a_new_spec_is_a_new_revision_and_an_old_one_is_found_again() {
        let first = service(Value::Null);
        let one = see(&first, &Found::default());
        assert_eq!(one.records.len(), 1);
        let kept: Vec<Record> = one.records.into_values().collect();
        let second = service(json!({"config": {"A": "1"}}));
        let two = see(&second, &Found { records: kept.clone(), ..Found::default() });
        assert_eq!(two.records[&two.observed.target].number, 2);
        let kept: Vec<Record> = two.records.into_values().collect();
        let back = see(&first, &Found { records: kept, ..Found::default() });
        assert_eq!(back.records.len(), 2);
        assert_eq!(back.records[&back.observed.target].number, 3, "it is the newest again");
    }

    #[test]
    fn a_newer_rendering_changes_nothing_of_a_kept_revision() {
        let service = service(Value::Null);
        let mut kept: Vec<Record> = see(&service, &Found::default()).records.into_values().collect();
        kept[0].template = json!({"rendered": "by an older operator"});
        let again = see(&service, &Found { records: kept.clone(), ..Found::default() });
        assert_eq!(again.records[&again.observed.target], kept[0]);
    }

    #[test]
    fn a_collision_is_counted_and_resolved() {
        let service = service(Value::Null);
        let mut kept: Vec<Record> = see(&service, &Found::default()).records.into_values().collect();
        kept[0].identity = json!({"image": "something else"});
        let seen = see(&service, &Found { records: kept.clone(), ..Found::default() });
        assert_eq!((seen.collisions, seen.records.len()), (1, 2));
        assert_ne!(seen.observed.target, kept[0].hash);
    }

    #[test]
    fn a_status_older_than_the_spec_counts_no_pod() {
        let service = service(Value::Null);
        let target = see(&service, &Found::default()).observed.target;
        for (lag, available) in [(0, 2), (1, 0)] {
            let found = Found { deployments: vec![deployment(&target, 2, 2, lag)], ..Found::default() };
            assert_eq!(see(&service, &found).observed.revisions[&target].available, available);
        }
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_named() {
        let pod = object(json!({
            "metadata": {"name": "odds-abc-x", "labels": {"paddock.bet/revision": "abc"}},
            "spec": {"containers": [{"image": "r.example/none:1"}]},
            "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]},
        }));
        let seen = see(&service(Value::Null), &Found { pods: vec![pod], ..Found::default() });
        assert_eq!(seen.troubles["abc"].reason, "ImagePullFailed");
        assert!(seen.troubles["abc"].message.contains("r.example/none:1"));
    }

    #[test]
    fn a_trouble_does_not_move_with_the_kubelet() {
        let trouble = |state: Value, restarts: i32| {
            let pod = object(json!({
                "metadata": {"name": "odds-abc-x", "labels": {"paddock.bet/revision": "abc"}},
                "spec": {"containers": [{"image": "r.example/none:1"}]},
                "status": {"containerStatuses": [{"state": state, "restartCount": restarts, "ready": false}]},
            }));
            see(&service(Value::Null), &Found { pods: vec![pod], ..Found::default() }).troubles.remove("abc")
        };
        let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
        let pull = trouble(waiting("ErrImagePull", "rpc error"), 0);
        assert!(pull.is_some());
        assert_eq!(trouble(waiting("ImagePullBackOff", "back-off 20s"), 0), pull);
        let crash = trouble(waiting("CrashLoopBackOff", "back-off 40s"), 2);
        assert_eq!(crash.as_ref().map(|it| it.reason), Some("ContainerCrashing"));
        for between in
            [json!({"running": {}}), json!({"terminated": {"exitCode": 1}}), waiting("RunContainerError", "x")]
        {
            assert_eq!(trouble(between, 2), crash);
        }
        assert_eq!(trouble(json!({"running": {}}), 1), None, "one restart may have a reason");
    }

    #[test]
    fn claims_are_bound_when_their_secrets_are_there() {
        let service = service(json!({"needs": [{"name": "db", "engine": "PostgreSQL"}]}));
        let claim = |status: &str| -> Arc<DatabaseClaim> {
            Arc::new(
                serde_json::from_value(json!({
                    "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "metadata": {"name": "odds-db"},
                    "spec": {"engine": "PostgreSQL", "className": "pg-prod", "roles": []},
                    "status": {"conditions": [{
                        "type": "Bound", "status": status, "reason": "DatabaseUnreachable", "message": "pg-a does not answer",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"
                    }]},
                }))
                .unwrap(),
            )
        };
        let mut found = Found::default();
        assert_eq!(see(&service, &found).unbound, ["claim odds-db is being made"]);
        found.claims.insert("odds-db".into(), claim("False"));
        assert_eq!(see(&service, &found).unbound, ["claim odds-db: DatabaseUnreachable: pg-a does not answer"]);
        let mut changed = (*claim("True")).clone();
        changed.metadata.generation = Some(2);
        for condition in changed.status.iter_mut().flat_map(|status| &mut status.conditions) {
            condition.observed_generation = Some(1);
        }
        found.claims.insert("odds-db".into(), Arc::new(changed));
        assert_eq!(see(&service, &found).unbound, ["claim odds-db: it is not bound yet as it is wanted now"]);
        found.claims.insert("odds-db".into(), claim("True"));
        found.refused.insert("odds-db".into(), "somebody says otherwise".into());
        assert_eq!(see(&service, &found).unbound, ["somebody says otherwise"]);
        found.refused.clear();
        found.bindings.insert("odds-db-odds".into(), false);
        assert!(!see(&service, &found).observed.claims_bound);
        found.bindings.insert("odds-db-odds".into(), true);
        assert!(see(&service, &found).observed.claims_bound);
    }

    #[test]
    fn a_migration_is_never_repeated() {
        let service = service(json!({
            "needs": [{"name": "db", "engine": "PostgreSQL"}],
            "migrations": {"need": "db", "expand": {"command": ["m"]}},
        }));
        let name = migration::job_name(&service, service.migration.as_ref().unwrap());
        let job = |name: &str, condition: Value| {
            object(json!({"metadata": {"name": name}, "status": {"conditions": [condition]}}))
        };
        let mut found = Found::default();
        assert_eq!(see(&service, &found).observed.migration, Migration::Due);
        found.jobs = vec![job("odds-migrate-older", Value::Null)];
        assert_eq!(see(&service, &found).observed.migration, Migration::Running, "one after the other");
        let pod = |phase: &str| vec![object(json!({"metadata": {"name": "p"}, "status": {"phase": phase}}))];
        found.jobs = vec![job("odds-migrate-older", json!({"type": "FailureTarget", "status": "True"}))];
        for (phase, migration) in [("Running", Migration::Running), ("Failed", Migration::Due)] {
            found.job_pods = pod(phase);
            assert_eq!(see(&service, &found).observed.migration, migration, "its last pod: {phase}");
        }
        found.jobs = vec![job(&name, json!({"type": "Failed", "status": "True"}))];
        assert_eq!(see(&service, &found).observed.migration, Migration::Failed);
        found.jobs = vec![job(&name, json!({"type": "Complete", "status": "True"}))];
        let seen = see(&service, &found);
        assert_eq!(seen.observed.migration, Migration::Done);
        assert_eq!(seen.records[&seen.observed.target].migrated, Some(name));
        found.jobs.clear();
        found.records = seen.records.into_values().collect();
        assert_eq!(see(&service, &found).observed.migration, Migration::Done, "the record outlives the Job");
    }

    #[test]
    fn three_quarters_rounded_up_are_enough() {
        for (size, enough) in [(1, 1), (2, 2), (3, 3), (4, 3), (10, 8)] {
            assert!(Count { size, ready: enough }.serves() && !Count { size, ready: enough - 1 }.serves());
        }
        assert!(!Count::default().serves());
    }

    #[test]
    fn time_counts_from_the_record_of_the_target() {
        let service = service(Value::Null);
        let target = see(&service, &Found::default()).observed.target;
        let status: BettingServiceStatus = serde_json::from_value(json!({"history": [{
            "revision": target, "version": "1", "image": "i", "outcome": "Progressing", "waitingSince": "1970-01-01T00:00:10Z"
        }]}))
        .unwrap();
        let now = Timestamp::from_second(70).unwrap();
        let seen = observe(&service, &Found::default(), &status, now);
        assert_eq!(seen.observed.waited, Some(Duration::from_mins(1)));
    }
}
