//! Logical names of topics.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

/// A topic's logical name; its name on the broker stands in the bus binding's `topics`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    EnumIter,
    IntoStaticStr,
)]
pub enum Topic {
    /// Normalised feed, written by feed in Tenant `platform`. Key: line or event, partitioned by event; heartbeats in every partition.
    #[serde(rename = "feed")]
    #[strum(serialize = "feed")]
    Feed,
    /// Heartbeat of feed with every producer's state, each second. One key, compacted.
    #[serde(rename = "feed.state")]
    #[strum(serialize = "feed.state")]
    FeedState,
    /// Lines as offered, catalogue events, heartbeats; written by rates. Key: line, event or heartbeat, partitioned by event;
    /// compacted.
    #[serde(rename = "offer")]
    #[strum(serialize = "offer")]
    Offer,
    /// Results of lines; written by rates. Key: line, partitioned by event; compacted.
    #[serde(rename = "results")]
    #[strum(serialize = "results")]
    Results,
    /// Ticket states; written by calculations and settlement, one writer per type. Key: customer.
    #[serde(rename = "tickets")]
    #[strum(serialize = "tickets")]
    Tickets,
    /// Ledger entries; written by account. Key: customer.
    #[serde(rename = "ledger")]
    #[strum(serialize = "ledger")]
    Ledger,
    /// Customers' state; written by account. Key: customer; compacted.
    #[serde(rename = "customers")]
    #[strum(serialize = "customers")]
    Customers,
}

impl Topic {
    /// The logical name.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
