//! Domains of an environment: the listeners that bring its hosts to the Gateway, and the redirect from HTTP to HTTPS.

use super::{Identity, Surroundings, kinds};
use data_encoding::HEXLOWER;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// `ListenerSet` with the HTTPS listeners. Routes of services attach to it, as a whole, and inherit its host names.
pub const PUBLIC: &str = "public";
/// `ListenerSet` with the HTTP listeners: only the redirect attaches to it, so that no route of a service answers without TLS.
pub const PUBLIC_HTTP: &str = "public-http";
/// `HTTPRoute` from HTTP to HTTPS. With a dot, so that no service has a route of that name.
pub const REDIRECT: &str = "redirect.https";

/// A host that the environment holds, with the Secret of its certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Served {
    /// Host name.
    pub host: String,
    /// Secret of type kubernetes.io/tls in the environment's namespace.
    pub secret: String,
}

/// Name of the Secret with the certificate that the operator signs for a host: a host may be longer than a name should be.
pub fn certificate_secret(host: &str) -> String {
    let digest = HEXLOWER.encode(&Sha256::digest(host.as_bytes()));
    format!("tls-{}", digest.get(..16).unwrap_or(&digest))
}

/// How a host is served: with its certificate, else as it is served `now`. What cannot be made or known at this moment takes nothing
/// away (ADR 0025).
pub fn serve(host: &str, certificate: Option<String>, now: &[Served]) -> Option<Served> {
    let with = certificate.map(|secret| Served { host: host.into(), secret });
    with.or_else(|| now.iter().find(|served| served.host == host).cloned())
}

/// The hosts that a live `ListenerSet` brings to the Gateway, each with the Secret of its certificate.
pub fn brought(live: Option<&DynamicObject>) -> Vec<Served> {
    let spec = live.and_then(|live| live.data.get("spec")).unwrap_or(&Value::Null);
    list(spec, "listeners")
        .filter_map(|listener| {
            let secret = listener.pointer("/tls/certificateRefs/0/name")?.as_str()?;
            Some(Served { host: text(listener, "hostname").into(), secret: secret.into() })
        })
        .collect()
}

/// Name of the HTTPS listener of a host.
pub fn listener(host: &str) -> String {
    format!("https.{host}")
}

/// The two `ListenerSets` and the redirect; nothing without hosts, because a `ListenerSet` cannot be empty.
pub fn listeners(identity: &Identity, served: &[Served], around: &Surroundings) -> Vec<DynamicObject> {
    if served.is_empty() {
        return Vec::new();
    }
    let https: Vec<Value> = served
        .iter()
        .map(|s| {
            json!({
                "name": listener(&s.host), "hostname": s.host, "port": around.https_port, "protocol": "HTTPS",
                "tls": {"mode": "Terminate", "certificateRefs": [{"group": "", "kind": "Secret", "name": s.secret}]},
                "allowedRoutes": {"namespaces": {"from": "Same"}},
            })
        })
        .collect();
    let http: Vec<Value> = served
        .iter()
        .map(|s| {
            json!({
                "name": format!("http.{}", s.host), "hostname": s.host, "port": around.http_port, "protocol": "HTTP",
                "allowedRoutes": {"namespaces": {"from": "Same"}},
            })
        })
        .collect();
    let mut redirect = json!({"scheme": "https", "statusCode": 301});
    // Without a port it is that of the scheme.
    if let (true, Some(fields)) = (around.public_https_port != 443, redirect.as_object_mut()) {
        fields.insert("port".into(), around.public_https_port.into());
    }
    vec![
        listener_set(identity, PUBLIC, &https, around),
        listener_set(identity, PUBLIC_HTTP, &http, around),
        identity.object(
            kinds::HTTP_ROUTE,
            REDIRECT,
            json!({"spec": {
                "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "ListenerSet", "name": PUBLIC_HTTP}],
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}],
                }],
            }}),
        ),
    ]
}

fn listener_set(identity: &Identity, name: &str, listeners: &[Value], around: &Surroundings) -> DynamicObject {
    identity.object(
        kinds::LISTENER_SET,
        name,
        json!({"spec": {
            "parentRef": {
                "group": "gateway.networking.k8s.io", "kind": "Gateway",
                "name": around.gateway_name, "namespace": around.gateway_namespace,
            },
            "listeners": listeners,
        }}),
    )
}

