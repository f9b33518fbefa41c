//! Every chart as Helm renders it: what comes out, and what its schema refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: its failure is the message"
)]

use paddock_cluster::Progress;
use paddock_cluster::tools::{self, Set};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

async fn helm() -> PathBuf {
    tools::ensure(&[Set::Etcd], Progress::visible()).await.unwrap();
    tools::program(Set::Etcd, "helm").unwrap()
}

fn run(helm: &Path, chart: &str, values: &str, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values).unwrap();
    let output = Command::new(helm)
        .args([
            "template",
            "test",
            root().join("charts").join(chart).to_str().unwrap(),
            "-n",
            "paddock-system",
            "-f",
            file.to_str().unwrap(),
        ])
        .args(arguments)
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{chart}: {error}\n{text}"));
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

/// The documents of an example file.
fn example(file: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&std::fs::read_to_string(root().join("examples").join(file)).unwrap()).unwrap()
}

#[tokio::test]
async fn charts_render_what_they_say() {
    let helm = helm().await;

    let crds = run(&helm, "paddock-crds", "", &[]).unwrap();
    assert_eq!(of_kind(&crds, "CustomResourceDefinition").len(), paddock_crds::all().len());
    for crd in &crds {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{}", crd["metadata"]["name"]);
    }

    // The examples come out of the charts as they are.
    for wanted in example("10-releases.yaml") {
        let values = serde_json::json!({"name": wanted["metadata"]["name"], "version": wanted["spec"]["version"], "components": wanted["spec"]["components"]});
        let rendered = run(&helm, "paddock-release", &values.to_string(), &[]).unwrap();
        assert_eq!(rendered[0]["spec"], wanted["spec"]);
        assert_eq!(rendered[0]["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    for file in ["20-platform.yaml", "21-acme.yaml", "22-zenith.yaml"] {
        let wanted = &example(file)[0];
        let values = serde_json::json!({"name": wanted["metadata"]["name"], "spec": wanted["spec"]});
        let rendered = run(&helm, "paddock-tenant", &values.to_string(), &[]).unwrap();
        assert_eq!(rendered[0]["spec"], wanted["spec"], "{file}");
    }
    let markets: Vec<Value> = example("30-markets.yaml")
        .into_iter()
        .filter(|market| market["metadata"]["namespace"] == "zenith-prod")
        .collect();
    let mut values = serde_json::json!({"defaults": {"sport": "soccer"}, "markets": {}});
    for market in &markets {
        let mut spec = market["spec"].clone();
        spec.as_object_mut().unwrap().remove("sport");
        values["markets"][market["metadata"]["name"].as_str().unwrap()] = spec;
    }
    let rendered = run(&helm, "paddock-markets", &values.to_string(), &["-n", "zenith-prod"]).unwrap();
    assert_eq!(rendered.len(), markets.len());
    for market in &rendered {
        let wanted = markets.iter().find(|wanted| wanted["metadata"]["name"] == market["metadata"]["name"]).unwrap();
        assert_eq!(market["spec"], wanted["spec"]);
        assert_eq!(market["metadata"]["namespace"], "zenith-prod");
    }
}

#[tokio::test]
async fn the_operator_chart_is_least_privilege_and_hardened() {
    let helm = helm().await;
    let rendered = run(&helm, "paddock-operator", "image: example/operator@sha256:00\n", &[]).unwrap();
    for role in of_kind(&rendered, "ClusterRole") {
        for rule in role["rules"].as_array().unwrap() {
            let text = rule.to_string();
            assert!(!text.contains('*'), "{}: {text}", role["metadata"]["name"]);
            assert_ne!(rule["resources"].is_array(), rule["nonResourceURLs"].is_array(), "one or the other: {text}");
            let mut resources = rule["resources"].as_array().into_iter().flatten();
            let secrets = resources.any(|resource| resource == "secrets");
            let name = role["metadata"]["name"].as_str().unwrap();
            // Those two are bound in namespaces only; the first to the operator, the others to a Tenant's owners, who may not read.
            assert!(!secrets || name != "paddock-operator", "{text}");
            if secrets && name != "paddock-operator-environment" {
                assert!(
                    !text.contains("\"list\"") && !text.contains("\"get\"") && !text.contains("\"watch\""),
                    "{name} reads Secrets: {text}"
                );
            }
        }
    }
    let pod = &of_kind(&rendered, "Deployment")[0]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(pod["containers"][0]["securityContext"]["capabilities"]["drop"][0], "ALL");
    assert_eq!(of_kind(&rendered, "PodDisruptionBudget").len(), 1);
    assert_eq!(of_kind(&rendered, "NetworkPolicy").len(), 1);
    assert!(of_kind(&rendered, "ServiceMonitor").is_empty());

    let more = run(
        &helm,
        "paddock-operator",
        "image: x\nserviceMonitor: {enabled: true}\nreplicas: 1\nregistries: [a.example]\n",
        &[],
    )
    .unwrap();
    assert_eq!(of_kind(&more, "ServiceMonitor").len(), 1);
    assert!(of_kind(&more, "PodDisruptionBudget").is_empty());
    assert!(of_kind(&more, "Deployment")[0].to_string().contains("--registry=a.example"));
}

#[tokio::test]
async fn schemas_refuse_what_cannot_be() {
    let helm = helm().await;
    for (chart, values, part) in [
        ("paddock-operator", "", "set image"),
        ("paddock-operator", "image: x\nreplicas: 0\n", "replicas"),
        ("paddock-operator", "image: x\nreplica: 2\n", "replica"),
        ("paddock-operator", "image: x\ngateway: {name: ''}\n", "name"),
        ("paddock-release", "version: '1'\ncomponents: [{name: x, image: y}]\n", "set name"),
        ("paddock-release", "name: a\nversion: 1\n", "version"),
        ("paddock-release", "name: a\nversion: '1'\ncomponents: [{name: x}]\n", "set image"),
        ("paddock-tenant", "name: Acme\nspec: {a: 1}\n", "name"),
        ("paddock-tenant", "name: acme\n", "set spec"),
        ("paddock-markets", "markets: {Bad_Name: {}}\n", "Bad_Name"),
    ] {
        let refusal = run(&helm, chart, values, &[]).expect_err(&format!("{chart} accepts {values:?}"));
        assert!(refusal.contains(part), "{chart} {values:?}: {refusal}");
    }
}
