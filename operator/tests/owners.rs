//! What the owners of a Tenant may write and what not, on a real API server with what the chart installs for them. The operator is
//! stopped meanwhile: what bounds them holds without it (rule T2).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test: its failure is the message"
)]

mod support;

use Answer::{Admitted, NoRight, NotThere, Policy};
use http::{HeaderName, HeaderValue, Request};
use kube::Client;
use paddock_cluster::Progress;
use paddock_cluster::apiserver::Apiserver;
use paddock_cluster::tools::{self, Set};
use paddock_operator::controllers::{self, tenant};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use support::{context, eventually, gateway_api, install};
use tokio_util::sync::CancellationToken;

const OPERATOR: &str = "system:serviceaccount:paddock-system:paddock-operator";
const IMAGE: &str = "r.example/p@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Who asks: name in the table, user, groups.
const PEOPLE: [(&str, &str, &[&str]); 10] = [
    ("lead", "lea", &["leads"]),
    ("trader", "tom", &[]),
    ("viewer", "vic", &[]),
    ("developer", "dan", &[]),
    ("rival", "ron", &["rivals"]),
    ("operator", OPERATOR, &["system:serviceaccounts", "system:serviceaccounts:paddock-system"]),
    (
        "collector",
        "system:serviceaccount:kube-system:generic-garbage-collector",
        &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
    ),
    ("manager", "system:kube-controller-manager", &[]),
    ("administrator", "ada", &["system:masters"]),
    // As kubeadm, EKS and others have it: an administrator by a binding, in no group that Kubernetes knows.
    ("bound administrator", "bob", &["cluster-admins"]),
];

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Admitted,
    /// There is no such pod: asking was allowed.
    NotThere,
    /// RBAC refuses.
    NoRight,
    /// The admission policy refuses.
    Policy,
}

/// A request that changes nothing: who, verb, path, body, what comes of it.
type Row = (&'static str, &'static str, String, Value, Answer);

fn core(path: &str) -> String {
    format!("/api/v1/namespaces/acme-prod/{path}")
}

fn ours(path: &str) -> String {
    format!("/apis/paddock.bet/v1alpha1/namespaces/acme-prod/{path}")
}

fn api(group: &str, path: &str) -> String {
    format!("/apis/{group}/namespaces/acme-prod/{path}")
}

/// An object with label `managed-by`, or without labels.
#[allow(clippy::needless_pass_by_value, reason = "`json!` at every call")]
fn named(name: &str, manager: Option<&str>, rest: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}});
    if let Some(manager) = manager {
        object["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": manager});
    }
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    object
}

fn secret(name: &str, manager: Option<&str>) -> Value {
    named(name, manager, json!({"stringData": {"a": "b"}}))
}

fn market(name: &str, manager: Option<&str>) -> Value {
    let limits =
        json!([{"currency": "EUR", "minStake": "0.10", "maxStake": "5.00", "maxPayout": "100.00", "liability": "500"}]);
    let margin = json!({"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}});
    let spec = json!({"sport": "soccer", "marketType": "match-result", "margin": margin, "limits": limits});
    named(name, manager, json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "Market", "spec": spec}))
}

fn service(name: &str, manager: Option<&str>) -> Value {
    let spec = json!({"component": name, "version": "1", "image": IMAGE, "ports": [{"name": "http", "port": 8080}], "replicas": {"min": 1, "max": 1}});
    named(name, manager, json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService", "spec": spec}))
}

fn claim(name: &str, manager: Option<&str>) -> Value {
    let spec = json!({"engine": "PostgreSQL", "className": "pg", "roles": [{"name": "app", "access": "ReadWrite"}]});
    named(name, manager, json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "spec": spec}))
}

fn pod() -> Value {
    named(
        "p",
        None,
        json!({"spec": {"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [{
            "name": "c", "image": "i", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }]}}),
    )
}

