//! The migration Job: applies a service's migrations once.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::Connection as _;
use sqlx::migrate::Migrator;

use crate::binding::Binding;
use crate::{Environment, Settings, postgres, telemetry};

/// Applies the migrations over the need's `migrate` binding. Concurrent runs wait for each other by an advisory lock; each
/// migration is one transaction.
pub async fn migrate(need: &str, migrations: &Migrator) -> anyhow::Result<()> {
    telemetry::log_to_stdout();
    let mut settings = Settings::from_env();
    let environment = Environment::read(&mut settings);
    settings.finish()?;
    let binding = Binding::read(&environment.bindings, need)?;
    let options = postgres::connect_options(&binding)?;
    let connecting = sqlx::PgConnection::connect_with(&options);
    let mut connection = tokio::time::timeout(Duration::from_secs(20), connecting)
        .await
        .context("the database did not answer within 20 s; the Job tries again")?
        .context("the database refused the migration's login; look at the claim's conditions")?;
    migrations
        .run_direct(None, &mut connection, false)
        .await
        .context("a migration failed and was rolled back; the schema is as the last one that was applied left it")?;
    connection.close().await?;
    tracing::info!(tenant = environment.tenant, environment = environment.environment, need, "migrations applied");
    Ok(())
}
