//! What the feed's heartbeat says of its producers.

use std::collections::BTreeMap;
use std::time::Duration;

use paddock_events::{FeedState, FeedStateMessage, ProducerScope, Topic, decode};
use paddock_service::kafka::{Bus, Followed, Start};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// No heartbeat for longer than this: all producers are down, ms.
pub const HEARTBEAT_LOST: i64 = 3_000;

/// The producers at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Producers(BTreeMap<u32, (bool, ProducerScope)>);

impl Producers {
    /// What a heartbeat means at a time, ms.
    pub fn at(state: Option<&FeedState>, now: i64) -> Self {
        let Some(state) = state else { return Self::default() };
        let alive = now.saturating_sub(state.at) <= HEARTBEAT_LOST;
        Self(state.producers.iter().map(|it| (it.product, (alive && it.up, it.scope))).collect())
    }

    /// Whether a producer's prices may be used.
    pub fn is_up(&self, product: u32) -> bool {
        self.0.get(&product).is_some_and(|(up, _)| *up)
    }

    /// What a producer prices; one that was never heard of owns no line of another.
    pub fn scope(&self, product: u32) -> ProducerScope {
        self.0.get(&product).map_or(ProducerScope::PreMatch, |(_, scope)| *scope)
    }
}

/// Follows the heartbeat until told to end.
pub(crate) async fn follow(
    feed: Bus,
    state: watch::Sender<Option<FeedState>>,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let following = async {
        loop {
            if let Err(error) = follow_once(&feed, &state).await {
                tracing::warn!(%error, "the feed's heartbeat is followed anew");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! { () = following => {}, () = end.cancelled() => {} }
    Ok(())
}

async fn follow_once(
    feed: &Bus,
    state: &watch::Sender<Option<FeedState>>,
) -> Result<(), paddock_service::kafka::BusError> {
    let mut follower = feed.follow(Topic::FeedState, Start::Tail(20)).await?;
    loop {
        let Followed::Record { value: Some(value), .. } = follower.next().await? else { continue };
        match decode::<FeedStateMessage>(&value) {
            Ok(Some(envelope)) => {
                let FeedStateMessage::FeedState(newest) = envelope.body;
                state.send_if_modified(|present| {
                    let newer = present.as_ref().is_none_or(|present| newest.at >= present.at);
                    if newer {
                        *present = Some(newest);
                    }
                    newer
                });
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a heartbeat is skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use paddock_events::ProducerState;

    use super::*;

    #[test]
    fn without_heartbeat_all_are_down() {
        let state = FeedState {
            at: 10_000,
            producers: vec![ProducerState {
                product: 1,
                name: "LO".to_owned(),
                scope: ProducerScope::Live,
                up: true,
                reason: String::new(),
                recover_from: None,
            }],
            leaving: false,
        };
        assert!(!Producers::at(None, 10_000).is_up(1));
        assert!(Producers::at(Some(&state), 13_000).is_up(1));
        assert!(!Producers::at(Some(&state), 13_001).is_up(1));
        assert_eq!(Producers::at(Some(&state), 99_000).scope(1), ProducerScope::Live);
        assert!(!Producers::at(Some(&state), 10_000).is_up(3));
    }
}
