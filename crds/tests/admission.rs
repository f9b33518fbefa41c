//! The kinds on a real API server: a table of good and bad objects, immutability, the committed examples, and `kubectl explain`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: its failure is the message"
)]

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use paddock_cluster::apiserver::Apiserver;
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, DatabaseClass, Market, Release, Tenant};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

async fn server() -> (Apiserver, Client) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Apiserver::start().await.expect("an API server");
    for crd in paddock_crds::all() {
        server
            .apply(&serde_json::to_string(&crd).unwrap())
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", crd.name_any()));
    }
    for crd in paddock_crds::all() {
        server
            .kubectl(&["wait", "--for=condition=Established", "--timeout=30s", &format!("crd/{}", crd.name_any())])
            .await
            .unwrap();
    }
    let client = server.client().await.unwrap();
    (server, client)
}

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let kind = object["kind"].as_str().unwrap();
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap_or(("", "v1"));
    let plural = paddock_crds::all().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap().spec.names.plural;
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural);
    match object["metadata"].get("namespace").and_then(Value::as_str) {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Applies with server-side dry run: admission as for a real write, and nothing stays.
async fn admit(client: &Client, object: &Value, dry_run: bool) -> Result<(), String> {
    let mut params = PatchParams::apply("test").force();
    params.dry_run = dry_run;
    let name = object["metadata"]["name"].as_str().unwrap();
    api(client, object).patch(name, &params, &Patch::Apply(object)).await.map(|_| ()).map_err(|error| error.to_string())
}

fn base(kind: &str) -> Value {
    let object = |name: &str, namespace: Option<&str>, spec: Value| {
        let mut value =
            json!({"apiVersion": "paddock.bet/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        if let Some(namespace) = namespace {
            value["metadata"]["namespace"] = namespace.into();
        }
        value
    };
    match kind {
        "Tenant" => object(
            "acme",
            None,
            json!({
                "displayName": "Acme", "licences": [{"name": "mga-1", "jurisdiction": "MT"}], "currencies": ["EUR"],
                "environments": [{"name": "prod", "class": "Production", "release": "r1", "domains": [{"host": "bet.acme.example"}],
                    "databaseClasses": [{"engine": "PostgreSQL", "className": "pg"}], "services": [{"name": "rates", "config": {"A": "1"}}]}],
            }),
        ),
        "Release" => object(
            "r1",
            None,
            json!({"version": "1", "components": [{"name": "rates", "image": "example/rates@sha256:00",
                "ports": [{"name": "http", "port": 8080}], "route": {"path": "/"},
                "needs": [{"name": "db", "engine": "PostgreSQL"}, {"name": "bus", "engine": "Kafka", "topics": {"write": [{"name": "offer"}], "read": ["x"]}}],
                "migrations": {"need": "db", "expand": {"command": ["/rates", "migrate"]}}}]}),
        ),
        "BettingService" => object(
            "rates",
            Some("default"),
            json!({"component": "rates", "version": "1", "image": "example/rates", "ports": [{"name": "http", "port": 8080}],
                "replicas": {"min": 1, "max": 2}, "config": {"LOG_LEVEL": "info"}}),
        ),
        "Market" => object(
            "result",
            Some("default"),
            json!({"sport": "soccer", "marketType": "match-result", "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}},
                "limits": [{"currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000"}]}),
        ),
        "DatabaseClass" => object(
            "pg",
            None,
            json!({"engine": "PostgreSQL", "environmentClass": "Production", "servers": [{"name": "a", "adminSecret": "a-admin",
                "endpoints": {"readWrite": "a.db.svc:5432"}, "tls": {"mode": "VerifyFull", "caSecret": "a-ca"},
                "network": {"namespace": "db", "podLabels": {"app": "a"}, "ports": [5432]}}]}),
        ),
        _ => object(
            "bus",
            Some("default"),
            json!({"engine": "Kafka", "className": "kafka", "kafka": {"topics": [{"name": "offer"}]},
                "roles": [{"name": "rates", "topics": {"write": ["offer"]}}]}),
        ),
    }
}

/// kind, JSON pointer, value put there, part of the refusal (empty: it is admitted).
fn table() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let owner = |environment: &str, role: &str| json!({"kind": "Group", "name": "x", "role": role, "environments": [environment]});
    let broker = json!({"engine": "Kafka", "environmentClass": "Production", "published": ["feed"], "servers": [{"name": "a",
        "endpoints": {"readWrite": "a.db.svc:9092"}, "network": {"namespace": "db", "podLabels": {"app": "a"}, "ports": [9092]}}]});
    let database =
        json!({"engine": "PostgreSQL", "className": "pg", "roles": [{"name": "rates", "access": "ReadWrite"}]});
    vec![
        ("Tenant", "/metadata/name", json!("a"), ""),
        ("Tenant", "/metadata/name", json!("a23456789012345678901234567890ab"), ""),
        ("Tenant", "/metadata/name", json!("a23456789012345678901234567890abc"), "at most 32"),
        ("Tenant", "/metadata/name", json!("1acme"), "starts with a letter"),
        ("Tenant", "/metadata/name", json!("acme.bet"), "at most 32"),
        ("Tenant", "/metadata/name", json!("kube-acme"), "reserved"),
        ("Tenant", "/metadata/name", json!("kube"), "reserved"),
        ("Tenant", "/metadata/name", json!("default"), "reserved"),
        ("Tenant", "/metadata/name", json!("paddock"), "reserved"),
        ("Tenant", "/metadata/name", json!("paddock-x"), "reserved"),
        ("Tenant", "/metadata/name", json!("openshift1"), "reserved"),
        ("Tenant", "/metadata/name", json!("kubernetes"), "reserved"),
        ("Tenant", "/metadata/name", json!("kubex"), "reserved"),
        ("Tenant", "/metadata/name", json!("paddockx"), "reserved"),
        ("Tenant", "/metadata/name", json!("defaults"), ""),
        ("Tenant", "/metadata/name", json!("platform"), ""),
        ("Tenant", "/spec/licences", json!([]), "should have at least 1"),
        ("Tenant", "/spec/currencies/0", json!("euro"), "spec.currencies[0]"),
        ("Tenant", "/spec/currencies", json!(["EUR", "EUR"]), "uplicate"),
        ("Tenant", "/spec/environments", json!([]), "at least 1"),
        ("Tenant", "/spec/environments/0/name", json!("pre-prod"), "spec.environments[0].name"),
        ("Tenant", "/spec/environments/0/name", json!("abcdefghijklmnop"), "spec.environments[0].name"),
        ("Tenant", "/spec/environments/0/class", json!("Staging"), "Production"),
        ("Tenant", "/spec/environments/0/domains/0/host", json!("Bet.Acme"), "domains[0].host"),
        ("Tenant", "/spec/environments/0/domains/0/host", json!("*.acme.example"), "domains[0].host"),
        ("Tenant", "/spec/environments/0/domains/0/host", json!("acme"), "domains[0].host"),
        ("Tenant", "/spec/environments/0/domains/0/host", json!("a..b"), "domains[0].host"),
        ("Tenant", "/spec/environments/0/services/0/config", json!({"lower": "x"}), "upper-case"),
        ("Tenant", "/spec/environments/0/services/0/config", json!({"PADDOCK_TENANT": "x"}), "set by the operator"),
        ("Tenant", "/spec/environments/0/services/0/replicas", json!({"min": 3, "max": 2}), "must not exceed"),
        ("Tenant", "/spec/environments/0/network", json!({"allow": [{"cidr": "203.0.113.0/24", "port": 443}]}), ""),
        ("Tenant", "/spec/environments/0/network", json!({"allow": [{"cidr": "203.0.113.0", "port": 443}]}), "cidr"),
        ("Tenant", "/spec/owners", json!([{"kind": "Group", "name": "x", "role": "King"}]), "Viewer"),
        ("Tenant", "/spec/owners", json!([owner("dev", "Owner"), owner("prod", "Viewer")]), ""),
        ("Tenant", "/spec/owners", json!([owner("dev", "Owner"), owner("prod", "Owner")]), "uplicate"),
        ("Release", "/spec/components/0/image", json!(""), "image"),
        ("Release", "/spec/components/0/migrations/need", json!("nosuch"), "must name a PostgreSQL entry"),
        ("Release", "/spec/components/0/ports", json!([{"name": "web", "port": 80}]), "port named http"),
        ("Release", "/spec/components/0/needs/1/access", json!("ReadOnly"), "access belongs to PostgreSQL"),
        ("Release", "/spec/components/0/needs/0/published", json!(["feed"]), "access belongs to PostgreSQL"),
        ("Release", "/spec/components/0/needs/0/access", json!("ReadOnly"), ""),
        ("Release", "/spec/components/0/needs/0/access", json!("Migrate"), "is for migration Jobs"),
        ("Release", "/spec/components/0/calls", json!(["account", "calculations"]), ""),
        ("Release", "/spec/components/0/calls", json!(["account", "account"]), "uplicate"),
        ("Release", "/spec/components/0/calls", json!(["../account"]), "calls[0]"),
        ("BettingService", "/spec/calls", json!([""]), "calls[0]"),
        ("Release", "/spec/components/0/strategy", json!({"type": "BlueGreen"}), "Rolling"),
        ("Release", "/spec/components/0/drain", json!({"period": "soon"}), "drain.period"),
        ("Release", "/spec/components", json!([]), "at least 1"),
        ("BettingService", "/metadata/name", json!("rates.v2"), "lower-case letters"),
        ("BettingService", "/spec/replicas", json!({"min": 0, "max": 2}), "replicas.min"),
        ("BettingService", "/spec/config", json!({"SERVICE_BINDING_ROOT": "/x"}), "set by the operator"),
        ("Market", "/spec/marketType", json!("who-wins"), "marketType"),
        ("Market", "/spec/margin/overround/live", json!("0.9"), "overround.live"),
        ("Market", "/spec/margin/overround/live", json!("-0.1"), "overround.live"),
        ("Market", "/spec/margin/overround/live", json!("7"), "overround.live"),
        ("Market", "/spec/margin/overround/live", json!("0.5"), ""),
        ("Market", "/spec/margin/method", json!("Magic"), "margin.method"),
        ("Market", "/spec/limits/0/maxStake", json!("1,000"), "maxStake"),
        ("Market", "/spec/limits", json!([]), "at least 1"),
        ("Market", "/spec/geography", json!({"deny": ["France"]}), "geography.deny"),
        ("Market", "/spec/state", json!("Paused"), "Suspended"),
        ("Market", "/spec/specifiers", json!(["total=2.5"]), ""),
        ("Market", "/spec/specifiers", json!(["2.5"]), "specifiers"),
        ("DatabaseClass", "/spec/published", json!(["feed"]), "published belongs to engine Kafka"),
        ("DatabaseClass", "/spec/servers/0/endpoints/readWrite", json!("a.db.svc"), "readWrite"),
        ("DatabaseClass", "/spec/servers/0/adminSecret", Value::Null, "needs adminSecret"),
        ("DatabaseClass", "/spec/servers/0/tls", Value::Null, "needs tls"),
        ("DatabaseClass", "/spec/limits", json!({"statementTimeout": "5s"}), ""),
        ("DatabaseClass", "/spec", broker.clone(), ""),
        ("DatabaseClass", "/spec", with(&broker, "/limits", json!({})), "limits belongs to engine PostgreSQL"),
        (
            "DatabaseClass",
            "/spec",
            with(&broker, "/servers/0/adminSecret", json!("a")),
            "adminSecret belongs to engine PostgreSQL",
        ),
        (
            "DatabaseClass",
            "/spec",
            with(&broker, "/servers/0/tls", json!({"mode": "VerifyFull", "caSecret": "a-ca"})),
            "tls belongs to engine PostgreSQL",
        ),
        ("DatabaseClaim", "/spec/kafka/topics/0/partitions", json!(0), "partitions"),
        ("DatabaseClaim", "/spec/engine", json!("PostgreSQL"), "belongs to engine Kafka"),
        ("DatabaseClaim", "/spec/roles/0/access", json!("Owner"), "Unsupported value"),
        ("DatabaseClaim", "/spec/roles/0/access", json!("ReadWrite"), "a Kafka role has no access"),
        ("DatabaseClaim", "/spec", database.clone(), ""),
        ("DatabaseClaim", "/spec", with(&database, "/roles/0/access", Value::Null), "has an access and no topics"),
        (
            "DatabaseClaim",
            "/spec",
            with(&database, "/roles/0/topics", json!({"read": ["offer"]})),
            "has an access and no topics",
        ),
        ("Release", "/metadata/name", json!("a".repeat(63)), ""),
        ("Release", "/metadata/name", json!("a".repeat(64)), "a Release's name has at most 63"),
        ("BettingService", "/metadata/name", json!("a".repeat(40)), ""),
        ("BettingService", "/metadata/name", json!("a".repeat(41)), "a BettingService's name has at most 40"),
        ("Market", "/metadata/name", json!("a".repeat(63)), ""),
        ("Market", "/metadata/name", json!("a".repeat(64)), "a Market's name has at most 63"),
        ("DatabaseClass", "/metadata/name", json!("a".repeat(63)), ""),
        ("DatabaseClass", "/metadata/name", json!("a".repeat(64)), "a DatabaseClass's name has at most 63"),
        ("DatabaseClaim", "/metadata/name", json!("a".repeat(40)), ""),
        ("DatabaseClaim", "/metadata/name", json!("a".repeat(41)), "a DatabaseClaim's name has at most 40"),
    ]
}

fn put(object: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        Value::Object(map) if value.is_null() => drop(map.remove(key)),
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        other => panic!("{parent} is {other}"),
    }
}

fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    put(&mut object, pointer, value);
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_on_a_real_api_server() {
    let (server, client) = server().await;

    for kind in ["Tenant", "Release", "BettingService", "Market", "DatabaseClass", "DatabaseClaim"] {
        admit(&client, &base(kind), true).await.unwrap_or_else(|error| panic!("the good {kind} is refused: {error}"));
    }
    let mut wrong = Vec::new();
    for (kind, pointer, value, refusal) in table() {
        let mut object = base(kind);
        put(&mut object, pointer, value.clone());
        match (admit(&client, &object, true).await, refusal) {
            (Ok(()), "") => {}
            (Ok(()), _) => wrong.push(format!("{kind} {pointer}={value} is admitted; expected: {refusal}")),
            (Err(error), "") => wrong.push(format!("{kind} {pointer}={value} is refused: {error}")),
            (Err(error), part) if error.contains(part) => {}
            (Err(error), part) => wrong.push(format!("{kind} {pointer}={value}: expected {part:?} in: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    immutable(&client).await;
    status_lists(&client).await;
    examples(&server, &client).await;
    explain(&server).await;
}

async fn immutable(client: &Client) {
    for (kind, pointer, value, refusal) in [
        ("Release", "/spec/version", json!("2"), "a Release is immutable"),
        ("Tenant", "/spec/environments/0/class", json!("NonProduction"), "class of an environment is immutable"),
        ("Tenant", "/spec/licences/0/name", json!("other"), "licences are immutable"),
        ("BettingService", "/spec/component", json!("account"), "component of a BettingService is immutable"),
        ("DatabaseClass", "/spec/environmentClass", json!("NonProduction"), "are immutable"),
        ("DatabaseClass", "/spec/engine", json!("Kafka"), "are immutable"),
        ("DatabaseClaim", "/spec/className", json!("other"), "are immutable"),
        ("DatabaseClaim", "/spec/engine", json!("PostgreSQL"), "are immutable"),
    ] {
        let mut object = base(kind);
        admit(client, &object, false).await.unwrap();
        put(&mut object, pointer, value);
        let error = admit(client, &object, false).await.expect_err(kind);
        assert!(error.contains(refusal), "{kind}: {error}");
        // The same again is no change.
        admit(client, &base(kind), false).await.unwrap();
    }
}

/// A status's list of named things comes back in the order in which it was applied: the operator compares by place whether a status says
/// something new.
async fn status_lists(client: &Client) {
    let mut class = base("DatabaseClass");
    admit(client, &class, false).await.unwrap();
    class.as_object_mut().unwrap().remove("spec");
    for names in [vec!["a", "b"], vec!["c", "b", "a"], vec!["b", "c"]] {
        let servers: Vec<Value> = names.iter().map(|name| json!({"name": name, "reachable": true})).collect();
        class["status"] = json!({"servers": servers});
        let params = PatchParams::apply("test").force();
        let written = api(client, &class).patch_status("pg", &params, &Patch::Apply(&class)).await.unwrap();
        assert_eq!(written.data["status"]["servers"], json!(servers));
    }
}

/// Every committed example is admitted, and decodes to our types without loss.
async fn examples(server: &Apiserver, client: &Client) {
    for namespace in ["acme-dev", "acme-prod", "zenith-prod"] {
        server.kubectl(&["create", "namespace", namespace]).await.unwrap();
    }
    let mut seen = 0;
    let mut files: Vec<_> =
        std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
        let text = std::fs::read_to_string(file).unwrap();
        for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            admit(client, &document, true).await.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let mut lost = Vec::new();
            compare("", &document, &decoded(&document), &mut lost);
            assert!(lost.is_empty(), "{}: {}", file.display(), lost.join(", "));
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} example objects were found");
}

/// The object as our type writes it again.
fn decoded(object: &Value) -> Value {
    fn again<K: DeserializeOwned + Serialize>(object: &Value) -> Value {
        let typed: K = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"));
        serde_json::to_value(typed).unwrap()
    }
    match object["kind"].as_str().unwrap() {
        "Tenant" => again::<Tenant>(object),
        "Release" => again::<Release>(object),
        "BettingService" => again::<BettingService>(object),
        "Market" => again::<Market>(object),
        "DatabaseClass" => again::<DatabaseClass>(object),
        "DatabaseClaim" => again::<DatabaseClaim>(object),
        other => panic!("{other} is no kind of ours"),
    }
}

/// What was there before and is not, or is something else; what is there beside it are defaults.
fn compare(path: &str, before: &Value, after: &Value, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(fields), Value::Object(_)) => {
            for (name, field) in fields {
                compare(&format!("{path}/{name}"), field, &after[name], lost);
            }
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            for (number, (item, other)) in items.iter().zip(others).enumerate() {
                compare(&format!("{path}/{number}"), item, other, lost);
            }
        }
        (before, after) if before == after => {}
        _ => lost.push(format!("{path}: {before} became {after}")),
    }
}

async fn explain(server: &Apiserver) {
    for (path, part) in [
        ("tenant.spec.environments.domains", "Fully qualified host name"),
        ("market.spec.margin.overround", "probabilities of a line's prices sum to"),
        ("bettingservice.spec.replicas", "the operator owns the size"),
        ("release.spec", "never changes"),
        ("databaseclaim.spec.roles", "each has a binding Secret"),
    ] {
        let text = server.kubectl(&["explain", path]).await.unwrap();
        let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(joined.contains(part), "kubectl explain {path} lacks {part:?}:\n{text}");
    }
}
