//! The kinds of `paddock.bet`: types, validation rules and names. No Kubernetes client.
//!
//! One file per kind in [`v1alpha1`]; a field's doc comment is its text in `kubectl explain`.

pub mod condition;
pub mod duration;
pub mod labels;
pub mod names;
pub mod v1alpha1;

/// API group of every kind.
pub const GROUP: &str = "paddock.bet";

/// Every custom resource definition, in the order in which they are installed.
pub fn all() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt as _;
    vec![
        v1alpha1::Tenant::crd(),
        v1alpha1::Release::crd(),
        v1alpha1::BettingService::crd(),
        v1alpha1::Market::crd(),
        v1alpha1::DatabaseClass::crd(),
        v1alpha1::DatabaseClaim::crd(),
    ]
}
