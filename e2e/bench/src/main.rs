//! Benchmarks with their yardsticks.

fn main() {}