fn table() -> Vec<Row> {
    let none = || Value::Null;
    let label = |value: Value| json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": value}}});
    let paddock = Some("paddock");
    let mut rows: Vec<Row> = Vec::new();
    // Secrets: own ones are written, and read by nobody; what the operator made stays.
    for who in ["lead", "trader"] {
        rows.extend([
            (who, "POST", core("secrets"), secret("new", None), Admitted),
            (who, "POST", core("secrets"), secret("new", Some("Helm")), Admitted),
            (who, "POST", core("secrets"), secret("new", paddock), Policy),
            (who, "PUT", core("secrets/own"), secret("own", None), Admitted),
            (who, "PUT", core("secrets/own"), secret("own", paddock), Policy),
            (who, "PUT", core("secrets/paddock-control"), secret("paddock-control", paddock), Policy),
            (who, "PUT", core("secrets/paddock-control"), secret("paddock-control", None), Policy),
            (who, "DELETE", core("secrets/own"), none(), Admitted),
            (who, "DELETE", core("secrets/paddock-control"), none(), Policy),
            (who, "DELETE", core("secrets"), none(), NoRight),
            (who, "GET", core("secrets"), none(), NoRight),
            (who, "GET", core("secrets/own"), none(), NoRight),
            (who, "PATCH", core("secrets/own"), json!({"stringData": {"a": "c"}}), NoRight),
        ]);
        // Markets are theirs.
        rows.extend([
            (who, "POST", ours("markets"), market("new", None), Admitted),
            (who, "POST", ours("markets"), market("new", paddock), Policy),
            (who, "PATCH", ours("markets/own"), json!({"spec": {"state": "Suspended"}}), Admitted),
            (who, "PATCH", ours("markets/own"), label(json!("paddock")), Policy),
            (who, "PATCH", ours("markets/made"), json!({"spec": {"state": "Suspended"}}), Policy),
            (who, "PATCH", ours("markets/made"), label(Value::Null), Policy),
            (who, "DELETE", ours("markets/own"), none(), Admitted),
            (who, "DELETE", ours("markets/made"), none(), Policy),
            (who, "PATCH", ours("markets/own/status"), json!({"status": {"observedGeneration": 7}}), NoRight),
        ]);
    }
    // Services and claims are for Owners, and only what they made themselves.
    rows.extend([
        ("lead", "POST", ours("bettingservices"), service("tool", None), Admitted),
        ("lead", "POST", ours("bettingservices"), service("tool", paddock), Policy),
        ("lead", "PATCH", ours("bettingservices/rates"), json!({"spec": {"suspended": true}}), Policy),
        ("lead", "PATCH", ours("bettingservices/rates"), label(Value::Null), Policy),
        ("lead", "DELETE", ours("bettingservices/rates"), none(), Policy),
        ("lead", "PATCH", ours("bettingservices/rates/status"), json!({"status": {"observedGeneration": 7}}), NoRight),
        ("trader", "POST", ours("bettingservices"), service("tool", None), NoRight),
        ("lead", "POST", ours("databaseclaims"), claim("new", None), Admitted),
        ("lead", "POST", ours("databaseclaims"), claim("new", paddock), Policy),
        ("lead", "DELETE", ours("databaseclaims/own"), none(), Admitted),
        ("lead", "DELETE", ours("databaseclaims/made"), none(), Policy),
        ("trader", "DELETE", ours("databaseclaims/own"), none(), NoRight),
    ]);
    // What isolates, what runs, and who may do what is nobody's but the operator's.
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let subject = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "lea"}]);
    let open = json!({"spec": {"podSelector": {}, "ingress": [{}]}});
    let rbac = "rbac.authorization.k8s.io/v1";
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": {}});
    for (verb, path, body) in [
        ("POST", api("networking.k8s.io/v1", "networkpolicies"), named("open", None, open.clone())),
        ("PATCH", api("networking.k8s.io/v1", "networkpolicies/default-deny"), open),
        ("DELETE", api("networking.k8s.io/v1", "networkpolicies/default-deny"), none()),
        ("PATCH", core("resourcequotas/environment"), json!({"spec": {"hard": {"pods": "9999"}}})),
        ("DELETE", core("resourcequotas/environment"), none()),
        ("DELETE", core("limitranges/environment"), none()),
        ("POST", api(rbac, "rolebindings"), named("me", None, json!({"roleRef": role, "subjects": subject}))),
        ("PATCH", api(rbac, "rolebindings/paddock-owner"), json!({"subjects": subject})),
        ("DELETE", api(rbac, "rolebindings/paddock-operator-environment"), none()),
        ("POST", api(rbac, "roles"), named("r", None, json!({"rules": []}))),
        ("POST", core("configmaps"), named("new", None, json!({"data": {"a": "b"}}))),
        ("PATCH", core("configmaps/token-issuer"), json!({"data": {"issuer": "me"}})),
        ("POST", core("pods"), pod()),
        ("POST", core("serviceaccounts"), named("new", None, json!({}))),
        ("POST", core("serviceaccounts/own/token"), json!({"spec": {"audiences": ["account"]}})),
        ("POST", api("gateway.networking.k8s.io/v1", "httproutes"), named("new", None, route)),
        ("PATCH", "/api/v1/namespaces/acme-prod".into(), json!({"metadata": {"labels": {"paddock.bet/tenant": null}}})),
        ("DELETE", "/api/v1/namespaces/acme-prod".into(), none()),
        ("PATCH", "/apis/paddock.bet/v1alpha1/tenants/acme".into(), json!({"spec": {"displayName": "x"}})),
        ("POST", "/api/v1/namespaces/paddock-system/secrets".into(), secret("new", None)),
        ("POST", "/api/v1/namespaces/zenith-prod/secrets".into(), secret("new", None)),
        (
            "DELETE",
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/paddock-managed-objects".into(),
            none(),
        ),
    ] {
        rows.extend(["lead", "trader"].map(|who| (who, verb, path.clone(), body.clone(), NoRight)));
    }
    // Into pods go Owners only, and in NonProduction only.
    for path in ["pods/none/exec?command=sh", "pods/none/portforward"] {
        let dev = |path: &str| core(path).replace("acme-prod", "acme-dev");
        rows.extend([
            ("lead", "POST", core(path), none(), NoRight),
            ("lead", "POST", dev(path), none(), NotThere),
            ("developer", "POST", core(path), none(), NoRight),
            ("developer", "POST", dev(path), none(), NotThere),
            ("trader", "POST", dev(path), none(), NoRight),
        ]);
    }
    // Viewers read and no more; a role holds where it was given; other Tenants' owners have none.
    let dev_markets = "/apis/paddock.bet/v1alpha1/namespaces/acme-dev/markets";
    rows.extend([
        ("viewer", "GET", ours("markets"), none(), Admitted),
        ("viewer", "POST", ours("markets"), market("new", None), NoRight),
        ("viewer", "POST", core("secrets"), secret("new", None), NoRight),
        ("viewer", "GET", core("secrets"), none(), NoRight),
        ("developer", "GET", ours("markets"), none(), NoRight),
        ("developer", "POST", dev_markets.into(), market("new", None), Admitted),
        ("developer", "POST", dev_markets.into(), market("new", paddock), Policy),
        ("rival", "GET", ours("markets"), none(), NoRight),
        ("rival", "POST", core("secrets"), secret("new", None), NoRight),
    ]);
    // The policy is not about the operator, Kubernetes' own controllers and administrators; nor about namespaces without a Tenant.
    rows.extend([
        ("operator", "PUT", core("secrets/paddock-control"), secret("paddock-control", paddock), Admitted),
        ("operator", "DELETE", core("secrets/paddock-control"), none(), Admitted),
        ("collector", "DELETE", ours("markets/made"), none(), Admitted),
        ("manager", "DELETE", core("secrets/paddock-control"), none(), Admitted),
        ("administrator", "DELETE", ours("markets/made"), none(), Admitted),
        ("bound administrator", "DELETE", ours("databaseclaims/made"), none(), Admitted),
        ("lead", "POST", "/api/v1/namespaces/others/secrets".into(), secret("new", paddock), Admitted),
    ]);
    rows
}

