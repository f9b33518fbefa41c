//! A PostgreSQL server of one's own, and a store on it with the rights that pods have.
#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::{Arc, Weak};
use std::time::Duration;

use paddock_account::domain::customer::Applicant;
use paddock_account::store::{MIGRATIONS, NewCustomer, Store};
use paddock_events::Origin;
use paddock_money::Currency;
use paddock_service::outbox::Outbox;
use paddock_service::postgres::Database;
use paddock_test_postgres::Server;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use tokio::sync::Mutex;
use uuid::Uuid;

/// One server for the tests that run at the same time; it ends with the last of them.
static SHARED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());

async fn shared() -> Arc<Server> {
    let mut shared = SHARED.lock().await;
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Server::start().await.unwrap());
    *shared = Arc::downgrade(&server);
    server
}

/// A migrated database of one's own.
pub struct Fixture {
    server: Arc<Server>,
    name: String,
    /// As pods: may use tables, owns nothing.
    pub pool: PgPool,
    /// As pods.
    pub store: Store,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::at(&MIGRATIONS).await
    }

    /// A database at the state that some migrations leave.
    pub async fn at(migrations: &Migrator) -> Self {
        let server = shared().await;
        let name = server.create_database().await.unwrap();
        let mut owner = PgConnection::connect_with(&server.options(&name)).await.unwrap();
        let role = format!("{name}_rw");
        owner
            .execute(sqlx::raw_sql(AssertSqlSafe(format!(
                "CREATE SCHEMA app; CREATE ROLE {role} LOGIN;
                 ALTER ROLE {role} SET search_path = app;
                 GRANT USAGE ON SCHEMA app TO {role};
                 ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
                 SET search_path = app"
            ))))
            .await
            .unwrap();
        migrations.run_direct(None, &mut owner, false).await.unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(12)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(server.options(&name).username(&role))
            .await
            .unwrap();
        let origin = Origin { tenant: "acme".to_owned(), environment: "prod".to_owned() };
        let store = Store::new(Database::over(pool.clone()), Outbox::default(), origin);
        Self { server, name, pool, store }
    }

    /// A connection with all rights.
    pub async fn owner(&self) -> PgConnection {
        let mut owner = PgConnection::connect_with(&self.server.options(&self.name)).await.unwrap();
        owner.execute("SET search_path = app").await.unwrap();
        owner
    }

    pub async fn customer(&self) -> Uuid {
        let id = Uuid::now_v7();
        let applicant = Applicant {
            email: format!("{id}@example.com"),
            name: "Ann Example".to_owned(),
            birth_date: jiff::civil::date(1990, 1, 1),
            country: "GB".to_owned(),
            currency: Currency::EUR,
        };
        self.store.register(&NewCustomer { id, applicant, password_hash: "none".to_owned() }).await.unwrap();
        id
    }
}
