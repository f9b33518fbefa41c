//! Tickets.

use axum::extract::{Path, State};
use paddock_events::LineKey;
use paddock_market_book::{Book, Refusal};
use paddock_odds::Specifiers;
use paddock_service::idempotency::IdempotencyKey;
use paddock_service::{JsonBody, Problem, ProblemDocument, QueryParams};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::AppState;
use super::guard::LoggedIn;
use super::model::{Ticket, TicketRequest, Tickets};
use super::sessions::context;
use crate::client::Client;
use crate::sessions::key;
use crate::stream::live::Live;
use crate::upstream::{Answer, Ask, Component};

const MAX_CURSOR: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    cursor: Option<String>,
    limit: Option<u32>,
}

/// Place a ticket
#[utoipa::path(
    post, path = "/tickets", tag = "tickets", security(("session" = [])), request_body = TicketRequest,
    params(("Idempotency-Key" = String, Header, description = "1 to 128 visible characters, the same when you repeat the request")),
    responses(
        (status = 200, description = "The same request came before: its present state", body = Ticket),
        (status = 201, description = "Decided or pending; `status` says which", body = Ticket),
        (status = 401, body = ProblemDocument),
        (status = 422, description = "`idempotency-key-reused`, or the ticket can never be accepted as it is written", body = ProblemDocument),
        (status = 503, description = "Unknown whether it was placed: repeat it with the same key", body = ProblemDocument),
    )
)]
pub(super) async fn place(
    State(state): State<AppState>,
    customer: LoggedIn,
    client: Client,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    JsonBody(ticket): JsonBody<Value>,
) -> Result<Answer, Problem> {
    let mut context = context(&client, String::new());
    // Names the session and opens nothing.
    let digest = key(&customer.token);
    context.session_id = data_encoding::HEXLOWER.encode(digest.get(..8).unwrap_or(&digest));
    let body = json!({
        "customerId": customer.session.customer_id,
        "currency": customer.session.currency,
        "country": client.country,
        "idempotencyKey": idempotency_key,
        "context": context,
        "book": state.live.book().map(|book| says(&state.live, &book, &ticket, &client.country)),
        "ticket": ticket,
    });
    state.upstream.ask(Ask::post(Component::Calculations, "/tickets", &body)).await
}

/// Which bets of a ticket the market book in force here refuses. Calculations makes the ticket and accepts none of these while its
/// own book is older; a key that came before still stands for the ticket that was made then (rule B2). What cannot be read here is
/// refused there.
fn says(live: &Live, book: &Book, ticket: &Value, country: &str) -> Value {
    let bets = ticket.get("bets").and_then(Value::as_array);
    let refusal = |bet: &Value| {
        let legs = bet.get("selections").and_then(Value::as_array);
        legs.into_iter().flatten().filter_map(line).find_map(|line| live.refusal(book, &line, country))
    };
    let refused: Vec<Option<Refusal>> = bets.into_iter().flatten().map(refusal).collect();
    json!({ "generation": book.generation(), "refused": refused })
}

/// The line of a selection.
fn line(selection: &Value) -> Option<LineKey> {
    let text = |name: &str| selection.get(name).and_then(Value::as_str);
    let market = selection.get("marketId")?;
    let market = market.as_u64().map_or_else(|| market.as_str()?.parse().ok(), |number| u32::try_from(number).ok())?;
    Some(LineKey::new(text("eventId")?, market, Specifiers::parse(text("specifiers").unwrap_or_default()).ok()?))
}

/// The customer's tickets, newest first
#[utoipa::path(
    get, path = "/tickets", tag = "tickets", security(("session" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "From the page before"),
        ("limit" = Option<u32>, Query, description = "Tickets of a page"),
    ),
    responses((status = 200, body = Tickets), (status = 401, body = ProblemDocument))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    customer: LoggedIn,
    QueryParams(page): QueryParams<Page>,
) -> Result<Answer, Problem> {
    let cursor = page.cursor.unwrap_or_default();
    // Decoded once by this request: only what needs no encoding goes on.
    if cursor.len() > MAX_CURSOR || !cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    {
        return Err(Problem::bad_request(
            "malformed-query",
            "the cursor is not one of ours: take it from the page before",
        ));
    }
    let cursor = if cursor.is_empty() { cursor } else { format!("&cursor={cursor}") };
    let limit = page.limit.map(|limit| format!("&limit={}", limit.clamp(1, 100))).unwrap_or_default();
    let path = format!("/tickets?customerId={}{limit}{cursor}", customer.session.customer_id);
    state.upstream.ask(Ask::get(Component::Calculations, &path)).await
}

/// One ticket
#[utoipa::path(
    get, path = "/tickets/{id}", tag = "tickets", security(("session" = [])),
    params(("id" = Uuid, Path, description = "Ticket")),
    responses((status = 200, body = Ticket), (status = 401, body = ProblemDocument), (status = 404, body = ProblemDocument))
)]
pub(super) async fn show(
    State(state): State<AppState>,
    customer: LoggedIn,
    Path(id): Path<String>,
) -> Result<Answer, Problem> {
    let unknown = || Problem::not_found("no ticket of yours has this id: take it from the list of tickets");
    let id: Uuid = id.parse().map_err(|_| unknown())?;
    let customer = customer.session.customer_id;
    let path = format!("/tickets/{id}?customerId={customer}");
    // Calculations shows only this customer's: somebody else's ticket does not exist.
    state.upstream.ask(Ask::get(Component::Calculations, &path)).await
}
