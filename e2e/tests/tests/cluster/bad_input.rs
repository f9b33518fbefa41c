//! Bad input: always a clear answer, nothing lost, others untouched, and recovery once it is mended.

use crate::support::{LIMIT, api, brands, condition, gone, leader, warned_once};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use paddock_crds::v1alpha1::{BettingService, Release, Tenant};
use paddock_demo::{Installation, wait};
use paddock_e2e::on_cluster;
use serde_json::{Value, json};

fn tenant(name: &str, environment: &Value) -> Tenant {
    serde_json::from_value(json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": name},
        "spec": {
            "displayName": name, "licences": [{"name": "x", "jurisdiction": "MT"}], "currencies": ["EUR"],
            "environments": [environment],
        },
    }))
    .unwrap()
}

fn environment(host: Option<&str>, release: &str, services: &[Value]) -> Value {
    let domains: Vec<_> = host.iter().map(|host| json!({"host": host})).collect();
    json!({"name": "dev", "class": "NonProduction", "release": release, "domains": domains, "services": services})
}

/// Overrides that switch off every component of the brands' Release but one.
async fn only(installation: &Installation, kept: Option<&str>) -> Vec<Value> {
    let releases: Api<Release> = Api::all(installation.client.clone());
    let brand = releases.get(&installation.release(BRAND)).await.unwrap();
    let others = brand.spec.components.iter().filter(|component| Some(component.name.as_str()) != kept);
    others.map(|component| json!({"name": component.name, "enabled": false})).collect()
}

/// An environment that runs nothing of the brands' Release: what becomes of it is decided by its other parts.
async fn idle(installation: &Installation, host: Option<&str>) -> Value {
    environment(host, &installation.release(BRAND), &only(installation, None).await)
}

const BRAND: &str = "brand-2026.11.1";

fn tenants(installation: &Installation) -> Api<Tenant> {
    Api::all(installation.client.clone())
}

async fn create(tenants: &Api<Tenant>, name: &str, environment: &Value) {
    tenants.create(&PostParams::default(), &tenant(name, environment)).await.unwrap();
}

