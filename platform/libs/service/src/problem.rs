//! Errors of HTTP APIs: `application/problem+json` with a stable code; causes of 5xx are logged, never sent.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A refused or failed request.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    members: Map<String, Value>,
    /// Seconds after which to try again.
    retry_after: Option<u32>,
    source: Option<anyhow::Error>,
}

/// The body of a problem, for clients and OpenAPI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProblemDocument {
    /// HTTP status.
    pub status: u16,
    /// Stable, kebab-case.
    pub code: String,
    /// For people; may change.
    pub detail: String,
    /// Further members by code.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub members: Map<String, Value>,
}

impl Problem {
    /// A refusal: the code is stable, the detail says what to do.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), members: Map::new(), retry_after: None, source: None }
    }

    /// 400.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 403.
    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 409.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422.
    pub fn unprocessable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 422 `idempotency-key-reused` (rule B2).
    pub fn idempotency_key_reused() -> Self {
        Self::unprocessable("idempotency-key-reused", "this key came with another body before; use a new key")
    }

    /// 503: nothing was done, the caller may try again.
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// 429: nothing was done, the caller may try again after some seconds.
    pub fn too_many(code: &'static str, detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self { retry_after: Some(retry_after_s), ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail) }
    }

    /// 500; the cause is logged only.
    pub fn internal(source: impl Into<anyhow::Error>) -> Self {
        let mut problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the service failed; try again, and report the time of the request if it stays",
        );
        problem.source = Some(source.into());
        problem
    }

    /// The cause, for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A further member of the body.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    pub const fn code(&self) -> &'static str {
        self.code
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            let cause = self.source.as_ref().map(|source| format!("{source:#}")).unwrap_or_default();
            tracing::error!(status = self.status.as_u16(), code = self.code, cause, "request failed");
        } else if let Some(source) = &self.source {
            tracing::debug!(status = self.status.as_u16(), code = self.code, cause = format!("{source:#}"), "refused");
        }
        let document = ProblemDocument {
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail,
            members: self.members,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// A database that does not answer is 503, because nothing was committed that was not acknowledged. What it cannot hold, such as
/// the character NUL in a text (SQLSTATE class 22), came with the request: 400. The rest is 500.
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::Tls(_) => {
                Self::unavailable("database-unavailable", "the database does not answer; try again").caused_by(error)
            }
            sqlx::Error::Database(refused) if refused.code().is_some_and(|code| code.starts_with("22")) => {
                let detail = "the request holds a character or value that cannot be stored, such as NUL: leave it out";
                Self::bad_request("value-not-storable", detail).caused_by(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn causes_of_failures_never_leave() {
        let response = Problem::internal(anyhow::anyhow!("relation secret_table")).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let document: ProblemDocument = serde_json::from_slice(&body).unwrap();
        assert_eq!((document.status, document.code.as_str()), (500, "internal"));
        assert!(!String::from_utf8_lossy(&body).contains("secret_table"));
    }

    #[tokio::test]
    async fn members_stand_beside_the_code() {
        let response = Problem::conflict("old", "newer one in force").with("generation", 7).into_response();
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&value["code"], &value["generation"]), (&"old".into(), &7.into()));
    }
}
