//! The pod template of a revision: what `docs/service-contract.md` promises, hardened.

use super::super::validate::{BoundNeed, Service};
use super::claims::binding_secret;
use super::revision_name;
use crate::issuer::TOKEN_ISSUER;
use paddock_crds::labels;
use paddock_crds::v1alpha1::Probe;
use serde_json::{Value, json};

/// User and group of every pod.
const NOBODY: i64 = 65532;
/// How long a pod that ends still answers, until every proxy has learnt that it does.
const LINGER_SECONDS: u64 = 5;
/// What a pod's grace period has beyond its drain.
const GRACE_SECONDS: u64 = 10;
/// Files of Secrets: readable by the pod's user through its group.
const SECRET_MODE: i32 = 0o440;
/// Lifetime of the tokens for called services; the kubelet replaces their files after four fifths of it.
const TOKEN_SECONDS: i64 = 3600;
/// Secret of an environment with the bearer token of the control ports.
pub const CONTROL_SECRET: &str = "paddock-control";
/// ConfigMap of an environment with the compiled market book.
pub const MARKET_BOOK: &str = "market-book";

/// The pod template of a revision. It is rendered once, when the revision is made, and kept: a newer operator that renders
/// otherwise restarts nothing (rule R4).
pub fn pod_template(service: &Service, hash: &str) -> Value {
    let spec = &service.spec.spec;
    let mut labels = service.revision_labels(hash);
    if spec.route.is_some() {
        labels.insert(labels::ROUTED.into(), "true".into());
    }
    if spec.market_book {
        labels.insert(labels::MARKET_BOOK.into(), "true".into());
    }
    let mut volumes = vec![json!({"name": "tmp", "emptyDir": {}})];
    let mut mounts = vec![json!({"name": "tmp", "mountPath": "/tmp"})];
    for need in &service.needs {
        labels.insert(labels::needs(need.need.engine).into(), "true".into());
        let (volume, mount) = binding_volume(need, &binding_secret(&need.claim, &service.name));
        volumes.push(volume);
        mounts.push(mount);
    }
    if service.in_environment() && service.port("control").is_some() {
        volumes.push(json!({
            "name": "control",
            "secret": {"secretName": CONTROL_SECRET, "defaultMode": SECRET_MODE, "items": [{"key": "token", "path": "token"}]}
        }));
        mounts.push(json!({"name": "control", "mountPath": "/control", "readOnly": true}));
    }
    // Whoever serves `http` may want to know who calls.
    if service.in_environment() && service.port("http").is_some() {
        volumes.push(json!({"name": TOKEN_ISSUER, "configMap": {"name": TOKEN_ISSUER}}));
        mounts.push(json!({"name": TOKEN_ISSUER, "mountPath": "/token-issuer", "readOnly": true}));
    }
    if !spec.calls.is_empty() {
        volumes.push(tokens(&spec.calls));
        mounts.push(json!({"name": "tokens", "mountPath": "/tokens", "readOnly": true}));
    }
    if spec.market_book {
        volumes.push(json!({"name": MARKET_BOOK, "configMap": {"name": MARKET_BOOK}}));
        mounts.push(json!({"name": MARKET_BOOK, "mountPath": "/market-book", "readOnly": true}));
    }
    let mut container = json!({
        "name": service.spec.component,
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "env": environment(service, hash),
        "envFrom": [{"configMapRef": {"name": revision_name(&service.name, hash)}}],
        "lifecycle": {"preStop": {"sleep": {"seconds": LINGER_SECONDS}}},
        "securityContext": container_security(),
        "volumeMounts": mounts,
    });
    if let Some(fields) = container.as_object_mut() {
        let mut ports: Vec<_> = spec.ports.iter().collect();
        ports.sort_by(|one, other| one.name.cmp(&other.name));
        let ports: Vec<Value> = ports
            .into_iter()
            .map(|port| json!({"name": port.name, "containerPort": port.port, "protocol": "TCP"}))
            .collect();
        if !ports.is_empty() {
            fields.insert("ports".into(), Value::Array(ports));
        }
        if !spec.command.is_empty() {
            fields.insert("command".into(), json!(spec.command));
        }
        if !spec.args.is_empty() {
            fields.insert("args".into(), json!(spec.args));
        }
        if let Some(resources) = resources(service) {
            fields.insert("resources".into(), resources);
        }
        let own = spec.probes.clone().unwrap_or_default();
        if let Some(probe) = own.liveness.or_else(|| default_probe(service, "/livez")) {
            fields.insert("livenessProbe".into(), get(&probe, 10, 3, 3));
        }
        if let Some(probe) = own.readiness.or_else(|| default_probe(service, "/readyz")) {
            fields.insert("readinessProbe".into(), get(&probe, 1, 1, 2));
        }
    }
    let spread = |topology: &str| {
        json!({
            "maxSkew": 1, "topologyKey": topology, "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": revision_selector(service, hash)},
        })
    };
    json!({
        "metadata": {"labels": labels},
        "spec": {
            "serviceAccountName": service.name,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": service.drain.as_secs() + GRACE_SECONDS,
            "securityContext": pod_security(),
            "topologySpreadConstraints": [spread("kubernetes.io/hostname"), spread("topology.kubernetes.io/zone")],
            "containers": [container],
            "volumes": volumes,
        }
    })
}

