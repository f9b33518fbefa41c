//! Reading `metadata.managedFields`: trees of the fields that a manager owns (`f:` field, `k:` item by key, `v:` item by value, `i:` item by place).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value};

/// Prefix of every field manager of ours: `paddock/<concern>`.
pub const MANAGER_PREFIX: &str = "paddock/";

/// The field manager of a concern.
pub fn manager(concern: &str) -> String {
    format!("{MANAGER_PREFIX}{concern}")
}

/// One step down a tree of fields.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<'a> {
    /// Field of an object.
    Field(&'a str),
    /// Item of a list, by the values of its key fields.
    Key(Map<String, Value>),
    /// Item of a list of scalars.
    Value(Value),
    /// Item of a list, by place.
    Index(usize),
}

impl<'a> Step<'a> {
    /// Reads a step as managedFields write it; `None` for `.` and what nobody knows.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest)),
            "k" => serde_json::from_str(rest).ok().map(Self::Key),
            "v" => serde_json::from_str(rest).ok().map(Self::Value),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    /// Where the step leads in a value.
    pub fn find<'v>(&self, value: &'v Value) -> Option<(Place, &'v Value)> {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => {
                map.get(*name).filter(|found| !found.is_null()).map(|found| (Place::Field((*name).to_owned()), found))
            }
            (Self::Key(key), Value::Array(items)) => {
                let exact = |item: &Value| key.iter().all(|(name, wanted)| item.get(name) == Some(wanted));
                // A key field that the apiserver fills in (a port's protocol) may be absent in what we built.
                let defaulted = |item: &Value| {
                    item.is_object()
                        && key.iter().all(|(name, wanted)| item.get(name).is_none_or(|found| found == wanted))
                        && key.iter().any(|(name, _)| item.get(name).is_some())
                };
                let place = items.iter().position(exact).or_else(|| items.iter().position(defaulted))?;
                items.get(place).map(|found| (Place::Index(place), found))
            }
            (Self::Value(wanted), Value::Array(items)) => {
                let place = items.iter().position(|item| item == wanted)?;
                items.get(place).map(|found| (Place::Index(place), found))
            }
            (Self::Index(place), Value::Array(items)) => items.get(*place).map(|found| (Place::Index(*place), found)),
            _ => None,
        }
    }
}

/// One segment of a JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Field of an object.
    Field(String),
    /// Item of a list.
    Index(usize),
}

/// The JSON pointer of a path.
pub fn pointer(path: &[Place]) -> String {
    path.iter().fold(String::new(), |mut text, place| {
        text.push('/');
        match place {
            Place::Field(name) => text.push_str(&name.replace('~', "~0").replace('/', "~1")),
            Place::Index(index) => text.push_str(&index.to_string()),
        }
        text
    })
}

/// The steps below a node, with their raw spelling.
pub fn steps(node: &Value) -> impl Iterator<Item = (&str, Step<'_>, &Value)> {
    node.as_object().into_iter().flatten().filter_map(|(raw, child)| Some((raw.as_str(), Step::parse(raw)?, child)))
}

/// Whether the node owns what it names as a whole: nothing below it is told apart.
pub fn is_leaf(node: &Value) -> bool {
    steps(node).next().is_none()
}

/// Who owns which fields of one object, as one concern sees it.
#[derive(Debug, Default)]
pub struct Owners<'a> {
    /// What the concern itself applied.
    pub own: Option<&'a Value>,
    /// What other concerns of ours own.
    pub others: Vec<&'a Value>,
    /// What managers that are not ours own, but for subresources.
    pub foreign: Vec<&'a Value>,
}

impl<'a> Owners<'a> {
    /// Sorts the entries of an object's managedFields.
    pub fn of(entries: Option<&'a Vec<ManagedFieldsEntry>>, concern: &str) -> Self {
        let own = manager(concern);
        let mut owners = Self::default();
        for entry in entries.into_iter().flatten() {
            // Status and scale have writers of their own.
            if entry.subresource.as_deref().is_some_and(|name| !name.is_empty()) {
                continue;
            }
            let Some(fields) = entry.fields_v1.as_ref().map(|fields| &fields.0) else { continue };
            let name = entry.manager.as_deref().unwrap_or_default();
            if name == own && entry.operation.as_deref() == Some("Apply") {
                owners.own = Some(fields);
            } else if name.starts_with(MANAGER_PREFIX) {
                owners.others.push(fields);
            } else {
                owners.foreign.push(fields);
            }
        }
        owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_items_by_key_with_and_without_defaults() {
        let ports = json!([{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53}, {"containerPort": 8080}]);
        let at = |text: &str| Step::parse(text).unwrap().find(&ports).map(|(place, _)| place);
        assert_eq!(at(r#"k:{"containerPort":53,"protocol":"UDP"}"#), Some(Place::Index(0)));
        assert_eq!(at(r#"k:{"containerPort":53,"protocol":"TCP"}"#), Some(Place::Index(1)));
        assert_eq!(at(r#"k:{"containerPort":8080,"protocol":"TCP"}"#), Some(Place::Index(2)));
        assert_eq!(at(r#"k:{"containerPort":9,"protocol":"TCP"}"#), None);
        assert_eq!(
            Step::parse(r#"v:"a""#).unwrap().find(&json!(["b", "a"])).map(|(place, _)| place),
            Some(Place::Index(1))
        );
        assert_eq!(Step::parse("."), None);
    }

    #[test]
    fn pointers_escape() {
        let path = [Place::Field("metadata".into()), Place::Field("a/b~c".into()), Place::Index(3)];
        assert_eq!(pointer(&path), "/metadata/a~1b~0c/3");
    }
}
