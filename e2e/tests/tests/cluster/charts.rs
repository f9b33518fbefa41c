//! Helm as a release engineer uses it.

use crate::support::{LIMIT, api, condition, gone};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use paddock_crds::v1alpha1::{Market, Release, Tenant};
use paddock_demo::{Installation, OPERATOR_NAMESPACE, install, wait};
use paddock_e2e::on_cluster;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Name of the Tenant that only this test has; its Release and what Helm calls them begin with it.
const TENANT: &str = "charted";

/// A chart as it is installed: name of the release of Helm, chart, namespace, values.
struct Installed {
    name: String,
    chart: &'static str,
    namespace: &'static str,
    /// None: installed already, with values of its own.
    values: Option<Value>,
}

impl Installed {
    async fn upgrade(&self, installation: &Installation) {
        let chart = install::repository().unwrap().join("charts").join(self.chart).to_string_lossy().into_owned();
        let mut args = vec!["upgrade".to_owned(), "--install".into(), self.name.clone(), chart];
        args.extend(["-n", self.namespace, "--wait"].map(str::to_owned));
        match &self.values {
            None => args.push("--reuse-values".into()),
            Some(values) => {
                for (key, value) in values.as_object().unwrap() {
                    args.extend(["--set-json".to_owned(), format!("{key}={value}")]);
                }
            }
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        installation.cluster.helm(&args).await.unwrap();
    }

    /// Everything that the chart installed, as it is now.
    async fn objects(&self, installation: &Installation) -> BTreeMap<String, Value> {
        let manifest = ["get", "manifest", &self.name, "-n", self.namespace];
        let manifest = installation.cluster.helm(&manifest).await.unwrap();
        let file = std::env::temp_dir().join(format!("paddock-manifest-{}-{}", self.name, std::process::id()));
        std::fs::write(&file, manifest).unwrap();
        let args = ["get", "-n", self.namespace, "--show-managed-fields", "-o", "json", "-f", &file.to_string_lossy()];
        let found = installation.cluster.kubectl(&args).await;
        std::fs::remove_file(&file).unwrap();
        let found: Value = serde_json::from_str(&found.unwrap()).unwrap();
        let all = match found["items"].as_array() {
            Some(items) => items.clone(),
            None => vec![found],
        };
        let key = |object: &Value| format!("{}: {} {}", self.chart, object["kind"], object["metadata"]["name"]);
        all.into_iter().map(|object| (key(&object), without_status(object))).collect()
    }

    async fn uninstall(&self, installation: &Installation) {
        installation.cluster.helm(&["uninstall", &self.name, "-n", self.namespace, "--wait"]).await.unwrap();
    }
}

/// An object whose status moves by itself, without that and without the times of writes, which move with it (Kubernetes writes the
/// status of a ValidatingAdmissionPolicy anew when it is applied); everything of any other, so that no write goes unseen.
fn without_status(mut object: Value) -> Value {
    if object.as_object_mut().unwrap().remove("status").is_some() {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("resourceVersion");
        if let Some(fields) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
            fields.retain(|entry| entry["subresource"] != "status");
            for entry in fields {
                entry.as_object_mut().unwrap().remove("time");
            }
        }
    }
    object
}

/// A Tenant of the charts' own that runs nothing, with a Release and a Market.
fn charted() -> [Installed; 3] {
    let component = json!({"name": "idle", "image": "paddock.local/idle:1", "ports": [{"name": "http", "port": 8080}]});
    let environment = json!({"name": "dev", "class": "NonProduction", "release": TENANT, "services": [{"name": "idle", "enabled": false}]});
    let spec = json!({
        "displayName": "Charted", "licences": [{"name": "x", "jurisdiction": "MT"}], "currencies": ["EUR"],
        "environments": [environment],
    });
    let market = json!({"sport": "soccer", "marketType": "match-result"});
    let defaults = json!({
        "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}},
        "limits": [{"currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000.00"}],
    });
    let installed = |chart: &'static str, namespace: &'static str, values: Value| Installed {
        name: format!("{TENANT}-{chart}"),
        chart,
        namespace,
        values: Some(values),
    };
    [
        installed("paddock-release", "default", json!({"name": TENANT, "version": "1", "components": [component]})),
        installed("paddock-tenant", "default", json!({"name": TENANT, "spec": spec})),
        installed("paddock-markets", "charted-dev", json!({"defaults": defaults, "markets": {"result": market}})),
    ]
}

#[test]
fn an_upgrade_without_change_changes_nothing() {
    on_cluster(|installation| async move {
        let client = installation.client.clone();
        let (tenants, namespaces): (Api<Tenant>, Api<Namespace>) = (Api::all(client.clone()), Api::all(client.clone()));
        let releases: Api<Release> = Api::all(client);
        let markets: Api<Market> = api(installation, "charted-dev");
        let ours = ["paddock-crds", "paddock-operator"].map(|chart| Installed {
            name: chart.to_owned(),
            chart,
            namespace: OPERATOR_NAMESPACE,
            values: None,
        });
        let [release, tenant, market] = charted();
        release.upgrade(installation).await;
        tenant.upgrade(installation).await;
        let made = wait::until("namespace charted-dev", LIMIT, || async {
            let found = namespaces.get_opt("charted-dev").await.map_err(|error| error.to_string())?;
            found.map(drop).ok_or_else(|| "the operator has not made it yet".to_owned())
        });
        made.await.unwrap();
        market.upgrade(installation).await;
        // The operator has done with them: what is written from now on is Helm's.
        condition(&releases, TENANT, "Ready", "True", None).await;
        condition(&tenants, TENANT, "Ready", "True", None).await;
        condition(&markets, "result", "Ready", "True", None).await;

        let mut changed = Vec::new();
        for chart in ours.iter().chain([&release, &tenant, &market]) {
            let before = chart.objects(installation).await;
            chart.upgrade(installation).await;
            let after = chart.objects(installation).await;
            assert!(!before.is_empty(), "{} installs nothing", chart.chart);
            for (key, object) in &before {
                if after.get(key) != Some(object) {
                    changed.push(format!("{key} was {object}, is {:?}", after.get(key)));
                }
            }
            changed.extend(after.keys().filter(|key| !before.contains_key(*key)).map(|key| format!("{key} is new")));
        }

        market.uninstall(installation).await;
        tenant.uninstall(installation).await;
        gone(&tenants, TENANT).await;
        // The chart leaves the Release: an environment may still run it.
        release.uninstall(installation).await;
        assert!(releases.get_opt(TENANT).await.unwrap().is_some(), "a Release went with its chart");
        gone(&releases, TENANT).await;
        gone(&namespaces, "charted-dev").await;
        assert!(changed.is_empty(), "{}", changed.join("\n"));
    });
}
