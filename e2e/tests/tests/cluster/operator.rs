//! The operator itself: nothing written at rest, hand-over, recovery.

use crate::support::{LIMIT, condition};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use paddock_crds::v1alpha1::Tenant;
use paddock_demo::{Installation, OPERATOR_NAMESPACE, wait};
use paddock_e2e::on_cluster;
use std::time::Duration;

fn leases(installation: &Installation) -> Api<Lease> {
    Api::namespaced(installation.client.clone(), OPERATOR_NAMESPACE)
}

async fn holder(installation: &Installation) -> Option<String> {
    leases(installation)
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .find_map(|lease| lease.spec?.holder_identity)
        .filter(|holder| !holder.is_empty())
}

/// Sum of the write requests that the leader has made, but for its lease, from its own metrics.
async fn writes(installation: &Installation) -> u64 {
    let leader = holder(installation).await.expect("a leader");
    let pod = pods(installation).await.into_iter().find(|pod| leader.contains(pod.as_str())).expect("the leader's pod");
    let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:9090/proxy/metrics");
    let text = installation.cluster.kubectl(&["get", "--raw", &path]).await.unwrap();
    // The lease is renewed by update; everything else is applied, patched, created or deleted.
    let write = |line: &&str| {
        ["apply", "patch", "create", "delete"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    };
    text.lines()
        .filter(|line| line.starts_with("paddock_kube_requests_total{"))
        .filter(write)
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

async fn pods(installation: &Installation) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(installation.client.clone(), OPERATOR_NAMESPACE);
    let found = pods.list(&ListParams::default().labels("app.kubernetes.io/name=paddock-operator")).await.unwrap();
    found.items.iter().map(kube::ResourceExt::name_any).collect()
}

#[test]
fn the_standby_takes_over_when_the_leader_goes() {
    on_cluster(|installation| async move {
        let before = holder(installation).await.expect("a leader");
        let leader =
            pods(installation).await.into_iter().find(|pod| before.contains(pod.as_str())).expect("the leader's pod");
        let pods: Api<Pod> = Api::namespaced(installation.client.clone(), OPERATOR_NAMESPACE);
        pods.delete(&leader, &DeleteParams::default()).await.unwrap();
        wait::until("another leader", LIMIT, || async {
            match holder(installation).await {
                Some(now) if now != before => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
        // And it works: all is still Ready.
        let tenants: Api<Tenant> = Api::all(installation.client.clone());
        for tenant in tenants.list(&ListParams::default()).await.unwrap() {
            if ["acme", "zenith", "platform"].contains(&tenant.name_any().as_str()) {
                condition(&tenants, &tenant.name_any(), "Ready", "True", None).await;
            }
        }
    });
}

#[test]
fn nothing_is_written_at_rest() {
    on_cluster(|installation| async move {
        // Rest begins when a window passes without a write; it must come.
        wait::until("a window of 20 s without a write", Duration::from_mins(3), || async {
            let before = writes(installation).await;
            tokio::time::sleep(Duration::from_secs(20)).await; // the window that is measured
            let after = writes(installation).await;
            if after > before { Err(format!("{} writes in 20 s", after - before)) } else { Ok(()) }
        })
        .await
        .unwrap();
    });
}
