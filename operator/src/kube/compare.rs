//! Whether a live object is what we want: pure comparison of what we built with what is there and who owns it.
//!
//! Two facts of server-side apply make it exact: what we applied is listed under our manager, and anyone who changes one of our
//! fields takes it out of that list. So an object is at rest when the list holds exactly the fields that we want, every wanted value
//! is there, and no field belongs to someone else alone (rule O9).

use super::{
    fields::{Owners, Place, Step, is_leaf, pointer, steps},
    quantity,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value, json};

/// What must be done to an object.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// Where the object differs from what we want, for the log; `None` when no apply is needed.
    pub differs: Option<String>,
    /// Fields that belong to others alone, deepest and last first, so that removing one moves no other.
    pub drift: Vec<Vec<Place>>,
}

impl Verdict {
    /// Nothing to do.
    pub fn at_rest(&self) -> bool {
        self.differs.is_none() && self.drift.is_empty()
    }
}

/// Compares. `desired` is without nulls, status and server-set metadata: see [`normalise`]. `live` is the whole object.
pub fn compare(concern: &str, desired: &Value, live: &Value, managed: Option<&Vec<ManagedFieldsEntry>>) -> Verdict {
    let owners = Owners::of(managed, concern);
    let fields = without_identity(desired);
    let differs = match owners.own {
        None => Some("not applied by this manager yet".to_owned()),
        Some(own) => covers(own, &fields, &mut Vec::new())
            .or_else(|| differs(&fields, live, Some(own), &mut Vec::new()))
            .map(|path| pointer(&path)),
    };
    let mut drift = Vec::new();
    let ours: Vec<&Value> = owners.others;
    for foreign in owners.foreign {
        collect_drift(foreign, &ours, Some(desired), live, &mut Vec::new(), &mut drift);
    }
    if desired.get("kind").and_then(Value::as_str) == Some("ServiceAccount") {
        drift.retain(|path| !is_of_platform(path));
    }
    drift.sort();
    drift.dedup();
    // A path below another that goes is gone with it.
    let mut kept: Vec<Vec<Place>> = Vec::new();
    for path in drift {
        if !kept.iter().any(|above| path.starts_with(above)) {
            kept.push(path);
        }
    }
    kept.reverse();
    Verdict { differs, drift: kept }
}

/// The JSON patch that removes drift from exactly the state that was compared.
pub fn removal(drift: &[Vec<Place>], resource_version: &str) -> Value {
    // Writing the version that was read makes the apiserver answer 409 when the object has moved on.
    let mut operations = vec![json!({"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version})];
    operations.extend(drift.iter().map(|path| json!({"op": "remove", "path": pointer(path)})));
    Value::Array(operations)
}

/// Takes out of a built object what is not ours to apply: nulls, status, metadata that the server sets. `stringData` becomes `data`,
/// because the apiserver keeps only that.
pub fn normalise(mut object: Value) -> Value {
    strip_nulls(&mut object);
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
        if let Some(Value::Object(text)) = map.remove("stringData") {
            let data = map.entry("data").or_insert_with(|| Value::Object(Map::new()));
            for (name, value) in text {
                let encoded = data_encoding::BASE64.encode(value.as_str().unwrap_or_default().as_bytes());
                if let Some(data) = data.as_object_mut() {
                    data.insert(name, Value::String(encoded));
                }
            }
        }
        if let Some(Value::Object(meta)) = map.get_mut("metadata") {
            for name in
                ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "deletionTimestamp"]
            {
                meta.remove(name);
            }
        }
    }
    object
}

/// Takes nulls out of a value: an apply would own them.
pub fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, child| !child.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

/// managedFields never name what identifies an object.
fn without_identity(desired: &Value) -> Value {
    let mut fields = desired.clone();
    if let Some(map) = fields.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
        if let Some(Value::Object(meta)) = map.get_mut("metadata") {
            meta.remove("name");
            meta.remove("namespace");
            if meta.is_empty() {
                map.remove("metadata");
            }
        }
    }
    fields
}

type Path = Vec<Place>;

/// Where the owned fields and the wanted ones are not the same set.
fn covers(owned: &Value, desired: &Value, path: &mut Path) -> Option<Path> {
    if is_leaf(owned) {
        return None;
    }
    for (_, step, child) in steps(owned) {
        match step.find(desired) {
            Some((place, wanted)) => {
                path.push(place);
                let found = covers(child, wanted, path);
                path.pop();
                if found.is_some() {
                    return found;
                }
            }
            None => return Some(extended(path, &step)),
        }
    }
    match desired {
        Value::Object(map) => map
            .iter()
            .find(|(name, value)| !is_hollow(value) && owned.get(format!("f:{name}")).is_none())
            .map(|(name, _)| extended(path, &Step::Field(name))),
        Value::Array(items) => (steps(owned).count() != items.len()).then(|| path.clone()),
        _ => Some(path.clone()),
    }
}

