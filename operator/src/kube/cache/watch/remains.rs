//! What is left of an object of ours that is being deleted and cannot be decoded: as much as its end needs. Else its finalizer stays,
//! and with it, for ever, the namespace that is being deleted.

use crate::kube::cache::Typed;
use kube::core::DynamicObject;
use paddock_crds::labels::FINALIZER;
use serde_json::{Value, json};

/// Longest name of a DatabaseClass that a claim can have.
const CLASS_NAME: usize = 63;

/// What its controller can end, if there is such, and what is told about it.
pub(super) struct Remains<K> {
    /// The object, with nothing in its spec but what its end looks at.
    pub(super) object: Option<K>,
    /// What becomes of it, and what people may do.
    pub(super) advice: &'static str,
}

/// Looks at an object that cannot be decoded.
pub(super) fn of<K: Typed>(raw: &DynamicObject) -> Remains<K> {
    let left_alone = |advice| Remains { object: None, advice };
    if raw.metadata.deletion_timestamp.is_none() {
        return left_alone("leaves it alone; correct the field, or install the operator that knows it");
    }
    let rebuilt = |spec: Value, status: Value, advice| Remains {
        object: serde_json::from_value(json!({"metadata": raw.metadata, "spec": spec, "status": status})).ok(),
        advice,
    };
    match K::kind(&()).as_ref() {
        "DatabaseClaim" => {
            let (status, advice) = place(raw);
            let class = text(raw, "/spec/className").unwrap_or_default();
            // The engine is the class's: here it only has to be one.
            rebuilt(json!({"engine": "PostgreSQL", "className": class}), status, advice)
        }
        // Its end takes along what carries its name, whatever its spec says.
        "Tenant" => rebuilt(
            json!({"displayName": "", "licences": [], "currencies": [], "environments": []}),
            Value::Null,
            "ends what was made for it, as it is being deleted; namespaces, claims and data stay",
        ),
        // A Release without components would end the services of those who still ask for it. Nothing waits for it but its own end.
        _ if raw.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER) => left_alone(
            "leaves it alone although it is being deleted; install the operator that knows it, or, when nothing refers to it any more, \
             remove its finalizer paddock.bet/cleanup",
        ),
        _ => left_alone("leaves it alone; it is being deleted"),
    }
}

/// The claim's status with its server, which is written there before anything is made on it.
fn place(raw: &DynamicObject) -> (Value, &'static str) {
    let server = raw.data.pointer("/status/server").filter(|server| !server.is_null());
    let class = text(raw, "/spec/className").filter(|name| (1..=CLASS_NAME).contains(&name.len()));
    match (server, class) {
        (None, _) => (Value::Null, "lets it go, as it is being deleted: nothing was made for it"),
        (Some(Value::String(server)), Some(_)) => (
            json!({"server": server}),
            "lets it go, as it is being deleted: its logins are shut on the server that its status names, its data stays",
        ),
        _ => (
            Value::Null,
            "lets it go, as it is being deleted, but cannot read spec.className and status.server: its data stays and its logins stay \
             open; shut them on its server, or make a claim of its name again and delete that",
        ),
    }
}

fn text<'a>(raw: &'a DynamicObject, pointer: &str) -> Option<&'a str> {
    raw.data.pointer(pointer).and_then(Value::as_str)
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // json!(…) as an argument
mod tests {
    use super::*;
    use paddock_crds::v1alpha1::{DatabaseClaim, Release, Tenant};

    fn raw(deleted: bool, data: Value) -> DynamicObject {
        let mut meta = json!({
            "name": "db", "namespace": "acme-prod", "uid": "u", "resourceVersion": "7", "finalizers": [FINALIZER]
        });
        if deleted {
            meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let mut object = json!({"metadata": meta});
        object.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    /// Class and server of what is left of a claim, and the advice.
    fn claim(class: Value, status: Value) -> (String, Option<String>, &'static str) {
        let spec = json!({"engine": 7, "className": class, "roles": "all"});
        let raw = raw(true, json!({"spec": spec, "status": status}));
        assert!(serde_json::from_value::<DatabaseClaim>(serde_json::to_value(&raw).unwrap()).is_err());
        let remains = of::<DatabaseClaim>(&raw);
        let object = remains.object.unwrap();
        assert_eq!(object.metadata, raw.metadata);
        (object.spec.class_name, object.status.and_then(|status| status.server), remains.advice)
    }

    #[test]
    fn of_a_claim_its_place_is_left() {
        let (class, server, advice) = claim(json!("pg"), json!({"server": "a", "conditions": 7}));
        assert_eq!((class.as_str(), server.as_deref()), ("pg", Some("a")));
        assert!(advice.contains("logins are shut"), "{advice}");
        for nothing_made in [Value::Null, json!({"server": null, "conditions": 7})] {
            let (_, server, advice) = claim(json!("pg"), nothing_made);
            assert_eq!(server, None);
            assert!(advice.contains("nothing was made"), "{advice}");
        }
    }

    #[test]
    fn a_claim_whose_place_cannot_be_read_goes_and_says_what_stays() {
        let placed = json!({"server": "a"});
        let long = "p".repeat(64);
        for (class, status) in [
            (json!("pg"), json!({"server": {"name": "a"}})),
            (json!({"name": "pg"}), placed.clone()),
            (json!(long), placed),
        ] {
            let (_, server, advice) = claim(class, status);
            assert_eq!(server, None);
            assert!(advice.contains("logins stay open"), "{advice}");
        }
    }

    #[test]
    fn of_a_tenant_its_name_is_left() {
        let remains = of::<Tenant>(&raw(true, json!({"spec": {"displayName": 7}})));
        assert_eq!(remains.object.unwrap().metadata.name.as_deref(), Some("db"));
        assert!(remains.advice.contains("ends what was made for it"));
    }

    #[test]
    fn what_lives_and_what_others_may_ask_for_is_left_alone() {
        let living = of::<DatabaseClaim>(&raw(false, json!({"spec": {"className": "pg"}})));
        assert!(living.object.is_none() && living.advice.contains("correct the field"));
        let release = of::<Release>(&raw(true, json!({"spec": {"version": 7}})));
        assert!(release.object.is_none() && release.advice.contains("remove its finalizer"));
    }
}
