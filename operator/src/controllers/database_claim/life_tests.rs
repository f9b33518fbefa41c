//! Whole reconciles: an apiserver in memory, and a real PostgreSQL server.

use super::apiserver_tests::{Apiserver, managed};
use crate::controllers::{Category, Ctx, Fault, Kind as _, Outcome};
use crate::database::postgres::Terms;
use crate::database::postgres::tests::provisioner;
use crate::database::postgres::tests::server::{TestServer, run, shared, value};
use crate::kube::{ChildKind, cache::Typed};
use crate::leader::Leadership;
use crate::settings::Settings;
use paddock_crds::v1alpha1::{DatabaseClaim, DatabaseClass, Tenant};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const CLASS: &str = "/apis/paddock.bet/v1alpha1/databaseclasses/pg";
const OPERATOR: &str = "/api/v1/namespaces/paddock-system";

/// One environment `prod` of a tenant, on the shared server.
struct World {
    tenant: &'static str,
    server: &'static TestServer,
    api: Apiserver,
    ctx: Arc<Ctx>,
}

/// Worlds on the shared server are one process to it.
static TERMS: LazyLock<Terms> = LazyLock::new(Terms::default);

impl World {
    async fn new(tenant: &'static str) -> Self {
        Self::on(shared().await, tenant, 1, TERMS.clone())
    }

    fn on(server: &'static TestServer, tenant: &'static str, epoch: u64, terms: Terms) -> Self {
        let api = Apiserver::default();
        let ctx = context(&api, epoch, terms);
        let target = provisioner(server);
        let base64 = |text: &[u8]| data_encoding::BASE64.encode(text);
        api.put(
            "/api/v1/namespaces/kube-system",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "cluster"}}),
        );
        let admin = json!({"username": base64(b"paddock"), "password": base64(target.administrator.password.expose_secret().as_bytes())});
        for (name, data) in [("pg-admin", admin), ("pg-ca", json!({"ca.crt": base64(&target.ca)}))] {
            api.put(&format!("{OPERATOR}/secrets/{name}"), json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "paddock-system"}, "data": data}));
        }
        let world = Self { tenant, server, api, ctx };
        world.ctx.cache.watch_secrets(&world.namespace());
        world.environment();
        world.class(target.port);
        world.claim("first");
        world
    }

    fn namespace(&self) -> String {
        format!("{}-prod", self.tenant)
    }

    fn claim_path(&self) -> String {
        format!("/apis/paddock.bet/v1alpha1/namespaces/{}/databaseclaims/db", self.namespace())
    }

    fn secret_path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/db-app", self.namespace())
    }

    /// Tenant and namespace of the environment, as the cache has them.
    fn environment(&self) {
        let tenant = self.tenant;
        let named = json!([{"name": "prod", "class": "Production", "release": "r", "databaseClasses": [{"engine": "PostgreSQL", "className": "pg"}]}]);
        let brand = json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": tenant, "uid": "t", "resourceVersion": "1"},
            "spec": {"displayName": tenant, "licences": [], "currencies": [], "environments": named}});
        self.ctx.cache.observe::<Tenant>(serde_json::from_value(brand).unwrap());
        let labels = json!({"app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": tenant, "paddock.bet/environment": "prod", "paddock.bet/class": "Production"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace(), "uid": "n", "resourceVersion": "1", "labels": labels}});
        self.ctx.cache.observe_child(ChildKind::Namespace, serde_json::from_value(namespace).unwrap());
    }

    /// The class, with its server at a port.
    fn class(&self, port: u16) {
        let status = self.api.get(CLASS).map_or(Value::Null, |class| class["status"].clone());
        self.observe::<DatabaseClass>(CLASS, json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass", "metadata": {"name": "pg", "uid": "class", "generation": 1},
            "spec": {"engine": "PostgreSQL", "environmentClass": "Production", "servers": [{"name": "a", "adminSecret": "pg-admin",
                "endpoints": {"readWrite": format!("localhost:{port}")}, "tls": {"mode": "VerifyFull", "caSecret": "pg-ca"},
                "network": {"namespace": "db", "podLabels": {}, "ports": [5432]}}]}, "status": status}));
    }

    /// A new claim.
    fn claim(&self, uid: &str) {
        self.observe::<DatabaseClaim>(&self.claim_path(), json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim",
            "metadata": {"name": "db", "namespace": self.namespace(), "uid": uid, "generation": 1},
            "spec": {"engine": "PostgreSQL", "className": "pg", "roles": [{"name": "app", "access": "ReadWrite"}, {"name": "migrate", "access": "Migrate"}]}}));
    }

    fn observe<K: Typed>(&self, path: &str, object: Value) {
        self.ctx.cache.observe::<K>(serde_json::from_value(self.api.put(path, object)).unwrap());
    }

    fn stored(&self) -> Arc<DatabaseClaim> {
        Arc::new(serde_json::from_value(self.api.get(&self.claim_path()).unwrap()).unwrap())
    }

    async fn reconcile(&self) -> Result<Outcome, Fault> {
        let claim = self.stored();
        self.ctx.cache.observe(claim.as_ref().clone());
        DatabaseClaim::reconcile(claim, self.ctx.clone()).await
    }

    async fn reconcile_class(&self) -> Outcome {
        let class: DatabaseClass = serde_json::from_value(self.api.get(CLASS).unwrap()).unwrap();
        self.ctx.cache.observe(class.clone());
        DatabaseClass::reconcile(Arc::new(class), self.ctx.clone()).await.unwrap()
    }

    /// As `kubectl delete` does.
    fn delete(&self) {
        let mut claim = self.api.get(&self.claim_path()).unwrap();
        claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.api.put(&self.claim_path(), claim);
    }

    /// `status/reason` of a condition of the claim.
    fn condition(&self, type_: &str) -> String {
        let conditions = self.stored().status.clone().unwrap_or_default().conditions;
        conditions
            .iter()
            .find(|c| c.type_ == type_)
            .map_or_else(|| "absent".into(), |c| format!("{}/{}", c.status, c.reason))
    }

    fn key(&self, key: &str) -> String {
        let secret = self.api.get(&self.secret_path()).unwrap();
        let text = secret["data"][key].as_str().unwrap_or_else(|| panic!("{key}"));
        String::from_utf8(data_encoding::BASE64.decode(text.as_bytes()).unwrap()).unwrap()
    }

    /// Connects as a pod does that knows nothing but its binding.
    async fn pod(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnectOptions::new_without_pgpass()
            .host(&self.key("host"))
            .port(self.key("port").parse().unwrap())
            .username(&self.key("username"))
            .password(&self.key("password"))
            .database(&self.key("database"))
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert_from_pem(self.key("ca.crt").into_bytes())
            .connect()
            .await
    }
}

