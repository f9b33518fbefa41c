//! Account, as acceptance and settlement see it: holds and transfers with ids of ours.

use std::time::Duration;

use async_trait::async_trait;
use paddock_ledger::Reason;
use paddock_money::{Currency, Money};
use paddock_service::CallerToken;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::money_moves::Move;

/// Longest wait for one answer; shorter than the wait of our callers.
const ANSWER: Duration = Duration::from_secs(3);

/// Account did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BankError {
    /// It never will, as things are; the code is account's.
    #[error("account refuses: {0}; look the code up in account's API")]
    Refused(String),
    /// Unknown whether it did; ask again with the same id.
    #[error("account does not answer: {0}; it is asked again")]
    Unavailable(String),
}

/// Where money is held. Every call may be repeated with the same ids.
#[async_trait]
pub trait Bank: Send + Sync {
    /// Holds a stake. The hold has the ticket's id, so that account can ask for the decision.
    async fn hold(&self, ticket: Uuid, customer: Uuid, amount: Money) -> Result<(), BankError>;
    /// Posts the hold of a ticket; fine if it is posted.
    async fn post(&self, ticket: Uuid) -> Result<(), BankError>;
    /// Voids the hold of a ticket; fine if there is none any more.
    async fn void(&self, ticket: Uuid) -> Result<(), BankError>;
    /// Moves money of a settled bet. What a rollback cannot take from cash becomes debt.
    async fn transfer(&self, customer: Uuid, currency: Currency, step: &Move) -> Result<(), BankError>;
}

/// Account over HTTP.
#[derive(Debug, Clone)]
pub struct Account {
    client: reqwest::Client,
    base: String,
    token: CallerToken,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
}

/// Id of the transfer that resolves a hold: account derives the same when it resolves an old hold itself.
pub(crate) fn resolution(ticket: Uuid, how: &str) -> Uuid {
    Uuid::new_v5(&ticket, how.as_bytes())
}

impl Account {
    /// Account at an address such as `http://account:8080`.
    pub fn new(base: &str, token: CallerToken) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER)
            .connect_timeout(Duration::from_secs(1))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), token })
    }

    async fn send(&self, path: &str, body: &Value) -> Result<(), BankError> {
        let away = |error: reqwest::Error| BankError::Unavailable(error.to_string());
        let url = format!("{}/internal/v1/transfers{path}", self.base);
        let response = self.token.attach(self.client.post(url).json(body)).send().await.map_err(away)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        // 401 and 403 are about who asks, 408 and 429 ask for patience; other 4xx are answers.
        if status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 408 | 429) {
            let refusal = response.json::<Refusal>().await.map_err(away)?;
            return Err(BankError::Refused(refusal.code));
        }
        Err(BankError::Unavailable(format!("status {status}")))
    }
}

#[async_trait]
impl Bank for Account {
    async fn hold(&self, ticket: Uuid, customer: Uuid, amount: Money) -> Result<(), BankError> {
        let body = json!({
            "id": ticket, "customerId": customer, "kind": "hold", "currency": amount.currency(),
            "amount": amount.amount(), "reason": Reason::BetStake,
        });
        self.send("", &body).await
    }

    async fn post(&self, ticket: Uuid) -> Result<(), BankError> {
        let sent = self.send(&format!("/{ticket}/post"), &json!({ "id": resolution(ticket, "post") })).await;
        accept_codes(sent, &["hold-already-posted"])
    }

    async fn void(&self, ticket: Uuid) -> Result<(), BankError> {
        let sent = self.send(&format!("/{ticket}/void"), &json!({ "id": resolution(ticket, "void") })).await;
        accept_codes(sent, &["hold-already-voided", "hold-not-found", "hold-expired"])
    }

    async fn transfer(&self, customer: Uuid, currency: Currency, step: &Move) -> Result<(), BankError> {
        let body = json!({
            "id": step.id, "customerId": customer, "kind": "transfer", "from": step.from, "to": step.to,
            "currency": currency, "amount": Money::from_minor(step.amount, currency).amount(), "reason": step.reason,
        });
        self.send("", &body).await
    }
}

