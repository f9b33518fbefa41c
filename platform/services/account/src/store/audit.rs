//! Who did what, and what it changed. Append-only.

use serde_json::Value;
use sqlx::PgConnection;

use super::{Store, StoreError};

/// An act of a member of staff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Subject of the staff token.
    pub who: String,
    /// The call, with what was asked for.
    pub what: Value,
    /// What it was done to: `customer/<id>`.
    pub subject: String,
}

impl Store {
    /// Writes that an act was refused, by the stable code of the refusal: `what` gets it, and there is neither before nor after.
    pub async fn refused(&self, audit: &Audit, code: &str) -> Result<(), StoreError> {
        let mut refused = audit.clone();
        if let Value::Object(what) = &mut refused.what {
            what.insert("refused".into(), code.into());
        }
        let mut connection = self.database.pool().acquire().await?;
        refused.write(&mut connection, &Value::Null, &Value::Null).await
    }
}

impl Audit {
    /// Writes the act into the transaction that does it.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        before: &Value,
        after: &Value,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO audit (who, what, subject, before, after) VALUES ($1, $2, $3, $4, $5)")
            .bind(&self.who)
            .bind(&self.what)
            .bind(&self.subject)
            .bind(before)
            .bind(after)
            .execute(connection)
            .await?;
        Ok(())
    }
}
