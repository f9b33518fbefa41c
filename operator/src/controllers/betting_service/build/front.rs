//! How a service is reached: Service, route, and the account of its pods.

use super::super::validate::Service;
use crate::kube::child::ChildKind;
use kube::api::DynamicObject;
use paddock_crds::labels;
use serde_json::{Value, json};

/// Name of an environment's ListenerSet: its domains on the Gateway.
pub const LISTENER_SET: &str = "public";
/// Most parents that a route may have.
const MOST_PARENTS: usize = 32;

/// The account of its pods. They get no token of it.
pub fn service_account(service: &Service) -> DynamicObject {
    service.object(
        ChildKind::ServiceAccount,
        &service.name,
        service.labels(),
        json!({"automountServiceAccountToken": false}),
    )
}

/// The Service, on the same numbers as the container. It selects the component without a revision's hash, so that under
/// Rolling every pod that is ready serves. `None` without ports.
pub fn service(service: &Service) -> Option<DynamicObject> {
    let mut ports: Vec<_> = service.spec.spec.ports.iter().collect();
    ports.sort_by(|one, other| one.name.cmp(&other.name));
    let ports: Vec<Value> = ports
        .into_iter()
        .map(|port| json!({"name": port.name, "port": port.port, "targetPort": port.name, "protocol": "TCP"}))
        .collect();
    if ports.is_empty() {
        return None;
    }
    let selector = json!({labels::INSTANCE: service.name, labels::COMPONENT: service.spec.component});
    let body = json!({"spec": {"type": "ClusterIP", "selector": selector, "ports": ports}});
    Some(service.object(ChildKind::Service, &service.name, service.labels(), body))
}

/// The route, attached to the HTTPS listeners of the environment's ListenerSet, whose host names it inherits; plain HTTP is
/// left to the redirect. `None` without a route in the spec or without an HTTPS listener.
pub fn route(service: &Service, listeners: Option<&DynamicObject>) -> Option<DynamicObject> {
    let route = service.spec.spec.route.as_ref().filter(|_| service.in_environment())?;
    let port = service.port("http")?;
    let listeners = listeners?.data.pointer("/spec/listeners")?.as_array()?;
    let mut sections: Vec<&str> = listeners
        .iter()
        .filter(|listener| listener.get("protocol").and_then(Value::as_str) == Some("HTTPS"))
        .filter_map(|listener| listener.get("name").and_then(Value::as_str))
        .collect();
    sections.sort_unstable();
    let parents: Vec<Value> = sections
        .into_iter()
        .take(MOST_PARENTS)
        .map(|section| {
            json!({
                "group": "gateway.networking.k8s.io", "kind": "ListenerSet", "name": LISTENER_SET, "sectionName": section,
            })
        })
        .collect();
    if parents.is_empty() {
        return None;
    }
    let mut rule = json!({
        "matches": [{"path": {"type": "PathPrefix", "value": route.path}}],
        "backendRefs": [{"group": "", "kind": "Service", "name": service.name, "port": port, "weight": 1}],
    });
    if let (true, Some(fields)) = (route.web_socket, rule.as_object_mut()) {
        fields.insert("timeouts".into(), json!({"request": "0s"}));
    }
    let body = json!({"spec": {"parentRefs": parents, "rules": [rule]}});
    Some(service.object(ChildKind::HTTPRoute, &service.name, service.labels(), body))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{betting_service, service as fixture};
    use super::*;
    use crate::controllers::betting_service::validate::validate;

    fn listeners(all: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ListenerSet", "metadata": {"name": "public"},
            "spec": {"listeners": all}
        }))
        .unwrap()
    }

    #[test]
    fn the_service_selects_every_revision_and_no_migration() {
        let object = service(&fixture(Value::Null)).unwrap();
        let spec = &object.data["spec"];
        assert_eq!(spec["selector"], json!({"app.kubernetes.io/instance": "odds", "paddock.bet/component": "rates"}));
        assert_eq!(spec["ports"][1], json!({"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}));
        assert_eq!(service(&fixture(json!({"ports": []}))), None);
    }

    #[test]
    fn a_route_takes_https_only() {
        let both = listeners(&json!([
            {"name": "http-a", "protocol": "HTTP", "port": 80}, {"name": "b", "protocol": "HTTPS", "port": 443},
            {"name": "a", "protocol": "HTTPS", "port": 443},
        ]));
        let routed = fixture(json!({"route": {"path": "/", "webSocket": true}}));
        let object = route(&routed, Some(&both)).unwrap();
        let sections: Vec<_> = object.data["spec"]["parentRefs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["sectionName"].as_str().unwrap())
            .collect();
        assert_eq!(sections, ["a", "b"]);
        assert_eq!(object.data["spec"]["rules"][0]["timeouts"], json!({"request": "0s"}));
        assert_eq!(object.data["spec"]["rules"][0]["backendRefs"][0]["port"], 8080);
    }

    #[test]
    fn no_route_without_something_to_attach_to() {
        let https = listeners(&json!([{"name": "a", "protocol": "HTTPS", "port": 443}]));
        let plain = listeners(&json!([{"name": "a", "protocol": "HTTP", "port": 80}]));
        let routed = betting_service(json!({"route": {"path": "/"}}));
        let inside = fixture(json!({"route": {"path": "/"}}));
        assert!(route(&inside, Some(&https)).is_some());
        assert!(route(&inside, Some(&plain)).is_none());
        assert!(route(&inside, None).is_none());
        assert!(route(&validate(&routed, None).unwrap(), Some(&https)).is_none(), "outside of environments");
        assert!(route(&fixture(Value::Null), Some(&https)).is_none());
    }
}
