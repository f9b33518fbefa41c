//! Tests on a real server.

mod attacks;
mod drift;
mod life;
pub(crate) mod server;
mod term;

use super::{Administrator, PostgresServer, Terms};
use crate::database::{Identity, Limits, Login, Password, Plan, Writer};
use paddock_crds::v1alpha1::Access;
use server::TestServer;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use std::sync::LazyLock;
use std::time::Duration;

/// Tests that are not about terms are one process to the servers.
static TERMS: LazyLock<Terms> = LazyLock::new(Terms::default);

/// The server as a class names it.
pub(crate) fn provisioner(server: &TestServer) -> PostgresServer {
    PostgresServer {
        name: "pg-test".into(),
        host: "localhost".into(),
        port: server.port(),
        ca: server.ca().to_vec(),
        administrator: Administrator {
            secret: "pg-test-admin".into(),
            username: server::ADMINISTRATOR.into(),
            password: server::PASSWORD.into(),
        },
        known_epoch: 0,
        terms: TERMS.clone(),
    }
}

fn writer(epoch: i64) -> Writer {
    Writer { cluster: "0a1b".into(), epoch }
}

/// A plan with a login of each kind: `app`, `report`, `migrate`.
fn plan(tenant: &str) -> Plan {
    let login = |role: &str, access| Login { role: role.into(), access, password: Password::generate().unwrap() };
    Plan {
        bound: false,
        identity: Identity::new(tenant, "prod", "account-db"),
        uid: "uid-1".into(),
        writer: writer(7),
        logins: vec![
            login("app", Access::ReadWrite),
            login("report", Access::ReadOnly),
            login("migrate", Access::Migrate),
        ],
        limits: Limits {
            statement: Duration::from_secs(30),
            idle_in_transaction: Duration::from_mins(1),
            connections: 5,
        },
        topics: Vec::new(),
    }
}

/// How a service logs in as a role of the plan; `database` may be another's.
fn options(server: &TestServer, plan: &Plan, role: &str, database: &str) -> PgConnectOptions {
    let login = plan.logins.iter().find(|login| login.role == role).unwrap();
    let target = provisioner(server);
    PgConnectOptions::new_without_pgpass()
        .host(&target.host)
        .port(target.port)
        .username(&plan.identity.login(&login.role, login.access))
        .password(login.password.expose())
        .database(database)
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert_from_pem(target.ca.clone())
}

/// Logs in as a role of the plan.
async fn log_in(server: &TestServer, plan: &Plan, role: &str, database: &str) -> Result<PgConnection, String> {
    options(server, plan, role, database).connect().await.map_err(|error| server::code(&error))
}

/// Logs in to the plan's own database.
async fn session(server: &TestServer, plan: &Plan, role: &str) -> PgConnection {
    log_in(server, plan, role, &plan.identity.database()).await.unwrap_or_else(|code| panic!("{role}: {code}"))
}