/// Some refusals say that what is wanted is already so.
fn accept_codes(sent: Result<(), BankError>, fine: &[&str]) -> Result<(), BankError> {
    match sent {
        Err(BankError::Refused(code)) if fine.contains(&code.as_str()) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::extract::Path;
    use axum::routing::post;
    use http::StatusCode;
    use paddock_ledger::AccountCode;
    use paddock_service::CALLER_HEADER;
    use paddock_service::binding::Bindings;

    use super::*;

    /// An account that answers holds by their amount and resolutions by the hold.
    async fn account() -> Account {
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let refusal =
            |status: StatusCode, code: &str| (status, Json(json!({ "status": status.as_u16(), "code": code })));
        let create = async move |headers: http::HeaderMap, Json(body): Json<Value>| match body["amount"].as_str() {
            _ if headers.get(CALLER_HEADER).is_none_or(|token| token != "our token") => {
                refusal(StatusCode::FORBIDDEN, "caller-token-missing")
            }
            Some("9.00") => refusal(StatusCode::UNPROCESSABLE_ENTITY, "insufficient-funds"),
            Some("8.00") => refusal(StatusCode::SERVICE_UNAVAILABLE, "database-unavailable"),
            Some("6.00") => refusal(StatusCode::UNAUTHORIZED, "caller-token-invalid"),
            Some("7.00") => (StatusCode::CREATED, Json(body)),
            _ => refusal(StatusCode::BAD_REQUEST, "malformed-body"),
        };
        let resolve = async move |Path((hold, how)): Path<(Uuid, String)>, Json(body): Json<Value>| {
            assert_eq!(body, json!({ "id": resolution(hold, &how) }));
            let status = if hold.is_nil() { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
            refusal(status, if hold.is_nil() { "hold-not-found" } else { "hold-already-posted" })
        };
        let app = axum::Router::new()
            .route("/internal/v1/transfers", post(create))
            .route("/internal/v1/transfers/{hold}/{how}", post(resolve));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Account::new(&base, token()).unwrap()
    }

    fn token() -> CallerToken {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("account")).unwrap();
        std::fs::write(root.path().join("account/token"), "our token").unwrap();
        CallerToken::new(Bindings::new(root.path().to_owned()).watch("account").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn refusals_are_answers_and_failures_are_not() {
        let account = account().await;
        let hold = async |amount: &str| {
            account.hold(Uuid::max(), Uuid::nil(), Money::parse(amount, Currency::EUR).unwrap()).await
        };
        assert!(hold("7").await.is_ok());
        assert!(matches!(hold("9").await, Err(BankError::Refused(code)) if code == "insufficient-funds"));
        assert!(matches!(hold("8").await, Err(BankError::Unavailable(_))));
        assert!(matches!(hold("6").await, Err(BankError::Unavailable(_))), "no ticket is refused for our own token");
        let step = Move {
            id: Uuid::nil(),
            from: AccountCode::HouseBets,
            to: AccountCode::PlayerCash,
            amount: 700,
            reason: Reason::BetReturn,
        };
        assert!(account.transfer(Uuid::nil(), Currency::EUR, &step).await.is_ok());
        let gone = Account::new("http://127.0.0.1:1", token()).unwrap();
        assert!(matches!(gone.post(Uuid::nil()).await, Err(BankError::Unavailable(_))));
    }

    #[tokio::test]
    async fn what_is_already_resolved_as_wanted_is_fine() {
        let account = account().await;
        assert!(account.post(Uuid::max()).await.is_ok(), "posted by account itself");
        assert!(matches!(account.void(Uuid::max()).await, Err(BankError::Refused(_))), "posted, not voided");
        assert!(account.void(Uuid::nil()).await.is_ok(), "no hold was ever made");
        assert!(matches!(account.post(Uuid::nil()).await, Err(BankError::Refused(_))));
    }
}
