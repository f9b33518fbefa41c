//! Odds: exact rationals, market types, margins, price ladder, goal grid (rule B6).
//!
//! Nothing here computes with floats: prices and factors are rationals, probabilities are [`Fixed`] (18 decimals), and the
//! solvers are integer arithmetic, so that a price can be derived again bit for bit on any machine.

mod exact;
mod factor;
mod fixed;
pub mod grid;
mod ladder;
mod margin;
mod market;
mod price;
mod specifiers;
mod text;
pub mod winning;

pub use exact::NotExact;
pub use factor::Factor;
pub use fixed::Fixed;
pub use ladder::Ladder;
pub use margin::{Margin, MarginError, Method, apply, fair_share, price, remove};
pub use market::{Line, LineError, MarketType, Outcome, SettlementRule, Specifier};
pub use num_rational::{BigRational, Ratio};
pub use price::Odds;
pub use specifiers::{Specifiers, SpecifiersError};
