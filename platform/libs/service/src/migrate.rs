//! The migration Job: applies those of a service's migrations that the database does not have yet.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection as _, PgConnection};

use crate::binding::Binding;
use crate::{Environment, Settings, postgres, telemetry};

/// Applies the migrations over the need's `migrate` binding. Concurrent runs wait for each other by an advisory lock; each
/// migration is one transaction. It may run any number of times, also of an older image under a newer schema.
pub async fn migrate(need: &str, migrations: &Migrator) -> anyhow::Result<()> {
    telemetry::log_to_stdout();
    let mut settings = Settings::from_env();
    let environment = Environment::read(&mut settings);
    settings.finish()?;
    let binding = Binding::read(&environment.bindings, need)?;
    let options = postgres::connect_options(&binding)?;
    let connecting = PgConnection::connect_with(&options);
    let mut connection = tokio::time::timeout(Duration::from_secs(20), connecting)
        .await
        .context("the database did not answer within 20 s; the Job tries again")?
        .context("the database refused the migration's login; look at the claim's conditions")?;
    apply(&mut connection, migrations).await?;
    connection.close().await?;
    tracing::info!(tenant = environment.tenant, environment = environment.environment, need, "migrations applied");
    Ok(())
}

/// Applies what the database does not have yet.
async fn apply(connection: &mut PgConnection, migrations: &Migrator) -> anyhow::Result<()> {
    let mut migrations = Migrator::with_migrations(migrations.iter().cloned().collect());
    // An older image meets a newer schema whenever a release is rolled back and the Job runs once more. Migrations only expand what
    // the version before still uses, so that what this image does not know of does not concern it. What it does know of is still
    // compared by checksum.
    migrations.set_ignore_missing(true);
    let applied = migrations.run_direct(None, connection, false).await;
    applied.map_err(|error| match error {
        MigrateError::VersionMismatch(version) => anyhow::anyhow!(
            "migration {version} was applied here with another content: give its file back the content that it had, and put the \
             change into a migration of its own"
        ),
        error => anyhow::Error::new(error).context(
            "a migration failed and was rolled back; the schema is as the last one that was applied left it",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_test_postgres::Server;
    use sqlx::SqlSafeStr as _;
    use sqlx::migrate::{Migration, MigrationType};

    const FIRST: &str = "CREATE TABLE money (amount bigint NOT NULL)";
    const SECOND: &str = "ALTER TABLE money ADD COLUMN currency text NOT NULL DEFAULT 'EUR'";

    fn migrations(all: &[&'static str]) -> Migrator {
        let numbered = (1..).zip(all);
        let migration = |(number, sql): (i64, &&'static str)| {
            Migration::new(number, "test".into(), MigrationType::Simple, sql.into_sql_str(), false)
        };
        Migrator::with_migrations(numbered.map(migration).collect())
    }

    async fn database(server: &Server) -> PgConnection {
        let name = server.create_database().await.unwrap();
        PgConnection::connect_with(&server.options(&name)).await.unwrap()
    }

    /// Versions that the database has, with when each was applied.
    async fn applied(connection: &mut PgConnection) -> Vec<(i64, String)> {
        let record = "SELECT version, installed_on::text FROM _sqlx_migrations ORDER BY version";
        sqlx::query_as(record).fetch_all(connection).await.unwrap()
    }

    #[tokio::test]
    async fn an_older_image_leaves_a_newer_schema_as_it_is() {
        let server = Server::start().await.unwrap();
        let mut connection = database(&server).await;
        let (older, newer) = (migrations(&[FIRST]), migrations(&[FIRST, SECOND]));
        apply(&mut connection, &newer).await.unwrap();
        sqlx::raw_sql("INSERT INTO money VALUES (42, 'SEK')").execute(&mut connection).await.unwrap();
        let before = applied(&mut connection).await;
        assert_eq!(before.len(), 2);
        for image in [&older, &newer, &older] {
            apply(&mut connection, image).await.unwrap();
            let money: (i64, String) =
                sqlx::query_as("SELECT amount, currency FROM money").fetch_one(&mut connection).await.unwrap();
            assert_eq!((money, applied(&mut connection).await), ((42, "SEK".to_owned()), before.clone()));
        }
    }

    #[tokio::test]
    async fn a_migration_that_was_changed_is_refused_whatever_came_after_it() {
        let server = Server::start().await.unwrap();
        let mut connection = database(&server).await;
        apply(&mut connection, &migrations(&[FIRST, SECOND])).await.unwrap();
        let changed = "CREATE TABLE money (amount numeric NOT NULL)";
        let before = applied(&mut connection).await;
        for image in [migrations(&[changed]), migrations(&[changed, SECOND, "CREATE TABLE more ()"])] {
            let refused = apply(&mut connection, &image).await.unwrap_err();
            assert!(
                refused.to_string().starts_with("migration 1 was applied here with another content"),
                "{refused:#}"
            );
            assert_eq!(applied(&mut connection).await, before);
        }
    }
}
