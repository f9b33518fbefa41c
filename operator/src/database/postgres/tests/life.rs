//! A claim's life: made, deleted with its data kept, taken back; and who may write.

use super::server::{TestServer, run, shared, value};
use super::{log_in, options, plan, provisioner, session, writer};
use crate::database::names::OperatorRoles;
use crate::database::{DatabaseError, Holding, Observed, Password, Provisioner as _};
use paddock_crds::v1alpha1::Access;
use sqlx::ConnectOptions as _;
use std::time::Duration;

#[tokio::test]
async fn a_deleted_claim_keeps_its_data_and_a_new_one_takes_it_back() {
    let server = shared().await;
    let provisioner = provisioner(server);
    let mut plan = plan("life-back");
    assert_eq!(provisioner.holds(&plan.identity, &plan.writer).await.unwrap(), Holding::Nothing);
    provisioner.ensure(&plan).await.unwrap();
    run(&mut session(server, &plan, "migrate").await, "CREATE TABLE money (amount int)").await;
    let mut app = session(server, &plan, "app").await;
    run(&mut app, "INSERT INTO money VALUES (42)").await;

    provisioner.release(&plan.identity, &plan.uid, &plan.writer).await.unwrap();
    assert!(sqlx::query("SELECT 1").execute(&mut app).await.is_err(), "its session was ended");
    for role in ["app", "report", "migrate"] {
        let refused = log_in(server, &plan, role, &plan.identity.database()).await.map(|_| ());
        assert_eq!(refused, Err("28000".to_owned()), "{role}");
    }
    provisioner.release(&plan.identity, &plan.uid, &plan.writer).await.unwrap();
    assert_eq!(provisioner.holds(&plan.identity, &plan.writer).await.unwrap(), Holding::Ours);

    plan.uid = "uid-2".into();
    for login in &mut plan.logins {
        login.password = Password::generate().unwrap();
    }
    let observed = provisioner.ensure(&plan).await.unwrap();
    assert_eq!(observed, Observed { taken_back: true, ..Observed::default() });
    assert_eq!(value(&mut session(server, &plan, "app").await, "SELECT amount::text FROM money").await, "42");

    // A release of the first claim that was still pending finds a newer owner.
    provisioner.release(&plan.identity, "uid-1", &plan.writer).await.unwrap();
    session(server, &plan, "app").await;
}

#[tokio::test]
async fn nothing_is_made_in_the_place_of_data_that_a_claim_had() {
    let had = shared().await;
    let mut plan = plan("life-lost");
    provisioner(had).ensure(&plan).await.unwrap();
    plan.bound = true;
    assert_eq!(provisioner(had).ensure(&plan).await.unwrap(), Observed::default());

    // Another server answers at the address, or the same one without its data.
    let other = &TestServer::start().await;
    let missing = provisioner(other).ensure(&plan).await.unwrap_err();
    assert!(matches!(missing, DatabaseError::DataMissing { .. }), "{missing}");
    let names = format!("SELECT count(*)::text FROM pg_roles WHERE rolname = '{}'", plan.identity.database_owner());
    assert_eq!(value(&mut other.superuser("postgres").await, &names).await, "0");
    assert_eq!(provisioner(other).holds(&plan.identity, &plan.writer).await.unwrap(), Holding::Nothing);

    // A claim that begins anew is no such claim.
    plan.bound = false;
    assert!(provisioner(other).ensure(&plan).await.unwrap().created);
}

#[tokio::test]
async fn who_is_being_let_in_while_a_claim_is_released_does_not_stay() {
    let server = shared().await;
    let provisioner = provisioner(server);
    let plan = plan("life-slow");
    provisioner.ensure(&plan).await.unwrap();
    let options = options(server, &plan, "app", &plan.identity.database()).options([("post_auth_delay", "5")]);
    let slow = tokio::spawn(async move { options.connect().await });
    let mut root = server.superuser(&plan.identity.database()).await;
    let starting = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass
                    AND objid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let begun = async {
        while value(&mut root, starting).await == "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), begun).await.expect("a session that is not in yet");
    provisioner.release(&plan.identity, &plan.uid, &plan.writer).await.unwrap();
    if let Ok(mut session) = slow.await.unwrap() {
        assert!(sqlx::query("SELECT 1").execute(&mut session).await.is_err(), "it stayed");
    }
}

#[tokio::test]
async fn an_operator_of_an_older_term_changes_nothing() {
    let server = &TestServer::start().await;
    let provisioner = provisioner(server);
    let mut plan = plan("life-epoch");
    provisioner.ensure(&plan).await.unwrap();
    plan.writer = writer(9);
    assert_eq!(provisioner.ensure(&plan).await.unwrap(), Observed::default());

    let mut old = plan.clone();
    old.writer = writer(8);
    old.limits.connections = 1;
    let refused = provisioner.ensure(&old).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::Superseded { found: 9, ours: 8, .. }), "{refused}");
    let refused = provisioner.release(&old.identity, &old.uid, &old.writer).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::Superseded { .. }), "{refused}");
    session(server, &plan, "app").await;
    let login = plan.identity.login("app", Access::ReadWrite);
    let limit = format!("SELECT rolconnlimit::text FROM pg_roles WHERE rolname = '{login}'");
    assert_eq!(value(&mut server.superuser("postgres").await, &limit).await, "5");
}

