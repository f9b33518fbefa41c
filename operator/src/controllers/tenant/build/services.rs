//! The `BettingServices` of an environment: one per component of its Release, with the environment's overrides.

use super::Identity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_crds::labels;
use paddock_crds::v1alpha1::{
    BettingService, BettingServiceSpec, Environment, ReleaseComponent, ReleaseSpec, ServiceOverride,
};

/// Components of the Release that the environment runs, as overridden, in the Release's order.
pub fn wanted(environment: &Environment, release: &ReleaseSpec) -> Vec<ReleaseComponent> {
    release
        .components
        .iter()
        .filter_map(|component| {
            let change = environment.services.iter().find(|s| s.name == component.name);
            change.is_none_or(|c| c.enabled).then(|| merged(component, change))
        })
        .collect()
}

/// The environment's size replaces the Release's; its configuration replaces the Release's entry by entry.
fn merged(component: &ReleaseComponent, change: Option<&ServiceOverride>) -> ReleaseComponent {
    let mut merged = component.clone();
    if let Some(change) = change {
        if let Some(replicas) = change.replicas {
            merged.component.replicas = replicas;
        }
        merged.component.config.extend(change.config.clone());
    }
    merged
}

/// The `BettingService` of a component.
pub fn betting_service(
    identity: &Identity,
    component: &ReleaseComponent,
    version: &str,
    suspended: bool,
) -> BettingService {
    let mut labels = identity.ownership();
    labels.insert(labels::NAME.into(), component.name.clone());
    labels.insert(labels::APP_COMPONENT.into(), component.name.clone());
    labels.insert(labels::COMPONENT.into(), component.name.clone());
    labels.insert(labels::VERSION.into(), version.into());
    BettingService {
        metadata: ObjectMeta {
            name: Some(component.name.clone()),
            namespace: Some(identity.namespace()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: BettingServiceSpec {
            component: component.name.clone(),
            version: version.into(),
            spec: component.component.clone(),
            suspended,
        },
        status: None,
    }
}

/// Whether an image is named by its content.
pub fn has_digest(image: &str) -> bool {
    image.rsplit_once("@sha256:").is_some_and(|(name, hex)| {
        !name.is_empty() && hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{DIGEST, from, identity, release};
    use super::*;
    use serde_json::json;

    #[test]
    fn overrides_change_size_and_single_entries() {
        let release = release(
            "r",
            json!([
                {"name": "rates", "image": DIGEST, "config": {"A": "1", "B": "2"}, "replicas": {"min": 2, "max": 4}},
                {"name": "account", "image": DIGEST},
                {"name": "gateway", "image": DIGEST},
            ]),
        );
        let environment: Environment = from(json!({
            "name": "prod", "class": "Production", "release": "r",
            "services": [
                {"name": "rates", "replicas": {"min": 1, "max": 1}, "config": {"B": "3", "C": "4"}},
                {"name": "gateway", "enabled": false},
            ]
        }));
        let got = wanted(&environment, &release.spec);
        assert_eq!(got.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["rates", "account"]);
        assert_eq!(
            serde_json::to_value(&got[0].component.config).expect("json"),
            json!({"A": "1", "B": "3", "C": "4"})
        );
        assert_eq!(got[0].component.replicas.max, 1);
        assert_eq!(got[1].component, release.spec.components[1].component);
    }

    #[test]
    fn a_service_is_labelled_with_its_component_and_follows_suspension() {
        let release = release("r", json!([{"name": "rates", "image": DIGEST}]));
        let built = betting_service(&identity(), &release.spec.components[0], "1.0", true);
        assert_eq!(built.metadata.namespace.as_deref(), Some("acme-prod"));
        assert!(built.spec.suspended);
        let labels = built.metadata.labels.unwrap_or_default();
        assert_eq!(labels.get("paddock.bet/component").map(String::as_str), Some("rates"));
        assert_eq!(labels.get("app.kubernetes.io/version").map(String::as_str), Some("1.0"));
    }

    #[test]
    fn a_digest_is_sixty_four_hex_digits() {
        assert!(has_digest(DIGEST));
        for bad in
            ["r.example/p:1", "r.example/p@sha256:abc", "@sha256:", &DIGEST.to_uppercase(), &format!("{DIGEST}0")]
        {
            assert!(!has_digest(bad), "{bad}");
        }
    }
}
