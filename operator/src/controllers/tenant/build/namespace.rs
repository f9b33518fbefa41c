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

/// What a live namespace is to an environment (rule O9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// It was made by us for this very environment.
    Ours,
    /// It was made by us for an environment of this name and another class, and has its claims and Secrets. Admission compares a class with
    /// that of the same environment before; one that left the spec and comes back has none.
    OfClass(String),
    /// It was not.
    Others,
}

/// Looks at a live namespace.
pub fn whose(identity: &Identity, live: &DynamicObject) -> Whose {
    let label = |key: &str| live.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let is = |key: &str, value: &str| label(key).is_some_and(|found| found == value);
    let ours = is(labels::MANAGED_BY, labels::MANAGED_BY_PADDOCK)
        && is(labels::TENANT, &identity.tenant)
        && is(labels::ENVIRONMENT, &identity.environment);
    match label(labels::CLASS) {
        _ if !ours => Whose::Others,
        Some(class) if *class != identity.class.to_string() => Whose::OfClass(class.clone()),
        // Without the label it does not say; it is labelled again.
        _ => Whose::Ours,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use paddock_crds::v1alpha1::EnvironmentClass;

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
        assert_eq!(whose(&identity, &ours), Whose::Ours);
        for stolen in [labels::MANAGED_BY, labels::TENANT, labels::ENVIRONMENT] {
            let mut other = ours.clone();
            other.metadata.labels.as_mut().expect("labels").insert(stolen.into(), "else".into());
            assert_eq!(whose(&identity, &other), Whose::Others, "{stolen}");
        }
        let mut bare = ours;
        bare.metadata.labels = None;
        assert_eq!(whose(&identity, &bare), Whose::Others);
    }

    #[test]
    fn what_was_made_for_another_class_says_so() {
        let production = fixtures::identity();
        let other = Identity { class: EnvironmentClass::NonProduction, ..production.clone() };
        let mut live = namespace(&production);
        assert_eq!(whose(&other, &live), Whose::OfClass("Production".into()));
        let labels = live.metadata.labels.as_mut().expect("labels");
        labels.insert(labels::TENANT.into(), "zenith".into());
        assert_eq!(whose(&other, &live), Whose::Others, "of another Tenant, whatever its class");
        let mut unlabelled = namespace(&production);
        unlabelled.metadata.labels.as_mut().expect("labels").remove(labels::CLASS);
        assert_eq!(whose(&other, &unlabelled), Whose::Ours);
    }
}
