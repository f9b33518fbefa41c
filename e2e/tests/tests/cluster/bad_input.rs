//! Bad input: always a clear answer, nothing lost, others untouched, and recovery once it is mended.

use crate::support::{LIMIT, api, condition, gone, warned_once};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams, PostParams};
use paddock_crds::v1alpha1::{BettingService, Release, Tenant};
use paddock_demo::{Installation, wait};
use paddock_e2e::on_cluster;
use serde_json::{Value, json};

fn tenant(name: &str, host: &str, release: &str) -> Tenant {
    serde_json::from_value(json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": name},
        "spec": {"displayName": name, "licences": [{"name": "x", "jurisdiction": "MT"}], "currencies": ["EUR"], "environments": [
            {"name": "dev", "class": "NonProduction", "release": release, "domains": [{"host": host}]},
        ]},
    }))
    .unwrap()
}

fn tenants(installation: &Installation) -> Api<Tenant> {
    Api::all(installation.client.clone())
}

async fn merge(objects: &Api<Tenant>, name: &str, patch: Value) {
    objects.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[test]
fn a_taken_domain_is_refused_and_freed_when_its_holder_lets_go() {
    on_cluster(|installation| async move {
        let tenants = tenants(installation);
        tenants.create(&PostParams::default(), &tenant("thief", "zenith.localhost", "no-such-release")).await.unwrap();
        let message = condition(&tenants, "thief", "DomainsReady", "False", Some("DomainTaken")).await;
        assert!(message.contains("zenith.localhost") && message.contains("zenith"), "{message}");
        warned_once(installation, "Tenant", "thief", "zenith.localhost").await;
        // The holder is untouched.
        condition(&tenants, "zenith", "Ready", "True", None).await;
        gone(&tenants, "thief").await;
    });
}

#[test]
fn an_unknown_release_says_so_and_recovers_when_it_comes() {
    on_cluster(|installation| async move {
        let tenants = tenants(installation);
        tenants.create(&PostParams::default(), &tenant("early", "early.localhost", "tomorrow")).await.unwrap();
        let message = condition(&tenants, "early", "ReleaseApplied", "False", None).await;
        assert!(message.contains("tomorrow"), "{message}");
        let release: Release = serde_json::from_value(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Release", "metadata": {"name": "tomorrow"},
            "spec": {"version": "1", "components": [{"name": "idle", "image": "paddock.local/does-not-exist:1", "ports": [{"name": "http", "port": 8080}]}]},
        }))
        .unwrap();
        let releases: Api<Release> = Api::all(installation.client.clone());
        releases.create(&PostParams::default(), &release).await.unwrap();
        // The image cannot be pulled: the service says which one.
        let services: Api<BettingService> = api(installation, "early-dev");
        let found = wait::until("BettingService idle", LIMIT, || async {
            services
                .get_opt("idle")
                .await
                .map_err(|e| e.to_string())?
                .ok_or_else(|| "the operator has not made it yet".to_owned())
        });
        found.await.unwrap();
        let message = condition(&services, "idle", "Ready", "False", Some("ImagePullFailed")).await;
        assert!(message.contains("paddock.local/does-not-exist:1"), "{message}");
        warned_once(installation, "BettingService", "idle", "does-not-exist:1").await;
        // A Release in use cannot go.
        assert!(releases.delete("tomorrow", &kube::api::DeleteParams::default()).await.is_ok());
        assert!(releases.get_opt("tomorrow").await.unwrap().is_some(), "a Release in use was deleted");
        gone(&tenants, "early").await;
        wait::until("the Release goes when nobody uses it", LIMIT, || async {
            match releases.get_opt("tomorrow").await {
                Ok(None) => Ok(()),
                Ok(Some(release)) => Err(format!("{:?}", release.status)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_namespace_that_is_not_ours_is_never_taken_over() {
    on_cluster(|installation| async move {
        let namespaces: Api<Namespace> = Api::all(installation.client.clone());
        let foreign: Namespace =
            serde_json::from_value(json!({"metadata": {"name": "squat-dev", "labels": {"owner": "somebody"}}}))
                .unwrap();
        namespaces.create(&PostParams::default(), &foreign).await.unwrap();
        let tenants = tenants(installation);
        tenants
            .create(
                &PostParams::default(),
                &tenant("squat", "squat.localhost", &installation.release("brand-2026.11.1")),
            )
            .await
            .unwrap();
        let message = condition(&tenants, "squat", "NamespacesReady", "False", Some("NamespaceNotOurs")).await;
        assert!(message.contains("squat-dev"), "{message}");
        warned_once(installation, "Tenant", "squat", "squat-dev").await;
        let labels = namespaces.get("squat-dev").await.unwrap().metadata.labels.unwrap_or_default();
        assert!(!labels.contains_key("app.kubernetes.io/managed-by"), "{labels:?}");
        gone(&tenants, "squat").await;
        namespaces.delete("squat-dev", &kube::api::DeleteParams::default()).await.unwrap();
    });
}

#[test]
fn an_unknown_component_in_overrides_is_named() {
    on_cluster(|installation| async move {
        let tenants = tenants(installation);
        merge(&tenants, "platform", json!({"spec": {"suspended": false}})).await;
        let mut wrong = tenant("typo", "typo.localhost", &installation.release("brand-2026.11.1"));
        wrong.spec.environments[0].services =
            serde_json::from_value(json!([{"name": "acount", "enabled": true}])).unwrap();
        tenants.create(&PostParams::default(), &wrong).await.unwrap();
        let message = condition(&tenants, "typo", "Ready", "False", None).await;
        assert!(message.contains("acount"), "{message}");
        gone(&tenants, "typo").await;
    });
}
