//! Customers.

use paddock_events::{CustomerChanged, CustomerMessage};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Audit, Store, StoreError, broken_constraint, read};
use crate::domain::customer::{Applicant, CustomerState};

/// A customer to be inserted.
#[derive(Debug, Clone)]
pub struct NewCustomer {
    /// Id.
    pub id: Uuid,
    /// Checked application.
    pub applicant: Applicant,
    /// Argon2id hash in PHC form.
    pub password_hash: String,
}

/// What logging in needs.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Customer.
    pub customer: Uuid,
    /// Argon2id hash in PHC form.
    pub password_hash: String,
    /// State.
    pub state: CustomerState,
}

impl Store {
    /// Inserts a customer and tells topic `customers`.
    pub async fn register(&self, new: &NewCustomer) -> Result<(), StoreError> {
        let mut transaction = self.database.pool().begin().await?;
        sqlx::query(
            "INSERT INTO customers (id, email, password_hash, name, birth_date, country, currency)
             VALUES ($1, $2, $3, $4, $5::date, $6, $7)",
        )
        .bind(new.id)
        .bind(&new.applicant.email)
        .bind(&new.password_hash)
        .bind(&new.applicant.name)
        .bind(new.applicant.birth_date.to_string())
        .bind(&new.applicant.country)
        .bind(new.applicant.currency.code())
        .execute(&mut *transaction)
        .await
        .map_err(|error| match broken_constraint(&error) {
            Some("customers_email_key") => StoreError::EmailTaken,
            _ => error.into(),
        })?;
        self.tell(&mut transaction, new.id).await?;
        transaction.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    /// The credentials behind an address, whatever its case.
    pub async fn credentials(&self, email: &str) -> Result<Option<Credentials>, StoreError> {
        let row: Option<(Uuid, String, String)> =
            sqlx::query_as("SELECT id, password_hash, state FROM customers WHERE lower(email) = lower($1)")
                .bind(email)
                .fetch_optional(&self.database.pool())
                .await?;
        row.map(|(customer, password_hash, state)| {
            Ok(Credentials { customer, password_hash, state: read("state", &state)? })
        })
        .transpose()
    }

    /// Sets a customer's state; any state but active ends all sessions in the same transaction. Repeating it changes nothing but
    /// the audit, which has every call.
    pub async fn set_state(&self, customer: Uuid, state: CustomerState, audit: &Audit) -> Result<(), StoreError> {
        let mut transaction = self.database.pool().begin().await?;
        let before: Option<String> = sqlx::query_scalar("SELECT state FROM customers WHERE id = $1 FOR NO KEY UPDATE")
            .bind(customer)
            .fetch_optional(&mut *transaction)
            .await?;
        let before: CustomerState = read("state", &before.ok_or(StoreError::CustomerNotFound(customer))?)?;
        if before != state {
            sqlx::query("UPDATE customers SET state = $2, sequence = sequence + 1 WHERE id = $1")
                .bind(customer)
                .bind(state.to_string())
                .execute(&mut *transaction)
                .await?;
            if state != CustomerState::Active {
                sqlx::query(
                    "UPDATE sessions SET revoked_at = clock_timestamp() WHERE customer_id = $1 AND revoked_at IS NULL",
                )
                .bind(customer)
                .execute(&mut *transaction)
                .await?;
            }
            self.tell(&mut transaction, customer).await?;
        }
        let json = |state: CustomerState| serde_json::json!({ "state": state.to_string() });
        audit.write(&mut transaction, &json(before), &json(state)).await?;
        transaction.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    async fn tell(&self, connection: &mut PgConnection, customer: Uuid) -> Result<(), StoreError> {
        let (sequence, state, country, currency, changed_at): (i64, String, String, String, i64) = sqlx::query_as(
            "SELECT sequence, state, country, currency, (extract(epoch FROM clock_timestamp()) * 1000)::bigint
             FROM customers WHERE id = $1",
        )
        .bind(customer)
        .fetch_one(&mut *connection)
        .await?;
        let changed = CustomerChanged { customer_id: customer, sequence, state, country, currency, changed_at };
        self.publish(connection, vec![CustomerMessage::CustomerChanged(changed)]).await
    }
}