/// What a `ListenerSet`'s status says about being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Accepted and programmed, with every listener's references resolved.
    Programmed,
    /// What was wanted before is served; the Gateway has not answered for what is wanted now.
    Changed,
    /// The Gateway does not serve it, or has not answered yet.
    Pending(String),
    /// A listener's certificate cannot be used: host, and what the Gateway says.
    BadCertificate {
        /// Host whose certificate is missing or unusable.
        host: String,
        /// The Gateway's words.
        message: String,
    },
    /// The Gateway refuses: its words.
    Refused(String),
}

/// Reads a live `ListenerSet`.
pub fn serving(live: Option<&DynamicObject>) -> Serving {
    let Some(live) = live else {
        return Serving::Pending("its listeners are being created".into());
    };
    let status = live.data.get("status").unwrap_or(&Value::Null);
    for entry in list(status, "listeners") {
        if let Some(unresolved) = condition(entry, "ResolvedRefs").filter(|c| text(c, "status") == "False") {
            let name = text(entry, "name");
            let host = name.strip_prefix("https.").or_else(|| name.strip_prefix("http.")).unwrap_or(name);
            return Serving::BadCertificate { host: host.into(), message: text(unresolved, "message").into() };
        }
    }
    let generation = live.metadata.generation;
    let mut changed = false;
    for type_ in ["Accepted", "Programmed"] {
        let Some(found) = condition(status, type_) else {
            return Serving::Pending("the Gateway has not looked at its listeners yet".into());
        };
        let current = found.get("observedGeneration").and_then(Value::as_i64).is_none_or(|g| Some(g) == generation);
        match (text(found, "status"), current) {
            ("True", true) => {}
            ("True", false) => changed = true,
            // Programmed=False is how a Gateway without an address or proxy answers; Accepted=False is a refusal.
            ("False", true) if type_ == "Accepted" && text(found, "reason") != "Pending" => {
                return Serving::Refused(format!("{}: {}", text(found, "reason"), text(found, "message")));
            }
            _ => {
                return Serving::Pending(format!(
                    "the Gateway has not programmed its listeners: {}",
                    text(found, "message")
                ));
            }
        }
    }
    if changed { Serving::Changed } else { Serving::Programmed }
}

fn condition<'a>(holder: &'a Value, type_: &str) -> Option<&'a Value> {
    list(holder, "conditions").find(|c| text(c, "type") == type_)
}

