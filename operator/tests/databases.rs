//! DatabaseClasses and DatabaseClaims on a real API server and a real PostgreSQL server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test: its failure is the message"
)]

#[path = "../src/database/postgres/tests/server.rs"]
#[allow(dead_code, reason = "the unit tests of the provisioner use the rest")]
mod postgres;
mod support;

use paddock_cluster::apiserver::Apiserver;
use paddock_crds::v1alpha1::{DatabaseClaim, DatabaseClass};
use paddock_operator::controllers::{Ctx, Kind as _, Outcome, database_claim, database_class};
use paddock_operator::database::postgres::{Administrator, PostgresServer, Terms};
use paddock_operator::database::{DatabaseError, Provisioner as _, Writer};
use paddock_operator::leader::{Elector, End, Leadership, Timing};
use postgres::TestServer;
use rdkafka::mocking::MockCluster;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use std::sync::Arc;
use support::{PATIENCE, another_look_is_silent, context, eventually, reconciles, requests, server, told};
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "acme-prod";
/// Of another brand, on a server of its own.
const OTHER: &str = "zenith-prod";
/// Where the reason of `Ready` stands.
const READY: &str = r#"{.status.conditions[?(@.type=="Ready")].reason}"#;

async fn apply(api: &Apiserver, object: Value) {
    api.apply(&object.to_string()).await.unwrap();
}

async fn secret(api: &Apiserver, name: &str, data: Value) {
    apply(api, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "paddock-system"}, "stringData": data})).await;
}

/// A class with one server, whose administrator and authority are Secrets of its name.
async fn class(api: &Apiserver, name: &str, port: u16) {
    apply(api, json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass", "metadata": {"name": name},
        "spec": {"engine": "PostgreSQL", "environmentClass": "Production", "servers": [{"name": "a", "adminSecret": format!("{name}-admin"),
            "endpoints": {"readWrite": format!("localhost:{port}")}, "tls": {"mode": "VerifyFull", "caSecret": format!("{name}-ca")},
            "network": {"namespace": "db", "podLabels": {"app": "pg"}, "ports": [5432]}}]}})).await;
}

/// The administrator's Secret of a class, and that of its authority.
async fn secrets(api: &Apiserver, class: &str, password: &str, server: &TestServer) {
    let administrator = json!({"username": postgres::ADMINISTRATOR, "password": password});
    secret(api, &format!("{class}-admin"), administrator).await;
    secret(api, &format!("{class}-ca"), json!({"ca.crt": String::from_utf8(server.ca().to_vec()).unwrap()})).await;
}

async fn claim(api: &Apiserver, namespace: &str, class: &str) {
    apply(api, json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "metadata": {"name": "db", "namespace": namespace},
        "spec": {"engine": "PostgreSQL", "className": class,
            "roles": [{"name": "app", "access": "ReadWrite"}, {"name": "migrate", "access": "Migrate"}]}})).await;
}

async fn wait(api: &Apiserver, object: &str, path: &str, value: &str) {
    wait_in(api, NAMESPACE, object, path, value).await;
}

async fn wait_in(api: &Apiserver, namespace: &str, object: &str, path: &str, value: &str) {
    let condition = format!("--for=jsonpath={path}={value}");
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    if let Err(error) = api.kubectl(&["wait", "-n", namespace, object, &condition, &timeout]).await {
        panic!("{error}: {}", api.kubectl(&["get", "-n", namespace, object, "-o", "yaml"]).await.unwrap());
    }
}

async fn ready(api: &Apiserver, object: &str, reason: &str) {
    wait(api, object, READY, reason).await;
}

async fn object(api: &Apiserver, namespace: &str, object: &str) -> Value {
    serde_json::from_str(&api.kubectl(&["get", "-n", namespace, object, "-o", "json"]).await.unwrap()).unwrap()
}

/// Connects as a pod does that knows nothing but its binding.
async fn pod(api: &Apiserver, namespace: &str) -> Result<PgConnection, String> {
    let secret = object(api, namespace, "secret/db-app").await;
    let key = |name: &str| -> String {
        let text = secret["data"][name].as_str().unwrap_or_else(|| panic!("no key {name}"));
        String::from_utf8(data_encoding::BASE64.decode(text.as_bytes()).unwrap()).unwrap()
    };
    PgConnectOptions::new_without_pgpass()
        .host(&key("host"))
        .port(key("port").parse().unwrap())
        .username(&key("username"))
        .password(&key("password"))
        .database(&key("database"))
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert_from_pem(key("ca.crt").into_bytes())
        .connect()
        .await
        .map_err(|error| postgres::code(&error))
}

