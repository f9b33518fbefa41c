//! Gateway: REST, WebSocket and the static page of a brand.
