//! Who is on the network: pods as the controllers, the chart and the demo's database servers really make them, beside others that a
//! cluster has, and every NetworkPolicy that there is.

use crate::policy::{ContainerPort, End, Labels, Pod};
use clap::Parser as _;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use paddock_cluster::Progress;
use paddock_cluster::tools::{self, Set};
use paddock_cluster::{DATABASES_NAMESPACE, DATABASES_NAMESPACE_MANIFEST, KAFKA_SERVERS, POSTGRESQL_SERVERS};
use paddock_crds::v1alpha1::{
    BettingService, DatabaseClaim, DatabaseClass, Environment, EnvironmentClass, Release, Tenant,
};
use paddock_operator::cli::Cli;
use paddock_operator::controllers::betting_service::build::{migration, revision::Record};
use paddock_operator::controllers::betting_service::validate::{EnvironmentFacts, validate as validate_service};
use paddock_operator::controllers::database_class;
use paddock_operator::controllers::tenant::build::{Surroundings, namespace, network};
use paddock_operator::controllers::tenant::dereference::{Claims, References};
use paddock_operator::controllers::tenant::validate::validate as validate_tenant;
use paddock_operator::rollout::revision::{hash, identity};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Namespace that the chart is installed in.
const OPERATOR_NAMESPACE: &str = "paddock-system";

/// Someone who opens connections, or is connected to.
pub struct Actor {
    pub name: String,
    who: Who,
    /// What we isolate: pods of environments, the operator, database servers.
    pub ours: bool,
}

enum Who {
    /// Two replicas of the same.
    Pods(Box<[Pod; 2]>),
    Address(IpAddr),
}

impl Actor {
    /// As the one who connects.
    pub fn client(&self) -> End<'_> {
        match &self.who {
            Who::Pods(pods) => End::Pod(&pods[0]),
            Who::Address(address) => End::Address(*address),
        }
    }

    /// As the one who is connected to: the other replica, so that nobody talks to itself.
    pub fn server(&self) -> End<'_> {
        match &self.who {
            Who::Pods(pods) => End::Pod(&pods[1]),
            Who::Address(address) => End::Address(*address),
        }
    }

    pub fn is_pod(&self) -> bool {
        self.namespace().is_some()
    }

    pub fn namespace(&self) -> Option<&str> {
        match &self.who {
            Who::Pods(pods) => Some(&pods[0].namespace),
            Who::Address(_) => None,
        }
    }
}

#[derive(Default)]
pub struct World {
    pub actors: Vec<Actor>,
    pub policies: Vec<NetworkPolicy>,
}

impl World {
    /// The examples on a cluster whose chart is installed with `values`, after `change` of the Tenants.
    pub async fn new(values: &str, change: impl Fn(&mut Tenant)) -> Self {
        let (world, findings) = Self::later(values, change, |_| ()).await;
        assert!(findings.is_empty(), "{findings:?}");
        world
    }