/// Makes the controllers of class and claim look again, and waits until they have.
async fn look_again(api: &Apiserver, ctx: &Ctx, class: &str, claim: &str) {
    for (controller, kind, name) in [("databaseclass", "dbclass", class), ("databaseclaim", "dbc", claim)] {
        let before = reconciles(&ctx.metrics, controller);
        let look = format!("look={}", before + 1);
        api.kubectl(&["annotate", "-n", NAMESPACE, kind, name, "--overwrite", &look]).await.unwrap();
        eventually("another look", async || reconciles(&ctx.metrics, controller) > before).await;
    }
}

/// Gives a database another name, once nobody is in it.
async fn rename(root: &mut PgConnection, from: &str, to: &str) {
    let ended = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{from}'");
    let renamed = format!("ALTER DATABASE \"{from}\" RENAME TO \"{to}\"");
    eventually("nobody is in the database that is renamed", async || {
        postgres::attempt(root, &ended).await.unwrap();
        postgres::attempt(root, &renamed).await.is_ok()
    })
    .await;
}

/// Class and claim say why they are not ready, each by one event that is not repeated.
async fn both_say_once(api: &Apiserver, ctx: &Ctx, (class, claim): (&str, &str), reason: &str) {
    ready(api, &format!("dbclass/{class}"), reason).await;
    ready(api, &format!("dbc/{claim}"), reason).await;
    look_again(api, ctx, class, claim).await;
    assert_eq!(told(api, "DatabaseClass", class, reason).await, 1, "events about {class}: {reason}");
    assert_eq!(told(api, "DatabaseClaim", claim, reason).await, 1, "events about {claim}: {reason}");
}

/// Environment `prod` of a Tenant that names a class.
async fn environment(api: &Apiserver, tenant: &str, engine: &str, class: &str) {
    apply(
        api,
        json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": tenant},
        "spec": {"displayName": tenant, "licences": [{"name": "mga-1", "jurisdiction": "MT"}], "currencies": ["EUR"],
            "environments": [{"name": "prod", "class": "Production", "release": "r",
                "databaseClasses": [{"engine": engine, "className": class}]}]}}),
    )
    .await;
    let labels = json!({
        "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": tenant, "paddock.bet/environment": "prod",
        "paddock.bet/class": "Production",
    });
    let name = format!("{tenant}-prod");
    apply(api, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})).await;
}

/// What somebody adds to a binding goes: its claim was looked at, and its server.
async fn a_binding_is_repaired(api: &Apiserver, namespace: &str) {
    let extra = r#"{"stringData": {"extra": "x"}}"#;
    api.kubectl(&["patch", "secret", "-n", namespace, "db-app", "-p", extra]).await.unwrap();
    eventually("the added key goes", async || object(api, namespace, "secret/db-app").await["data"]["extra"].is_null())
        .await;
}

