//! Terms: the next one ends the last one, which never comes back. Each test has a cluster, and so logins, of its own.

use super::super::term::{self, Beginning};
use super::super::{PostgresServer, Terms, marker};
use super::server::{ADMINISTRATOR, PASSWORD, TestServer, attempt, run, shared, value};
use super::{log_in, plan, provisioner, session};
use crate::database::names::OperatorRoles;
use crate::database::{DatabaseError, Login, Observed, Password, Plan, Provisioner as _, Writer};
use paddock_crds::v1alpha1::Access;
use sqlx::Connection as _;
use std::time::{Duration, Instant};

/// A process of its own: another replica, or one after a restart.
fn process(server: &TestServer) -> PostgresServer {
    PostgresServer { terms: Terms::default(), ..provisioner(server) }
}

fn writer(cluster: &str, epoch: i64) -> Writer {
    Writer { cluster: cluster.into(), epoch }
}

/// The logins of terms on the server, and whether each may log in.
async fn logins(server: &TestServer, cluster: &str) -> String {
    let prefix = OperatorRoles::new(cluster).term_prefix();
    let sql = format!(
        "SELECT coalesce(string_agg(substr(rolname, length('{prefix}') + 1) || CASE WHEN rolcanlogin THEN ' open' ELSE ' shut' END, ', '
            ORDER BY rolname), 'none') FROM pg_roles WHERE starts_with(rolname, '{prefix}')"
    );
    value(&mut server.superuser("postgres").await, &sql).await
}

fn superseded<T: std::fmt::Debug>(result: &Result<T, DatabaseError>, by: i64) {
    assert!(matches!(result, Err(DatabaseError::Superseded { found, .. }) if *found == by), "{result:?}");
}

#[tokio::test]
async fn the_next_term_ends_the_last_one_in_the_middle_of_its_work() {
    let server = shared().await;
    let (old, new) = (process(server), process(server));
    let first = Plan { writer: writer("term-overlap", 1), ..plan("term-overlap") };
    let second = Plan { writer: writer("term-overlap", 2), ..first.clone() };
    let database = first.identity.database();
    old.ensure(&first).await.unwrap();
    let mut pod = session(server, &first, "app").await;

    let mut session = old.connect(&database, &first.writer).await.unwrap();
    let mut work = session.begin().await.unwrap();
    // Holds the marker: the next term could not write while this transaction lives.
    marker::read(&old, &mut work, true).await.unwrap().unwrap();
    run(&mut work, "UPDATE paddock.marker SET plan = 'half done'").await;
    assert_eq!(new.ensure(&second).await.unwrap(), Observed::default(), "a new term finds all as the last one left it");

    let ended = old.run(&mut work, "go on", "SELECT 1").await.unwrap_err();
    assert_eq!(ended.reason(), "ServerUnreachable");
    assert!(old.run(&mut work, "go on", "COMMIT").await.is_err());
    let mut root = server.superuser(&database).await;
    let recorded = "SELECT epoch::text || (plan <> 'half done')::text FROM paddock.marker";
    assert_eq!(value(&mut root, recorded).await, "2true");

    let refused = old.connect(&database, &first.writer).await.unwrap_err();
    assert_eq!(refused.reason(), "ServerUnreachable", "its login is taken no longer: {refused}");
    for _ in 0..2 {
        superseded(&old.ensure(&first).await, 2);
        superseded(&old.holds(&first.identity, &first.writer).await, 2);
        superseded(&old.release(&first.identity, &first.uid, &first.writer).await, 2);
        superseded(&old.check(&first.writer).await, 2);
    }
    // Nor does a restart help whoever counts as it did.
    superseded(&process(server).check(&first.writer).await, 2);

    assert_eq!(new.ensure(&second).await.unwrap(), Observed::default());
    assert_eq!(
        value(&mut pod, "SELECT 'served'").await,
        "served",
        "sessions of services are none of a term's business"
    );
    assert_eq!(logins(server, "term-overlap").await, "2 open");
    let owner = format!("SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = '{database}'");
    assert_eq!(value(&mut root, &owner).await, first.identity.database_owner());
    let belongings = format!(
        "SELECT count(*)::text FROM pg_shdepend WHERE refobjid = '{}'::regrole",
        OperatorRoles::new("term-overlap").term(2)
    );
    assert_eq!(value(&mut root, &belongings).await, "0", "nothing belongs to a term's login");
}

