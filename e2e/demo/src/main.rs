//! The demo: two brands, one bet, from nothing.

fn main() {}
