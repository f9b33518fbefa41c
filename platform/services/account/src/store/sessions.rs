//! Sessions: only digests of tokens are kept.

use paddock_events::Context;
use paddock_money::Currency;
use uuid::Uuid;

use super::{Store, StoreError, read};
use crate::domain::customer::CustomerState;

/// A session to be inserted.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// SHA-256 of the token.
    pub digest: [u8; 32],
    /// Whose.
    pub customer: Uuid,
    /// Where the log-in came from.
    pub context: Context,
    /// Seconds until it expires.
    pub lifetime_s: i64,
}

/// A session in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub customer: Uuid,
    /// Currency of the wallet.
    pub currency: Currency,
    /// Country of residence.
    pub country: String,
    /// State of the customer.
    pub state: CustomerState,
}

impl Store {
    /// Inserts a session; gives when it expires, ms.
    pub async fn open_session(&self, new: &NewSession) -> Result<i64, StoreError> {
        let context = serde_json::to_value(&new.context)?;
        // The lock orders it with a suspension: either that sees this session, or this sees the suspension.
        let mut transaction = self.database.pool().begin().await?;
        let state: Option<String> = sqlx::query_scalar("SELECT state FROM customers WHERE id = $1 FOR NO KEY UPDATE")
            .bind(new.customer)
            .fetch_optional(&mut *transaction)
            .await?;
        let state = state.ok_or(StoreError::CustomerNotFound(new.customer))?;
        if read::<CustomerState>("state", &state)? != CustomerState::Active {
            return Err(StoreError::CustomerNotAllowed(state));
        }
        let expires_at = sqlx::query_scalar(
            "INSERT INTO sessions (token_digest, customer_id, context, expires_at)
             VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4::double precision))
             RETURNING (extract(epoch FROM expires_at) * 1000)::bigint",
        )
        .bind(new.digest.as_slice())
        .bind(new.customer)
        .bind(context)
        .bind(new.lifetime_s)
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(expires_at)
    }

    /// The session of a token's digest, if it is in force now.
    pub async fn session(&self, digest: &[u8; 32]) -> Result<Option<Session>, StoreError> {
        let row: Option<(Uuid, String, String, String)> = sqlx::query_as(
            "SELECT customer.id, customer.currency, customer.country, customer.state
             FROM sessions session JOIN customers customer ON customer.id = session.customer_id
             WHERE session.token_digest = $1 AND session.revoked_at IS NULL AND session.expires_at > clock_timestamp()",
        )
        .bind(digest.as_slice())
        .fetch_optional(&self.database.pool())
        .await?;
        row.map(|(customer, currency, country, state)| {
            Ok(Session { customer, currency: read("currency", &currency)?, country, state: read("state", &state)? })
        })
        .transpose()
    }

    /// Ends a session; ending it again changes nothing.
    pub async fn close_session(&self, digest: &[u8; 32]) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE sessions SET revoked_at = clock_timestamp() WHERE token_digest = $1 AND revoked_at IS NULL",
        )
        .bind(digest.as_slice())
        .execute(&self.database.pool())
        .await?;
        Ok(())
    }

    /// Removes sessions that expired more than a day ago; gives how many.
    pub async fn forget_sessions(&self) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM sessions WHERE token_digest IN
                 (SELECT token_digest FROM sessions WHERE expires_at < clock_timestamp() - interval '1 day' LIMIT 1000)",
        )
        .execute(&self.database.pool())
        .await?;
        Ok(done.rows_affected())
    }
}
