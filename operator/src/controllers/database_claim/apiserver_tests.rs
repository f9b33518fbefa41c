//! An apiserver in memory for the tests of this folder: objects by path, server-side apply of one manager per object, JSON patches,
//! resource versions, finalizers. It can be told to fail from a certain write on, as a crash would.

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<String>,
    writes_left: Option<usize>,
}

/// The server; clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Apiserver(Arc<Mutex<State>>);

impl Apiserver {
    pub(super) fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let query = parts.uri.query().unwrap_or_default().to_owned();
                let json_patch =
                    parts.headers.get("content-type").is_some_and(|kind| kind == "application/json-patch+json");
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, answer) = server.answer(&parts.method, parts.uri.path(), &query, json_patch, &body);
                let status = StatusCode::from_u16(code).unwrap();
                Ok::<_, Infallible>(
                    Response::builder().status(status).body(Body::from(serde_json::to_vec(&answer).unwrap())).unwrap(),
                )
            }
        });
        kube::Client::new(service, "default")
    }

    /// Puts an object there, as a person would; answers it as stored.
    pub(super) fn put(&self, path: &str, mut object: Value) -> Value {
        let mut state = self.0.lock().unwrap();
        state.store(path, &mut object)
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    pub(super) fn remove(&self, path: &str) {
        self.0.lock().unwrap().objects.remove(path);
    }

    /// Paths of objects whose path starts so.
    pub(super) fn paths(&self, prefix: &str) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().filter(|path| path.starts_with(prefix)).cloned().collect()
    }

    /// Writes since the last call, but for events.
    pub(super) fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().writes)
    }

    /// Lets so many more writes pass, and fails all after them; `None`: all pass.
    pub(super) fn allow_writes(&self, left: Option<usize>) {
        self.0.lock().unwrap().writes_left = left;
    }

    fn answer(&self, method: &Method, path: &str, query: &str, json_patch: bool, body: &Value) -> (u16, Value) {
        let mut state = self.0.lock().unwrap();
        if path.contains("/events") {
            return (201, body.clone());
        }
        let (path, status) = path.strip_suffix("/status").map_or((path, false), |path| (path, true));
        if method == Method::GET {
            return state.objects.get(path).map_or((404, failure(404)), |object| (200, object.clone()));
        }
        if let Some(left) = &mut state.writes_left {
            let Some(rest) = left.checked_sub(1) else { return (500, failure(500)) };
            *left = rest;
        }
        let known = state.objects.get(path).map(|live| &live["metadata"]["resourceVersion"]);
        let asked = &body["metadata"]["resourceVersion"];
        if known.is_some_and(|known| (status || !asked.is_null()) && asked != known) {
            return (409, failure(409));
        }
        state.writes.push(format!("{method} {path}{}", if status { "/status" } else { "" }));
        let live = state.objects.get(path).cloned();
        if method == Method::DELETE {
            state.objects.remove(path);
            return live.map_or((404, failure(404)), |object| (200, object));
        }
        let mut object = match (live, json_patch, status) {
            (None, false, false) => {
                let mut object = body.clone();
                object["metadata"]["uid"] = json!(uuid::Uuid::now_v7().to_string());
                object
            }
            (None, ..) => return (404, failure(404)),
            (Some(live), true, _) => match patched(live, body) {
                Some(object) => object,
                None => return (409, failure(409)),
            },
            (Some(mut live), false, true) => {
                live["status"] = body["status"].clone();
                live
            }
            (Some(live), false, false) => {
                let mut object = body.clone();
                object["metadata"]["uid"] = live["metadata"]["uid"].clone();
                object
            }
        };
        if !json_patch && !status {
            let manager = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("fieldManager="))
                .unwrap_or_default()
                .replace("%2F", "/");
            object["metadata"]["managedFields"] = json!([managed(&manager, "Apply", body)]);
        }
        let stored = state.store(path, &mut object);
        let meta = &stored["metadata"];
        if meta.get("deletionTimestamp").is_some() && meta["finalizers"].as_array().is_none_or(Vec::is_empty) {
            state.objects.remove(path);
        }
        (200, stored)
    }
}

impl State {
    fn store(&mut self, path: &str, object: &mut Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object.clone()
    }
}

fn failure(code: u16) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no", "reason": reason})
}

/// An entry of managedFields for what `body` applies.
pub(super) fn managed(manager: &str, operation: &str, body: &Value) -> Value {
    let mut fields = body.clone();
    for name in ["apiVersion", "kind"] {
        fields.as_object_mut().unwrap().remove(name);
    }
    if let Some(Value::Object(meta)) = fields.get_mut("metadata") {
        meta.remove("name");
        meta.remove("namespace");
        meta.remove("resourceVersion");
    }
    json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": owned(&fields)})
}

fn owned(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().map(|(name, child)| (format!("f:{name}"), owned(child))).collect::<Map<_, _>>())
        }
        // The only lists here are owner references, by uid.
        Value::Array(items) => Value::Object(
            items
                .iter()
                .map(|item| {
                    let mut fields = owned(item);
                    fields["."] = json!({});
                    (format!("k:{}", json!({"uid": item["uid"]})), fields)
                })
                .collect(),
        ),
        _ => json!({}),
    }
}

fn patched(mut object: Value, operations: &Value) -> Option<Value> {
    for operation in operations.as_array()? {
        let path = operation["path"].as_str()?;
        let (parent, last) = path.rsplit_once('/')?;
        let last = last.replace("~1", "/");
        match operation["op"].as_str()? {
            "replace" if object.pointer(path)? != &operation["value"] => return None,
            "add" => match object.pointer_mut(parent)? {
                Value::Array(items) => items.push(operation["value"].clone()),
                other => other[&last] = operation["value"].clone(),
            },
            "remove" => match object.pointer_mut(parent)? {
                Value::Array(items) => {
                    items.remove(last.parse().ok()?);
                }
                other => {
                    other.as_object_mut()?.remove(&last);
                }
            },
            _ => {}
        }
    }
    Some(object)
}
