//! Writing a status: only when it says something new, and only over the state that it was computed from.

use super::{cache::Typed, fields::manager};
use crate::{
    controllers::Ctx,
    fault::{Category, Fault},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

/// Writes the whole status by server-side apply. No request when it equals the live one but for `lastTransitionTime` (rule O1).
/// The object's resourceVersion goes along: a status computed from an old state is refused with `Conflict` and computed again.
///
/// # Errors
/// `NotLeader`, or what the apiserver answered. An object that has gone is no error.
pub async fn write_status<K: Typed>(ctx: &Ctx, object: &K, status: Value) -> Result<(), Fault> {
    let kind = K::kind(&()).into_owned();
    let count = |result: &str| ctx.metrics.status_writes.with_label_values(&[kind.as_str(), result]).inc();
    let defect =
        |error| Fault::new(Category::Panic, "a status has no JSON form: report this defect").with_source(error);
    let live = serde_json::to_value(object).map_err(defect)?;
    if same(live.get("status").unwrap_or(&Value::Null), &status) {
        count("unchanged");
        return Ok(());
    }
    ctx.leader.fence()?;
    let meta = object.meta();
    let name = meta.name.as_deref().unwrap_or_default();
    let mut body = json!({
        "apiVersion": K::api_version(&()),
        "kind": kind,
        "metadata": {"name": name, "namespace": meta.namespace, "resourceVersion": meta.resource_version},
        "status": status,
    });
    let resource = kube::core::ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = match meta.namespace.as_deref() {
        Some(namespace) => Api::namespaced_with(ctx.client.clone(), namespace, &resource),
        None => Api::all_with(ctx.client.clone(), &resource),
    };
    super::compare::strip_nulls(&mut body);
    match api.patch_status(name, &PatchParams::apply(&manager("status")).force(), &Patch::Apply(&body)).await {
        Ok(written) => {
            count("written");
            if let Ok(written) = written.try_parse::<K>() {
                ctx.cache.written_typed(written);
            }
            Ok(())
        }
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(error) => {
            count("failed");
            Err(Fault::of_request(&format!("writing the status of {kind} {name}"), error))
        }
    }
}

/// Whether two statuses say the same: transition times and nulls aside.
fn same(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(left), Value::Object(right)) => {
            let names = left.keys().chain(right.keys()).filter(|name| *name != "lastTransitionTime");
            names
                .into_iter()
                .all(|name| same(left.get(name).unwrap_or(&Value::Null), right.get(name).unwrap_or(&Value::Null)))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        _ => left_equals(live, wanted),
    }
}

/// An absent list and an empty one are the same to every reader of a status.
fn left_equals(live: &Value, wanted: &Value) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    live == wanted || (empty(live) && empty(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_alone_are_no_news() {
        let live = json!({"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}], "history": []});
        let again = json!({"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-02-02T00:00:00Z"}], "summary": null});
        assert!(same(&live, &again));
        let news =
            json!({"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        assert!(!same(&live, &news));
        assert!(!same(&Value::Null, &news) && same(&Value::Null, &json!({})));
        assert!(!same(&json!({"a": 1}), &json!({})), "a field that goes is news");
    }
}
