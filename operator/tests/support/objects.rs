//! One object of every kind that the operator makes, written as builders write them: not in the server's own form.

use serde_json::{Value, json};

#[allow(clippy::needless_pass_by_value, reason = "`json!` at every call")]
fn object(api_version: &str, kind: &str, namespace: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {
            "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "test": "framework"}},
    });
    for (name, value) in rest.as_object().unwrap() {
        object[name] = value.clone();
    }
    object
}

/// The namespace itself.
pub fn namespace(name: &str) -> Value {
    let mut namespace = object("v1", "Namespace", "", name, json!({}));
    namespace["metadata"].as_object_mut().unwrap().remove("namespace");
    namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("restricted");
    namespace
}

/// A Deployment with lists of every sort.
pub fn deployment(namespace: &str) -> Value {
    object(
        "apps/v1",
        "Deployment",
        namespace,
        "rates-1",
        json!({"spec": {
            "selector": {"matchLabels": {"paddock.bet/revision": "1"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"paddock.bet/revision": "1", "app.kubernetes.io/managed-by": "paddock"}, "annotations": {"a": "b"}},
                "spec": {
                    "automountServiceAccountToken": false, "enableServiceLinks": false, "hostNetwork": false,
                    "serviceAccountName": "rates", "terminationGracePeriodSeconds": 40,
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                    "topologySpreadConstraints": [
                        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"paddock.bet/revision": "1"}}},
                        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"paddock.bet/revision": "1"}}}],
                    "containers": [{
                        "name": "main", "image": "registry.example/paddock@sha256:0000", "command": ["/paddock-rates"], "args": [],
                        "env": [{"name": "B", "value": ""}, {"name": "A", "value": "1000m"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                        "ports": [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "dns-tcp", "containerPort": 53}],
                        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "1.5Gi", "cpu": "0.5e1"}},
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 2},
                        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "binding", "mountPath": "/bindings/db", "readOnly": true}],
                    }],
                    "volumes": [
                        {"name": "tmp", "emptyDir": {"sizeLimit": "0.5Gi"}},
                        {"name": "binding", "secret": {"secretName": "db-rates"}},
                        {"name": "book", "configMap": {"name": "market-book", "optional": false, "items": [{"key": "book.json", "path": "book.json"}]}}],
                },
            },
        }}),
    )
}

/// One of every kind in a namespace, in the order in which they can be made.
pub fn all(ns: &str) -> Vec<Value> {
    vec![
        object(
            "v1",
            "ResourceQuota",
            ns,
            "environment",
            json!({"spec": {"hard": {"pods": "300", "requests.cpu": "40000m", "requests.memory": "80Gi", "count/secrets": "100"}}}),
        ),
        object(
            "v1",
            "LimitRange",
            ns,
            "environment",
            json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1000m", "memory": "512Mi"}, "defaultRequest": {"cpu": "0.1"}, "max": {"memory": "4096Mi"}}]}}),
        ),
        object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            ns,
            "default-deny",
            json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}}),
        ),
        object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            ns,
            "dns",
            json!({"spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}], "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]},
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 443}]}]}}),
        ),
        object("v1", "ServiceAccount", ns, "rates", json!({"automountServiceAccountToken": false})),
        object(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            ns,
            "paddock-viewer",
            json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "paddock-viewer"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "acme-leads"}, {"kind": "ServiceAccount", "name": "x", "namespace": "y"}]}),
        ),
        object("v1", "ConfigMap", ns, "market-book", json!({"data": {"book.json": "{}", "empty": ""}})),
        object("v1", "Secret", ns, "paddock-control", json!({"type": "Opaque", "stringData": {"token": "t"}})),
        object(
            "v1",
            "Service",
            ns,
            "rates",
            json!({"spec": {
            "type": "ClusterIP", "selector": {"paddock.bet/component": "rates"},
            "ports": [{"name": "http", "port": 8080, "targetPort": "http", "appProtocol": "http"}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]}}),
        ),
        deployment(ns),
        object(
            "apps/v1",
            "ControllerRevision",
            ns,
            "rates-1",
            json!({"revision": 1, "data": {"template": {"cpu": "1000m"}, "list": [{"name": "a"}]}}),
        ),
        object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            ns,
            "rates-1",
            json!({"spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "rates-1"}, "minReplicas": 2, "maxReplicas": 20,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1024Mi"}}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}}}}),
        ),
        object(
            "policy/v1",
            "PodDisruptionBudget",
            ns,
            "rates-1",
            json!({"spec": {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": {"matchLabels": {"paddock.bet/revision": "1"}}}}),
        ),
        object(
            "batch/v1",
            "Job",
            ns,
            "rates-migrate-1",
            json!({"spec": {
            "backoffLimit": 3, "activeDeadlineSeconds": 600, "suspend": false,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "migrate", "image": "x", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "2000m"}}}]}}}}),
        ),
        object(
            "paddock.bet/v1alpha1",
            "BettingService",
            ns,
            "rates",
            json!({"spec": {
            "component": "rates", "version": "1", "image": "registry.example/paddock@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "ports": [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}], "config": {"LOG": "info"},
            "needs": [{"name": "bus", "engine": "Kafka", "claim": "bus", "topics": {"write": [{"name": "offer", "partitions": 6}], "read": ["tickets"]}}],
            "resources": {"requests": {"cpu": "1000m"}}, "replicas": {"min": 1, "max": 1}, "suspended": false}}),
        ),
        object(
            "paddock.bet/v1alpha1",
            "DatabaseClaim",
            ns,
            "bus",
            json!({"spec": {
            "engine": "Kafka", "className": "bus", "kafka": {"topics": [{"name": "offer", "partitions": 6}]},
            "roles": [{"name": "rates", "topics": {"write": ["offer"], "read": []}}]}}),
        ),
    ]
}