async fn reconcile(ctx: &Arc<Ctx>) -> Outcome {
    let class = ctx.cache.get::<DatabaseClass>(None, "pg").unwrap();
    DatabaseClass::reconcile(class, ctx.clone()).await.unwrap();
    let claim = ctx.cache.get::<DatabaseClaim>(Some(NAMESPACE), "db").unwrap();
    DatabaseClaim::reconcile(claim, ctx.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_live_on_a_real_api_server() {
    let mut database = TestServer::start().await;
    let healthy = TestServer::start().await;
    let api = server().await;
    environment(&api, "acme", "PostgreSQL", "pg").await;
    environment(&api, "zenith", "PostgreSQL", "pg").await;
    secrets(&api, "pg", "wrong", &database).await;
    secrets(&api, "pg-zenith", postgres::PASSWORD, &healthy).await;

    let stop = CancellationToken::new();
    let ctx = context(api.config().await.unwrap(), &stop).await;
    ctx.cache.watch_secrets(NAMESPACE);
    ctx.cache.watch_secrets(OTHER);
    let running = CancellationToken::new();
    let classes = tokio::spawn(database_class::start(ctx.clone(), running.clone()));
    let claims = tokio::spawn(database_claim::start(ctx.clone(), running.clone()));

    // A claim before its class, a class with a wrong password: each says so, and recovers when the input is mended.
    claim(&api, NAMESPACE, "pg").await;
    ready(&api, "dbc/db", "ClassNotFound").await;
    let before = reconciles(&ctx.metrics, "databaseclaim");
    api.kubectl(&["annotate", "-n", NAMESPACE, "dbc/db", "look=0"]).await.unwrap();
    eventually("another look", async || reconciles(&ctx.metrics, "databaseclaim") > before).await;
    assert_eq!(told(&api, "DatabaseClaim", "db", "ClassNotFound").await, 1);
    class(&api, "pg", database.port()).await;
    both_say_once(&api, &ctx, ("pg", "db"), "CredentialsRefused").await;

    // Meanwhile another brand's claim binds on its own server, once its Tenant names the class.
    class(&api, "pg-zenith", healthy.port()).await;
    // Nothing but the Tenant wakes the claim when it is refused.
    ready(&api, "dbclass/pg-zenith", "ServersReachable").await;
    claim(&api, OTHER, "pg-zenith").await;
    wait_in(&api, OTHER, "dbc/db", READY, "ClassNotOfEnvironment").await;
    environment(&api, "zenith", "PostgreSQL", "pg-zenith").await;
    wait_in(&api, OTHER, "dbc/db", READY, "Bound").await;
    ready(&api, "dbc/db", "CredentialsRefused").await;
    let others = object(&api, OTHER, "dbc/db").await;
    secrets(&api, "pg", postgres::PASSWORD, &database).await;
    ready(&api, "dbclass/pg", "ServersReachable").await;

    // The operator's own way to the server is open, and opened again when somebody shuts it.
    let port = "jsonpath={.spec.egress[0].ports[0].port}";
    let policy = ["get", "networkpolicy", "-n", "paddock-system", "pg", "--ignore-not-found", "-o", port];
    assert_eq!(api.kubectl(&policy).await.unwrap().trim(), "5432");
    api.kubectl(&["delete", "networkpolicy", "-n", "paddock-system", "pg"]).await.unwrap();
    eventually("the policy is back", async || api.kubectl(&policy).await.unwrap().trim() == "5432").await;
    ready(&api, "dbc/db", "Bound").await;
    pod(&api, NAMESPACE).await.unwrap();

    // The server goes away: both say so, and pods keep their binding. It comes back: that is enough.
    database.stop().await;
    look_again(&api, &ctx, "pg", "db").await;
    both_say_once(&api, &ctx, ("pg", "db"), "ServerUnreachable").await;
    wait(&api, "dbc/db", r#"{.status.conditions[?(@.type=="Bound")].status}"#, "True").await;
    // The other brand's claim is served as ever, and nothing was written about it since it was bound.
    a_binding_is_repaired(&api, OTHER).await;
    pod(&api, OTHER).await.unwrap();
    assert_eq!(object(&api, OTHER, "dbc/db").await, others);
    database.start_again().await;
    ready(&api, "dbclass/pg", "ServersReachable").await;
    ready(&api, "dbc/db", "Bound").await;
    pod(&api, NAMESPACE).await.unwrap();

    a_binding_is_repaired(&api, NAMESPACE).await;

    // Its data goes missing: nothing is made in its place, and all is well again when it is back.
    let name = named(&api).await;
    let mut root = database.superuser("postgres").await;
    rename(&mut root, &name, "elsewhere").await;
    look_again(&api, &ctx, "pg", "db").await;
    ready(&api, "dbc/db", "DataMissing").await;
    look_again(&api, &ctx, "pg", "db").await;
    assert_eq!(told(&api, "DatabaseClaim", "db", "DataMissing").await, 1);
    let made = format!("SELECT count(*)::text FROM pg_database WHERE datname = '{name}'");
    assert_eq!(postgres::value(&mut root, &made).await, "0");
    rename(&mut root, "elsewhere", &name).await;
    look_again(&api, &ctx, "pg", "db").await;
    ready(&api, "dbc/db", "Bound").await;
    pod(&api, NAMESPACE).await.unwrap();

    // Deleted while in use: it goes, its login is shut, and one of the same name takes its data back.
    let mut migrate = database.superuser(&named(&api).await).await;
    postgres::run(&mut migrate, "CREATE TABLE app.money AS SELECT 42 AS amount").await;
    let before = pod(&api, NAMESPACE).await.unwrap();
    api.kubectl(&["delete", "-n", NAMESPACE, "dbc/db", "--timeout=60s"]).await.unwrap();
    assert_eq!(pod(&api, NAMESPACE).await.map(|_| ()), Err("28000".to_owned()));
    drop(before);
    claim(&api, NAMESPACE, "pg").await;
    ready(&api, "dbc/db", "DriftNotRepairable").await;
    assert_eq!(postgres::value(&mut migrate, "SELECT amount::text FROM app.money").await, "42");
    // The table is a superuser's: only one can mend that.
    let name = named(&api).await;
    postgres::run(&mut migrate, &format!("ALTER TABLE app.money OWNER TO \"{name}_own\"")).await;
    api.kubectl(&["annotate", "-n", NAMESPACE, "dbc/db", "look=again"]).await.unwrap();
    ready(&api, "dbc/db", "Bound").await;
    let mut app = pod(&api, NAMESPACE).await.unwrap();
    assert_eq!(postgres::value(&mut app, "SELECT amount::text FROM money").await, "42");

    // At rest a whole reconcile writes nothing and reads nothing.
    running.cancel();
    classes.await.unwrap();
    claims.await.unwrap();
    reconcile(&ctx).await;
    another_look_is_silent(
        || requests(&ctx.metrics).0,
        async || matches!(reconcile(&ctx).await, Outcome::Again { .. }).then_some(()).ok_or("a look without another"),
    )
    .await;
    stop.cancel();
}

/// The client library's own broker has no administration: the claim reads what Tenant `platform` publishes, and makes no topic.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_is_said_once_and_forgotten_when_it_is_back() {
    let broker = MockCluster::new(1).unwrap();
    let api = server().await;
    environment(&api, "acme", "Kafka", "kafka").await;
    let stop = CancellationToken::new();
    let ctx = context(api.config().await.unwrap(), &stop).await;
    ctx.cache.watch_secrets(NAMESPACE);
    let classes = tokio::spawn(database_class::start(ctx.clone(), stop.clone()));
    let claims = tokio::spawn(database_claim::start(ctx.clone(), stop.clone()));
    apply(
        &api,
        json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass", "metadata": {"name": "kafka"},
            "spec": {"engine": "Kafka", "environmentClass": "Production", "published": ["feed"], "servers": [{
                "name": "k", "endpoints": {"readWrite": broker.bootstrap_servers()},
                "network": {"namespace": "db", "podLabels": {"app": "kafka"}, "ports": [9092]}}]}}),
    )
    .await;
    apply(
        &api,
        json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "metadata": {"name": "bus", "namespace": NAMESPACE},
            "spec": {"engine": "Kafka", "className": "kafka", "roles": [{"name": "rates", "topics": {"published": ["feed"]}}]}}),
    )
    .await;
    ready(&api, "dbclass/kafka", "ServersReachable").await;
    ready(&api, "dbc/bus", "Bound").await;
    broker.broker_down(1).unwrap();
    look_again(&api, &ctx, "kafka", "bus").await;
    both_say_once(&api, &ctx, ("kafka", "bus"), "ServerUnreachable").await;
    wait(&api, "dbc/bus", r#"{.status.conditions[?(@.type=="Bound")].status}"#, "True").await;
    broker.broker_up(1).unwrap();
    ready(&api, "dbclass/kafka", "ServersReachable").await;
    ready(&api, "dbc/bus", "Bound").await;
    stop.cancel();
    classes.await.unwrap();
    claims.await.unwrap();
}

