//! What should exist for an environment: pure functions from a Tenant's spec to objects.

pub mod access;
pub mod admission;
pub mod cidr;
pub mod domains;
pub mod limits;
pub mod namespace;
pub mod network;
pub mod services;
pub mod tokens;

use crate::settings::Settings;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DynamicObject, TypeMeta};
use paddock_crds::labels;
use paddock_crds::v1alpha1::EnvironmentClass;
use serde_json::Value;
use std::collections::BTreeMap;

/// Value of label `app.kubernetes.io/name` on what this controller makes for an environment. No component can be called so
/// (a dot is not allowed in their names), so that pruning by this label never meets an object of a BettingService.
pub const OWNED_NAME: &str = "environment.paddock.bet";

/// What the operator's configuration says about its surroundings, as far as environments depend on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Surroundings {
    /// Namespace of the operator: domain claims live here.
    pub operator_namespace: String,
    /// ServiceAccount of the operator, in its namespace.
    pub operator_service_account: String,
    /// Value of label `app.kubernetes.io/name` on the operator's pods: they alone reach control ports.
    pub operator_name: String,
    /// Name of the Gateway that ListenerSets attach to.
    pub gateway_name: String,
    /// Namespace of that Gateway.
    pub gateway_namespace: String,
    /// Namespace of the Gateway's proxies.
    pub proxy_namespace: String,
    /// Labels of the Gateway's proxies there; none means any pod.
    pub proxy_labels: BTreeMap<String, String>,
    /// Port of HTTPS listeners.
    pub https_port: u16,
    /// Port under which the world reaches them.
    pub public_https_port: u16,
    /// Port of HTTP listeners.
    pub http_port: u16,
    /// Namespace of the cluster's DNS.
    pub dns_namespace: String,
    /// Namespace that metrics are scraped from.
    pub prometheus_namespace: String,
    /// Labels of Prometheus' pods there; none means any pod.
    pub prometheus_labels: BTreeMap<String, String>,
    /// Address ranges of pods and Services: never reached by address.
    pub cluster_subnets: Vec<String>,
    /// Prefixes that images of Production have; none means any.
    pub registries: Vec<String>,
}

impl From<&Settings> for Surroundings {
    fn from(settings: &Settings) -> Self {
        Self {
            operator_namespace: settings.operator_namespace.clone(),
            operator_service_account: settings.service_account.clone(),
            operator_name: settings.operator_name.clone(),
            gateway_name: settings.gateway.clone(),
            gateway_namespace: settings.gateway_namespace.clone(),
            proxy_namespace: settings.gateway_proxy_namespace.clone(),
            proxy_labels: settings.gateway_proxy_labels.iter().cloned().collect(),
            https_port: settings.https_port,
            public_https_port: settings.public_https_port,
            http_port: settings.http_port,
            dns_namespace: settings.dns_namespace.clone(),
            prometheus_namespace: settings.prometheus_namespace.clone(),
            prometheus_labels: settings.prometheus_labels.iter().cloned().collect(),
            cluster_subnets: vec![settings.pod_subnet.clone(), settings.service_subnet.clone()],
            registries: settings.registries.clone(),
        }
    }
}

/// The identity of an environment: what its objects are labelled with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Name of the Tenant.
    pub tenant: String,
    /// Name of the environment within it.
    pub environment: String,
    /// Its class.
    pub class: EnvironmentClass,
}

impl Identity {
    /// The namespace of the environment.
    pub fn namespace(&self) -> String {
        paddock_crds::names::namespace(&self.tenant, &self.environment)
    }

    /// Labels that say whose an object is, without saying what it is.
    pub fn ownership(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (labels::MANAGED_BY.into(), labels::MANAGED_BY_PADDOCK.into()),
            (labels::PART_OF.into(), labels::PART_OF_PADDOCK.into()),
            (labels::TENANT.into(), self.tenant.clone()),
            (labels::ENVIRONMENT.into(), self.environment.clone()),
        ])
    }

    /// Labels of the objects that the Tenant controller makes itself.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut all = self.ownership();
        all.insert(labels::NAME.into(), OWNED_NAME.into());
        all
    }

    /// Selector of exactly the objects with [`Self::labels`]: what pruning looks at.
    pub fn selector(&self) -> [(&str, &str); 4] {
        [
            (labels::MANAGED_BY, labels::MANAGED_BY_PADDOCK),
            (labels::NAME, OWNED_NAME),
            (labels::TENANT, &self.tenant),
            (labels::ENVIRONMENT, &self.environment),
        ]
    }

    /// An object in the namespace of the environment. `body` holds everything but type and metadata.
    pub fn object(&self, (api_version, kind): (&str, &str), name: &str, body: Value) -> DynamicObject {
        object((api_version, kind), Some(&self.namespace()), name, self.labels(), body)
    }
}

