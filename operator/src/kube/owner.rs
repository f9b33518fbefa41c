//! Labels and owner references of everything that we make.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use paddock_crds::labels;
use std::collections::BTreeMap;

/// What an object is for. Only what is known is filled in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Purpose<'a> {
    /// The Tenant.
    pub tenant: Option<&'a str>,
    /// The environment's name within its Tenant.
    pub environment: Option<&'a str>,
    /// The component that it serves.
    pub component: Option<&'a str>,
    /// The DatabaseClaim that it belongs to; makes the claim its owner for triggers.
    pub claim: Option<&'a str>,
    /// Version of the Release.
    pub version: Option<&'a str>,
}

/// The labels of an object of ours, all objects' managed-by label among them. No `app.kubernetes.io/instance`: Argo CD takes what carries the
/// name of an Application there and has no owner for a part of it, and deletes it (ADR 0032).
pub fn labels(purpose: &Purpose<'_>) -> BTreeMap<String, String> {
    let name = purpose.component.or(purpose.claim).or(purpose.tenant).unwrap_or(labels::PART_OF_PADDOCK);
    let entries = [
        (labels::MANAGED_BY, Some(labels::MANAGED_BY_PADDOCK)),
        (labels::PART_OF, Some(labels::PART_OF_PADDOCK)),
        (labels::NAME, Some(name)),
        (labels::APP_COMPONENT, purpose.component),
        (labels::VERSION, purpose.version),
        (labels::TENANT, purpose.tenant),
        (labels::ENVIRONMENT, purpose.environment),
        (labels::COMPONENT, purpose.component),
        (labels::CLAIM, purpose.claim),
    ];
    entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
}

/// The controller reference to `owner`, for objects in its namespace (or anywhere, if the owner is cluster-scoped).
/// `None` for an owner that the apiserver has not stored yet.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> Option<OwnerReference> {
    owner.controller_owner_ref(&())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_says_that_it_is_ours() {
        let bare = labels(&Purpose::default());
        assert_eq!(bare.get(labels::MANAGED_BY).map(String::as_str), Some("paddock"));
        let full = labels(&Purpose { tenant: Some("acme"), component: Some("rates"), ..Purpose::default() });
        assert_eq!(full.get(labels::NAME).map(String::as_str), Some("rates"));
        assert_eq!(full.get(labels::TENANT).map(String::as_str), Some("acme"));
        assert!(!full.contains_key(labels::CLAIM) && !full.contains_key(labels::INSTANCE));
    }
}
