//! Nothing but dependencies: see the description in Cargo.toml.