/// Rule O5: the Lease was lost and counts anew, a server and its class's status still know the terms before.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_passes_the_terms_that_servers_know() {
    let database = TestServer::start().await;
    let api = server().await;
    secrets(&api, "pg", postgres::PASSWORD, &database).await;
    class(&api, "pg", database.port()).await;
    let cluster = ["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"];
    let cluster = api.kubectl(&cluster).await.unwrap().trim().to_owned();
    let before = PostgresServer {
        name: "a".into(),
        host: "localhost".into(),
        port: database.port(),
        ca: database.ca().to_vec(),
        administrator: Administrator {
            secret: "pg-admin".into(),
            username: postgres::ADMINISTRATOR.into(),
            password: postgres::PASSWORD.into(),
        },
        known_epoch: 0,
        terms: Terms::default(),
    };
    let term = Writer { cluster, epoch: 40 };
    before.check(&term).await.unwrap();

    let stop = CancellationToken::new();
    let alone = context(api.config().await.unwrap(), &stop).await;
    let leader = Leadership::new();
    let (client, timing) = (alone.client.clone(), Timing::default());
    let mut elector = Elector::new(client, "paddock-system", "paddock-operator", "me", timing, leader.clone());
    assert_eq!(elector.acquire(&stop).await, Some(1));
    let ctx = Arc::new(Ctx { leader, ..Arc::into_inner(alone).unwrap() });
    let resign = stop.clone();
    let hold = tokio::spawn(async move { elector.hold(&resign).await });
    let classes = tokio::spawn(database_class::start(ctx.clone(), stop.clone()));
    ready(&api, "dbclass/pg", "ServersReachable").await;
    wait(&api, "dbclass/pg", "{.status.servers[0].epoch}", "41").await;
    assert_eq!(ctx.leader.epoch(), 41);
    let refused = before.check(&term).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::Superseded { found: 41, ours: 40, .. }), "{refused}");
    stop.cancel();
    assert_eq!(hold.await.unwrap(), End::Stopped);
    classes.await.unwrap();
}

/// Name of the claim's database.
async fn named(api: &Apiserver) -> String {
    api.kubectl(&["get", "-n", NAMESPACE, "dbc/db", "-o", "jsonpath={.status.database}"])
        .await
        .unwrap()
        .trim()
        .to_owned()
}