/// Labels by which a revision's Deployment knows its pods.
pub fn revision_selector(service: &Service, hash: &str) -> Value {
    json!({
        labels::INSTANCE: service.name,
        labels::COMPONENT: service.spec.component,
        labels::REVISION: hash,
    })
}

/// Variables that the operator sets.
pub fn environment(service: &Service, hash: &str) -> Value {
    let values = &service.values;
    json!([
        {"name": "PADDOCK_TENANT", "value": values.tenant},
        {"name": "PADDOCK_ENVIRONMENT", "value": values.environment},
        {"name": "PADDOCK_CLASS", "value": values.class},
        {"name": "PADDOCK_BRAND", "value": values.brand},
        {"name": "PADDOCK_LICENCE", "value": values.licence},
        {"name": "PADDOCK_JURISDICTION", "value": values.jurisdiction},
        {"name": "PADDOCK_CURRENCIES", "value": values.currencies.join(",")},
        {"name": "PADDOCK_LOCALES", "value": values.locales.join(",")},
        {"name": "PADDOCK_REVISION", "value": hash},
        {"name": "SERVICE_BINDING_ROOT", "value": "/bindings"},
    ])
}

/// Volume and mount of a need's binding. Not optional: the pod waits until the Secret is there.
pub fn binding_volume(need: &BoundNeed, secret: &str) -> (Value, Value) {
    let name = format!("binding-{}", need.need.name);
    let mount = json!({"name": name, "mountPath": format!("/bindings/{}", need.need.name), "readOnly": true});
    (json!({"name": name, "secret": {"secretName": secret, "defaultMode": SECRET_MODE}}), mount)
}

/// Volume with a token of the pod's account for each called service: whoever gets one cannot use it elsewhere.
fn tokens(calls: &[String]) -> Value {
    let mut calls: Vec<&String> = calls.iter().collect();
    calls.sort();
    let sources: Vec<Value> = calls
        .into_iter()
        .map(|callee| {
            let path = format!("{callee}/token");
            json!({"serviceAccountToken": {"audience": callee, "expirationSeconds": TOKEN_SECONDS, "path": path}})
        })
        .collect();
    json!({"name": "tokens", "projected": {"defaultMode": SECRET_MODE, "sources": sources}})
}

/// Requests and limits as written.
pub fn resources(service: &Service) -> Option<Value> {
    let resources = service.spec.spec.resources.as_ref()?;
    serde_json::to_value(resources).ok().filter(|it| it.as_object().is_some_and(|it| !it.is_empty()))
}

/// Security context of every pod.
pub fn pod_security() -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": NOBODY, "runAsGroup": NOBODY, "fsGroup": NOBODY,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// Security context of every container.
pub fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    })
}

/// The probe of a service that gives none: on `metrics` if declared, else on `http`, else none.
fn default_probe(service: &Service, path: &str) -> Option<Probe> {
    let port = ["metrics", "http"].into_iter().find(|port| service.port(port).is_some())?;
    Some(Probe { path: path.into(), port: port.into() })
}