/// Rule O6.
#[tokio::test]
async fn a_crash_after_any_step_of_a_beginning_is_made_good() {
    let server = shared().await;
    for (steps, another) in (0..=4).flat_map(|steps| [(steps, false), (steps, true)]) {
        let cluster = format!("term-crash-{steps}-{another}");
        let old = process(server);
        old.check(&writer(&cluster, 1)).await.unwrap();
        let mut session = old.connect("postgres", &writer(&cluster, 1)).await.unwrap();

        let half = process(server);
        let mut root = half.root().await.unwrap();
        let beginning = Beginning::look(&half, &mut root, &writer(&cluster, 2)).await.unwrap();
        if steps >= 1 {
            beginning.record(&mut root).await.unwrap();
            assert_eq!(logins(server, &cluster).await, "1 shut, 2 shut");
        }
        if steps >= 2 {
            beginning.silence(&mut root).await.unwrap();
            assert!(attempt(&mut session, "SELECT 1").await.is_err());
            assert_eq!(logins(server, &cluster).await, "1 shut, 2 shut", "opened only when the last term is silent");
        }
        if steps >= 3 {
            drop(beginning.open(&mut root).await.unwrap());
        }
        if steps >= 4 {
            beginning.forget(&mut root).await.unwrap();
        }
        drop(root);
        if steps >= 1 {
            assert!(old.connect("postgres", &writer(&cluster, 1)).await.is_err(), "out from the first step on");
            superseded(&old.check(&writer(&cluster, 1)).await, 2);
        }

        let (after, epoch) = if another { (process(server), 3) } else { (half, 2) };
        assert_eq!(after.check(&writer(&cluster, epoch)).await.unwrap().epoch, Some(epoch), "after {steps} steps");
        assert!(attempt(&mut session, "SELECT 1").await.is_err(), "after {steps} steps");
        assert_eq!(logins(server, &cluster).await, format!("{epoch} open"), "after {steps} steps");
    }
}

#[tokio::test]
async fn two_beginnings_at_once_are_one_after_the_other() {
    let server = shared().await;
    let cluster = "term-race";
    let key = OperatorRoles::new(cluster).lock_key();
    let mut root = server.superuser("postgres").await;
    run(&mut root, &format!("SELECT pg_advisory_lock({key})")).await;
    let begin = |epoch| {
        let process = process(server);
        tokio::spawn(async move { process.check(&writer(cluster, epoch)).await })
    };
    let (one, two) = (begin(1), begin(2));
    let waiting = format!(
        "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
         AND (classid::int8 << 32) | objid::int8 = {key}"
    );
    let until = Instant::now() + Duration::from_secs(4);
    while value(&mut root, &waiting).await != "2" {
        assert!(Instant::now() < until, "both wait for the lock");
        tokio::task::yield_now().await;
    }
    assert_eq!(logins(server, cluster).await, "none");
    run(&mut root, &format!("SELECT pg_advisory_unlock({key})")).await;
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    assert_eq!(two.unwrap().epoch, Some(2));
    assert!(
        matches!(&one, Ok(_) | Err(DatabaseError::Superseded { .. } | DatabaseError::Unreachable { .. })),
        "before the other or not at all: {one:?}"
    );
    assert_eq!(logins(server, cluster).await, "2 open");
}

