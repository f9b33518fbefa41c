//! The live stream.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::response::Response;
use paddock_service::{Problem, ProblemDocument};

use super::AppState;
use crate::client::Client;
use crate::stream::connection;

const MAX_FRAME: usize = 4 * 1024;

/// What changes, pushed (WebSocket)
///
/// Send `{"type":"authenticate","token"}` first for `wallet` and `tickets`, then `{"type":"subscribe","channel"}` for
/// `event:{id}`, `wallet`, `tickets`. Each channel starts with a `snapshot`; `delta` follows with rising `sequence`.
#[utoipa::path(
    get, path = "/stream", tag = "stream",
    responses(
        (status = 101, description = "WebSocket"),
        (status = 426, body = ProblemDocument),
        (status = 429, description = "`too-many-connections`", body = ProblemDocument),
        (status = 503, body = ProblemDocument),
    )
)]
pub(super) async fn stream(
    State(state): State<AppState>,
    client: Client,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(http::StatusCode::UPGRADE_REQUIRED, "websocket-required", "connect with a WebSocket")
            .caused_by(anyhow::anyhow!(rejection.body_text()))
    })?;
    if state.draining.is_cancelled() {
        return Err(Problem::unavailable("draining", "this replica ends: connect again"));
    }
    let place = Arc::clone(&state.places).try_acquire_owned();
    let place = place.map_err(|_| Problem::unavailable("stream-full", "too many connections here: connect again"))?;
    let address_place = state.address_places.take(client.network()).ok_or_else(|| {
        let detail = "too many connections from this address: close another one, then connect again";
        Problem::too_many("too-many-connections", detail, 5)
    })?;
    let (parts, connections) = (state.parts(), state.connections.clone());
    Ok(upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME).on_upgrade(move |socket| {
        connections.track_future(async move {
            let _places = (place, address_place);
            connection::serve(socket, parts, &client).await;
        })
    }))
}
