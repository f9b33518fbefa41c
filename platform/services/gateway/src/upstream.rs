//! The components behind the gateway. Their answers, problems included, pass through as they are.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use paddock_service::{CallerToken, Problem, refuses_caller};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Greatest answer that is taken from a component.
const MAX_ANSWER: usize = 8 << 20;
const CONNECT: Duration = Duration::from_secs(1);

/// A component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Component {
    /// Catalogue and offer.
    Rates,
    /// Customers and money.
    Account,
    /// Tickets.
    Calculations,
}

impl Component {
    /// Longest wait for an answer. All are shorter than what this process takes for its own.
    const fn patience(self) -> Duration {
        match self {
            Self::Rates => Duration::from_secs(4),
            Self::Account => Duration::from_secs(8),
            Self::Calculations => Duration::from_secs(12),
        }
    }
}

/// Where the components are.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// `http://rates:8080`
    pub rates: String,
    /// `http://account:8080`
    pub account: String,
    /// `http://calculations:8080`
    pub calculations: String,
}

/// Our tokens for the components.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// For rates.
    pub rates: CallerToken,
    /// For account.
    pub account: CallerToken,
    /// For calculations.
    pub calculations: CallerToken,
}

/// HTTP to the components.
#[derive(Debug, Clone)]
pub struct Upstream {
    client: reqwest::Client,
    addresses: Addresses,
    tokens: Tokens,
}

/// What a component answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Content type.
    pub content_type: Option<HeaderValue>,
    /// When to try again.
    pub retry_after: Option<HeaderValue>,
    /// Body.
    pub body: Vec<u8>,
}

/// A request to a component.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// Whom.
    pub component: Component,
    /// How.
    pub method: Method,
    /// Path below `/internal/v1`, with query.
    pub path: &'a str,
    /// JSON.
    pub body: Option<&'a Value>,
    /// Token of the customer.
    pub token: Option<&'a SecretString>,
}

impl<'a> Ask<'a> {
    /// `GET`.
    pub const fn get(component: Component, path: &'a str) -> Self {
        Self { component, method: Method::GET, path, body: None, token: None }
    }

    /// `POST`.
    pub const fn post(component: Component, path: &'a str, body: &'a Value) -> Self {
        Self { component, method: Method::POST, path, body: Some(body), token: None }
    }
}

impl Upstream {
    /// Connects when first used.
    pub fn new(addresses: Addresses, tokens: Tokens) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, addresses, tokens })
    }

    /// Asks a component.
    pub async fn ask(&self, ask: Ask<'_>) -> Result<Answer, Problem> {
        let component = ask.component;
        let (base, ours) = match component {
            Component::Rates => (&self.addresses.rates, &self.tokens.rates),
            Component::Account => (&self.addresses.account, &self.tokens.account),
            Component::Calculations => (&self.addresses.calculations, &self.tokens.calculations),
        };
        let url = format!("{}/internal/v1{}", base.trim_end_matches('/'), ask.path);
        let mut request = ours.attach(self.client.request(ask.method, url).timeout(component.patience()));
        if let Some(token) = ask.token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(body) = ask.body {
            request = request.json(body);
        }
        let away = |error: reqwest::Error| {
            let code = if error.is_timeout() { "upstream-timeout" } else { "upstream-unavailable" };
            // The path can hold ids of customers: it stays out of the log.
            Problem::unavailable(code, format!("{component} does not answer; repeat the request with the same key"))
                .caused_by(error.without_url())
        };
        let response = request.send().await.map_err(away)?;
        let status = response.status();
        let header = |name| response.headers().get(name).cloned();
        let (content_type, retry_after) = (header(header::CONTENT_TYPE), header(header::RETRY_AFTER));
        let mut body = Vec::new();
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(away)?);
            if body.len() > MAX_ANSWER {
                return Err(Problem::internal(anyhow::anyhow!(
                    "{component} answers with more than {MAX_ANSWER} bytes"
                )));
            }
        }
        // A component that does not take our own token says nothing about the customer.
        let failed = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
        if failed || refuses_caller(status, &body) {
            let cause = anyhow::anyhow!("{component} answered {status}");
            return Err(
                Problem::unavailable("upstream-failed", format!("{component} failed; try again")).caused_by(cause)
            );
        }
        Ok(Answer { status, content_type, retry_after, body })
    }
}

impl Answer {
    /// The body of a success.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body).map_err(Problem::internal)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, Body::from(self.body)).into_response();
        match self.content_type {
            Some(content_type) => response.headers_mut().insert(header::CONTENT_TYPE, content_type),
            None => response.headers_mut().remove(header::CONTENT_TYPE),
        };
        if let Some(retry_after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after);
        }
        response
    }
}
