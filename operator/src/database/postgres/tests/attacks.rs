//! What a tenant must not be able to do, each tried for real.

use super::server::{attempt, run, shared, value};
use super::{log_in, plan, provisioner, session, writer};
use crate::database::names::OperatorRoles;
use crate::database::{DatabaseError, Identity, Provisioner as _};
use paddock_crds::v1alpha1::Access;

const DENIED: &str = "42501";

#[tokio::test]
async fn nobody_enters_another_tenants_database() {
    let server = shared().await;
    let (acme, zenith) = (plan("attack-acme"), plan("attack-zenith"));
    provisioner(server).ensure(&acme).await.unwrap();
    provisioner(server).ensure(&zenith).await.unwrap();
    for role in ["app", "report", "migrate"] {
        let other = log_in(server, &acme, role, &zenith.identity.database()).await.map(|_| ());
        assert_eq!(other, Err(DENIED.to_owned()), "{role} of acme in zenith's database");
        for database in ["postgres", "template1"] {
            assert_eq!(
                log_in(server, &acme, role, database).await.map(|_| ()),
                Err(DENIED.to_owned()),
                "{role} in {database}"
            );
        }
    }
}

#[tokio::test]
async fn another_environment_of_the_same_tenant_is_another_world() {
    let server = shared().await;
    let prod = plan("attack-envs");
    let mut dev = plan("attack-envs");
    dev.identity.environment = "dev".into();
    provisioner(server).ensure(&prod).await.unwrap();
    provisioner(server).ensure(&dev).await.unwrap();
    assert_eq!(log_in(server, &dev, "migrate", &prod.identity.database()).await.map(|_| ()), Err(DENIED.to_owned()));
}

