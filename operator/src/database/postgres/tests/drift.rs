//! Each thing that may be changed behind the operator's back: found, named, put right; and nothing written when all is right.

use super::server::{TestServer, run, shared, value};
use super::{log_in, plan, provisioner, session};
use crate::database::{Login, Observed, Password, Plan, Provisioner as _};
use paddock_crds::v1alpha1::Access;

/// Breaks something as a superuser in the claim's database; `{app}` and the like are the names of its roles.
async fn breaking(server: &TestServer, plan: &Plan, sql: &str) -> Observed {
    let identity = &plan.identity;
    let mut sql = sql.replace("{db}", &format!("\"{}\"", identity.database()));
    for (name, role) in [
        ("{app}", identity.login("app", Access::ReadWrite)),
        ("{report}", identity.login("report", Access::ReadOnly)),
        ("{migrate}", identity.login("migrate", Access::Migrate)),
        ("{own}", identity.owner()),
        ("{rw}", identity.group(Access::ReadWrite)),
        ("{ro}", identity.group(Access::ReadOnly)),
        ("{owner}", identity.database_owner()),
    ] {
        sql = sql.replace(name, &format!("\"{role}\""));
    }
    let mut root = server.superuser(&identity.database()).await;
    run(&mut root, &sql).await;
    provisioner(server).ensure(plan).await.unwrap()
}

#[tokio::test]
async fn drift_is_named_and_repaired_item_by_item() {
    let server = shared().await;
    let plan = plan("drift");
    let made = provisioner(server).ensure(&plan).await.unwrap();
    assert!(made.created && made.repaired.is_empty(), "what is asked for is no drift: {made:?}");
    let mut migrate = session(server, &plan, "migrate").await;
    run(
        &mut migrate,
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY); CREATE VIEW v AS SELECT * FROM t;
                       CREATE FUNCTION f(x int) RETURNS int LANGUAGE sql AS 'SELECT x'",
    )
    .await;
    let mut root = server.superuser("postgres").await;
    run(&mut root, "CREATE ROLE drift_stranger").await;
    let quiet = provisioner(server).ensure(&plan).await.unwrap();
    assert_eq!(quiet, Observed::default(), "default privileges cover what migrations make");

    for (sql, item) in [
        ("ALTER ROLE {app} CONNECTION LIMIT 100", "role attributes"),
        ("ALTER ROLE {app} CREATEDB", "role attributes"),
        ("ALTER ROLE {app} CREATEROLE", "role attributes"),
        ("ALTER ROLE {app} NOLOGIN", "role attributes"),
        ("ALTER ROLE {app} VALID UNTIL '2001-01-01'", "role attributes"),
        ("ALTER ROLE {migrate} INHERIT", "role attributes"),
        ("ALTER ROLE {own} LOGIN", "logins nobody wants"),
        ("DROP OWNED BY {report}; DROP ROLE {report}", "roles"),
        ("GRANT {own} TO {app}", "memberships"),
        ("GRANT pg_read_all_data TO {report}", "memberships"),
        ("GRANT {rw} TO drift_stranger", "memberships"),
        ("GRANT {rw} TO {app} WITH ADMIN OPTION", "memberships"),
        ("REVOKE {rw} FROM {app}", "memberships"),
        ("GRANT CONNECT, TEMP ON DATABASE {db} TO PUBLIC", "grants on the database"),
        ("REVOKE CONNECT ON DATABASE {db} FROM {app}", "grants on the database"),
        ("GRANT USAGE ON SCHEMA public TO PUBLIC", "grants on schemas"),
        ("GRANT CREATE ON SCHEMA app TO {rw}", "grants on schemas"),
        ("GRANT USAGE ON SCHEMA paddock TO {app}", "grants on schemas"),
        ("REVOKE USAGE ON SCHEMA app FROM {ro}", "grants on schemas"),
        ("GRANT SELECT ON app.t TO PUBLIC", "grants on tables"),
        ("GRANT SELECT ON app.t TO {ro} WITH GRANT OPTION", "grants on tables"),
        ("GRANT TRUNCATE ON app.t TO {rw}", "grants on tables"),
        ("REVOKE UPDATE ON app.t FROM {rw}", "grants on tables"),
        ("REVOKE SELECT ON app.v FROM {ro}", "grants on tables"),
        ("REVOKE USAGE ON SEQUENCE app.t_id_seq FROM {rw}", "grants on tables"),
        ("GRANT EXECUTE ON FUNCTION app.f TO PUBLIC", "grants on tables"),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE {own} IN SCHEMA app REVOKE INSERT ON TABLES FROM {rw}",
            "default privileges",
        ),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE {own} GRANT SELECT ON TABLES TO PUBLIC", "default privileges"),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE {own} GRANT EXECUTE ON ROUTINES TO PUBLIC", "default privileges"),
        ("ALTER ROLE {app} IN DATABASE {db} SET statement_timeout = 0", "settings"),
        ("ALTER ROLE {app} SET statement_timeout = 0", "settings"),
        ("ALTER ROLE {app} IN DATABASE postgres SET work_mem = '1GB'", "settings"),
        ("ALTER ROLE {app} IN DATABASE {db} SET work_mem = '1GB'", "settings"),
        ("ALTER ROLE {migrate} IN DATABASE {db} RESET role", "settings"),
        ("ALTER DATABASE {db} SET statement_timeout = 1", "settings"),
        ("ALTER ROLE {app} PASSWORD 'known to somebody'", "passwords"),
        ("ALTER ROLE {app} PASSWORD NULL", "passwords"),
    ] {
        let observed = breaking(server, &plan, sql).await;
        let mut repaired = observed.repaired.clone();
        // A role that was dropped takes all its rights with it.
        if item == "roles" {
            assert!(repaired.contains(&"passwords".to_owned()), "{repaired:?}");
            repaired.retain(|name| name == item);
        }
        assert_eq!(repaired, [item], "{sql}");
        assert_eq!(observed.unrepaired, Vec::<String>::new(), "{sql}");
        let again = provisioner(server).ensure(&plan).await.unwrap();
        assert_eq!(again, Observed::default(), "after the repair of {sql}");
    }
    for role in ["app", "report", "migrate"] {
        session(server, &plan, role).await;
    }
}