fn get(probe: &Probe, period: u32, timeout: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": probe.path, "port": probe.port, "scheme": "HTTP"},
        "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures, "successThreshold": 1,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{betting_service, service};
    use super::*;
    use crate::controllers::betting_service::validate::validate;

    fn container(template: &Value) -> Value {
        template["spec"]["containers"][0].clone()
    }

    #[test]
    fn every_default_of_the_contract() {
        let template = pod_template(&service(Value::Null), "abc");
        let spec = &template["spec"];
        assert_eq!(spec["terminationGracePeriodSeconds"], 40);
        assert_eq!(spec["automountServiceAccountToken"], false);
        for key in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert_eq!(spec["securityContext"][key], 65532);
        }
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = container(&template);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(container["lifecycle"]["preStop"], json!({"sleep": {"seconds": 5}}));
        assert_eq!(
            container["readinessProbe"]["httpGet"],
            json!({"path": "/readyz", "port": "metrics", "scheme": "HTTP"})
        );
        assert_eq!(container["readinessProbe"]["periodSeconds"], 1);
        assert_eq!(container["readinessProbe"]["failureThreshold"], 2);
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
        let told: Vec<_> = container["env"].as_array().unwrap().iter().map(|it| (&it["name"], &it["value"])).collect();
        for (name, value) in [
            ("PADDOCK_BRAND", "Acme Bet"),
            ("PADDOCK_LICENCE", "mga-1"),
            ("PADDOCK_JURISDICTION", "MT"),
            ("PADDOCK_CURRENCIES", "EUR,SEK"),
        ] {
            assert!(told.contains(&(&json!(name), &json!(value))), "{name}={value}: {told:?}");
        }
    }

    #[test]
    fn what_a_component_declares_is_mounted() {
        let template = pod_template(
            &service(json!({
                "marketBook": true, "route": {"path": "/"},
                "needs": [{"name": "db", "engine": "PostgreSQL"}, {"name": "bus", "engine": "Kafka", "claim": "bus"}],
            })),
            "abc",
        );
        let secrets: Vec<_> = template["spec"]["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|it| it["secret"]["secretName"].as_str())
            .collect();
        assert_eq!(secrets, ["bus-odds", "odds-db-odds", "paddock-control"]);
        let paths: Vec<_> = container(&template)["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["mountPath"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(paths, ["/tmp", "/bindings/bus", "/bindings/db", "/control", "/token-issuer", "/market-book"]);
        let labels = &template["metadata"]["labels"];
        assert_eq!(
            (&labels["paddock.bet/routed"], &labels["paddock.bet/market-book"]),
            (&json!("true"), &json!("true"))
        );
        assert_eq!(
            (&labels["paddock.bet/needs-postgresql"], &labels["paddock.bet/needs-kafka"]),
            (&json!("true"), &json!("true"))
        );
        assert_eq!(labels["paddock.bet/revision"], "abc");
        assert!(template["spec"]["volumes"].to_string().find("optional").is_none());
    }

    #[test]
    fn a_token_for_each_called_service_and_none_for_the_apiserver() {
        let template = pod_template(&service(json!({"calls": ["rates", "account"]})), "abc");
        let volumes = template["spec"]["volumes"].as_array().unwrap();
        let tokens = volumes.iter().find(|it| it["name"] == "tokens").unwrap();
        let token = |callee: &str| json!({"serviceAccountToken": {"audience": callee, "expirationSeconds": 3600, "path": format!("{callee}/token")}});
        assert_eq!(tokens["projected"], json!({"defaultMode": 0o440, "sources": [token("account"), token("rates")]}));
        assert_eq!(template["spec"]["automountServiceAccountToken"], false);
        assert_eq!(template["spec"]["serviceAccountName"], "odds");
        let mounts = container(&template)["volumeMounts"].clone();
        let mount = json!({"name": "tokens", "mountPath": "/tokens", "readOnly": true});
        assert!(mounts.as_array().unwrap().contains(&mount), "{mounts}");

        let silent = pod_template(&service(Value::Null), "abc");
        assert!(!silent.to_string().contains("serviceAccountToken\""), "no calls, no tokens");
        assert!(silent.to_string().contains(r#""configMap":{"name":"token-issuer"}"#));
    }

    #[test]
    fn without_ports_there_is_no_probe_and_outside_no_token() {
        let object = betting_service(json!({"ports": []}));
        let template = pod_template(&validate(&object, None).unwrap(), "abc");
        let container = container(&template);
        assert!(container.get("livenessProbe").is_none() && container.get("ports").is_none());
        assert!(!template.to_string().contains(CONTROL_SECRET));
        let outside = pod_template(&validate(&betting_service(Value::Null), None).unwrap(), "abc");
        assert!(!outside.to_string().contains(TOKEN_ISSUER), "nobody publishes keys there");
        assert!(template["metadata"]["labels"].get("paddock.bet/tenant").is_none());
        assert!(!template["metadata"]["labels"].to_string().contains("paddock.bet/needs-"));
    }
}