#[tokio::test]
async fn pods_use_tables_and_own_nothing() {
    let server = shared().await;
    let plan = plan("attack-ddl");
    provisioner(server).ensure(&plan).await.unwrap();
    let mut migrate = session(server, &plan, "migrate").await;
    // No schema named: search_path and the owner are the login's settings.
    run(&mut migrate, "CREATE TABLE entries (id bigint GENERATED ALWAYS AS IDENTITY, note text); CREATE SEQUENCE s")
        .await;
    run(&mut migrate, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    assert_eq!(
        value(&mut migrate, "SELECT tableowner::text FROM pg_tables WHERE tablename = 'entries'").await,
        plan.identity.owner()
    );

    let mut app = session(server, &plan, "app").await;
    run(&mut app, "INSERT INTO entries (note) VALUES ('x'); UPDATE entries SET note = 'y'; SELECT nextval('s'), f(); DELETE FROM entries").await;
    for attack in [
        "CREATE TABLE app.t (x int)",
        "CREATE TABLE public.t (x int)",
        "CREATE TEMP TABLE t (x int)",
        "CREATE SCHEMA mine",
        "DROP TABLE app.entries",
        "ALTER TABLE app.entries ADD COLUMN z int",
        "TRUNCATE app.entries",
        "CREATE FUNCTION app.g() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION dblink",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "SELECT * FROM paddock.marker",
        "UPDATE paddock.marker SET epoch = 0",
        "COPY app.entries TO PROGRAM 'true'",
        "COPY app.entries FROM '/etc/passwd'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_reload_conf()",
    ] {
        assert_eq!(attempt(&mut app, attack).await, Err(DENIED.to_owned()), "{attack}");
    }
    let operator = OperatorRoles::new(&plan.writer.cluster);
    for role in [
        plan.identity.owner(),
        plan.identity.database_owner(),
        "paddock".into(),
        operator.administrator(),
        operator.term(plan.writer.epoch),
        "postgres".into(),
    ] {
        assert_eq!(attempt(&mut app, &format!("SET ROLE \"{role}\"")).await, Err(DENIED.to_owned()), "SET ROLE {role}");
    }

    let mut report = session(server, &plan, "report").await;
    run(&mut report, "SELECT * FROM entries").await;
    for attack in [
        "INSERT INTO entries (note) VALUES ('x')",
        "DELETE FROM entries",
        "SELECT nextval('s')",
        "CREATE TABLE t (x int)",
    ] {
        assert_eq!(attempt(&mut report, attack).await, Err(DENIED.to_owned()), "{attack}");
    }
}

#[tokio::test]
async fn migrations_own_the_schema_and_nothing_beyond() {
    let server = shared().await;
    let plan = plan("attack-mig");
    provisioner(server).ensure(&plan).await.unwrap();
    let mut migrate = session(server, &plan, "migrate").await;
    for attack in [
        "CREATE SCHEMA mine".to_owned(),
        "CREATE TABLE public.t (x int)".to_owned(),
        "SELECT * FROM paddock.marker".to_owned(),
        "DROP SCHEMA paddock CASCADE".to_owned(),
        "RESET ROLE; CREATE ROLE mine".to_owned(),
        format!("ALTER DATABASE \"{}\" RENAME TO mine", plan.identity.database()),
        format!("SET ROLE \"{}\"", plan.identity.database_owner()),
        format!("ALTER ROLE \"{}\" CONNECTION LIMIT 100", plan.identity.login("migrate", Access::Migrate)),
    ] {
        assert_eq!(attempt(&mut migrate, &attack).await, Err(DENIED.to_owned()), "{attack}");
        run(&mut migrate, &format!("SET ROLE \"{}\"", plan.identity.owner())).await;
    }
}

#[tokio::test]
async fn public_has_nothing() {
    let server = shared().await;
    let plan = plan("attack-public");
    provisioner(server).ensure(&plan).await.unwrap();
    let mut migrate = session(server, &plan, "migrate").await;
    run(&mut migrate, "CREATE TABLE t (x int); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    let mut root = server.superuser(&plan.identity.database()).await;
    run(&mut root, "CREATE ROLE attack_nobody").await;
    for (what, right) in [
        ("has_database_privilege('attack_nobody', current_database(), $$CONNECT$$)", "connect"),
        ("has_database_privilege('attack_nobody', current_database(), $$TEMP$$)", "temporary tables"),
        ("has_schema_privilege('attack_nobody', 'public', $$USAGE$$)", "schema public"),
        ("has_schema_privilege('attack_nobody', 'app', $$USAGE$$)", "schema app"),
        ("has_schema_privilege('attack_nobody', 'paddock', $$USAGE$$)", "schema paddock"),
        ("has_table_privilege('attack_nobody', 'app.t', $$SELECT$$)", "tables"),
        ("has_function_privilege('attack_nobody', 'app.f()', $$EXECUTE$$)", "routines"),
    ] {
        assert_eq!(value(&mut root, &format!("SELECT ({what})::text")).await, "false", "{right}");
    }
}

#[tokio::test]
async fn hostile_names_are_names() {
    let server = shared().await;
    for hostile in ["x\"; DROP ROLE paddock; --", "x'; DROP ROLE paddock; --", "$$;\\", "ü\u{202e}", ""] {
        let mut plan = plan("attack-names");
        plan.identity = Identity::new(format!("t{hostile}"), hostile, hostile);
        for login in &mut plan.logins {
            login.role.push_str(hostile);
        }
        plan.uid = hostile.replace('\0', "");
        provisioner(server).ensure(&plan).await.unwrap();
    }
    provisioner(server).check(&writer(7)).await.unwrap();
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let server = shared().await;
    let mut root = server.superuser("postgres").await;

    let database = plan("foreign-database");
    let name = database.identity.database();
    run(&mut root, &format!("CREATE DATABASE \"{name}\"")).await;
    let before =
        value(&mut root, &format!("SELECT coalesce(datacl::text, 'none') FROM pg_database WHERE datname = '{name}'"))
            .await;
    let refused = provisioner(server).ensure(&database).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::OwnershipConflict { .. }), "{refused}");
    let after =
        value(&mut root, &format!("SELECT coalesce(datacl::text, 'none') FROM pg_database WHERE datname = '{name}'"))
            .await;
    assert_eq!(before, after);

    let role = plan("foreign-role");
    run(&mut root, &format!("CREATE ROLE \"{}\" LOGIN", role.identity.database_owner())).await;
    let refused = provisioner(server).ensure(&role).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::OwnershipConflict { .. }), "{refused}");
    let count = format!("SELECT count(*)::text FROM pg_database WHERE datname = '{}'", role.identity.database());
    assert_eq!(value(&mut root, &count).await, "0");

    let marker = plan("foreign-marker");
    provisioner(server).ensure(&marker).await.unwrap();
    let mut inside = server.superuser(&marker.identity.database()).await;
    run(&mut inside, "UPDATE paddock.marker SET claim = 'another'; REVOKE USAGE ON SCHEMA app FROM PUBLIC").await;
    run(&mut inside, &format!("REVOKE USAGE ON SCHEMA app FROM \"{}\"", marker.identity.group(Access::ReadWrite)))
        .await;
    let refused = provisioner(server).ensure(&marker).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::OwnershipConflict { .. }), "{refused}");
    let repaired =
        format!("SELECT has_schema_privilege('{}', 'app', 'USAGE')::text", marker.identity.group(Access::ReadWrite));
    assert_eq!(value(&mut inside, &repaired).await, "false", "nothing was changed");

    let mut cluster = plan("foreign-cluster");
    provisioner(server).ensure(&cluster).await.unwrap();
    cluster.writer.cluster = "another".into();
    let refused = provisioner(server).ensure(&cluster).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::OwnershipConflict { .. }), "{refused}");
}
