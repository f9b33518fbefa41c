//! The operator itself: what it tells, and hand-over.

use crate::support::{LIMIT, api, condition, holder, leader};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use paddock_crds::v1alpha1::{Market, Tenant};
use paddock_demo::{Installation, OPERATOR_NAMESPACE, wait};
use paddock_e2e::on_cluster;

/// Sets a Market's state and waits until its controller has carried it out.
async fn carried_out(installation: &Installation, state: &str) -> Result<(), String> {
    let (namespace, name) = ("zenith-prod", "soccer-match-result");
    let markets: Api<Market> = api(installation, namespace);
    installation.set_market_state(namespace, name, state).await.map_err(|error| error.to_string())?;
    wait::until(&format!("Market {name} is {state}"), LIMIT, || async {
        let market = markets.get(name).await.map_err(|error| error.to_string())?;
        let status = market.status.clone().unwrap_or_default();
        let has = |kind: &str, value: &str| status.conditions.iter().any(|it| it.type_ == kind && it.status == value);
        let suspended = if state == "Suspended" { "True" } else { "False" };
        if status.observed_generation == market.metadata.generation
            && has("Ready", "True")
            && has("Suspended", suspended)
        {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await
    .map_err(|error| error.to_string())
}

#[test]
fn one_command_tells_the_story() {
    on_cluster(|installation| async move {
        let told = installation.cluster.kubectl(&["get", "tenants,bsvc,mkt,dbc", "-A"]).await.unwrap();
        let words: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
        for line in [
            &["NAME", "READY", "REASON", "ENVIRONMENTS", "AGE"][..],
            &["tenant.paddock.bet/zenith", "True", "Ready", "prod", "5/5"],
            &["NAMESPACE", "NAME", "READY", "REASON", "VERSION", "REVISION", "PODS", "AGE"],
            &["acme-prod", "bettingservice.paddock.bet/account", "True", "Available"],
            &["NAMESPACE", "NAME", "READY", "REASON", "STATE", "SPORT", "TYPE", "BOOK", "AGE"],
            &["zenith-prod", "market.paddock.bet/soccer-double-chance", "True", "Enforced", "Open", "soccer"],
            &["NAMESPACE", "NAME", "READY", "REASON", "ENGINE", "SERVER", "DATABASE", "AGE"],
            &["acme-dev", "databaseclaim.paddock.bet/account-db", "True", "Bound", "PostgreSQL", "pg-nonprod"],
        ] {
            assert!(words.iter().any(|found| found.starts_with(line)), "{line:?} is not in:\n{told}");
        }
    });
}

#[test]
fn the_standby_takes_over_when_the_leader_goes() {
    on_cluster(|installation| async move {
        let before = holder(installation).await.expect("a leader");
        let (leader, _) = leader(installation).await;
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
        // And it works: a change goes through. Open again before anything can fail: other tests look at it.
        let suspended = carried_out(installation, "Suspended").await;
        carried_out(installation, "Open").await.unwrap();
        suspended.unwrap();
        let tenants: Api<Tenant> = Api::all(installation.client.clone());
        for tenant in tenants.list(&ListParams::default()).await.unwrap() {
            if ["acme", "zenith", "platform"].contains(&tenant.name_any().as_str()) {
                condition(&tenants, &tenant.name_any(), "Ready", "True", None).await;
            }
        }
    });
}