#[tokio::test]
async fn what_only_a_superuser_can_undo_is_reported_and_stops_nothing() {
    let server = shared().await;
    let plan = plan("drift-super");
    provisioner(server).ensure(&plan).await.unwrap();
    let sql = "ALTER ROLE {report} BYPASSRLS; GRANT USAGE ON SCHEMA public TO PUBLIC";
    let observed = breaking(server, &plan, sql).await;
    assert_eq!(observed.unrepaired, ["role attributes"]);
    assert_eq!(observed.repaired, ["grants on schemas"]);
    let still = provisioner(server).ensure(&plan).await.unwrap();
    assert_eq!((still.unrepaired, still.repaired), (vec!["role attributes".to_owned()], vec![]));
}

#[tokio::test]
async fn a_tenants_own_tricks_are_undone() {
    let server = shared().await;
    let plan = plan("drift-tricks");
    provisioner(server).ensure(&plan).await.unwrap();
    let app = plan.identity.login("app", Access::ReadWrite);
    let mut session = session(server, &plan, "app").await;
    run(&mut session, &format!("ALTER ROLE \"{app}\" SET statement_timeout = 0; ALTER ROLE \"{app}\" PASSWORD 'mine'"))
        .await;
    let observed = provisioner(server).ensure(&plan).await.unwrap();
    assert_eq!(observed.repaired, ["passwords", "settings"]);
}

#[tokio::test]
async fn nothing_is_written_when_all_is_right() {
    let own = TestServer::start().await;
    let server = &own;
    let plan = plan("drift-none");
    provisioner(server).ensure(&plan).await.unwrap();
    let mut root = server.superuser("postgres").await;
    // The next transaction id moves with every transaction that writes.
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";
    let before = value(&mut root, next).await;
    for _ in 0..3 {
        assert_eq!(provisioner(server).ensure(&plan).await.unwrap(), Observed::default());
    }
    provisioner(server).check(&plan.writer).await.unwrap();
    assert_eq!(value(&mut root, next).await, before);
}

#[tokio::test]
async fn a_change_of_mind_is_no_drift() {
    let server = shared().await;
    let mut plan = plan("drift-mind");
    provisioner(server).ensure(&plan).await.unwrap();
    plan.limits.connections = 9;
    let gone = plan.logins.remove(1);
    let observed = provisioner(server).ensure(&plan).await.unwrap();
    assert_eq!(observed, Observed::default());
    plan.logins.push(gone);
    let shut = log_in(server, &plan, "report", &plan.identity.database()).await.map(|_| ());
    assert_eq!(shut, Err("28000".to_owned()), "a role that left the claim is shut");
}

#[tokio::test]
async fn more_roles_are_no_way_to_more_connections() {
    let server = shared().await;
    let mut plan = plan("drift-crowd");
    for number in 0..7 {
        let role = format!("more{number}");
        plan.logins.push(Login { role, access: Access::ReadOnly, password: Password::generate().unwrap() });
    }
    provisioner(server).ensure(&plan).await.unwrap();
    let prefix = plan.identity.database();
    let sum =
        format!("SELECT sum(rolconnlimit)::text FROM pg_roles WHERE starts_with(rolname, '{prefix}_') AND rolcanlogin");
    assert_eq!(value(&mut server.superuser("postgres").await, &sum).await, "20");
}