#[tokio::test]
async fn a_beginning_that_hangs_does_not_hold_up_the_next_for_long() {
    let server = shared().await;
    let hung = process(server);
    let mut root = hung.root().await.unwrap();
    let beginning = Beginning::look(&hung, &mut root, &writer("term-hung", 1)).await.unwrap();
    beginning.record(&mut root).await.unwrap();
    let next = process(server);
    let until = Instant::now() + Duration::from_secs(30);
    let begun = loop {
        match next.check(&writer("term-hung", 2)).await {
            Err(DatabaseError::Busy { .. }) => assert!(Instant::now() < until, "the server ends an idle administrator"),
            other => break other,
        }
    };
    assert_eq!(begun.unwrap().epoch, Some(2));
    assert!(beginning.open(&mut root).await.is_err(), "what hung cannot go on");
    assert_eq!(logins(server, "term-hung").await, "2 open");
}

#[tokio::test]
async fn a_session_that_does_not_end_keeps_the_next_term_shut() {
    let server = &TestServer::start().await;
    let old = process(server);
    let mut session = old.maintenance(&writer("term-deaf", 1)).await.unwrap();
    let pid = value(&mut session, "SELECT pg_backend_pid()::text").await;
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args([name, pid.as_str()]).status().unwrap().success());
    };
    signal("-STOP");
    let next = process(server);
    let refused = next.check(&writer("term-deaf", 2)).await;
    let stood = logins(server, "term-deaf").await;
    signal("-CONT");
    assert!(matches!(refused, Err(DatabaseError::Busy { .. })), "{refused:?}");
    assert_eq!(stood, "1 shut, 2 shut");
    next.check(&writer("term-deaf", 2)).await.unwrap();
    assert!(attempt(&mut session, "SELECT 1").await.is_err());
    assert_eq!(logins(server, "term-deaf").await, "2 open");
}

#[tokio::test]
async fn a_term_stays_below_none_that_anybody_knows_of() {
    let server = shared().await;
    let class = PostgresServer { known_epoch: 9, ..process(server) };
    superseded(&class.check(&writer("term-known", 5)).await, 9);
    superseded(&class.check(&writer("term-known", 9)).await, 9);
    assert_eq!(logins(server, "term-known").await, "none", "what may not begin writes nothing");
    class.check(&writer("term-known", 10)).await.unwrap();
    // Two processes that count alike, after a lease was lost: the first one has it.
    superseded(&process(server).check(&writer("term-known", 10)).await, 10);
    class.check(&writer("term-known", 10)).await.unwrap();
}

#[tokio::test]
async fn a_term_whose_login_somebody_spoilt_begins_again() {
    let server = shared().await;
    let plan = Plan { writer: writer("term-spoilt", 3), ..plan("term-spoilt") };
    let process = process(server);
    process.ensure(&plan).await.unwrap();
    let roles = OperatorRoles::new("term-spoilt");
    let (login, administrator) = (roles.term(3), roles.administrator());
    let mut root = server.superuser("postgres").await;
    for spoil in [
        format!("ALTER ROLE {login} NOLOGIN"),
        format!("ALTER ROLE {login} PASSWORD 'known to somebody'"),
        format!("REVOKE {administrator} FROM {login}"),
        format!("DROP ROLE {login}"),
    ] {
        run(&mut root, &spoil).await;
        assert_eq!(process.ensure(&plan).await.unwrap(), Observed::default(), "{spoil}");
        assert_eq!(logins(server, "term-spoilt").await, "3 open", "{spoil}");
    }
    run(&mut root, &format!("ALTER ROLE {administrator} LOGIN NOCREATEDB NOCREATEROLE")).await;
    process.check(&plan.writer).await.unwrap();
    let rights = format!(
        "SELECT concat(rolcanlogin, rolcreatedb, rolcreaterole) FROM pg_roles WHERE rolname = '{administrator}'"
    );
    assert_eq!(value(&mut root, &rights).await, "ftt", "the next check mends the role that does the work");
}