#[tokio::test]
async fn a_crash_between_any_two_steps_is_made_good() {
    let server = shared().await;
    let provisioner = provisioner(server);
    let plan = plan("life-crash");
    let (database, owner) = (plan.identity.database(), plan.identity.database_owner());
    provisioner.ensure(&plan).await.unwrap();
    let mut root = server.superuser("postgres").await;
    // After CREATE DATABASE, before it was opened.
    run(&mut root, &format!("ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS false")).await;
    provisioner.ensure(&plan).await.unwrap();
    // After it was opened, before the marker.
    run(&mut server.superuser(&database).await, "DROP SCHEMA paddock CASCADE").await;
    provisioner.ensure(&plan).await.unwrap();
    // After the role, before CREATE DATABASE; as another administrator than the one that made the role.
    run(&mut root, &format!("DROP DATABASE \"{database}\" WITH (FORCE)")).await;
    let administrator = OperatorRoles::new(&plan.writer.cluster).administrator();
    run(&mut root, &format!("REVOKE \"{owner}\" FROM {administrator}")).await;
    assert!(provisioner.ensure(&plan).await.unwrap().created);
    session(server, &plan, "app").await;
}

#[tokio::test]
async fn two_at_once_make_one_database() {
    let server = shared().await;
    let plan = plan("life-race");
    let (one, two) = (provisioner(server), provisioner(server));
    let (first, second) = tokio::join!(one.ensure(&plan), two.ensure(&plan));
    let made = [first.unwrap(), second.unwrap()];
    assert_eq!(made.iter().filter(|observed| observed.created).count(), 1, "{made:?}");
    assert!(made.iter().all(|observed| observed.repaired.is_empty()), "{made:?}");
}

#[tokio::test]
async fn passwords_and_verifiers_reach_no_log() {
    let server = shared().await;
    let plan = plan("life-log");
    provisioner(server).ensure(&plan).await.unwrap();
    let log = server.log();
    for login in &plan.logins {
        assert!(!log.contains(login.password.expose()));
    }
    assert!(!log.contains("SCRAM-SHA-256$"));
}

#[tokio::test]
async fn each_fault_has_its_category() {
    let server = &TestServer::start().await;
    let right = provisioner(server);
    let version = value(&mut server.superuser("postgres").await, "SHOW server_version").await;
    assert_eq!(right.check(&writer(7)).await.unwrap().version.as_deref(), version.split_whitespace().next());

    let mut wrong = right.clone();
    wrong.administrator.password = "wrong".into();
    assert!(matches!(wrong.check(&writer(7)).await, Err(DatabaseError::CredentialsRefused { .. })));

    let mut elsewhere = right.clone();
    elsewhere.host = "127.0.0.1".into();
    let refused = elsewhere.check(&writer(7)).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::CertificateRefused { .. }), "the certificate is for localhost: {refused}");

    let mut unsigned = right.clone();
    unsigned.ca = super::server::certificates().0.into_bytes();
    let refused = unsigned.check(&writer(7)).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::CertificateRefused { .. }), "{refused}");

    let mut down = right.clone();
    down.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = down.check(&writer(7)).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::Unreachable { .. }), "{refused}");

    let mut root = server.superuser("postgres").await;
    run(&mut root, "CREATE ROLE life_root LOGIN SUPERUSER PASSWORD 'x'; CREATE ROLE life_weak LOGIN PASSWORD 'x'; GRANT CONNECT ON DATABASE postgres TO life_weak").await;
    for name in ["life_root", "life_weak"] {
        let mut unfit = right.clone();
        unfit.administrator.username = name.into();
        unfit.administrator.password = "x".into();
        let refused = unfit.check(&writer(7)).await.unwrap_err();
        assert!(matches!(refused, DatabaseError::AdministratorUnfit { .. }), "{name}: {refused}");
    }
}