fn extended(path: &Path, step: &Step<'_>) -> Path {
    let mut path = path.clone();
    path.push(Place::Field(match step {
        Step::Field(name) => (*name).to_owned(),
        Step::Key(key) => Value::Object(key.clone()).to_string(),
        Step::Value(value) => value.to_string(),
        Step::Index(index) => index.to_string(),
    }));
    path
}

/// Where a wanted value is not what is there. `owned` tells lists of keyed items from lists that are one value.
fn differs(desired: &Value, live: &Value, owned: Option<&Value>, path: &mut Path) -> Option<Path> {
    match (desired, live) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(name, value)| {
            path.push(Place::Field(name.clone()));
            let below = owned.and_then(|owned| owned.get(format!("f:{name}")));
            let difference = match found.get(name) {
                Some(found) => differs(value, found, below, path),
                None => (!is_zero(value)).then(|| path.clone()),
            };
            path.pop();
            difference
        }),
        (Value::Array(wanted), Value::Array(found)) => {
            let keyed = owned.filter(|owned| !is_leaf(owned));
            let Some(keyed) = keyed else {
                if wanted.len() != found.len() {
                    return Some(path.clone());
                }
                return wanted.iter().zip(found).enumerate().find_map(|(index, (wanted, found))| {
                    path.push(Place::Index(index));
                    let difference = differs(wanted, found, None, path);
                    path.pop();
                    difference
                });
            };
            steps(keyed).find_map(|(_, step, below)| match (step.find(desired), step.find(live)) {
                (Some((place, wanted)), Some((_, found))) => {
                    path.push(place);
                    let difference = differs(wanted, found, Some(below), path);
                    path.pop();
                    difference
                }
                _ => Some(extended(path, &step)),
            })
        }
        (Value::Null, _) => None,
        _ => (!same_scalar(desired, live, path)).then(|| path.clone()),
    }
}

fn same_scalar(desired: &Value, live: &Value, path: &Path) -> bool {
    if desired == live {
        return true;
    }
    if let (Some(left), Some(right)) = (desired.as_f64(), live.as_f64()) {
        return left.total_cmp(&right).is_eq();
    }
    if !is_quantity(path) {
        return false;
    }
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match (text(desired), text(live)) {
        (Some(left), Some(right)) => quantity::same(&left, &right),
        _ => false,
    }
}

/// Places where the apiserver rewrites quantities in its own form.
fn is_quantity(path: &Path) -> bool {
    let mut names = path.iter().rev().filter_map(|place| match place {
        Place::Field(name) => Some(name.as_str()),
        Place::Index(_) => None,
    });
    let own = names.next().unwrap_or_default();
    let above = names.next().unwrap_or_default();
    matches!(own, "sizeLimit" | "averageValue" | "divisor")
        || matches!(
            above,
            "limits" | "requests" | "hard" | "default" | "defaultRequest" | "max" | "min" | "maxLimitRequestRatio"
        )
}

/// Nothing that an owner could hold.
fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// What the apiserver may leave out because it is the zero value.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_zero),
    }
}

/// Fields of an object that others may own: rule O9's exemptions.
fn is_exempt(path: &[Place]) -> bool {
    let name = |index: usize| match path.get(index) {
        Some(Place::Field(name)) => name.as_str(),
        _ => "",
    };
    match name(0) {
        "status" => true,
        "metadata" => path.len() > 1 && name(1) != "ownerReferences",
        "spec" => path.len() == 2 && name(1) == "replicas",
        _ => false,
    }
}

/// Fields that a platform gives every ServiceAccount, and would give again as often as they are removed.
fn is_of_platform(path: &[Place]) -> bool {
    matches!(path.first(), Some(Place::Field(name)) if name == "imagePullSecrets" || name == "secrets")
}

fn collect_drift(
    foreign: &Value,
    ours: &[&Value],
    desired: Option<&Value>,
    live: &Value,
    path: &mut Path,
    drift: &mut Vec<Path>,
) {
    for (raw, step, child) in steps(foreign) {
        let Some((place, found)) = step.find(live) else { continue };
        path.push(place);
        if !is_exempt(path) {
            let wanted = desired.and_then(|desired| step.find(desired)).map(|(_, wanted)| wanted);
            let shared: Vec<&Value> = ours.iter().filter_map(|fields| fields.get(raw)).collect();
            if wanted.is_none() && shared.is_empty() {
                drift.push(path.clone());
            } else if !shared.iter().any(|fields| is_leaf(fields)) {
                collect_drift(child, &shared, wanted, found, path, drift);
            }
        }
        path.pop();
    }
}

#[cfg(test)]
mod tests;
