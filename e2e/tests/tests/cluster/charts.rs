//! Helm as a release engineer uses it.

use kube::api::{Api, DynamicObject, ListParams};
use paddock_demo::{OPERATOR_NAMESPACE, install};
use paddock_e2e::on_cluster;
use std::collections::BTreeMap;

async fn versions(client: &kube::Client) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    for (group, version, kind, plural) in [
        ("apps", "v1", "Deployment", "deployments"),
        ("", "v1", "ServiceAccount", "serviceaccounts"),
        ("", "v1", "Service", "services"),
    ] {
        let resource = kube::core::ApiResource::from_gvk_with_plural(
            &kube::core::GroupVersionKind::gvk(group, version, kind),
            plural,
        );
        let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), OPERATOR_NAMESPACE, &resource);
        for object in objects.list(&ListParams::default()).await.unwrap() {
            versions.insert(
                format!("{kind}/{}", object.metadata.name.unwrap_or_default()),
                format!("{:?}", object.metadata.generation),
            );
        }
    }
    versions
}

#[test]
fn an_upgrade_without_change_changes_nothing() {
    on_cluster(|installation| async move {
        let before = versions(&installation.client).await;
        let chart = install::repository().unwrap().join("charts/paddock-operator");
        let chart = chart.to_string_lossy();
        installation
            .cluster
            .helm(&["upgrade", "paddock-operator", &chart, "-n", OPERATOR_NAMESPACE, "--reuse-values", "--wait"])
            .await
            .unwrap();
        assert_eq!(versions(&installation.client).await, before);
    });
}
