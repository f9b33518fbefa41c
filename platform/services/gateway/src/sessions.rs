//! Sessions as account knows them, remembered for at most a second.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};
use moka::future::Cache;
use paddock_money::Currency;
use paddock_service::Problem;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::upstream::{Ask, Component, Upstream};

/// A revoked session is refused after this at the latest.
const REMEMBERED: Duration = Duration::from_secs(1);
const CAPACITY: u64 = 100_000;
/// A token is 43 characters; what is much longer is none.
const MAX_TOKEN: usize = 128;

/// Digest of a token: names a session where the token must not be kept.
pub type SessionKey = [u8; 32];

/// Who is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Customer.
    pub customer_id: Uuid,
    /// Currency of the wallet.
    pub currency: Currency,
    /// Country of residence.
    pub country: String,
    /// State: only `active` may bet.
    pub state: String,
}

/// Looks sessions up.
#[derive(Clone)]
pub struct Sessions {
    upstream: Upstream,
    known: Cache<SessionKey, Option<Session>>,
}

impl Sessions {
    /// Asks account through `upstream`.
    pub fn new(upstream: Upstream) -> Self {
        Self { upstream, known: Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBERED).build() }
    }

    /// The session of a token that is in force. Callers with the same token share one question.
    pub async fn of(&self, token: &SecretString) -> Result<Session, Problem> {
        if token.expose_secret().len() > MAX_TOKEN {
            return Err(not_in_force());
        }
        let asked = self.known.try_get_with(key(token), async {
            let ask = Ask { token: Some(token), ..Ask::get(Component::Account, "/sessions/current") };
            let answer = self.upstream.ask(ask).await?;
            match answer.status {
                StatusCode::OK => answer.json().map(Some),
                StatusCode::UNAUTHORIZED => Ok(None),
                status => Err(Problem::internal(anyhow::anyhow!("account answered {status} for a session"))),
            }
        });
        match asked.await {
            Ok(session) => session.ok_or_else(not_in_force),
            Err(problem) => Err(Problem::unavailable("upstream-unavailable", "sessions cannot be checked; try again")
                .caused_by(anyhow::anyhow!("{problem}"))),
        }
    }

    /// Ends a session here at once and at account.
    pub async fn close(&self, token: &SecretString) -> Result<StatusCode, Problem> {
        let ask =
            Ask { method: Method::DELETE, token: Some(token), ..Ask::get(Component::Account, "/sessions/current") };
        let answer = self.upstream.ask(ask).await?;
        self.known.invalidate(&key(token)).await;
        Ok(answer.status)
    }
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Result<SecretString, Problem> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match value.and_then(|value| value.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim().to_owned().into()),
        _ => Err(Problem::unauthorized("log in, then send the token as a bearer token")),
    }
}

/// What names a token's session.
pub fn key(token: &SecretString) -> SessionKey {
    Sha256::digest(token.expose_secret().as_bytes()).into()
}

fn not_in_force() -> Problem {
    Problem::unauthorized("the session is not in force: log in again")
}
