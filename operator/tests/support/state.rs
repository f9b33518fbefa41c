//! What a Tenant has come to, without what differs between two runs.

use futures::StreamExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    core::{ApiResource, DynamicObject},
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use paddock_crds::v1alpha1::{Market, Release, Tenant};
use paddock_operator::kube::ChildKind;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use strum::IntoEnumIterator as _;

/// Most market books of a namespace in a life.
const BOOKS: i64 = 9;

/// Every object of a Tenant by kind, namespace and name; names and hashes that depend on the Tenant's name are replaced.
pub type State = BTreeMap<String, Value>;

/// All objects of the kinds that the operator makes or reads, seen by other eyes than the operator's. Not pods: their names are
/// drawn, and the Deployment controller answers for them.
pub struct Observer(Vec<(String, reflector::Store<DynamicObject>)>);

impl Observer {
    /// Begins to watch.
    pub fn start(client: &Client) -> Self {
        let own =
            [ApiResource::erase::<Tenant>(&()), ApiResource::erase::<Release>(&()), ApiResource::erase::<Market>(&())];
        let children = ChildKind::iter().filter(|kind| *kind != ChildKind::Pod).map(ChildKind::api_resource);
        let store = |resource: ApiResource| {
            let writer = reflector::store::Writer::new(resource.clone());
            let reader = writer.as_reader();
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let events = reflector(writer, watcher(api, watcher::Config::default())).default_backoff();
            tokio::spawn(events.for_each(|_| std::future::ready(())));
            (resource.kind, reader)
        };
        Self(own.into_iter().chain(children).map(store).collect())
    }

    /// Objects of a kind that belong to the Tenant.
    pub fn of(&self, kind: &str, tenant: &str) -> Vec<std::sync::Arc<DynamicObject>> {
        let label = |object: &DynamicObject, key: &str| object.labels().get(key).cloned();
        let mine = |object: &DynamicObject| {
            // What has lost the label of its Tenant is found by its namespace.
            let inside = object.metadata.namespace.as_ref().is_some_and(|it| it.starts_with(&format!("{tenant}-")));
            label(object, "paddock.bet/tenant").as_deref() == Some(tenant)
                || (inside && label(object, "app.kubernetes.io/managed-by").as_deref() == Some("paddock"))
        };
        let stores = self.0.iter().filter(|(name, _)| name == kind);
        stores.flat_map(|(_, store)| store.state()).filter(|object| mine(object)).collect()
    }

    /// The state of a Tenant.
    pub fn state(&self, tenant: &str) -> State {
        let mut state = Map::new();
        let mut replaced = Vec::new();
        let namespaces = self.of("Namespace", tenant);
        // Market books are numbered from the second in which their namespace was made.
        let born: BTreeMap<String, i64> =
            namespaces.iter().filter_map(|it| Some((it.name_any(), it.creation_timestamp()?.0.as_second()))).collect();
        for (kind, _) in &self.0 {
            for object in self.of(kind, tenant) {
                let name = object.name_any();
                replaced.extend(object.uid().map(|uid| (uid, "UID".to_owned())));
                if kind == "ControllerRevision"
                    && let Some(hash) = object.labels().get("paddock.bet/revision")
                {
                    replaced.push((hash.clone(), format!("revision{}", object.data["revision"])));
                }
                if kind == "Secret" && name.starts_with("tls-") {
                    replaced.push((name.clone(), "tls-HOST".to_owned()));
                }
                let status = matches!(kind.as_str(), "Tenant" | "Release" | "BettingService" | "Market");
                let key = format!("{kind} {}/{name}", object.namespace().unwrap_or_default());
                let mut essence = essence(&object, status);
                if let Some(born) = object.namespace().and_then(|it| born.get(&it).copied()) {
                    let mut text = essence.to_string();
                    for number in 1..=BOOKS {
                        text = text.replace(&(born + number).to_string(), &number.to_string());
                    }
                    essence = serde_json::from_str(&text).unwrap();
                }
                state.insert(key, essence);
            }
        }
        replaced.push((tenant.to_owned(), "TENANT".to_owned()));
        let mut text = Value::Object(state).to_string();
        for (from, to) in replaced {
            text = text.replace(&from, &to);
        }
        serde_json::from_str(&text).unwrap()
    }
}

/// Everything about an object that does not differ between two runs; of its status only what the operator writes.
pub fn essence(object: &DynamicObject, status: bool) -> Value {
    let meta = &object.metadata;
    let owned: BTreeMap<String, Value> = meta
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.manager.as_ref().is_some_and(|manager| manager.starts_with("paddock")))
        .map(|entry| {
            (
                format!("{:?} {:?}", entry.manager, entry.subresource),
                entry.fields_v1.as_ref().map(|fields| fields.0.clone()).unwrap_or_default(),
            )
        })
        .collect();
    let mut data = object.data.clone();
    if status {
        // A status is of the present spec, whatever number that has come to.
        let seen = data.pointer("/status/observedGeneration").cloned();
        data["current"] = json!(seen == meta.generation.map(|it| json!(it)));
        remove(&mut data, &["lastTransitionTime", "waitingSince", "observedGeneration"]);
    } else {
        data.as_object_mut().unwrap().remove("status");
    }
    // The server draws these.
    for place in ["/spec/clusterIP", "/spec/clusterIPs"] {
        if let Some(value) = data.pointer_mut(place) {
            *value = Value::Null;
        }
    }
    remove(&mut data, &["batch.kubernetes.io/controller-uid", "controller-uid"]);
    // Tokens, keys and certificates.
    if data.get("type").is_some()
        && let Some(Value::Object(secrets)) = data.get_mut("data")
    {
        secrets.values_mut().for_each(|value| *value = json!("…"));
    }
    let mut annotations = object.annotations().clone();
    // A certificate's times are those of its making.
    annotations.retain(|name, _| !name.starts_with("deployment.kubernetes.io/") && name != "paddock.bet/renew-at");
    json!({
        "labels": meta.labels, "annotations": annotations, "owners": meta.owner_references, "finalizers": meta.finalizers,
        "deleting": meta.deletion_timestamp.is_some(), "owned": owned, "data": data,
    })
}

fn remove(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !names.contains(&name.as_str()));
            map.values_mut().for_each(|child| remove(child, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|child| remove(child, names)),
        _ => {}
    }
}

/// Where two states differ, in words.
pub fn differences(wanted: &State, found: &State) -> String {
    let (wanted, found) = (json!(wanted), json!(found));
    let mut lines = Vec::new();
    compare("", &wanted, &found, &mut lines);
    lines.truncate(20);
    lines.join("\n")
}

fn compare(path: &str, wanted: &Value, found: &Value, lines: &mut Vec<String>) {
    let short = |value: &Value| value.to_string().chars().take(300).collect::<String>();
    match (wanted, found) {
        (Value::Object(left), Value::Object(right)) => {
            let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            for name in names {
                match (left.get(name), right.get(name)) {
                    (Some(left), Some(right)) => compare(&format!("{path} > {name}"), left, right, lines),
                    (Some(left), None) => lines.push(format!("{path} > {name}: missing, was {}", short(left))),
                    (None, right) => {
                        lines.push(format!("{path} > {name}: new, {}", right.map(short).unwrap_or_default()));
                    }
                }
            }
        }
        (left, right) if left != right => lines.push(format!("{path}: {} instead of {}", short(right), short(left))),
        _ => {}
    }
}
