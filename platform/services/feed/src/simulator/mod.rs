//! The simulator: real matches, played again and again without end, as a function of seed and wall clock.
//!
//! Fixtures, scores, half-time scores and the prices before the kick-off are real (`examples/data/matches.csv`); minutes of
//! goals are drawn from the seed. Only match minutes are compressed; everything else runs in real time. Two instances with the
//! same settings, and one before and after a restart, say the same with the same ids.

mod draw;
mod matches;
mod plan;
mod prices;
mod said;
mod settings;
mod source;
mod world;

pub use settings::WorldSettings;
pub use source::Simulator;
pub use world::{World, WorldError};