fn list<'a>(holder: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    holder.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(holder: &'a Value, key: &str) -> &'a str {
    holder.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{identity, surroundings};
    use super::*;

    fn served() -> Vec<Served> {
        vec![
            Served { host: "bet.acme.example".into(), secret: certificate_secret("bet.acme.example") },
            Served { host: "acme.example".into(), secret: "own".into() },
        ]
    }

    #[test]
    fn no_host_makes_no_listener() {
        assert_eq!(listeners(&identity(), &[], &surroundings()), Vec::new());
    }

    #[test]
    fn https_listeners_name_host_and_certificate() {
        let built = listeners(&identity(), &served(), &surroundings());
        let names: Vec<_> = built.iter().filter_map(|o| o.metadata.name.as_deref()).collect();
        assert_eq!(names, [PUBLIC, PUBLIC_HTTP, REDIRECT]);
        assert_eq!(
            built[0].data["spec"]["listeners"][1],
            json!({
                "name": "https.acme.example", "hostname": "acme.example", "port": 443, "protocol": "HTTPS",
                "tls": {"mode": "Terminate", "certificateRefs": [{"group": "", "kind": "Secret", "name": "own"}]},
                "allowedRoutes": {"namespaces": {"from": "Same"}}
            })
        );
        assert_eq!(
            built[0].data["spec"]["parentRef"],
            json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "envoy-gateway-system"})
        );
    }

    #[test]
    fn plain_http_only_redirects() {
        let built = listeners(&identity(), &served(), &surroundings());
        assert!(
            built[1].data["spec"]["listeners"].as_array().is_some_and(|l| l.iter().all(|l| l["protocol"] == "HTTP"))
        );
        assert_eq!(built[2].data["spec"]["parentRefs"][0]["name"], json!(PUBLIC_HTTP));
        let redirect =
            |built: &[DynamicObject]| built[2].data["spec"]["rules"][0]["filters"][0]["requestRedirect"].clone();
        assert_eq!(redirect(&built), json!({"scheme": "https", "statusCode": 301}));
        assert_eq!(built[2].data["spec"]["rules"][0].get("backendRefs"), None);
        let around = Surroundings { public_https_port: 8443, ..surroundings() };
        let built = listeners(&identity(), &served(), &around);
        assert_eq!(redirect(&built), json!({"scheme": "https", "statusCode": 301, "port": 8443}));
        assert_eq!(built[0].data["spec"]["listeners"][0]["port"], 443, "inside nothing changes");
    }

    #[test]
    fn a_host_without_a_new_certificate_is_served_as_before() {
        let built = listeners(&identity(), &served(), &surroundings());
        let now = brought(Some(&built[0]));
        assert_eq!(now, served());
        assert_eq!(
            (brought(Some(&built[1])), brought(None)),
            (Vec::new(), Vec::new()),
            "plain HTTP has no certificate"
        );
        assert_eq!(serve("acme.example", None, &now), Some(served()[1].clone()));
        assert_eq!(serve("new.example", None, &now), None);
        let with = |secret: &str| Some(Served { host: "acme.example".into(), secret: secret.into() });
        assert_eq!(serve("acme.example", Some("other".into()), &now), with("other"));
    }

    #[test]
    fn a_certificates_name_is_short_and_its_own() {
        let long = format!("{}.example", "a".repeat(60));
        assert_eq!(certificate_secret(&long).len(), 20);
        assert_ne!(certificate_secret("a.example"), certificate_secret("b.example"));
        assert_eq!(certificate_secret("a.example"), certificate_secret("a.example"));
    }

    fn live(status: Value) -> DynamicObject {
        let mut object = identity().object(kinds::LISTENER_SET, PUBLIC, json!({"spec": {}}));
        object.data["status"] = status;
        object.metadata.generation = Some(2);
        object
    }

    fn conditions(accepted: (&str, &str, i64), programmed: (&str, &str, i64)) -> Value {
        json!([
            {"type": "Accepted", "status": accepted.0, "reason": accepted.1, "message": "why", "observedGeneration": accepted.2},
            {"type": "Programmed", "status": programmed.0, "reason": programmed.1, "message": "why", "observedGeneration": programmed.2},
        ])
    }

    #[test]
    fn a_listener_set_serves_when_its_own_generation_is_programmed() {
        assert!(matches!(serving(None), Serving::Pending(_)));
        let good = live(json!({"conditions": conditions(("True", "Accepted", 2), ("True", "Programmed", 2))}));
        assert_eq!(serving(Some(&good)), Serving::Programmed);
        let stale = live(json!({"conditions": conditions(("True", "Accepted", 1), ("True", "Programmed", 1))}));
        assert_eq!(serving(Some(&stale)), Serving::Changed);
        let never =
            live(json!({"conditions": conditions(("True", "Accepted", 1), ("False", "AddressNotAssigned", 1))}));
        assert!(matches!(serving(Some(&never)), Serving::Pending(_)));
        let fresh = live(json!({"conditions": conditions(("Unknown", "Pending", 2), ("Unknown", "Pending", 2))}));
        assert!(matches!(serving(Some(&fresh)), Serving::Pending(_)));
        let refused = live(json!({"conditions": conditions(("False", "NotAllowed", 2), ("False", "NotAllowed", 2))}));
        assert_eq!(serving(Some(&refused)), Serving::Refused("NotAllowed: why".into()));
    }

    #[test]
    fn a_missing_certificate_names_its_host() {
        let bad = live(json!({
            "conditions": conditions(("False", "ListenersNotValid", 2), ("False", "Invalid", 2)),
            "listeners": [{"name": "https.acme.example", "conditions": [
                {"type": "ResolvedRefs", "status": "False", "reason": "InvalidCertificateRef", "message": "secret own not found"}
            ]}]
        }));
        assert_eq!(
            serving(Some(&bad)),
            Serving::BadCertificate { host: "acme.example".into(), message: "secret own not found".into() }
        );
    }
}
