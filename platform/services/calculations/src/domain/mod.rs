//! What acceptance and settlement decide, as pure functions of values.

pub mod code;
pub mod decide;
pub mod exposure;
pub mod in_force;
pub mod money_moves;
pub mod request;

pub use code::Code;