#[tokio::test]
async fn an_old_login_that_cannot_be_dropped_stays_shut_and_stops_nothing() {
    let server = shared().await;
    process(server).check(&writer("term-stuck", 1)).await.unwrap();
    let old = OperatorRoles::new("term-stuck").term(1);
    let mut root = server.superuser("postgres").await;
    run(&mut root, &format!("GRANT TEMP ON DATABASE postgres TO {old}")).await;
    for epoch in 2..5 {
        process(server).check(&writer("term-stuck", epoch)).await.unwrap();
        assert_eq!(logins(server, "term-stuck").await, format!("1 shut, {epoch} open"), "it keeps no other");
    }
    run(&mut root, &format!("DROP OWNED BY {old}")).await;
    process(server).check(&writer("term-stuck", 5)).await.unwrap();
    assert_eq!(logins(server, "term-stuck").await, "5 open");
}

#[tokio::test]
async fn many_terms_leave_no_more_than_one() {
    let server = &TestServer::start().await;
    let mut root = server.superuser("postgres").await;
    // All that a term could leave behind: roles, memberships, comments on roles, rights, and whatever depends on a role.
    let left = "SELECT concat_ws(' ', (SELECT count(*) FROM pg_authid), (SELECT count(*) FROM pg_auth_members),
        (SELECT count(*) FROM pg_shdescription), (SELECT count(*) FROM pg_shdepend), (SELECT count(*) FROM pg_db_role_setting),
        (SELECT sum(cardinality(datacl)) FROM pg_database))";
    let mut plan = Plan { writer: writer("term-many", 1), ..plan("term-many") };
    process(server).ensure(&plan).await.unwrap();
    let first = value(&mut root, left).await;
    for epoch in 2..30 {
        plan.writer.epoch = epoch;
        assert_eq!(process(server).ensure(&plan).await.unwrap(), Observed::default(), "term {epoch}");
    }
    assert_eq!(value(&mut root, left).await, first);
    assert_eq!(logins(server, "term-many").await, "29 open");
    // What the first one made is the last one's to change: a role of it mended, its group given to a new login, both shut.
    run(&mut root, &format!("ALTER ROLE \"{}\" NOLOGIN", plan.identity.login("app", Access::ReadWrite))).await;
    plan.writer.epoch = 30;
    assert_eq!(process(server).ensure(&plan).await.unwrap().repaired, ["role attributes"]);
    plan.writer.epoch = 31;
    let late = Login { role: "late".into(), access: Access::ReadWrite, password: Password::generate().unwrap() };
    plan.logins.push(late);
    process(server).ensure(&plan).await.unwrap();
    drop((session(server, &plan, "app").await, session(server, &plan, "late").await));
    plan.writer.epoch = 32;
    process(server).release(&plan.identity, &plan.uid, &plan.writer).await.unwrap();
    assert!(log_in(server, &plan, "app", &plan.identity.database()).await.is_err());
}

#[tokio::test]
async fn clusters_that_share_a_server_have_terms_of_their_own() {
    let server = shared().await;
    let (one, two) = (process(server), process(server));
    let (first, second) = (writer("term-shared-one", 7), writer("term-shared-two", 9));
    let (begun, also) = tokio::join!(one.check(&first), two.check(&second));
    assert_eq!((begun.unwrap().epoch, also.unwrap().epoch), (Some(7), Some(9)));
    let mut session = one.maintenance(&first).await.unwrap();
    process(server).check(&writer("term-shared-two", 10)).await.unwrap();
    assert_eq!(value(&mut session, "SELECT 'works'").await, "works");
    one.check(&first).await.unwrap();
    superseded(&two.check(&second).await, 10);
    // What one made is not the other's, whose term may be higher.
    let plan = Plan { writer: first, ..plan("term-shared") };
    one.ensure(&plan).await.unwrap();
    let refused = process(server).ensure(&Plan { writer: writer("term-shared-two", 11), ..plan }).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::OwnershipConflict { .. }), "{refused}");
}

