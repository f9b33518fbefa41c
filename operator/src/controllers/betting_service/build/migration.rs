//! The migration Job: once for each (claim, image, command), before the first pod of a revision.

use super::super::validate::{Migration, Service};
use super::claims::{MIGRATE, binding_secret};
use super::template::{binding_volume, container_security, environment, pod_security, resources};
use crate::kube::child::ChildKind;
use crate::rollout::revision::short_hash;
use kube::api::DynamicObject;
use paddock_crds::labels;
use serde_json::{Value, json};

/// Label of migration Jobs: the component whose database they change. Not the component label of pods, which Services select.
pub const MIGRATES: &str = "paddock.bet/migrates";
/// How often a Job tries again: a server may just be restarting.
const RETRIES: u32 = 2;

/// Instance of a service's migration Jobs and their pods.
pub fn instance(service: &str) -> String {
    format!("{service}-migrate")
}

/// Labels that select exactly the migration Jobs of a service, and their pods.
pub fn selector<'a>(instance: &'a str, component: &'a str) -> [(&'a str, &'a str); 2] {
    [(labels::INSTANCE, instance), (MIGRATES, component)]
}

/// The service of an instance of migrations.
pub fn service_of(instance: &str) -> Option<&str> {
    instance.strip_suffix("-migrate")
}

/// Name of the run: the same claim, image and command are the same run, whatever the revision.
pub fn job_name(service: &Service, migration: &Migration) -> String {
    let image = &service.spec.spec.image;
    // Of a reference by digest only the digest says what runs: the same image from another registry is the same run.
    let what = image.split_once("@sha256:").map_or(image.as_str(), |(_, digest)| digest);
    let run = json!([migration.need.claim, what, migration.command]);
    format!("{}-migrate-{}", service.name, short_hash(&run.to_string()))
}

/// The Job, with the revision's variables and configuration and the claim's `migrate` login.
pub fn job(service: &Service, migration: &Migration, hash: &str) -> DynamicObject {
    let spec = &service.spec.spec;
    let mut labels = service.labels();
    labels.remove(labels::COMPONENT);
    labels.insert(labels::INSTANCE.into(), instance(&service.name));
    labels.insert(MIGRATES.into(), service.spec.component.clone());
    labels.insert(labels::needs(migration.need.need.engine).into(), "true".into());
    let (volume, mount) = binding_volume(&migration.need, &binding_secret(&migration.need.claim, MIGRATE));
    let mut env = environment(service, hash);
    if let Some(env) = env.as_array_mut() {
        env.extend(spec.config.iter().map(|(name, value)| json!({"name": name, "value": value})));
    }
    let mut container = json!({
        "name": "migrate",
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "command": migration.command,
        "env": env,
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, mount],
    });
    if let (Some(resources), Some(fields)) = (resources(service), container.as_object_mut()) {
        fields.insert("resources".into(), resources);
    }
    let template = json!({
        "metadata": {"labels": labels},
        "spec": {
            "serviceAccountName": service.name,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            // Failed pods stay, so that their logs can be read.
            "restartPolicy": "Never",
            "securityContext": pod_security(),
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}, volume],
        }
    });
    let body = json!({"spec": {
        "backoffLimit": RETRIES, "activeDeadlineSeconds": migration.timeout.as_secs().max(1),
        // A pod that is told to end may still write: the next try waits until it has.
        "podReplacementPolicy": "Failed",
        "template": template,
    }});
    service.object(ChildKind::Job, &job_name(service, migration), labels, body)
}

/// Label that the Job controller puts on pods.
const OF_JOB: &str = "batch.kubernetes.io/job-name";

/// Whether a pod is of the Job.
pub fn is_of(pod: &DynamicObject, job: &str) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(OF_JOB)).is_some_and(|found| found == job)
}

/// Whether a pod may still write: also one that is being deleted, whose Job may have gone already.
pub fn may_write(pod: &DynamicObject) -> bool {
    !matches!(pod.data.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"))
}

/// Whether a container of a pod has run, or may have.
pub fn has_started(pod: &DynamicObject) -> bool {
    let statuses = pod.data.pointer("/status/containerStatuses").and_then(Value::as_array);
    let ran = statuses.into_iter().flatten().any(|status| {
        // A pod that ends without having started a container still gets a terminated state, without a beginning.
        ["/state/running", "/state/terminated/startedAt", "/lastState/terminated"]
            .into_iter()
            .any(|place| status.pointer(place).is_some_and(|found| !found.is_null()))
    });
    ran || pod.data.pointer("/status/phase").and_then(Value::as_str) == Some("Succeeded")
}

/// How a Job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It has not ended.
    Going,
    /// It ended well.
    Succeeded,
    /// It gave up.
    Failed,
}

