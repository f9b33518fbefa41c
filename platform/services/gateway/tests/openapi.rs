//! The description of the API names its calls. Its committed copy is written, and compared, by `cargo xtask generate`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

#[test]
fn the_calls_are_described() {
    let described = paddock_gateway::api::openapi().to_pretty_json().unwrap();
    for call in ["/api/v1/events", "/api/v1/tickets", "/api/v1/stream", "/api/v1/wallet/entries"] {
        assert!(described.contains(&format!("\"{call}\"")), "{call} is not described");
    }
}
