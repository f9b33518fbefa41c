//! `/internal/v1`: catalogue and open markets.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use paddock_events::{CatalogueEvent, EventStatus, LineResult, OfferLine};
use paddock_service::postgres::Database;
use paddock_service::{Allowed, Callers, Problem, QueryParams};
use serde::{Deserialize, Serialize};

use crate::store::{self, EventFilter, SportRow};

/// Events per page if the caller does not say, and at most.
const PAGE: i64 = 50;
const MAX_PAGE: i64 = 200;

/// Which component may ask what here.
pub const CALLERS: &[Allowed] = &[
    ("gateway", "GET", "/internal/v1/sports"),
    ("gateway", "GET", "/internal/v1/events"),
    ("gateway", "GET", "/internal/v1/events/{id}"),
];

/// The API over a database, as `callers` says.
pub fn app(database: Database, callers: &Callers) -> Router {
    let routes = Router::new()
        .route("/internal/v1/sports", get(sports))
        .route("/internal/v1/events", get(events))
        .route("/internal/v1/events/{id}", get(event))
        .with_state(database);
    callers.guard(routes)
}

/// All sports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Sports {
    sports: Vec<SportRow>,
}

/// A page of events by kick-off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsPage {
    /// Events.
    pub events: Vec<CatalogueEvent>,
    /// Cursor of the next page; `null` at the end.
    pub next: Option<String>,
}

/// An event with everything that is offered and decided on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventDetail {
    /// The event.
    pub event: CatalogueEvent,
    /// Its lines as last published.
    pub lines: Vec<OfferLine>,
    /// Results so far.
    pub results: Vec<LineResult>,
}

/// Which events; times are ms since 1970 UTC, `from` included, `to` not. Without a status: those that are not over.
#[derive(Debug, Clone, Default, Deserialize)]
struct EventsQuery {
    sport: Option<String>,
    status: Option<String>,
    from: Option<i64>,
    to: Option<i64>,
    cursor: Option<String>,
    limit: Option<i64>,
}

async fn sports(State(database): State<Database>) -> Result<Json<Sports>, Problem> {
    let mut connection = database.pool().acquire().await?;
    Ok(Json(Sports { sports: store::sports(&mut connection).await? }))
}

async fn events(
    State(database): State<Database>,
    QueryParams(query): QueryParams<EventsQuery>,
) -> Result<Json<EventsPage>, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request("limit-out-of-range", format!("limit must be from 1 to {MAX_PAGE}")));
    }
    if let Some(status) = &query.status
        && status.parse::<EventStatus>().is_err()
    {
        return Err(Problem::bad_request(
            "unknown-status",
            "status must be one of the feed's, such as not_started or live",
        ));
    }
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let filter = EventFilter {
        sport: query.sport,
        status: query.status,
        from: query.from,
        to: query.to,
        after,
        limit: limit + 1,
    };
    let mut connection = database.pool().acquire().await?;
    let mut events = store::events(&mut connection, &filter).await?;
    let more = i64::try_from(events.len()).is_ok_and(|count| count > limit);
    events.truncate(usize::try_from(limit).unwrap_or(0));
    let next = events.last().filter(|_| more).map(|last| format!("{}~{}", last.start_time, last.event_id));
    Ok(Json(EventsPage { events, next }))
}

/// A cursor is where the last page ended.
fn read_cursor(text: &str) -> Result<(i64, String), Problem> {
    let read = text.split_once('~').and_then(|(time, id)| Some((time.parse().ok()?, id.to_owned())));
    read.ok_or_else(|| Problem::bad_request("bad-cursor", "send the cursor as the last page's `next` had it"))
}

async fn event(State(database): State<Database>, Path(id): Path<String>) -> Result<Json<EventDetail>, Problem> {
    let mut connection = database.pool().acquire().await?;
    let event = store::one_event(&mut connection, &id).await?;
    let event = event.ok_or_else(|| Problem::not_found("there is no such event; take ids from the list of events"))?;
    let results = store::results(&mut connection, &id).await?;
    let lines = event.lines.values().filter_map(|line| line.offered.clone()).collect();
    Ok(Json(EventDetail { event: event.catalogue(), lines, results }))
}