    /// The same when the Tenants ran as the examples say, with their claims bound, and were changed after that, and what they refer to was
    /// changed by `lose`. Says too what the operator finds wrong then.
    pub async fn later(
        values: &str,
        change: impl Fn(&mut Tenant),
        lose: impl Fn(&mut References),
    ) -> (Self, Vec<String>) {
        let mut world = Self::default();
        let mut findings = Vec::new();
        let chart = chart(values).await;
        let deployment = chart.iter().find(|object| object["kind"] == "Deployment").expect("the operator's Deployment");
        // The operator is configured as its chart says.
        let arguments = strings(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
        let own = ["paddock-operator".to_owned(), format!("--operator-namespace={OPERATOR_NAMESPACE}")];
        let settings = Cli::try_parse_from(own.into_iter().chain(arguments)).unwrap().settings;
        let around = Surroundings::from(&settings);
        world.pods("operator", true, OPERATOR_NAMESPACE, &[], &deployment["spec"]["template"]);
        world.policies_of(&chart);

        let classes: Vec<DatabaseClass> = example("00-classes.yaml");
        let mut references = References {
            classes: classes.into_iter().map(|class| (class.name_any(), Arc::new(class))).collect(),
            releases: example::<Release>("10-releases.yaml")
                .into_iter()
                .map(|it| (it.name_any(), Arc::new(it)))
                .collect(),
            ..References::default()
        };
        let files = ["20-platform.yaml", "21-acme.yaml", "22-zenith.yaml"];
        let mut tenants = files.map(|file| example::<Tenant>(file).remove(0));
        let mut live = BTreeMap::new();
        for checked in tenants.iter().flat_map(|tenant| validate_tenant(tenant, &references, &around)) {
            let built = network::policies(&checked.identity, checked.spec, &checked.databases, |_| None, &around);
            let key = |name: String| (checked.identity.namespace(), name);
            live.extend(built.into_iter().map(|policy| (key(policy.name_any()), Arc::new(policy))));
        }
        lose(&mut references);
        let classes = references.classes.values();
        let mut policies: Vec<Value> = classes.map(|class| database_class::network::policy(class, &settings)).collect();
        for tenant in &mut tenants {
            change(tenant);
            // Names of environments are no names of one Tenant only: each has its own claims.
            references.claims = claims(tenant);
            for checked in validate_tenant(tenant, &references, &around) {
                findings.extend(checked.findings.iter().map(|finding| finding.message.clone()));
                let live = |name: &str| live.get(&(checked.identity.namespace(), name.to_owned())).cloned();
                let built = network::policies(&checked.identity, checked.spec, &checked.databases, live, &around);
                policies.extend(built.iter().map(|policy| serde_json::to_value(policy).unwrap()));
                let labels = namespace::namespace(&checked.identity).metadata.labels.unwrap();
                let mut services = checked.services.expect("the Release runs");
                services.push(own_service(&checked.identity.namespace()));
                let facts = EnvironmentFacts::of(tenant, &checked.identity.environment);
                for service in services {
                    world.service(service, facts.clone(), &labels);
                }
            }
        }
        world.service(own_service("sandbox"), None, &Labels::new());
        world.policies_of(&policies);
        world.database_servers();
        world.bystanders();
        for (name, address) in [
            ("Service kubernetes", "10.96.0.1"),
            ("API server", "10.99.0.1"),
            ("target", "203.0.113.7"),
            ("internet", "198.51.100.9"),
            ("internet, IPv6", "2001:db8::9"),
            ("metadata", "169.254.169.254"),
            ("metadata, IPv6", "fd00:ec2::254"),
        ] {
            world.actors.push(Actor { name: name.into(), who: Who::Address(address.parse().unwrap()), ours: false });
        }
        (world, findings)
    }

    /// Pods of the newest revision of a service, and of its migration Job.
    fn service(&mut self, mut object: BettingService, facts: Option<EnvironmentFacts>, labels: &Labels) {
        object.metadata.uid = Some("u".into());
        let ours = facts.is_some();
        let service = validate_service(&object, facts).unwrap();
        let identity = identity(&service.name, &service.spec.spec, &service.values);
        let hash = hash(&identity, 0);
        let deployment = Record::new(&service, &hash, identity, 1).deployment(&service);
        let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let name = format!("{}/{}", service.namespace, service.name);
        self.pods(&name, ours, &service.namespace, &labels, &deployment.data["spec"]["template"]);
        if let Some(migration) = &service.migration {
            let job = migration::job(&service, migration, &hash);
            self.pods(&format!("{name} migration"), ours, &service.namespace, &labels, &job.data["spec"]["template"]);
        }
    }

    fn database_servers(&mut self) {
        self.policies_of(&documents(DATABASES_NAMESPACE_MANIFEST));
        for server in POSTGRESQL_SERVERS.iter().chain(&KAFKA_SERVERS) {
            let objects = documents(&server.manifest("paddock.local/server:1"));
            let set = objects.iter().find(|object| object["kind"] == "StatefulSet").expect("a StatefulSet");
            self.pods(server.name, true, DATABASES_NAMESPACE, &[], &set["spec"]["template"]);
            self.policies_of(&objects);
        }
    }

    /// What a cluster has beside us. The impostor has every label that any pod of ours or of the platform is known by.
    fn bystanders(&mut self) {
        let envoy = [
            ("app.kubernetes.io/name", "envoy"),
            ("app.kubernetes.io/component", "proxy"),
            ("app.kubernetes.io/managed-by", "envoy-gateway"),
            ("gateway.envoyproxy.io/owning-gateway-name", "public"),
            ("gateway.envoyproxy.io/owning-gateway-namespace", "envoy-gateway-system"),
        ];
        let controller = [("control-plane", "envoy-gateway"), ("app.kubernetes.io/name", "gateway-helm")];
        let prometheus = [("app.kubernetes.io/name", "prometheus")];
        let dns = [("k8s-app", "kube-dns")];
        let impostors: Vec<Labels> = self
            .actors
            .iter()
            .filter_map(|actor| match &actor.who {
                Who::Pods(pods) => Some(pods[0].labels.clone()),
                Who::Address(_) => None,
            })
            .collect();
        for (name, namespace, labels) in [
            ("Gateway proxy", "envoy-gateway-system", &envoy[..]),
            ("Gateway controller", "envoy-gateway-system", &controller[..]),
            ("Prometheus", "monitoring", &prometheus[..]),
            ("Grafana", "monitoring", &[("app.kubernetes.io/name", "grafana")][..]),
            ("cluster DNS", "kube-system", &dns[..]),
            ("another of kube-system", "kube-system", &[("k8s-app", "metrics-server")][..]),
            ("stranger", "stranger", &[][..]),
            ("another beside the operator", OPERATOR_NAMESPACE, &[("app.kubernetes.io/name", "other")][..]),
        ] {
            self.pods(name, false, namespace, &[], &template(labels.iter().copied()));
        }
        for (number, labels) in impostors.iter().enumerate() {
            let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            self.pods(&format!("impostor {number}"), false, "stranger", &[], &template(labels));
        }
        let platform = envoy.into_iter().chain(prometheus).chain(dns);
        self.pods("impostor of the platform", false, "stranger", &[], &template(platform));
        self.pods("another beside the servers", true, DATABASES_NAMESPACE, &[], &template([("app", "other")]));
    }

    fn pods(&mut self, name: &str, ours: bool, namespace: &str, namespace_labels: &[(&str, &str)], template: &Value) {
        let mut labels: Labels =
            namespace_labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        labels.insert("kubernetes.io/metadata.name".into(), namespace.into());
        let containers = template["spec"]["containers"].as_array().into_iter().flatten();
        let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
        let pod = |replica: usize| Pod {
            namespace: namespace.into(),
            namespace_labels: labels.clone(),
            labels: serde_json::from_value(template["metadata"]["labels"].clone()).unwrap(),
            address: address(self.actors.len() * 2 + replica),
            ports: ports
                .clone()
                .map(|port| ContainerPort {
                    name: port["name"].as_str().unwrap().into(),
                    protocol: port["protocol"].as_str().unwrap_or("TCP").into(),
                    number: port["containerPort"].as_u64().unwrap().try_into().unwrap(),
                })
                .collect(),
        };
        let who = Who::Pods(Box::new([pod(0), pod(1)]));
        assert!(self.actors.iter().all(|actor| actor.name != name), "{name} twice");
        self.actors.push(Actor { name: name.into(), who, ours });
    }

    fn policies_of(&mut self, objects: &[Value]) {
        for object in objects.iter().filter(|object| object["kind"] == "NetworkPolicy") {
            let policy: NetworkPolicy = serde_json::from_value(object.clone()).unwrap();
            // A field that is misspelt would be left out here, and refused or dropped by an API server.
            assert_eq!(serde_json::to_value(&policy.spec).unwrap(), object["spec"], "{}", object["metadata"]["name"]);
            self.policies.push(policy);
        }
    }
}

/// Claims of the environments of an example, bound where it says: each class has one server, called like it.
fn claims(tenant: &Tenant) -> BTreeMap<String, Claims> {
    let claim = |class: &str, engine: &str| -> Arc<DatabaseClaim> {
        let object = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "metadata": {"name": engine.to_lowercase()},
            "spec": {"engine": engine, "className": class}, "status": {"server": class},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    };
    let brand = tenant.name_any() != "platform";
    let of = |environment: &Environment| {
        let suffix = if environment.class == EnvironmentClass::Production { "prod" } else { "nonprod" };
        let relational = brand.then(|| claim(&format!("pg-{suffix}"), "PostgreSQL"));
        let placed = relational.into_iter().chain([claim(&format!("kafka-{suffix}"), "Kafka")]).collect();
        (environment.name.clone(), Claims { placed, unreadable: false })
    };
    tenant.spec.environments.iter().map(of).collect()
}

/// A component that a brand's owners run themselves, with every port that it may have of those that policies know by name.
fn own_service(namespace: &str) -> BettingService {
    let object = json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService", "metadata": {"name": "own", "namespace": namespace},
        "spec": {
            "component": "own", "version": "1", "image": format!("r.example/own@sha256:{}", "0".repeat(64)),
            "ports": [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}],
        }
    });
    serde_json::from_value(object).unwrap()
}

