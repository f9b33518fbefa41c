//! Objects of one revision: its record, configuration, Deployment, autoscaler and disruption budget.

use super::super::validate::Service;
use super::revision_name;
use super::template::{pod_template, revision_selector};
use crate::kube::child::ChildKind;
use kube::api::DynamicObject;
use paddock_crds::labels;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Annotation of a ControllerRevision: the migration Job that has ended well for it.
pub const MIGRATED: &str = "paddock.bet/migrated";

/// A revision as its ControllerRevision keeps it: everything that running it again takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its hash.
    pub hash: String,
    /// Counts up with every revision that becomes the newest.
    pub number: i64,
    /// What the hash is computed over.
    pub identity: Value,
    /// The pod template as it was rendered first.
    pub template: Value,
    /// Its configuration entries.
    pub config: BTreeMap<String, String>,
    /// Version of the Release that brought it.
    pub version: String,
    /// The migration that has ended well.
    pub migrated: Option<String>,
}

impl Record {
    /// A revision that is new.
    pub fn new(service: &Service, hash: &str, identity: Value, number: i64) -> Self {
        Self {
            hash: hash.into(),
            number,
            identity,
            template: pod_template(service, hash),
            config: service.spec.spec.config.clone(),
            version: service.spec.version.clone(),
            migrated: None,
        }
    }

    /// Reads a ControllerRevision; `None` if it is not one of ours.
    pub fn read(object: &DynamicObject) -> Option<Self> {
        let meta = &object.metadata;
        let data = object.data.get("data")?;
        Some(Self {
            hash: meta.labels.as_ref()?.get(labels::REVISION)?.clone(),
            number: object.data.get("revision")?.as_i64()?,
            identity: data.get("identity")?.clone(),
            template: data.get("template")?.clone(),
            config: serde_json::from_value(data.get("config")?.clone()).ok()?,
            version: data.get("version")?.as_str()?.to_owned(),
            migrated: meta.annotations.as_ref().and_then(|it| it.get(MIGRATED)).cloned(),
        })
    }

    /// The image that it runs.
    pub fn image(&self) -> &str {
        self.identity.get("image").and_then(Value::as_str).unwrap_or_default()
    }

    /// Its ControllerRevision. `data` can never be changed once written; that is the point.
    pub fn controller_revision(&self, service: &Service) -> DynamicObject {
        let mut object = service.object(
            ChildKind::ControllerRevision,
            &revision_name(&service.name, &self.hash),
            service.revision_labels(&self.hash),
            json!({
                "revision": self.number,
                "data": {
                    "identity": self.identity, "template": self.template, "config": self.config, "version": self.version,
                }
            }),
        );
        if let Some(job) = &self.migrated {
            object.metadata.annotations = Some(BTreeMap::from([(MIGRATED.into(), job.clone())]));
        }
        object
    }

    /// Its own copy of the configuration, which nobody can edit.
    pub fn config_map(&self, service: &Service) -> DynamicObject {
        service.object(
            ChildKind::ConfigMap,
            &revision_name(&service.name, &self.hash),
            service.revision_labels(&self.hash),
            json!({"immutable": true, "data": self.config}),
        )
    }

    /// Its Deployment, without a size: that has its own writer, or the autoscaler (rule O3).
    pub fn deployment(&self, service: &Service) -> DynamicObject {
        service.object(
            ChildKind::Deployment,
            &revision_name(&service.name, &self.hash),
            service.revision_labels(&self.hash),
            json!({"spec": {
                "selector": {"matchLabels": revision_selector(service, &self.hash)},
                "template": self.template,
                // The template never changes; this says how pods that someone else's edit made are replaced.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "revisionHistoryLimit": 0,
            }}),
        )
    }

    /// Its disruption budget: one pod at a time, and pods that do not work never hold a node.
    pub fn disruption_budget(&self, service: &Service) -> DynamicObject {
        service.object(
            ChildKind::PodDisruptionBudget,
            &revision_name(&service.name, &self.hash),
            service.revision_labels(&self.hash),
            json!({"spec": {
                "maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": revision_selector(service, &self.hash)},
            }}),
        )
    }

    /// Its autoscaler.
    pub fn autoscaler(&self, service: &Service) -> DynamicObject {
        let name = revision_name(&service.name, &self.hash);
        let metrics: Vec<Value> = match &service.spec.spec.autoscaling {
            Some(autoscaling) => autoscaling.metrics.iter().map(|metric| cpu(metric.cpu)).collect(),
            None => vec![cpu(70)],
        };
        let mut spec = json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": service.bounds.min, "maxReplicas": service.bounds.max, "metrics": metrics,
        });
        if let (Some(window), Some(fields)) = (service.scale_down, spec.as_object_mut()) {
            fields.insert("behavior".into(), json!({"scaleDown": {"stabilizationWindowSeconds": window.as_secs()}}));
        }
        let labels = service.revision_labels(&self.hash);
        service.object(ChildKind::HorizontalPodAutoscaler, &name, labels, json!({"spec": spec}))
    }
}

fn cpu(percent: i32) -> Value {
    json!({
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::service;
    use super::*;
    use crate::rollout::revision::{hash, identity};

    fn record(service: &Service) -> Record {
        let identity = identity(&service.name, &service.spec.spec, &service.values);
        let hash = hash(&identity, 0);
        Record::new(service, &hash, identity, 4)
    }

    #[test]
    fn a_record_survives_its_controller_revision() {
        let service = service(json!({"config": {"LOG_LEVEL": "info", "EMPTY": ""}}));
        let mut record = record(&service);
        record.migrated = Some("odds-migrate-x".into());
        assert_eq!(Record::read(&record.controller_revision(&service)), Some(record));
    }

    #[test]
    fn a_kept_template_is_what_runs() {
        let service = service(Value::Null);
        let mut record = record(&service);
        record.template["spec"]["terminationGracePeriodSeconds"] = json!(99);
        let again = Record::read(&record.controller_revision(&service)).unwrap();
        let deployment = again.deployment(&service);
        assert_eq!(deployment.data["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 99);
    }

    #[test]
    fn a_deployment_selects_its_revision_and_names_no_size() {
        let service = service(Value::Null);
        let record = record(&service);
        let deployment = record.deployment(&service);
        let spec = &deployment.data["spec"];
        assert!(spec.get("replicas").is_none());
        let selector = spec["selector"]["matchLabels"].as_object().unwrap();
        assert_eq!(selector["paddock.bet/revision"], json!(record.hash));
        for (key, value) in selector {
            assert_eq!(&spec["template"]["metadata"]["labels"][key], value);
        }
        assert_eq!(deployment.metadata.owner_references.as_ref().unwrap()[0].uid, "u-odds");
        assert!(deployment.metadata.name.unwrap().len() <= 63);
    }

    #[test]
    fn the_autoscaler_has_cpu_at_70_unless_told() {
        let defaulted = service(json!({"replicas": {"min": 2, "max": 5}}));
        let autoscaler = record(&defaulted).autoscaler(&defaulted);
        let spec = &autoscaler.data["spec"];
        assert_eq!((&spec["minReplicas"], &spec["maxReplicas"]), (&json!(2), &json!(5)));
        assert_eq!(spec["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
        assert!(spec.get("behavior").is_none());
        let told = service(json!({
            "replicas": {"min": 2, "max": 5},
            "autoscaling": {"metrics": [{"cpu": 50}], "scaleDown": {"stabilisation": "1m"}},
        }));
        let autoscaler = record(&told).autoscaler(&told);
        let spec = &autoscaler.data["spec"];
        assert_eq!(spec["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
        assert_eq!(spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 60);
    }
}
