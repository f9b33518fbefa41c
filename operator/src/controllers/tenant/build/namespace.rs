//! The namespace of an environment.

use super::{Identity, kinds, object};
use kube::api::DynamicObject;
use paddock_crds::labels;
use serde_json::json;

/// Label of Pod Security admission: what a pod of the namespace must comply with.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// The namespace: labelled with its Tenant, environment and class, and closed to pods that are not `restricted`.
pub fn namespace(identity: &Identity) -> DynamicObject {
    let mut labels = identity.labels();
    labels.insert(labels::CLASS.into(), identity.class.to_string());
    labels.insert(POD_SECURITY.into(), "restricted".into());
    object(kinds::NAMESPACE, None, &identity.namespace(), labels, json!({}))
}

/// Whether a live namespace was made by us for this very environment (rule O9).
pub fn is_ours(identity: &Identity, live: &DynamicObject) -> bool {
    let found = live.metadata.labels.as_ref();
    let is = |key: &str, value: &str| found.and_then(|l| l.get(key)).is_some_and(|v| v == value);
    is(labels::MANAGED_BY, labels::MANAGED_BY_PADDOCK)
        && is(labels::TENANT, &identity.tenant)
        && is(labels::ENVIRONMENT, &identity.environment)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn a_namespace_says_whose_it_is_and_enforces_restricted_pods() {
        let built = namespace(&fixtures::identity());
        assert_eq!(built.metadata.name.as_deref(), Some("acme-prod"));
        let labels = built.metadata.labels.unwrap_or_default();
        for (key, value) in [
            ("app.kubernetes.io/managed-by", "paddock"),
            ("paddock.bet/tenant", "acme"),
            ("paddock.bet/environment", "prod"),
            ("paddock.bet/class", "Production"),
            ("pod-security.kubernetes.io/enforce", "restricted"),
        ] {
            assert_eq!(labels.get(key).map(String::as_str), Some(value), "{key}");
        }
    }

    #[test]
    fn only_our_own_namespace_of_the_same_environment_is_ours() {
        let identity = fixtures::identity();
        let ours = namespace(&identity);
        assert!(is_ours(&identity, &ours));
        for stolen in [labels::MANAGED_BY, labels::TENANT, labels::ENVIRONMENT] {
            let mut other = ours.clone();
            other.metadata.labels.as_mut().expect("labels").insert(stolen.into(), "else".into());
            assert!(!is_ours(&identity, &other), "{stolen}");
        }
        let mut bare = ours;
        bare.metadata.labels = None;
        assert!(!is_ours(&identity, &bare));
    }
}
