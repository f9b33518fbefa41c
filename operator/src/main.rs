//! The Paddock operator.

fn main() {}
