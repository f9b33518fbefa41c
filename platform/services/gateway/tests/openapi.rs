//! The committed description of the API is what the code says. `UPDATE_OPENAPI=1` writes it anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[test]
fn the_committed_description_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let now = paddock_gateway::api::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == now,
        "openapi.json is not what the code says: run this test with UPDATE_OPENAPI=1 and review the change"
    );
    for call in ["/api/v1/events", "/api/v1/tickets", "/api/v1/stream", "/api/v1/wallet/entries"] {
        assert!(now.contains(&format!("\"{call}\"")), "{call} is not described");
    }
}
