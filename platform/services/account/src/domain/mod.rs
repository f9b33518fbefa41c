//! What account decides, without database or HTTP.

pub mod customer;
pub mod plan;
