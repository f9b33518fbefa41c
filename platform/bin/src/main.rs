//! One binary that is every betting service, by the name it is started with.

fn main() {}
