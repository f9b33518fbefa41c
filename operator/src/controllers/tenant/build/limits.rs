//! Quota and container limits of an environment.

use super::{Identity, kinds};
use kube::api::DynamicObject;
use paddock_crds::v1alpha1::Environment;
use serde_json::json;
use std::collections::BTreeMap;

/// Name of the `ResourceQuota` and of the `LimitRange`.
pub const NAME: &str = "environment";

/// Quota of an environment that names none; documented on the field.
const DEFAULT_QUOTA: [(&str, &str); 3] = [("pods", "300"), ("requests.cpu", "40"), ("requests.memory", "80Gi")];
/// Request of a container that names none: a quota on requests refuses pods without one.
const DEFAULT_REQUEST: [(&str, &str); 2] = [("cpu", "50m"), ("memory", "64Mi")];
/// Limit of a container that names none. No CPU limit: throttling hurts latency and requests already share fairly.
const DEFAULT_LIMIT: [(&str, &str); 1] = [("memory", "512Mi")];

/// The `ResourceQuota`: defaults, replaced by name with what the environment says.
pub fn quota(identity: &Identity, environment: &Environment) -> DynamicObject {
    let mut hard = owned(&DEFAULT_QUOTA);
    if let Some(quota) = &environment.quota {
        hard.extend(quota.hard.clone());
    }
    identity.object(kinds::RESOURCE_QUOTA, NAME, json!({"spec": {"hard": hard}}))
}

/// The `LimitRange`. A resource that the environment bounds itself gets none of our defaults, because ours might exceed its
/// bound, which the apiserver refuses; it then derives the missing ones from the bound.
pub fn limit_range(identity: &Identity, environment: &Environment) -> DynamicObject {
    let mut limit = owned(&DEFAULT_LIMIT);
    let mut request = owned(&DEFAULT_REQUEST);
    let mut max = BTreeMap::new();
    if let Some(bounds) = &environment.limit_range {
        for resource in bounds.default.keys().chain(bounds.max.keys()) {
            limit.remove(resource);
            request.remove(resource);
        }
        limit.extend(bounds.default.clone());
        max.clone_from(&bounds.max);
    }
    let mut entry = json!({"type": "Container", "default": limit, "defaultRequest": request});
    if !max.is_empty()
        && let Some(fields) = entry.as_object_mut()
    {
        fields.insert("max".into(), json!(max));
    }
    identity.object(kinds::LIMIT_RANGE, NAME, json!({"spec": {"limits": [entry]}}))
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{from, identity};
    use super::*;
    use serde_json::Value;

    fn environment(extra: Value) -> Environment {
        let mut value = json!({"name": "prod", "class": "Production", "release": "r"});
        if let (Value::Object(fields), Value::Object(extra)) = (&mut value, extra) {
            fields.extend(extra);
        }
        from(value)
    }

    #[test]
    fn quota_entries_replace_defaults_by_name() {
        let plain = quota(&identity(), &environment(json!({})));
        assert_eq!(
            plain.data,
            json!({"spec": {"hard": {"pods": "300", "requests.cpu": "40", "requests.memory": "80Gi"}}})
        );
        let own = quota(&identity(), &environment(json!({"quota": {"hard": {"pods": "5", "count/secrets": "9"}}})));
        assert_eq!(
            own.data,
            json!({"spec": {"hard": {"pods": "5", "requests.cpu": "40", "requests.memory": "80Gi", "count/secrets": "9"}}})
        );
    }

    #[test]
    fn a_bound_of_the_environment_takes_our_defaults_of_that_resource_away() {
        let plain = limit_range(&identity(), &environment(json!({})));
        assert_eq!(
            plain.data,
            json!({"spec": {"limits": [{"type": "Container", "default": {"memory": "512Mi"}, "defaultRequest": {"cpu": "50m", "memory": "64Mi"}}]}})
        );
        let own = limit_range(
            &identity(),
            &environment(json!({"limitRange": {"default": {"cpu": "20m"}, "max": {"memory": "32Mi"}}})),
        );
        assert_eq!(
            own.data,
            json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "20m"}, "defaultRequest": {}, "max": {"memory": "32Mi"}}]}})
        );
    }
}