async fn ask(client: &Client, verb: &str, path: &str, body: &Value) -> Result<Answer, String> {
    let dry = if path.contains('?') { "&dryRun=All" } else { "?dryRun=All" };
    let uri = if verb == "GET" || path.contains("/pods/none/") { path.to_owned() } else { format!("{path}{dry}") };
    let kind = if verb == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(verb).uri(uri).header("content-type", kind).body(bytes).unwrap();
    match client.request_text(request).await {
        Ok(_) => Ok(Admitted),
        Err(kube::Error::Api(status)) => match (status.code, status.message.as_str()) {
            (403, text) if text.contains("ValidatingAdmissionPolicy 'paddock-managed-objects'") => Ok(Policy),
            (403, text) if text.contains("cannot") => Ok(NoRight),
            (404, text) if text.contains("pods \"none\" not found") => Ok(NotThere),
            (code, text) => Err(format!("{code} {text}")),
        },
        Err(error) => Err(error.to_string()),
    }
}

/// A Tenant with an environment of each class, services in both, and objects that look as if the operator or the owners made them.
async fn acme(server: &Apiserver) {
    let environment = |name: &str, class: &str| json!({"name": name, "class": class, "release": "r1"});
    for object in [
        json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "Release", "metadata": {"name": "r1"}, "spec": {"version": "1", "components": [
            {"name": "rates", "image": IMAGE, "ports": [{"name": "http", "port": 8080}]}]}}),
        json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": "acme"}, "spec": {
            "displayName": "Acme", "licences": [{"name": "mga-1", "jurisdiction": "MT"}], "currencies": ["EUR"],
            "owners": [
                {"kind": "Group", "name": "leads", "role": "Owner"}, {"kind": "User", "name": "tom", "role": "Editor"},
                {"kind": "User", "name": "vic", "role": "Viewer"},
                {"kind": "User", "name": "dan", "role": "Owner", "environments": ["dev"]},
            ],
            "environments": [environment("prod", "Production"), environment("dev", "NonProduction")]}}),
        json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": "zenith"}, "spec": {
            "displayName": "Zenith", "licences": [{"name": "mga-2", "jurisdiction": "MT"}], "currencies": ["EUR"],
            "owners": [{"kind": "Group", "name": "rivals", "role": "Owner"}], "environments": [environment("prod", "Production")]}}),
    ] {
        server.apply(&object.to_string()).await.unwrap();
    }
    for namespace in ["acme-prod", "acme-dev", "zenith-prod"] {
        eventually(&format!("the services of {namespace}"), async || {
            server.kubectl(&["get", "bsvc", "-n", namespace, "rates"]).await.is_ok()
        })
        .await;
    }
    let mut own = secret("own", None);
    own["apiVersion"] = "v1".into();
    own["kind"] = "Secret".into();
    let managed = Some("paddock");
    for mut object in [own, market("own", None), market("made", managed), claim("own", None), claim("made", managed)] {
        object["metadata"]["namespace"] = "acme-prod".into();
        server.apply(&object.to_string()).await.unwrap();
    }
    server.kubectl(&["create", "serviceaccount", "own", "-n", "acme-prod"]).await.unwrap();
    server
        .kubectl(&["create", "clusterrolebinding", "bob", "--clusterrole=cluster-admin", "--group=cluster-admins"])
        .await
        .unwrap();
    // The operator's rights and those of a person elsewhere are not what is tried here.
    for (namespace, subject) in
        [("acme-prod", "--serviceaccount=paddock-system:paddock-operator"), ("others", "--group=leads")]
    {
        let _ = server.kubectl(&["create", "namespace", namespace]).await;
        server
            .kubectl(&["create", "rolebinding", "all", "-n", namespace, "--clusterrole=cluster-admin", subject])
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_write_what_is_theirs_and_nothing_else() {
    tools::ensure(&[Set::EnvoyGateway], Progress::visible()).await.expect("the Gateway controller's charts");
    let _ = rustls::crypto::ring::default_provider().install_default();
    // With controllers: a quota without a status refuses everything.
    let server = Apiserver::builder().controller_manager().start().await.expect("an API server");
    install(&server).await;
    server.kubectl(&["apply", "--server-side", "-f", &gateway_api()]).await.unwrap();
    for object in tenant::for_owners(OPERATOR) {
        server.apply(&serde_json::to_string(&object).unwrap()).await.unwrap();
    }
    let stop = CancellationToken::new();
    let ctx = context(server.config().await.unwrap(), &stop).await;
    let operator = [
        tokio::spawn(ctx.issuer.clone().follow(ctx.client.clone(), stop.clone())),
        tokio::spawn(controllers::tenant::start(ctx.clone(), stop.clone())),
        tokio::spawn(controllers::release::start(ctx.clone(), stop.clone())),
    ];
    acme(&server).await;
    eventually("the token issuer", async || {
        server.kubectl(&["get", "configmap", "-n", "acme-prod", "token-issuer"]).await.is_ok()
    })
    .await;
    stop.cancel();
    for task in operator {
        task.await.unwrap();
    }

    let mut clients = BTreeMap::new();
    for (name, user, groups) in PEOPLE {
        let mut config = server.config().await.unwrap();
        let header = |name: &'static str, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        config.headers.push(header("impersonate-user", user));
        config.headers.extend(groups.iter().map(|group| header("impersonate-group", group)));
        clients.insert(name, Client::try_from(config).unwrap());
    }
    let rows = table();
    // The API server learns of roles and of the policy a moment after they are made. What never is in force is named below.
    let in_force = async {
        for (who, verb, path, body, wanted) in rows.iter().filter(|row| row.4 != NoRight) {
            while ask(&clients[who], verb, path, body).await.as_ref() != Ok(wanted) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(30), in_force).await;
    let mut wrong = Vec::new();
    for (who, verb, path, body, wanted) in &rows {
        let found = ask(&clients[who], verb, path, body).await;
        if found.as_ref() != Ok(wanted) {
            wrong.push(format!("{who}: {verb} {path} {body}: {found:?} instead of {wanted:?}"));
        }
        // The request itself is in order: an administrator's is admitted.
        let found = ask(&clients["administrator"], verb, path, body).await;
        let able = if path.contains("/pods/none/") { NotThere } else { Admitted };
        if found.as_ref() != Ok(&able) {
            wrong.push(format!("administrator: {verb} {path} {body}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "of {} requests:\n{}", rows.len(), wrong.join("\n"));
}
