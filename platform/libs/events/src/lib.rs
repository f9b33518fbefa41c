//! What the betting services tell each other over Kafka: topics, keys, envelope, payloads, JSON schemas.
//!
//! One record is one [`Envelope`]. Schemas are additive only: a field or type may be added with a default, none may change its
//! meaning or go; `tests/schemas.rs` fails when `schemas/` no longer says what the code does. Readers skip types that they
//! do not know ([`decode`] gives `None`) and ignore unknown fields.

mod customers;
mod envelope;
mod feed;
mod freshness;
mod key;
mod ledger;
mod offer;
mod results;
mod schema;
mod tickets;
mod topic;

pub use customers::{CustomerChanged, CustomerMessage};
pub use envelope::{Body, DecodeError, Envelope, Origin, decode};
pub use feed::{
    BetCancel, BetSettlement, BetStop, Clock, Competitor, EventStatus, FeedHead, FeedHeartbeat, FeedMarket,
    FeedMessage, FeedOutcome, FeedState, FeedStateMessage, Fixture, LineName, MarketResult, MarketStatus, Named,
    OddsChange, OutcomeResult, ProducerScope, ProducerState, RollbackBetCancel, RollbackBetSettlement, Score, Side,
    SportEventStatus,
};
pub use freshness::OfferFreshness;
pub use key::{LineKey, partition_of};
pub use ledger::{EntrySide, LedgerEntry, LedgerMessage};
pub use offer::{
    CatalogueEvent, OfferHeartbeat, OfferLine, OfferMessage, OfferOutcome, PricePhase, PriceSource, SuspendedBy,
};
pub use results::{CancelledRange, LineResult, ResultMessage, ResultOrigin};
pub use schema::schemas;
pub use tickets::{Context, TicketBet, TicketMessage, TicketSelection, TicketState};
pub use topic::Topic;
