//! Internal API of calculations (`docs/service-contract.md`).

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use paddock_events::TicketBet;
use paddock_money::Money;
use paddock_service::{Allowed, Callers, JsonBody, Problem, QueryParams};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::acceptance::{Acceptance, Answer};
use crate::domain::request::PlaceTicket;
use crate::store::Ticket;

/// Which component may ask what here.
pub const CALLERS: &[Allowed] = &[
    ("gateway", "POST", "/internal/v1/tickets"),
    ("gateway", "GET", "/internal/v1/tickets"),
    ("gateway", "GET", "/internal/v1/tickets/{id}"),
    ("account", "GET", "/internal/v1/tickets/{id}/decision"),
];
/// Tickets on a page.
const PAGE: i64 = 50;

/// A ticket as the public API shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketDocument {
    ticket_id: Uuid,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    currency: String,
    total_stake: String,
    potential_payout: String,
    received_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    placed_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_id: Option<Value>,
    bets: Vec<BetDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Value>,
}

#[derive(Debug, Clone, Serialize)]
struct BetDocument {
    #[serde(flatten)]
    bet: TicketBet,
    /// How the payout in force was computed, step by step.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<Value>,
}

impl TicketDocument {
    /// A ticket without certificate and proofs.
    pub fn of(ticket: &Ticket) -> Self {
        let state = ticket.state();
        Self {
            ticket_id: ticket.id,
            status: ticket.status.public(),
            code: ticket.code.clone(),
            currency: state.currency,
            total_stake: state.total_stake,
            potential_payout: Money::from_minor(ticket.potential_payout(), ticket.currency).amount(),
            received_at: ticket.received_at,
            placed_at: ticket.placed_at,
            certificate_id: ticket.certificate.as_ref().and_then(|certificate| certificate.get("id").cloned()),
            bets: state.bets.into_iter().map(|bet| BetDocument { bet, proof: None }).collect(),
            certificate: None,
        }
    }

    fn explained(ticket: &Ticket, proofs: Vec<(Uuid, Value)>) -> Self {
        let mut document = Self::of(ticket);
        document.certificate.clone_from(&ticket.certificate);
        for (bet, proof) in proofs {
            if let Some(found) = document.bets.iter_mut().find(|document| document.bet.bet_id == bet) {
                found.proof = Some(proof);
            }
        }
        document
    }
}

/// The router of port `http`, as `callers` says.
pub fn app(acceptance: Acceptance, callers: &Callers) -> Router {
    let routes = Router::new()
        .route("/internal/v1/tickets", get(list).post(place))
        .route("/internal/v1/tickets/{id}", get(show))
        .route("/internal/v1/tickets/{id}/decision", get(decision))
        .with_state(acceptance);
    callers.guard(routes)
}

async fn place(
    State(acceptance): State<Acceptance>,
    JsonBody(request): JsonBody<PlaceTicket>,
) -> Result<(StatusCode, Json<TicketDocument>), Problem> {
    let key = &request.idempotency_key;
    if key.is_empty() || key.len() > 128 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::bad_request(
            "idempotency-key-missing",
            "send an idempotencyKey of 1 to 128 visible characters",
        ));
    }
    let Answer { ticket, is_new } = acceptance.place(&request).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(TicketDocument::of(&ticket))))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    customer_id: Uuid,
    cursor: Option<Uuid>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Page {
    tickets: Vec<TicketDocument>,
    /// Cursor of the next page.
    next: Option<Uuid>,
}

async fn list(
    State(acceptance): State<Acceptance>,
    QueryParams(query): QueryParams<Listing>,
) -> Result<Json<Page>, Problem> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let tickets = acceptance.store.tickets_of(query.customer_id, query.cursor, limit).await?;
    let full = i64::try_from(tickets.len()).is_ok_and(|count| count == limit);
    let next = tickets.last().filter(|_| full).map(|ticket| ticket.id);
    Ok(Json(Page { tickets: tickets.iter().map(TicketDocument::of).collect(), next }))
}

fn no_ticket() -> Problem {
    Problem::not_found("there is no such ticket; use an id from the list of tickets")
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    /// Only this customer's tickets.
    customer_id: Option<Uuid>,
}

async fn show(
    State(acceptance): State<Acceptance>,
    Path(id): Path<Uuid>,
    QueryParams(owner): QueryParams<Owner>,
) -> Result<Json<TicketDocument>, Problem> {
    let ticket = acceptance.store.ticket(id).await?;
    let ticket =
        ticket.filter(|ticket| owner.customer_id.is_none_or(|owner| owner == ticket.customer)).ok_or_else(no_ticket)?;
    let proofs = acceptance.store.proofs(id).await?;
    Ok(Json(TicketDocument::explained(&ticket, proofs)))
}

#[derive(Debug, Serialize)]
struct DecisionDocument {
    decision: &'static str,
}

async fn decision(
    State(acceptance): State<Acceptance>,
    Path(id): Path<Uuid>,
) -> Result<Json<DecisionDocument>, Problem> {
    let status = acceptance.store.status(id).await?.ok_or_else(no_ticket)?;
    Ok(Json(DecisionDocument { decision: status.decision() }))
}
