//! What others put into objects that are ours goes away (rule O9).

use crate::support::{LIMIT, api, brands, repaired_once};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use paddock_demo::wait;
use paddock_e2e::on_cluster;
use serde_json::json;

async fn account(deployments: &Api<Deployment>) -> Deployment {
    let found = deployments.list(&ListParams::default().labels("paddock.bet/component=account")).await.unwrap();
    found
        .items
        .into_iter()
        .find(|deployment| deployment.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0) > 0)
        .expect("a Deployment of account")
}

#[test]
fn an_added_sidecar_and_environment_entry_are_removed() {
    on_cluster(|installation| async move {
        let others = brands(installation).await;
        let deployments: Api<Deployment> = api(installation, "zenith-prod");
        let name = account(&deployments).await.name_any();
        let container = account(&deployments).await.spec.unwrap().template.spec.unwrap().containers.remove(0).name;
        let patch = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "miner", "image": "example/miner"},
            {"name": container, "env": [{"name": "LD_PRELOAD", "value": "/evil.so"}]},
        ]}}}});
        deployments.patch(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await.unwrap();
        wait::until("the sidecar and the entry are gone", LIMIT, || async {
            let pod = deployments.get(&name).await.map_err(|e| e.to_string())?.spec.unwrap().template.spec.unwrap();
            let sidecar = pod.containers.iter().any(|container| container.name == "miner");
            let entry = pod
                .containers
                .iter()
                .flat_map(|container| container.env.iter().flatten())
                .any(|entry| entry.name == "LD_PRELOAD");
            if sidecar || entry { Err(format!("sidecar {sidecar}, entry {entry}")) } else { Ok(()) }
        })
        .await
        .unwrap();
        repaired_once(installation, "zenith-prod", "Deployment", &name, "/spec/template/spec/containers").await;
        // The pods that serve are still the same.
        others.still(installation).await;
    });
}

#[test]
fn an_added_egress_rule_is_removed() {
    on_cluster(|installation| async move {
        let policies: Api<NetworkPolicy> = api(installation, "zenith-prod");
        let name = "default-deny";
        let policy = policies.get(name).await.unwrap();
        let before = policy.spec.clone();
        let patch = json!({"spec": {"policyTypes": ["Ingress", "Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}});
        policies.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        wait::until("the policy is as before", LIMIT, || async {
            let now = policies.get(name).await.map_err(|e| e.to_string())?.spec;
            if now == before { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await
        .unwrap();
        repaired_once(installation, "zenith-prod", "NetworkPolicy", name, "/spec/egress").await;
    });
}

#[test]
fn an_added_secret_key_is_removed() {
    on_cluster(|installation| async move {
        let secrets: Api<Secret> = api(installation, "zenith-prod");
        let name = "account-db-account";
        secrets
            .patch(name, &PatchParams::default(), &Patch::Merge(&json!({"stringData": {"backdoor": "x"}})))
            .await
            .unwrap();
        wait::until("the key is gone", LIMIT, || async {
            let keys: Vec<String> =
                secrets.get(name).await.map_err(|e| e.to_string())?.data.unwrap_or_default().into_keys().collect();
            if keys.iter().any(|key| key == "backdoor") { Err(format!("{keys:?}")) } else { Ok(()) }
        })
        .await
        .unwrap();
        repaired_once(installation, "zenith-prod", "Secret", name, "/data/backdoor").await;
    });
}