/// An object as it is sent to the apiserver. `body` holds everything but type and metadata.
pub fn object(
    (api_version, kind): (&str, &str),
    namespace: Option<&str>,
    name: &str,
    labels: BTreeMap<String, String>,
    body: Value,
) -> DynamicObject {
    DynamicObject {
        types: Some(TypeMeta { api_version: api_version.into(), kind: kind.into() }),
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: namespace.map(Into::into),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        data: body,
    }
}

/// API version and kind of what is made here.
pub mod kinds {
    /// Namespace.
    pub const NAMESPACE: (&str, &str) = ("v1", "Namespace");
    /// `ResourceQuota`.
    pub const RESOURCE_QUOTA: (&str, &str) = ("v1", "ResourceQuota");
    /// `LimitRange`.
    pub const LIMIT_RANGE: (&str, &str) = ("v1", "LimitRange");
    /// `ConfigMap`.
    pub const CONFIG_MAP: (&str, &str) = ("v1", "ConfigMap");
    /// `NetworkPolicy`.
    pub const NETWORK_POLICY: (&str, &str) = ("networking.k8s.io/v1", "NetworkPolicy");
    /// `RoleBinding`.
    pub const ROLE_BINDING: (&str, &str) = ("rbac.authorization.k8s.io/v1", "RoleBinding");
    /// `ListenerSet`, in the standard channel of Gateway API since 1.5.
    pub const LISTENER_SET: (&str, &str) = ("gateway.networking.k8s.io/v1", "ListenerSet");
    /// `HTTPRoute`.
    pub const HTTP_ROUTE: (&str, &str) = ("gateway.networking.k8s.io/v1", "HTTPRoute");
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! Values that tests of this controller start from.
    use super::{Identity, Surroundings};
    use paddock_crds::v1alpha1::{DatabaseClass, EnvironmentClass, Release, Tenant};
    use serde_json::{Value, json};

    pub fn identity() -> Identity {
        Identity { tenant: "acme".into(), environment: "prod".into(), class: EnvironmentClass::Production }
    }

    pub fn surroundings() -> Surroundings {
        Surroundings {
            operator_namespace: "paddock-system".into(),
            operator_service_account: "paddock-operator".into(),
            operator_name: "paddock-operator".into(),
            gateway_name: "public".into(),
            gateway_namespace: "envoy-gateway-system".into(),
            proxy_namespace: "envoy-gateway-system".into(),
            proxy_labels: [("app.kubernetes.io/component".into(), "proxy".into())].into(),
            https_port: 443,
            public_https_port: 443,
            http_port: 80,
            dns_namespace: "kube-system".into(),
            prometheus_namespace: "monitoring".into(),
            prometheus_labels: [("app.kubernetes.io/name".into(), "prometheus".into())].into(),
            cluster_subnets: vec!["10.244.0.0/16".into(), "10.96.0.0/16".into()],
            registries: Vec::new(),
        }
    }

    pub fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("a fixture of the right shape")
    }

    pub const DIGEST: &str = "r.example/p@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    pub fn tenant(environments: Value) -> Tenant {
        let mut tenant = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant",
            "metadata": {"name": "acme", "uid": "u-acme", "generation": 3},
            "spec": {
                "displayName": "Acme Bet", "licences": [{"name": "mga-1", "jurisdiction": "MT"}], "currencies": ["EUR"],
            }
        });
        tenant["spec"]["environments"] = environments;
        from(tenant)
    }

    pub fn release(name: &str, components: Value) -> Release {
        let mut release = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Release", "metadata": {"name": name}, "spec": {"version": "1.0"}
        });
        release["spec"]["components"] = components;
        from(release)
    }

    pub fn class(name: &str, engine: &str, environment_class: &str) -> DatabaseClass {
        from(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass", "metadata": {"name": name},
            "spec": {
                "engine": engine, "environmentClass": environment_class,
                "servers": [{
                    "name": name, "adminSecret": "admin", "endpoints": {"readWrite": format!("{name}.db.svc:5432")},
                    "network": {"namespace": "databases", "podLabels": {"app": name}, "ports": [5432]}
                }]
            }
        }))
    }
}
