//! Frames of the public stream.

use axum::extract::ws::Utf8Bytes;
use paddock_events::{CatalogueEvent, OfferLine, TicketState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a client may send.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ClientFrame {
    /// First frame of a customer.
    Authenticate {
        /// Token of the session.
        token: String,
    },
    /// Follow a channel.
    Subscribe {
        /// Which.
        channel: String,
    },
    /// Follow it no more.
    Unsubscribe {
        /// Which.
        channel: String,
    },
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Channel {
    /// One event with its lines.
    Event(String),
    /// The customer's money.
    Wallet,
    /// The customer's tickets.
    Tickets,
}

impl Channel {
    /// The channel of a name; `None` if there is none.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "wallet" => Some(Self::Wallet),
            "tickets" => Some(Self::Tickets),
            _ => match name.strip_prefix("event:") {
                Some(id) if !id.is_empty() && id.len() <= 128 => Some(Self::Event(id.to_owned())),
                _ => None,
            },
        }
    }
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Event(id) => write!(f, "event:{id}"),
            Self::Wallet => f.write_str("wallet"),
            Self::Tickets => f.write_str("tickets"),
        }
    }
}

/// A frame with content.
#[derive(Serialize)]
struct Content<'a, P> {
    #[serde(rename = "type")]
    kind: &'static str,
    channel: String,
    sequence: i64,
    payload: &'a P,
}

fn content(kind: &'static str, channel: &Channel, sequence: i64, payload: &impl Serialize) -> Utf8Bytes {
    let frame = Content { kind, channel: channel.to_string(), sequence, payload };
    // All payloads have string keys, so that writing them cannot fail.
    serde_json::to_string(&frame).unwrap_or_default().into()
}

/// The whole state of a channel.
pub fn snapshot(channel: &Channel, sequence: i64, payload: &impl Serialize) -> Utf8Bytes {
    content("snapshot", channel, sequence, payload)
}

/// The whole state of an event.
pub fn event_snapshot(id: &str, sequence: i64, event: Option<&CatalogueEvent>, lines: &[OfferLine]) -> Utf8Bytes {
    snapshot(&Channel::Event(id.to_owned()), sequence, &json!({ "event": event, "lines": lines }))
}

/// An event that changed.
pub fn event_delta(sequence: i64, event: &CatalogueEvent) -> Utf8Bytes {
    content("delta", &Channel::Event(event.event_id.clone()), sequence, &json!({ "event": event }))
}

/// Lines of an event that changed.
pub fn lines_delta(id: &str, sequence: i64, lines: &[OfferLine]) -> Utf8Bytes {
    content("delta", &Channel::Event(id.to_owned()), sequence, &json!({ "lines": lines }))
}

/// The wallet after an entry.
pub fn wallet_delta(sequence: i64, wallet: &Value) -> Utf8Bytes {
    content("delta", &Channel::Wallet, sequence, wallet)
}

/// A ticket's new state, as `GET /tickets` shows it.
pub fn ticket_delta(sequence: i64, ticket: &TicketState) -> Utf8Bytes {
    let status = match ticket.status.as_str() {
        "received" | "pending_delay" => "pending",
        "rolled_back" => "accepted",
        other => other,
    };
    let mut shown = json!({
        "ticketId": ticket.ticket_id,
        "sequence": ticket.sequence,
        "status": status,
        "currency": ticket.currency,
        "totalStake": ticket.total_stake,
        "potentialPayout": ticket.potential_payout,
        "receivedAt": ticket.received_at,
        "bets": ticket.bets,
    });
    if let Some(shown) = shown.as_object_mut() {
        shown.extend(ticket.code.as_ref().map(|code| ("code".to_owned(), json!(code))));
        shown.extend(ticket.placed_at.map(|placed_at| ("placedAt".to_owned(), json!(placed_at))));
    }
    content("delta", &Channel::Tickets, sequence, &json!({ "tickets": [shown] }))
}

/// Something was refused.
pub fn error(code: &str, detail: &str) -> Utf8Bytes {
    json!({ "type": "error", "code": code, "detail": detail }).to_string().into()
}

/// This replica ends soon: connect again, and get another.
pub fn reconnect() -> Utf8Bytes {
    Utf8Bytes::from_static(r#"{"type":"reconnect"}"#)
}

#[cfg(test)]
pub(crate) mod sample {
    //! Offer records and a book for tests.

    use paddock_events::{CatalogueEvent, OfferLine};
    use paddock_market_book::Book;
    use serde_json::json;

    /// One rule: match results in England, not for France.
    pub(crate) fn book(generation: u64, state: &str) -> Book {
        let book = json!({"schema": 1, "generation": generation, "rules": [{
            "name": "results", "sport": "soccer", "marketType": "match-result",
            "selector": {"categories": ["england"], "phases": ["PreMatch", "Live"]},
            "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}, "ladder": "Standard"},
            "limits": [], "betDelayMs": {"preMatch": 0, "live": 0}, "geography": {"deny": ["FR"]}, "state": state,
        }]});
        Book::from_json(book.to_string().as_bytes()).unwrap()
    }

    pub(crate) fn line(event: &str, sequence: i64, odds: &str) -> OfferLine {
        serde_json::from_value(json!({
            "eventId": event, "marketId": 1, "marketType": "match-result", "specifiers": "", "sequence": sequence,
            "status": "active", "phase": "live",
            "outcomes": [{"id": "1", "name": "Home", "active": true, "odds": odds, "probability": "0.45"}],
            "source": {"product": 1, "timestamp": 1, "feedPartition": 0, "feedOffset": 1, "bookGeneration": 1},
        }))
        .unwrap()
    }

    pub(crate) fn event(id: &str, sequence: i64) -> CatalogueEvent {
        serde_json::from_value(json!({
            "eventId": id, "sequence": sequence, "sport": {"id": "sr:sport:1", "name": "Soccer"},
            "category": {"id": "c", "name": "England"}, "tournament": {"id": "t", "name": "Premier League"},
            "competitors": [], "startTime": 1, "status": "live", "score": {"home": 0, "away": 0},
        }))
        .unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let read = |text| serde_json::from_str::<ClientFrame>(text).ok();
        let token = "t".to_owned();
        assert_eq!(read(r#"{"type":"authenticate","token":"t"}"#), Some(ClientFrame::Authenticate { token }));
        let channel = "event:m:1".to_owned();
        assert_eq!(read(r#"{"type":"subscribe","channel":"event:m:1"}"#), Some(ClientFrame::Subscribe { channel }));
        assert_eq!(read(r#"{"type":"shout"}"#), None);
    }

    #[test]
    fn channels_round_trip() {
        for name in ["wallet", "tickets", "event:sr:match:1"] {
            assert_eq!(Channel::parse(name).unwrap().to_string(), name);
        }
        for name in ["", "event:", "events", "wallet:1"] {
            assert_eq!(Channel::parse(name), None, "{name}");
        }
    }

    #[test]
    fn an_unknown_event_has_an_empty_snapshot() {
        let frame: Value = serde_json::from_str(&event_snapshot("m:1", -1, None, &[])).unwrap();
        let wanted = json!({"type": "snapshot", "channel": "event:m:1", "sequence": -1,
                            "payload": {"event": null, "lines": []}});
        assert_eq!(frame, wanted);
    }
}