#[tokio::test]
async fn a_term_outlasts_the_password_and_the_name_of_the_administrator() {
    let server = &TestServer::start().await;
    let mut root = server.superuser("postgres").await;
    let plan = Plan { writer: writer("term-rotated", 1), ..plan("term-rotated") };
    let mut process = process(server);
    process.ensure(&plan).await.unwrap();
    run(&mut root, &format!("ALTER ROLE {ADMINISTRATOR} PASSWORD 'rotated'")).await;
    let refused = process.check(&plan.writer).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::CredentialsRefused { .. }), "the class says it: {refused}");
    assert_eq!(process.ensure(&plan).await.unwrap(), Observed::default(), "claims feel nothing of it");
    process.administrator.password = "rotated".into();
    assert_eq!(process.check(&plan.writer).await.unwrap().epoch, Some(1), "the same term");

    // Another administrator in its place, as docs/database-servers.md says.
    run(
        &mut root,
        &format!(
            "CREATE ROLE successor LOGIN CREATEDB CREATEROLE PASSWORD 'x'; GRANT pg_signal_backend TO successor WITH ADMIN OPTION;
             GRANT CONNECT ON DATABASE postgres TO successor WITH GRANT OPTION; GRANT {ADMINISTRATOR} TO successor;
             ALTER ROLE {ADMINISTRATOR} NOLOGIN"
        ),
    )
    .await;
    let mut next = self::process(server);
    next.administrator.username = "successor".into();
    next.administrator.password = "x".into();
    let plan = Plan { writer: writer("term-rotated", 2), ..plan };
    assert_eq!(next.ensure(&plan).await.unwrap(), Observed::default());
    assert_eq!(logins(server, "term-rotated").await, "2 open");
}

/// Rule O7, on a server that logs every statement.
#[tokio::test]
async fn the_password_of_a_term_is_never_sent() {
    let server = &TestServer::start().await;
    run(&mut server.superuser("postgres").await, "ALTER DATABASE postgres SET log_statement = 'all'").await;
    let process = process(server);
    let writer = writer("term-log", 1);
    process.check(&writer).await.unwrap();
    let term = term::held(&process, &writer).await.unwrap();
    let log = server.log();
    assert!(log.contains(&format!("CREATE ROLE \"{}\"", term.login)), "it does log: {log}");
    assert!(!log.contains(term.password.expose()) && !log.contains(PASSWORD));
    assert!(!format!("{term:?} {process:?}").contains(term.password.expose()));
}

#[tokio::test]
async fn roles_without_our_mark_are_left_alone() {
    let server = shared().await;
    let roles = OperatorRoles::new("term-foreign");
    let mut root = server.superuser("postgres").await;
    // Of the same kind of name, but nobody's concern.
    run(&mut root, &format!("CREATE ROLE {} LOGIN", roles.term(99))).await;
    for name in [roles.administrator(), roles.term(1)] {
        run(&mut root, &format!("CREATE ROLE {name} NOLOGIN")).await;
        let refused = process(server).check(&writer("term-foreign", 1)).await.unwrap_err();
        assert!(matches!(refused, DatabaseError::OwnershipConflict { .. }), "{refused}");
        run(&mut root, &format!("DROP ROLE {name}")).await;
    }
    process(server).check(&writer("term-foreign", 1)).await.unwrap();
    assert_eq!(logins(server, "term-foreign").await, "1 open, 99 open");
}

#[tokio::test]
async fn an_administrator_that_cannot_make_logins_fit_is_told_what_lacks() {
    let server = &TestServer::start().await;
    let mut root = server.superuser("postgres").await;
    run(
        &mut root,
        "CREATE ROLE term_unfit LOGIN CREATEDB CREATEROLE PASSWORD 'x';
         GRANT pg_signal_backend TO term_unfit WITH ADMIN OPTION;
         GRANT CONNECT ON DATABASE postgres TO term_unfit",
    )
    .await;
    let mut unfit = process(server);
    unfit.administrator.username = "term_unfit".into();
    unfit.administrator.password = "x".into();
    let refused = unfit.check(&writer("term-unfit", 1)).await.unwrap_err();
    assert!(refused.to_string().contains("WITH GRANT OPTION"), "{refused}");
    run(&mut root, "GRANT CONNECT ON DATABASE postgres TO term_unfit WITH GRANT OPTION").await;
    unfit.check(&writer("term-unfit", 1)).await.unwrap();
}
