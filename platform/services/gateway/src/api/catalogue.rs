//! What can be bet on.

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use paddock_events::{CatalogueEvent, OfferLine};
use paddock_service::{Problem, ProblemDocument};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::AppState;
use crate::client::Client;
use crate::shown::{EventRules, shown};
use crate::upstream::{Answer, Ask, Component};

const MAX_QUERY: usize = 1024;
/// Live prices: proxies may share an answer for a second, clients ask whether it changed.
const LIVE: HeaderValue = HeaderValue::from_static("public, max-age=1");
/// The same where the market book tells countries apart: nobody shares it.
const LIVE_IN_COUNTRY: HeaderValue = HeaderValue::from_static("private, max-age=1");
/// The list of sports hardly changes.
const SLOW: HeaderValue = HeaderValue::from_static("public, max-age=10");

/// Sports with events
#[utoipa::path(
    get, path = "/sports", tag = "catalogue",
    responses((status = 200, description = "`{\"sports\":[{\"id\",\"name\",\"events\"}]}`", body = Object), (status = 503, body = ProblemDocument))
)]
pub(super) async fn sports(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, Problem> {
    let answer = state.upstream.ask(Ask::get(Component::Rates, "/sports")).await?;
    Ok(cacheable(answer, &headers, SLOW))
}

/// Events, by kick-off
#[utoipa::path(
    get, path = "/events", tag = "catalogue",
    params(
        ("sport" = Option<String>, Query, description = "Sport URN"),
        ("status" = Option<String>, Query, description = "Status of the event"),
        ("from" = Option<String>, Query, description = "Kick-off not before"),
        ("to" = Option<String>, Query, description = "Kick-off before"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "Events of a page"),
    ),
    responses((status = 200, description = "`{\"events\":[…],\"next\":cursor|null}`", body = Object), (status = 503, body = ProblemDocument))
)]
pub(super) async fn events(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = query.unwrap_or_default();
    if query.len() > MAX_QUERY {
        return Err(Problem::bad_request("malformed-query", "the query is too long: use at most 1024 characters"));
    }
    let path = if query.is_empty() { "/events".to_owned() } else { format!("/events?{query}") };
    let answer = state.upstream.ask(Ask::get(Component::Rates, &path)).await?;
    Ok(cacheable(answer, &headers, LIVE))
}

/// One event with its markets
#[utoipa::path(
    get, path = "/events/{id}", tag = "catalogue",
    params(("id" = String, Path, description = "Event URN")),
    responses(
        (status = 200, description = "`{\"event\",\"lines\":[…],\"results\":[…]}`; odds are strings, ids as in the feed", body = Object),
        (status = 304, description = "`If-None-Match` names what you have"),
        (status = 404, body = ProblemDocument), (status = 503, body = ProblemDocument),
    )
)]
pub(super) async fn event(
    State(state): State<AppState>,
    client: Client,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // The id goes into a path: only what a URN is made of.
    if id.len() > 128
        || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-.".contains(&byte))
        || id.starts_with('.')
    {
        return Err(Problem::not_found("no event has this id: take it from the list of events"));
    }
    let mut answer = state.upstream.ask(Ask::get(Component::Rates, &format!("/events/{id}"))).await?;
    let mut lifetime = LIVE;
    if answer.status == StatusCode::OK {
        let mut document: EventDocument = answer.json()?;
        let book = state.live.book();
        let rules = EventRules::new(book.as_deref(), Some(&document.event));
        if document.lines.iter().any(|line| rules.of(line).is_ok_and(|rule| rule.geography.is_restricted())) {
            lifetime = LIVE_IN_COUNTRY;
        }
        for line in &mut document.lines {
            *line = shown(line, rules.refusal(line, &client.country), state.live.is_fresh(line));
        }
        answer.body = serde_json::to_vec(&document).map_err(Problem::internal)?;
    }
    Ok(cacheable(answer, &headers, lifetime))
}

/// What rates says of an event.
#[derive(Deserialize, Serialize)]
struct EventDocument {
    event: CatalogueEvent,
    lines: Vec<OfferLine>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// A success with its entity tag, or 304 if the client has it. Refusals pass through.
fn cacheable(answer: Answer, headers: &HeaderMap, lifetime: HeaderValue) -> Response {
    if answer.status != StatusCode::OK {
        return answer.into_response();
    }
    let digest = Sha256::digest(&answer.body);
    let tag = format!("\"{}\"", BASE64URL_NOPAD.encode(digest.get(..16).unwrap_or(&digest)));
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let matches = known
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || known.trim().trim_start_matches("W/") == tag);
    let mut response = if matches { StatusCode::NOT_MODIFIED.into_response() } else { answer.into_response() };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, lifetime);
    response
}
