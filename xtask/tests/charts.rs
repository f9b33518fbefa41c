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
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

async fn helm() -> PathBuf {
    tools::ensure(&[Set::Etcd], Progress::visible()).await.unwrap();
    tools::program(Set::Etcd, "helm").unwrap()
}

/// Runs `helm template` or `helm lint` on a chart: what it prints, or what it refuses.
fn helm_on(helm: &Path, command: &[&str], chart: &str, values: &str, arguments: &[&str]) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values).unwrap();
    let output = Command::new(helm)
        .args(command)
        .arg(root().join("charts").join(chart))
        .args(["-n", "paddock-system", "-f", file.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap();
    let (printed, refused) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if output.status.success() { Ok(printed) } else { Err(format!("{printed}{refused}")) }
}

fn run(helm: &Path, chart: &str, values: &str, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let text = helm_on(helm, &["template", "test"], chart, values, arguments)?;
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
        let values = json!({"name": wanted["metadata"]["name"], "version": wanted["spec"]["version"], "components": wanted["spec"]["components"]});
        let rendered = run(&helm, "paddock-release", &values.to_string(), &[]).unwrap();
        assert_eq!(rendered[0]["spec"], wanted["spec"]);
        assert_eq!(rendered[0]["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    for file in ["20-platform.yaml", "21-acme.yaml", "22-zenith.yaml"] {
        let wanted = &example(file)[0];
        let values = json!({"name": wanted["metadata"]["name"], "spec": wanted["spec"]});
        let rendered = run(&helm, "paddock-tenant", &values.to_string(), &[]).unwrap();
        assert_eq!(rendered[0]["spec"], wanted["spec"], "{file}");
    }
    let markets: Vec<Value> = example("30-markets.yaml")
        .into_iter()
        .filter(|market| market["metadata"]["namespace"] == "zenith-prod")
        .collect();
    let mut values = json!({"defaults": {"sport": "soccer"}, "markets": {}});
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

/// Values with which each chart renders everything that it can.
const FULL: [(&str, &str); 5] = [
    ("paddock-crds", ""),
    (
        "paddock-operator",
        "image: x\nserviceMonitor: {enabled: true, labels: {b: c, a: d}}\nregistries: [b.example, a.example]\n\
         otlp: {endpoint: 'http://collector:4318'}\napiserver: {cidrs: [203.0.113.7/32]}\nimagePullSecrets: [{name: a}]\n\
         domainCa: {secretName: ca}\nnodeSelector: {b: c, a: d}\ntolerations: [{operator: Exists}]\n",
    ),
    (
        "paddock-release",
        "name: a\nversion: '1'\nimage: i\nsource: {repository: r, commit: c}\n\
         components: [{name: b, config: {B: '1', A: '2'}}, {name: a, image: j}]\n",
    ),
    ("paddock-tenant", "name: acme\nspec: {displayName: Acme, currencies: [EUR]}\n"),
    ("paddock-markets", "defaults: {sport: soccer}\nmarkets: {b: {state: Open}, a: {state: Closed}}\n"),
];

#[tokio::test]
async fn every_chart_is_tested_lints_and_renders_the_same_twice() {
    let helm = helm().await;
    let mut charts: Vec<String> = std::fs::read_dir(root().join("charts"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    charts.sort();
    let mut tested = FULL.map(|(chart, _)| chart);
    tested.sort_unstable();
    assert_eq!(charts, tested);
    for (chart, values) in FULL {
        let render = || helm_on(&helm, &["template", "test"], chart, values, &[]).unwrap();
        assert_eq!(render(), render(), "{chart}");
        helm_on(&helm, &["lint", "--strict"], chart, values, &[]).unwrap_or_else(|error| panic!("{chart}: {error}"));
        assert!(root().join("charts").join(chart).join("values.schema.json").is_file(), "{chart} takes any value");
    }
}

/// What connections its NetworkPolicies open is proved in `operator/tests/network`; here, that each value is followed.
#[tokio::test]
async fn the_operators_network_policy_follows_its_values() {
    let helm = helm().await;
    let policy = |values: &str| {
        let rendered = run(&helm, "paddock-operator", &format!("image: x\n{values}"), &[]).unwrap();
        of_kind(&rendered, "NetworkPolicy")[0]["spec"].clone()
    };
    let rule_with = |spec: &Value, port: u64| {
        let rules = spec["egress"].as_array().unwrap();
        let found = rules.iter().find(|rule| rule["ports"].as_array().unwrap().iter().any(|it| it["port"] == port));
        found.cloned()
    };
    let plain = policy("");
    for database in [5432, 9092] {
        assert_eq!(rule_with(&plain, database), None, "the operator opens its way to servers itself");
    }
    assert_eq!(rule_with(&plain, 4318), None);
    assert_eq!(rule_with(&plain, 6443).unwrap().get("to"), None);
    let set = policy(
        "apiserver: {cidrs: [10.0.0.1/32, 'fd00::1/128'], ports: [6443]}\n\
         otlp: {endpoint: 'http://c:4318/v1', namespace: observability}\n\
         prometheus: {namespace: m, podLabels: {app.kubernetes.io/name: null, app: vmagent}}\nnetwork: {dnsNamespace: dns}\n",
    );
    assert_eq!(
        rule_with(&set, 6443).unwrap(),
        json!({
            "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}, {"ipBlock": {"cidr": "fd00::1/128"}}], "ports": [{"port": 6443}]
        })
    );
    let namespace = |name: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    assert_eq!(rule_with(&set, 4318).unwrap()["to"], json!([{"namespaceSelector": namespace("observability")}]));
    assert_eq!(
        set["ingress"][0]["from"],
        json!([{"namespaceSelector": namespace("m"), "podSelector": {"matchLabels": {"app": "vmagent"}}}])
    );
    assert_eq!(rule_with(&set, 53).unwrap()["to"][0]["namespaceSelector"], namespace("dns"));
    let any =
        policy("prometheus: {podLabels: {app.kubernetes.io/name: null}}\notlp: {endpoint: 'https://c.example/x'}\n");
    assert_eq!(any["ingress"][0]["from"][0].get("podSelector"), None);
    assert_eq!(any["egress"][3], json!({"ports": [{"port": 443}]}));
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
    assert!(of_kind(&more, "Deployment")[0].to_string().contains("--public-https-port=443"));
    let forwarded = run(&helm, "paddock-operator", "image: x\ngateway: {publicHttpsPort: 8443}\n", &[]).unwrap();
    assert!(of_kind(&forwarded, "Deployment")[0].to_string().contains("--public-https-port=8443"));
}

#[tokio::test]
async fn schemas_refuse_what_cannot_be() {
    let helm = helm().await;
    for (chart, values, part) in [
        ("paddock-operator", "", "set image"),
        ("paddock-operator", "image: x\nreplicas: 0\n", "replicas"),
        ("paddock-operator", "image: x\nreplica: 2\n", "replica"),
        ("paddock-operator", "image: x\ngateway: {name: ''}\n", "name"),
        ("paddock-operator", "image: x\ngateway: {publicHttpsPort: 0}\n", "publicHttpsPort"),
        ("paddock-operator", "image: x\nimagePullPolicy: Sometimes\n", "imagePullPolicy"),
        ("paddock-operator", "image: x\negressPorts: [5432]\n", "egressPorts"),
        // No ports would mean all of them.
        ("paddock-operator", "image: x\napiserver: {ports: []}\n", "ports"),
        ("paddock-operator", "image: x\napiserver: {cidrs: [10.0.0.1]}\n", "cidrs"),
        ("paddock-operator", "image: x\nnetwork: {podSubnet: pods}\n", "podSubnet"),
        ("paddock-operator", "image: x\nprometheus: {podLabels: {a: 1}}\n", "podLabels"),
        ("paddock-operator", "image: x\notlp: {endpoint: 'collector:4318'}\n", "endpoint"),
        ("paddock-crds", "keep: false\n", "keep"),
        ("paddock-release", "name: a\nversion: '1'\n", "set components"),
        ("paddock-release", "name: a\nversion: '1'\nsource: {url: x}\n", "url"),
        ("paddock-release", "version: '1'\ncomponents: [{name: x, image: y}]\n", "set name"),
        ("paddock-release", "name: a\nversion: 1\n", "version"),
        ("paddock-release", "name: a\nversion: '1'\ncomponents: [{name: x}]\n", "set image"),
        ("paddock-tenant", "name: Acme\nspec: {a: 1}\n", "name"),
        ("paddock-tenant", "name: acme\n", "set spec"),
        ("paddock-tenant", "name: acme\nspec: {a: 1}\nenvironments: []\n", "environments"),
        ("paddock-markets", "markets: {Bad_Name: {}}\n", "Bad_Name"),
        ("paddock-markets", "markets: {a: Open}\n", "markets"),
    ] {
        let refusal = run(&helm, chart, values, &[]).expect_err(&format!("{chart} accepts {values:?}"));
        assert!(refusal.contains(part), "{chart} {values:?}: {refusal}");
    }
}