fn template<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let ports = [
        ("http", 8080),
        ("internal", 8082),
        ("metrics", 9090),
        ("control", 9091),
        ("postgresql", 5432),
        ("kafka", 9092),
    ];
    let ports: Vec<Value> = ports.iter().map(|(name, port)| json!({"name": name, "containerPort": port})).collect();
    let labels: Labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "ports": ports}]}})
}

fn address(number: usize) -> IpAddr {
    let first = u32::from(Ipv4Addr::new(10, 244, 0, 2));
    IpAddr::V4(Ipv4Addr::from_bits(first + u32::try_from(number).unwrap()))
}

fn strings(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

fn example<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let text = std::fs::read_to_string(root().join("examples").join(file)).unwrap();
    documents(&text).into_iter().map(|object| serde_json::from_value(object).unwrap()).collect()
}

/// What Helm makes of the operator's chart.
async fn chart(values: &str) -> Vec<Value> {
    tools::ensure(&[Set::Etcd], Progress::visible()).await.unwrap();
    let chart = root().join("charts/paddock-operator");
    let output = Command::new(tools::program(Set::Etcd, "helm").unwrap())
        .args(["template", "test", chart.to_str().unwrap(), "-n", OPERATOR_NAMESPACE, "--set", "image=x"])
        .args(["--set-json", values])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).unwrap())
}
