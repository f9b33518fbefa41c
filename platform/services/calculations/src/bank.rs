//! Account, as acceptance and settlement see it: holds and transfers with ids of ours.

use std::time::Duration;

use async_trait::async_trait;
use paddock_ledger::Reason;
use paddock_money::{Currency, Money};
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
    pub fn new(base: &str) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(ANSWER).connect_timeout(Duration::from_secs(1)).build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned() })
    }

    async fn send(&self, path: &str, body: &Value) -> Result<(), BankError> {
        let away = |error: reqwest::Error| BankError::Unavailable(error.to_string());
        let url = format!("{}/internal/v1/transfers{path}", self.base);
        let response = self.client.post(url).json(body).send().await.map_err(away)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        // 408 and 429 ask for patience; other 4xx are answers.
        if status.is_client_error() && !matches!(status.as_u16(), 408 | 429) {
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
