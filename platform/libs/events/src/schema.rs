//! JSON schemas of all topics.

use schemars::{Schema, schema_for};

use crate::{
    CustomerMessage, Envelope, FeedMessage, FeedStateMessage, LedgerMessage, OfferMessage, ResultMessage,
    TicketMessage, Topic,
};

/// The schema of every topic's records.
pub fn schemas() -> Vec<(Topic, Schema)> {
    vec![
        (Topic::Feed, schema_for!(Envelope<FeedMessage>)),
        (Topic::FeedState, schema_for!(Envelope<FeedStateMessage>)),
        (Topic::Offer, schema_for!(Envelope<OfferMessage>)),
        (Topic::Results, schema_for!(Envelope<ResultMessage>)),
        (Topic::Tickets, schema_for!(Envelope<TicketMessage>)),
        (Topic::Ledger, schema_for!(Envelope<LedgerMessage>)),
        (Topic::Customers, schema_for!(Envelope<CustomerMessage>)),
    ]
}