/// What a process in the term `epoch` works with.
fn context(api: &Apiserver, epoch: u64, terms: Terms) -> Arc<Ctx> {
    let ctx = Ctx::detached(api.client(), Settings::default()).unwrap();
    Arc::new(Ctx { leader: Leadership::alone(epoch), terms, ..ctx })
}

const RECHECK: Outcome = Outcome::Again { after: Duration::from_hours(1) };

#[tokio::test]
async fn a_claim_is_bound_rests_is_deleted_and_comes_back_with_its_data() {
    let world = World::new("claim-life").await;
    assert_eq!(world.reconcile().await.unwrap(), RECHECK);
    assert_eq!((world.condition("Bound"), world.condition("Ready")), ("True/Bound".into(), "True/Bound".into()));
    let (version, password) = (world.key("version"), world.key("password"));
    let mut root = world.server.superuser(&world.key("database")).await;
    run(&mut root, "CREATE TABLE app.money AS SELECT 42 AS amount").await;
    run(&mut root, &format!("ALTER TABLE app.money OWNER TO \"{}_own\"", world.key("database"))).await;

    world.api.take_writes();
    assert_eq!(world.reconcile().await.unwrap(), RECHECK, "repairs the grants of the table");
    assert_eq!(world.condition("DriftFree"), "True/Repaired");
    world.api.take_writes();
    assert_eq!(world.reconcile().await.unwrap(), RECHECK);
    assert_eq!(world.api.take_writes(), Vec::<String>::new(), "at rest nothing is written");
    assert_eq!(value(&mut world.pod().await.unwrap(), "SELECT amount::text FROM money").await, "42");

    world.delete();
    assert_eq!(world.reconcile().await.unwrap(), Outcome::Done);
    assert!(world.api.get(&world.claim_path()).is_none(), "it has gone");
    assert!(world.pod().await.is_err(), "its login is shut");

    world.claim("second");
    assert_eq!(world.reconcile().await.unwrap(), RECHECK);
    assert_eq!(value(&mut world.pod().await.unwrap(), "SELECT amount::text FROM money").await, "42");
    // The collector of garbage had not come yet: nothing that pods read has changed.
    assert_eq!((world.key("password"), world.key("version")), (password, version));
}

