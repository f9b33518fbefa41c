//! A PostgreSQL pool that follows its binding.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{Connection as _, PgPool};
use tokio::sync::watch;

use crate::Gate;
use crate::binding::{Binding, BindingError};

/// Bounds of a pool. Callers' timeouts must be longer than `acquire` + `statement`.
#[derive(Debug, Clone, Copy)]
pub struct PoolBounds {
    /// Greatest number of connections.
    pub connections: u32,
    /// Waiting for a connection.
    pub acquire: Duration,
    /// One statement, enforced by the server.
    pub statement: Duration,
    /// An open transaction doing nothing, enforced by the server.
    pub idle_in_transaction: Duration,
}

impl Default for PoolBounds {
    fn default() -> Self {
        Self {
            connections: 10,
            acquire: Duration::from_secs(2),
            statement: Duration::from_secs(5),
            idle_in_transaction: Duration::from_secs(10),
        }
    }
}

/// A connection that was idle for longer is asked whether it still lives before it is used.
const TRUSTED: Duration = Duration::from_secs(1);

/// A database of a need. Clones share it.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Arc<RwLock<PgPool>>,
}

impl Database {
    /// Connects when first used.
    pub fn connect(binding: &Binding, bounds: PoolBounds) -> Result<Self, BindingError> {
        Ok(Self { pool: Arc::new(RwLock::new(pool(binding, bounds)?)) })
    }

    /// Over a pool that exists, for tests.
    pub fn over(pool: PgPool) -> Self {
        Self { pool: Arc::new(RwLock::new(pool)) }
    }

    /// The pool of the present credentials. Ask anew for each piece of work.
    pub fn pool(&self) -> PgPool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the pool once its connections are given back.
    pub async fn close(&self) {
        self.pool().close().await;
    }

    /// Takes every new version of the binding: new connections use it, old ones end when their work is done.
    pub(crate) async fn follow(self, mut binding: watch::Receiver<Arc<Binding>>, bounds: PoolBounds) {
        while binding.changed().await.is_ok() {
            let present = Arc::clone(&binding.borrow_and_update());
            match pool(&present, bounds) {
                Ok(new) => {
                    let old = std::mem::replace(&mut *self.pool.write().unwrap_or_else(PoisonError::into_inner), new);
                    tokio::spawn(async move { old.close().await });
                }
                Err(error) => tracing::error!(%error, "the database stays with its former credentials"),
            }
        }
    }

    /// Keeps a gate open while the server answers; three missed answers close it.
    pub(crate) async fn watch_server(self, gate: Gate) {
        let mut missed = 0_u32;
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let pool = self.pool();
            let asked = tokio::time::timeout(Duration::from_secs(2), sqlx::query("SELECT 1").execute(&pool)).await;
            match asked {
                Ok(Ok(_)) => {
                    missed = 0;
                    gate.open();
                }
                Ok(Err(error)) => {
                    missed += 1;
                    tracing::warn!(%error, "database does not answer");
                }
                Err(_elapsed) => missed += 1,
            }
            if missed >= 3 {
                gate.close("the database does not answer");
            }
        }
    }
}

fn pool(binding: &Binding, bounds: PoolBounds) -> Result<PgPool, BindingError> {
    let options = connect_options(binding)?.options([
        ("statement_timeout", bounds.statement.as_millis().to_string()),
        ("idle_in_transaction_session_timeout", bounds.idle_in_transaction.as_millis().to_string()),
        ("lock_timeout", bounds.statement.as_millis().to_string()),
        // A node that dies says no goodbye: the server itself must notice, or the lock of an outbox's relay stays for hours.
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(bounds.connections)
        .acquire_timeout(bounds.acquire)
        // A question for each piece of work would cost as much as a statement. One that was just used is taken as it is.
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .idle_timeout(Duration::from_mins(5))
        .max_lifetime(Duration::from_mins(30))
        .connect_lazy_with(options))
}

/// How to reach the server of a binding.
pub(crate) fn connect_options(binding: &Binding) -> Result<PgConnectOptions, BindingError> {
    let engine = binding.text("type")?;
    if engine != "postgresql" {
        return Err(binding.fail("type", format!("is {engine:?}, this need wants \"postgresql\"")));
    }
    let port = binding.text("port")?.parse::<u16>().map_err(|_| binding.fail("port", "is no port number"))?;
    let mode = binding
        .optional("sslmode")
        .unwrap_or("verify-full")
        .parse::<PgSslMode>()
        .map_err(|_| binding.fail("sslmode", "is unknown; verify-full is meant"))?;
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(binding.text("host")?)
        .port(port)
        .database(binding.text("database")?)
        .username(binding.text("username")?)
        .password(binding.text("password")?)
        .application_name("paddock")
        .ssl_mode(mode);
    if let Some(authority) = binding.optional("ca.crt") {
        options = options.ssl_root_cert_from_pem(authority.as_bytes().to_vec());
    }
    Ok(options)
}
