//! The simulated world as a feed source.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use paddock_events::ProducerScope;

use super::said::Said;
use super::world::{LIVE, PRE_MATCH, World};
use crate::source::{FeedSource, ProducerDescription, Recovery, SourceError, SourceEvent};

/// Time between two alives of a producer, ms.
const ALIVE: i64 = 10_000;
/// How often the simulator looks at the clock.
const LOOK: Duration = Duration::from_millis(100);
/// A recovery leaves out superseded prices that are older than this, ms.
const THIN: i64 = 60_000;

/// Says what the world says, from when it was made on.
#[derive(Debug)]
pub struct Simulator {
    world: Arc<World>,
    said_until: i64,
    next_alive: i64,
    queue: VecDeque<SourceEvent>,
}

impl Simulator {
    /// Starts to listen now; what was said before comes by recovery.
    pub fn new(world: Arc<World>) -> Self {
        let now = Timestamp::now().as_millisecond();
        Self { world, said_until: now, next_alive: now, queue: VecDeque::new() }
    }

    fn look(&mut self, now: i64) -> Result<(), SourceError> {
        // A clock that was set back says nothing twice.
        if now > self.said_until {
            let said = self.world.said(self.said_until, now, 0, None).map_err(broken)?;
            self.queue.extend(said.into_iter().map(event));
            self.said_until = now;
        }
        if now >= self.next_alive {
            // Fixtures come with the pre-match producer, so it is recovered first.
            for product in [PRE_MATCH, LIVE] {
                self.queue.push_back(SourceEvent::Alive { product, timestamp: self.said_until, subscribed: true });
            }
            self.next_alive = now + ALIVE;
        }
        Ok(())
    }
}

fn broken(error: impl std::fmt::Display) -> SourceError {
    SourceError::Disconnected(error.to_string())
}

fn event(said: Said) -> SourceEvent {
    SourceEvent::Message { id: said.id, message: Box::new(said.message) }
}

#[async_trait]
impl FeedSource for Simulator {
    fn producers(&self) -> Vec<ProducerDescription> {
        let producer = |product, name: &str, scope, hours: u32| ProducerDescription {
            product,
            name: name.to_owned(),
            scope,
            recovery_window_minutes: hours * 60,
        };
        vec![
            producer(LIVE, "simulator-live", ProducerScope::Live, 10),
            producer(PRE_MATCH, "simulator-pre-match", ProducerScope::PreMatch, 72),
        ]
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            tokio::time::sleep(LOOK).await;
            self.look(Timestamp::now().as_millisecond())?;
        }
    }

    async fn recover(&mut self, recovery: Recovery) -> Result<(), SourceError> {
        let Recovery { product, after, request_id } = recovery;
        let until = self.said_until;
        let said = match after {
            Some(after) => self.world.said(after, until, until - THIN, Some(product)),
            None => self.world.snapshot(until, product),
        };
        self.queue.extend(said.map_err(broken)?.into_iter().map(event));
        self.queue.push_back(SourceEvent::SnapshotComplete { product, request_id });
        Ok(())
    }
}