/// What a person does about it.
async fn mend(tenants: &Api<Tenant>, name: &str, environment: &Value) {
    let patch = json!({"spec": {"environments": [environment]}});
    tenants.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[test]
fn a_taken_domain_is_refused_and_freed_when_its_holder_lets_go() {
    on_cluster(|installation| async move {
        let tenants = tenants(installation);
        let (with, without) = (idle(installation, Some("lent.localhost")).await, idle(installation, None).await);
        create(&tenants, "holder", &with).await;
        condition(&tenants, "holder", "DomainsReady", "True", None).await;
        create(&tenants, "thief", &with).await;
        let message = condition(&tenants, "thief", "DomainsReady", "False", Some("DomainTaken")).await;
        assert!(message.contains("lent.localhost") && message.contains("holder"), "{message}");
        warned_once(installation, &tenants, "thief", "lent.localhost").await;
        // The holder is untouched, until it lets go.
        condition(&tenants, "holder", "Ready", "True", None).await;
        mend(&tenants, "holder", &without).await;
        condition(&tenants, "thief", "Ready", "True", None).await;
        condition(&tenants, "thief", "DomainsReady", "True", None).await;
        gone(&tenants, "thief").await;
        gone(&tenants, "holder").await;
    });
}

#[test]
fn a_release_that_comes_and_an_image_that_is_mended_bring_it_up() {
    on_cluster(|installation| async move {
        let others = brands(installation).await;
        let tenants = tenants(installation);
        let classes = json!([{"engine": "PostgreSQL", "className": "pg-nonprod"}, {"engine": "Kafka", "className": "kafka-nonprod"}]);
        let mut early = environment(None, "tomorrow", &[]);
        early["databaseClasses"] = classes;
        create(&tenants, "early", &early).await;
        let message = condition(&tenants, "early", "ReleaseApplied", "False", Some("ReferenceNotFound")).await;
        assert!(message.contains("tomorrow"), "{message}");
        warned_once(installation, &tenants, "early", "tomorrow").await;
        // It comes, with one component of the brands' and an image that does not exist: the service says which one.
        let releases: Api<Release> = Api::all(installation.client.clone());
        let mut account = releases.get(&installation.release(BRAND)).await.unwrap().spec.components;
        account.retain(|component| component.name == "account");
        let mut account = json!(account);
        account[0]["image"] = "paddock.local/does-not-exist:1".into();
        account[0].as_object_mut().unwrap().remove("migrations");
        let release: Release = serde_json::from_value(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Release", "metadata": {"name": "tomorrow"},
            "spec": {"version": "1", "components": account},
        }))
        .unwrap();
        releases.create(&PostParams::default(), &release).await.unwrap();
        let services: Api<BettingService> = api(installation, "early-dev");
        let found = wait::until("BettingService account", LIMIT, || async {
            services
                .get_opt("account")
                .await
                .map_err(|e| e.to_string())?
                .ok_or_else(|| "the operator has not made it yet".to_owned())
        });
        found.await.unwrap();
        let message = condition(&services, "account", "Ready", "False", Some("ImagePullFailed")).await;
        assert!(message.contains("paddock.local/does-not-exist:1"), "{message}");
        warned_once(installation, &services, "account", "does-not-exist:1").await;
        // The next Release has the image: the service runs.
        let services_of_it = only(installation, Some("account")).await;
        let mut mended = environment(None, &installation.release(BRAND), &services_of_it);
        mended["databaseClasses"] = early["databaseClasses"].clone();
        mend(&tenants, "early", &mended).await;
        condition(&services, "account", "Ready", "True", None).await;
        condition(&tenants, "early", "Ready", "True", None).await;
        // Back to the image that does not exist: what runs goes on serving.
        mend(&tenants, "early", &early).await;
        condition(&services, "account", "Reconciling", "True", Some("ImagePullFailed")).await;
        condition(&services, "account", "Ready", "True", None).await;
        // A Release in use cannot go, until the environment leaves it.
        releases.delete("tomorrow", &DeleteParams::default()).await.unwrap();
        let message = condition(&releases, "tomorrow", "Ready", "False", Some("InUse")).await;
        assert!(message.contains("early/dev"), "{message}");
        assert!(releases.get_opt("tomorrow").await.unwrap().is_some(), "a Release in use was deleted");
        mend(&tenants, "early", &mended).await;
        condition(&services, "account", "Ready", "True", None).await;
        condition(&tenants, "early", "Ready", "True", None).await;
        wait::until("the Release goes when nobody uses it", LIMIT, || async {
            match releases.get_opt("tomorrow").await {
                Ok(None) => Ok(()),
                Ok(Some(release)) => Err(format!("{:?}", release.status)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
        .unwrap();
        gone(&tenants, "early").await;
        others.still(installation).await;
    });
}

#[test]
fn a_namespace_that_is_not_ours_is_never_taken_over_and_made_when_it_has_gone() {
    on_cluster(|installation| async move {
        let namespaces: Api<Namespace> = Api::all(installation.client.clone());
        let foreign: Namespace =
            serde_json::from_value(json!({"metadata": {"name": "squat-dev", "labels": {"owner": "somebody"}}}))
                .unwrap();
        namespaces.create(&PostParams::default(), &foreign).await.unwrap();
        let tenants = tenants(installation);
        create(&tenants, "squat", &idle(installation, None).await).await;
        let message = condition(&tenants, "squat", "NamespacesReady", "False", Some("NamespaceNotOurs")).await;
        assert!(message.contains("squat-dev"), "{message}");
        warned_once(installation, &tenants, "squat", "squat-dev").await;
        let labels = namespaces.get("squat-dev").await.unwrap().metadata.labels.unwrap_or_default();
        assert!(!labels.contains_key("app.kubernetes.io/managed-by"), "{labels:?}");
        // Whoever had it gives it up.
        gone(&namespaces, "squat-dev").await;
        condition(&tenants, "squat", "NamespacesReady", "True", None).await;
        let labels = namespaces.get("squat-dev").await.unwrap().metadata.labels.unwrap_or_default();
        assert_eq!(labels.get("paddock.bet/tenant").map(String::as_str), Some("squat"), "{labels:?}");
        condition(&tenants, "squat", "Ready", "True", None).await;
        gone(&tenants, "squat").await;
        gone(&namespaces, "squat-dev").await;
    });
}

#[test]
fn an_unknown_component_in_overrides_is_named_and_can_be_corrected() {
    on_cluster(|installation| async move {
        let others = brands(installation).await;
        let tenants = tenants(installation);
        let right = idle(installation, Some("typo.localhost")).await;
        let mut wrong = right.clone();
        let account = |service: &&mut Value| service["name"] == "account";
        wrong["services"].as_array_mut().unwrap().iter_mut().find(account).unwrap()["name"] = "acount".into();
        create(&tenants, "typo", &wrong).await;
        let message = condition(&tenants, "typo", "Ready", "False", Some("InvalidSpec")).await;
        assert!(message.contains("acount"), "{message}");
        condition(&tenants, "typo", "ReleaseApplied", "False", Some("InvalidSpec")).await;
        warned_once(installation, &tenants, "typo", "acount").await;
        mend(&tenants, "typo", &right).await;
        condition(&tenants, "typo", "ReleaseApplied", "True", None).await;
        condition(&tenants, "typo", "Ready", "True", None).await;
        gone(&tenants, "typo").await;
        others.still(installation).await;
    });
}

/// The operator's ClusterRole without the right to make namespaces.
async fn without_namespaces(cluster_roles: &Api<ClusterRole>) -> ClusterRole {
    let mut poorer = cluster_roles.get("paddock-operator").await.unwrap();
    let rules = poorer.rules.as_mut().expect("rules");
    let namespaces = |rule: &&mut k8s_openapi::api::rbac::v1::PolicyRule| {
        rule.resources.as_ref().is_some_and(|resources| resources.iter().any(|resource| resource == "namespaces"))
    };
    let rule = rules.iter_mut().find(namespaces).expect("a rule for namespaces");
    rule.verbs.retain(|verb| ["get", "list", "watch"].contains(&verb.as_str()));
    poorer.metadata = ObjectMeta { name: poorer.metadata.name, labels: poorer.metadata.labels, ..Default::default() };
    poorer
}

#[test]
fn a_right_that_is_taken_away_is_named_and_work_goes_on_when_it_is_given_back() {
    on_cluster(|installation| async move {
        let others = brands(installation).await;
        let tenants = tenants(installation);
        let cluster_roles: Api<ClusterRole> = Api::all(installation.client.clone());
        let whole = cluster_roles.get("paddock-operator").await.unwrap();
        cluster_roles
            .replace("paddock-operator", &PostParams::default(), &without_namespaces(&cluster_roles).await)
            .await
            .unwrap();
        // In a task: whatever fails in it, the right is given back for the tests to come.
        let refused = tokio::spawn(async move {
            let tenants: Api<Tenant> = Api::all(installation.client.clone());
            create(&tenants, "poor", &idle(installation, None).await).await;
            let message = condition(&tenants, "poor", "NamespacesReady", "False", Some("Forbidden")).await;
            assert!(message.contains("poor-dev") && message.contains("chart"), "{message}");
            warned_once(installation, &tenants, "poor", "poor-dev").await;
            wait::until("the missing right is named", LIMIT, || async {
                let (_, metrics) = leader(installation).await;
                let missing = metrics.sum("paddock_rights_missing", |labels| {
                    labels.contains("resource=\"namespaces\"") && labels.contains("verb=\"patch\"")
                });
                if missing.unwrap() == 1 { Ok(()) } else { Err("not yet".to_owned()) }
            })
            .await
            .unwrap();
        })
        .await;
        // As Helm had it: an upgrade of the chart finds nothing to change.
        let metadata = ObjectMeta {
            name: whole.metadata.name,
            labels: whole.metadata.labels,
            annotations: whole.metadata.annotations,
            ..ObjectMeta::default()
        };
        let helm = PatchParams::apply("helm").force();
        let whole = ClusterRole { metadata, ..whole };
        cluster_roles.patch("paddock-operator", &helm, &Patch::Apply(&whole)).await.unwrap();
        refused.unwrap();
        condition(&tenants, "poor", "Ready", "True", None).await;
        wait::until("no right is missing", LIMIT, || async {
            let (_, metrics) = leader(installation).await;
            if metrics.sum("paddock_rights_missing", |_| true).unwrap() == 0 {
                Ok(())
            } else {
                Err("one is".to_owned())
            }
        })
        .await
        .unwrap();
        gone(&tenants, "poor").await;
        others.still(installation).await;
    });
}