/// Reads how a Job stands.
pub fn run(job: &DynamicObject) -> Run {
    let conditions = job.data.pointer("/status/conditions").and_then(Value::as_array);
    let holds = |wanted: &str| {
        conditions.into_iter().flatten().any(|condition| {
            condition.get("type").and_then(Value::as_str) == Some(wanted)
                && condition.get("status").and_then(Value::as_str) == Some("True")
        })
    };
    if holds("Complete") || holds("SuccessCriteriaMet") {
        Run::Succeeded
    } else if holds("Failed") || holds("FailureTarget") {
        Run::Failed
    } else {
        Run::Going
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{IMAGE, service};
    use super::*;

    fn migrating(more: Value) -> Service {
        let mut spec = json!({
            "needs": [{"name": "db", "engine": "PostgreSQL"}], "config": {"LOG_LEVEL": "info"},
            "migrations": {"need": "db", "expand": {"command": ["/paddock-rates", "migrate"]}},
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        service(spec)
    }

    fn name(service: &Service) -> String {
        job_name(service, service.migration.as_ref().unwrap())
    }

    #[test]
    fn a_run_is_named_by_claim_digest_and_command() {
        let base = name(&migrating(Value::Null));
        assert!(base.len() <= 63 && base.starts_with("odds-migrate-"));
        let elsewhere = IMAGE.replace("r.example", "other.example");
        assert_eq!(name(&migrating(json!({"image": elsewhere, "version": "9", "config": {}}))), base);
        for change in [
            json!({"image": IMAGE.replace("0123", "9999")}),
            json!({"needs": [{"name": "db", "engine": "PostgreSQL", "claim": "shared"}]}),
            json!({"migrations": {"need": "db", "expand": {"command": ["/paddock-rates", "migrate", "--more"]}}}),
        ] {
            assert_ne!(name(&migrating(change.clone())), base, "{change}");
        }
    }

    #[test]
    fn it_binds_the_migrate_login_and_is_not_served() {
        let service = migrating(Value::Null);
        let job = job(&service, service.migration.as_ref().unwrap(), "abc");
        let pod = &job.data["spec"]["template"];
        assert_eq!(pod["spec"]["volumes"][1]["secret"]["secretName"], "odds-db-migrate");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][1]["mountPath"], "/bindings/db");
        assert!(pod["metadata"]["labels"].get(labels::COMPONENT).is_none(), "the Service must not select it");
        assert_eq!(pod["metadata"]["labels"]["paddock.bet/needs-postgresql"], "true");
        let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        assert!(env.contains(&json!({"name": "LOG_LEVEL", "value": "info"})));
        assert_eq!(job.data["spec"]["activeDeadlineSeconds"], 600);
        assert_eq!(job.data["spec"]["podReplacementPolicy"], "Failed", "never two pods at once");
    }

    #[test]
    fn what_ended_without_a_beginning_has_not_started() {
        let started = |state: Value| {
            let pod = json!({"metadata": {"name": "x"}, "status": {"containerStatuses": [{"state": state}]}});
            has_started(&serde_json::from_value(pod).unwrap())
        };
        assert!(started(json!({"running": {}})));
        assert!(started(json!({"terminated": {"exitCode": 1, "startedAt": "2026-01-01T00:00:00Z"}})));
        assert!(!started(json!({"terminated": {"exitCode": 137, "startedAt": null}})));
        assert!(!started(json!({"waiting": {"reason": "ImagePullBackOff"}})));
    }

    #[test]
    fn how_it_stands() {
        let with = |conditions: Value| -> DynamicObject {
            serde_json::from_value(json!({"metadata": {"name": "x"}, "status": {"conditions": conditions}})).unwrap()
        };
        assert_eq!(run(&with(json!([]))), Run::Going);
        assert_eq!(run(&with(json!([{"type": "Complete", "status": "True"}]))), Run::Succeeded);
        assert_eq!(run(&with(json!([{"type": "Failed", "status": "True"}]))), Run::Failed);
        assert_eq!(run(&with(json!([{"type": "Failed", "status": "False"}]))), Run::Going);
    }
}