#[tokio::test]
async fn what_others_do_to_a_binding_is_undone() {
    let world = World::new("claim-drift").await;
    world.reconcile().await.unwrap();
    let (version, password) = (world.key("version"), world.key("password"));

    let mut secret = world.api.get(&world.secret_path()).unwrap();
    secret["data"]["extra"] = json!("eA==");
    let entry = managed("kubectl", "Update", &json!({"data": {"extra": "eA=="}}));
    secret["metadata"]["managedFields"].as_array_mut().unwrap().push(entry);
    let changed = world.api.put(&world.secret_path(), secret);
    world.ctx.cache.observe_child(ChildKind::Secret, serde_json::from_value(changed).unwrap());
    world.reconcile().await.unwrap();
    assert!(world.api.get(&world.secret_path()).unwrap()["data"].get("extra").is_none());
    assert_eq!(world.key("version"), version, "a key that is not ours is no news for pods");

    // The Secret is lost, and all that the operator knew of it.
    let world = World::new("claim-drift").await;
    world.reconcile().await.unwrap();
    assert_ne!(world.key("password"), password, "a lost password is replaced");
    world.pod().await.unwrap();
}

#[tokio::test]
async fn a_foreign_secret_is_left_alone() {
    let world = World::new("claim-foreign").await;
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db-app", "namespace": world.namespace()}, "data": {"mine": "eA=="}});
    let stored = world.api.put(&world.secret_path(), foreign);
    assert_eq!(world.reconcile().await.unwrap(), Outcome::Done);
    assert_eq!(world.condition("Ready"), "False/NotOurs");
    assert_eq!(world.api.get(&world.secret_path()), Some(stored));
    world.api.remove(&world.secret_path());
    assert_eq!(world.reconcile().await.unwrap(), RECHECK, "recovers once it has gone");
    assert_eq!((world.condition("Ready"), world.condition("Stalled")), ("True/Bound".into(), "absent".into()));
}

#[tokio::test]
async fn a_server_that_is_away_stops_nothing_and_is_made_good_later() {
    let world = World::new("claim-away").await;
    let right = world.server.port();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();

    world.class(closed);
    assert!(matches!(world.reconcile().await.unwrap(), Outcome::Again { after } if after < Duration::from_mins(1)));
    assert_eq!(
        (world.condition("Bound"), world.condition("Reconciling")),
        ("False/ServerUnreachable".into(), "True/ServerUnreachable".into())
    );
    assert!(matches!(world.reconcile_class().await, Outcome::Again { after } if after < Duration::from_mins(1)));
    world.class(right);
    assert_eq!(world.reconcile().await.unwrap(), RECHECK);
    world.pod().await.unwrap();

    // Deleted while it is away: the object goes at once, the logins are shut when the server is back.
    world.class(closed);
    world.delete();
    assert_eq!(world.reconcile().await.unwrap(), Outcome::Done);
    assert!(world.api.get(&world.claim_path()).is_none());
    let pending = world.api.paths(&format!("{OPERATOR}/configmaps/release-"));
    let [pending] = &pending[..] else { panic!("{pending:?}") };
    let recorded = serde_json::from_value(world.api.get(pending).unwrap()).unwrap();
    world.ctx.cache.observe_child(ChildKind::ConfigMap, recorded);
    world.class(right);
    world.pod().await.unwrap();
    assert_eq!(world.reconcile_class().await, RECHECK);
    assert!(world.pod().await.is_err(), "the login is shut now");
    assert!(world.api.get(pending).is_none(), "and nothing is pending");
}

/// Rule O6.
#[tokio::test]
async fn a_crash_after_any_write_ends_in_the_same_state() {
    let tenants = ["crash-a", "crash-b", "crash-c", "crash-d", "crash-e", "crash-f"];
    let mut finished = false;
    let server: &'static TestServer = Box::leak(Box::new(TestServer::start().await));
    for (writes, tenant) in (0..).zip(tenants) {
        let epoch = 2 * writes as u64 + 1;
        let world = World::on(server, tenant, epoch, Terms::default());
        world.api.allow_writes(Some(writes));
        let first = world.reconcile().await;
        finished = first.is_ok();
        assert!(finished || first.is_err_and(|fault| fault.category == Category::ServerError));
        world.api.allow_writes(None);
        // The process that comes after knows nothing but what the apiserver holds.
        let ctx = context(&world.api, epoch + 1, Terms::default());
        let fresh = World { ctx, ..world };
        fresh.environment();
        fresh.class(fresh.server.port());
        assert_eq!(fresh.reconcile().await.unwrap(), RECHECK, "after {writes} writes");
        assert_eq!((fresh.condition("Bound"), fresh.condition("Ready")), ("True/Bound".into(), "True/Bound".into()));
        fresh.pod().await.unwrap();
        fresh.api.take_writes();
        fresh.reconcile().await.unwrap();
        assert_eq!(fresh.api.take_writes(), Vec::<String>::new(), "after {writes} writes");
    }
    assert!(finished, "every write was the last one once: give the test more tenants");
}
