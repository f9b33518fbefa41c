//! Settlement of bets on exact rationals (rules B4, B6).
//!
//! Three steps, each pure: [`resolve`] makes the result of a line out of the **set** of its messages; [`multiplier`] turns a
//! leg's result and locked odds into what one unit of stake becomes; [`settle`] folds the legs through the bet's structure,
//! rounds once and explains every step.

mod bet;
mod leg;
mod messages;
mod payout;
mod resolve;

pub use bet::{Bet, EachWay, Leg, LegKey, Lines, Structure, StructureError};
pub use leg::{LegMultiplier, Rule4, multiplier};
pub use messages::{Certainty, Message, MessageBody, OutcomeSettlement, TimeRange};
pub use payout::{Part, Payout, ProofLine, SettleError, settle};
pub use resolve::{LineResult, OutcomeState, resolve};
