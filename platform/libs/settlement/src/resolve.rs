//! A line's result as a function of the set of its messages (B4).

use std::collections::BTreeMap;

use paddock_odds::Factor;
use serde::{Deserialize, Serialize};

use crate::messages::{Certainty, Message, MessageBody, OutcomeSettlement};

/// The result of a line for bets placed at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum LineResult {
    /// No settlement stands.
    Open,
    /// A settlement stands.
    Settled {
        /// How sure it is.
        certainty: Certainty,
        /// Id of the settling message.
        message: String,
        /// By outcome id.
        outcomes: BTreeMap<String, OutcomeSettlement>,
    },
    /// The bet is void.
    Cancelled {
        /// Id of the cancelling message.
        message: String,
    },
}

/// What one outcome of a line has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum OutcomeState {
    /// Not decided.
    Open,
    /// Decided.
    Decided {
        /// Whether the part that is not void won.
        won: bool,
        /// Share of the stake that is returned.
        #[serde(rename = "voidFactor")]
        void_factor: Factor,
        /// Share of the stake that wins in a dead heat.
        #[serde(rename = "deadHeatFactor")]
        dead_heat_factor: Factor,
    },
}

impl LineResult {
    /// The state of an outcome. An outcome that the settlement does not name, or names as undecided, is open.
    pub fn outcome(&self, id: &str) -> OutcomeState {
        match self {
            Self::Open => OutcomeState::Open,
            Self::Cancelled { .. } => {
                OutcomeState::Decided { won: false, void_factor: Factor::ONE, dead_heat_factor: Factor::ONE }
            }
            Self::Settled { outcomes, .. } => match outcomes.get(id) {
                Some(OutcomeSettlement { won: Some(won), void_factor, dead_heat_factor }) => {
                    OutcomeState::Decided { won: *won, void_factor: *void_factor, dead_heat_factor: *dead_heat_factor }
                }
                // A full void needs no result.
                Some(OutcomeSettlement { won: None, void_factor, dead_heat_factor }) if *void_factor == Factor::ONE => {
                    OutcomeState::Decided { won: false, void_factor: *void_factor, dead_heat_factor: *dead_heat_factor }
                }
                _ => OutcomeState::Open,
            },
        }
    }
}

/// The result for bets placed at `placed_at` (Unix milliseconds, time of acceptance).
///
/// A rollback cancels settlements of its source (feed or trader) with a producer timestamp not above its own; of the rest the
/// highest certainty wins, then the newest, then the highest id. A cancel whose range holds `placed_at` and that no newer
/// rollback of the same range undoes beats any settlement. Order and repetition of messages do not matter.
pub fn resolve<'a>(messages: impl IntoIterator<Item = &'a Message>, placed_at: i64) -> LineResult {
    let messages: Vec<&Message> = messages.into_iter().collect();
    let cancel = messages
        .iter()
        .filter(|message| match &message.body {
            MessageBody::Cancel { range } => {
                range.contains(placed_at)
                    && !undone(
                        &messages,
                        message,
                        |body| matches!(body, MessageBody::RollbackCancel { range: undo } if undo == range),
                    )
            }
            _ => false,
        })
        .max_by_key(|message| (message.timestamp, &message.id));
    if let Some(cancel) = cancel {
        return LineResult::Cancelled { message: cancel.id.clone() };
    }
    messages
        .iter()
        .filter_map(|message| match &message.body {
            MessageBody::Settle { certainty, outcomes } => {
                let by_trader = *certainty == Certainty::Manual;
                let rolled_back = undone(
                    &messages,
                    message,
                    |body| matches!(body, MessageBody::RollbackSettlement { manual } if *manual == by_trader),
                );
                (!rolled_back).then_some((*certainty, message.timestamp, &message.id, outcomes))
            }
            _ => None,
        })
        .max()
        .map_or(LineResult::Open, |(certainty, _, id, outcomes)| LineResult::Settled {
            certainty,
            message: id.clone(),
            outcomes: outcomes.clone(),
        })
}

/// Whether a message that undoes this one, and is not older, is among them.
fn undone(messages: &[&Message], message: &Message, undoes: impl Fn(&MessageBody) -> bool) -> bool {
    messages.iter().any(|other| other.timestamp >= message.timestamp && undoes(&other.body))
}
