//! What every request passes.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, header};
use paddock_service::Problem;
use secrecy::SecretString;

use super::AppState;
use crate::client::Client;
use crate::sessions::{Session, bearer, key};

/// Refuses callers that ask too often.
pub(super) async fn limit(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0) else {
        return Problem::internal(anyhow::anyhow!("the server does not tell who connects")).into_response();
    };
    let client = state.trust.client(peer, request.headers());
    let allowed = state.by_ip.allows(client.network())
        && bearer(request.headers()).map_or(true, |token| state.by_session.allows(key(&token)));
    if !allowed {
        let detail = "too many requests: wait a second, then try again";
        return Problem::too_many("too-many-requests", detail, 1).into_response();
    }
    request.extensions_mut().insert(client);
    next.run(request).await
}

/// Headers that every answer carries. What says nothing of caching is not cached.
pub(super) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let client = parts.extensions.get::<Self>().cloned();
        client.ok_or_else(|| Problem::internal(anyhow::anyhow!("the route is not behind the limiter")))
    }
}

/// A customer who is logged in.
pub(super) struct LoggedIn {
    pub(super) session: Session,
    pub(super) token: SecretString,
}

impl FromRequestParts<AppState> for LoggedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)?;
        let session = state.sessions.of(&token).await?;
        Ok(Self { session, token })
    }
}
