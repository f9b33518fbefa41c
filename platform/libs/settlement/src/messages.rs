//! The messages that decide a line.

use std::collections::BTreeMap;

use paddock_odds::Factor;
use serde::{Deserialize, Serialize};

/// How sure a settlement is; a higher one beats a lower one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, strum::Display, strum::EnumString,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Certainty {
    /// Certainty 1 of the feed: live, by a scout.
    Scouted,
    /// Certainty 2 of the feed: confirmed.
    Confirmed,
    /// Set by a trader; wins until it is rolled back.
    Manual,
}

/// What a settlement says of one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeSettlement {
    /// Whether it won; `None` = undecided (the feed's −1).
    pub won: Option<bool>,
    /// Share of the stake that is returned whatever the result.
    #[serde(default = "zero")]
    pub void_factor: Factor,
    /// Share of the stake that wins in a dead heat.
    #[serde(default = "one")]
    pub dead_heat_factor: Factor,
}

const fn zero() -> Factor {
    Factor::ZERO
}

const fn one() -> Factor {
    Factor::ONE
}

impl OutcomeSettlement {
    /// A plain win or loss.
    pub const fn plain(won: bool) -> Self {
        Self { won: Some(won), void_factor: Factor::ZERO, dead_heat_factor: Factor::ONE }
    }

    /// A refund.
    pub const fn void() -> Self {
        Self { won: Some(false), void_factor: Factor::ONE, dead_heat_factor: Factor::ONE }
    }
}

impl From<paddock_odds::winning::OutcomeResult> for OutcomeSettlement {
    fn from(result: paddock_odds::winning::OutcomeResult) -> Self {
        Self { won: Some(result.won()), void_factor: result.void_factor(), dead_heat_factor: Factor::ONE }
    }
}

/// When bets were placed, Unix milliseconds: from `start` on, before `end`; an absent bound is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct TimeRange {
    /// First moment within.
    #[serde(default)]
    pub start: Option<i64>,
    /// First moment beyond.
    #[serde(default)]
    pub end: Option<i64>,
}

impl TimeRange {
    /// Whether a moment is within.
    pub fn contains(&self, at: i64) -> bool {
        self.start.is_none_or(|start| start <= at) && self.end.is_none_or(|end| at < end)
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum MessageBody {
    /// Results of outcomes.
    Settle {
        /// How sure.
        certainty: Certainty,
        /// By outcome id.
        outcomes: BTreeMap<String, OutcomeSettlement>,
    },
    /// Undoes every settlement of the same source that is not newer.
    RollbackSettlement {
        /// Whether a trader rolls back the manual settlements (else the feed its own).
        #[serde(default)]
        manual: bool,
    },
    /// Voids bets placed in a range.
    Cancel {
        /// When they were placed.
        #[serde(flatten)]
        range: TimeRange,
    },
    /// Undoes every cancel of the same range that is not newer.
    RollbackCancel {
        /// The range of the cancel.
        #[serde(flatten)]
        range: TimeRange,
    },
}

/// One message on one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Message {
    /// When its producer made it, Unix milliseconds.
    pub timestamp: i64,
    /// Unique id; breaks ties of the timestamp.
    pub id: String,
    /// What it says.
    #[serde(flatten)]
    pub body: MessageBody,
}
