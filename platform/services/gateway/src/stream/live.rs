//! Who follows what. Taking in a record and telling its followers is one step, and so is subscribing with its snapshot: no
//! follower misses a change or sees one twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use paddock_events::{LedgerEntry, OfferMessage, TicketState};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::frame;
use super::offer::HotOffer;

/// Frames that may wait for a client, enough for a change of every line of a hundred events; who is slower is dropped.
pub const QUEUE: usize = 4096;

/// Names a connection in this process.
pub type ConnectionId = u64;

/// What is told to a connection.
#[derive(Debug, Clone)]
pub enum Told {
    /// A frame, ready to be sent.
    Frame(Utf8Bytes),
    /// An entry of the customer's ledger.
    Ledger(Arc<LedgerEntry>),
    /// A state of one of the customer's tickets, and its offset.
    Ticket(i64, Arc<TicketState>),
    /// Something may have been missed.
    Gap,
}

/// The way to a connection.
#[derive(Debug, Clone)]
pub struct Follower {
    id: ConnectionId,
    queue: mpsc::Sender<Told>,
    /// Cancelled when the queue overflowed.
    slow: CancellationToken,
}

/// The connection's end of its queue.
#[derive(Debug)]
pub struct Inbox {
    /// What was told.
    pub queue: mpsc::Receiver<Told>,
    /// Cancelled when the queue overflowed: what is in it is not complete.
    pub slow: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    offer: HotOffer,
    events: HashMap<String, BTreeMap<ConnectionId, Follower>>,
    wallets: HashMap<Uuid, BTreeMap<ConnectionId, Follower>>,
    tickets: HashMap<Uuid, BTreeMap<ConnectionId, Follower>>,
    last_id: ConnectionId,
}

/// Shared by the readers of topics and all connections.
#[derive(Debug, Clone, Default)]
pub struct Live {
    state: Arc<Mutex<State>>,
}

impl Follower {
    fn tell(&self, told: Told) {
        if self.queue.try_send(told).is_err() {
            self.slow.cancel();
        }
    }
}

impl Live {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that follows nothing yet.
    pub fn connect(&self) -> (Follower, Inbox) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let slow = CancellationToken::new();
        let mut state = self.state();
        state.last_id += 1;
        let follower = Follower { id: state.last_id, queue: sender, slow: slow.clone() };
        (follower, Inbox { queue: receiver, slow })
    }

    /// Takes in a record of topic `offer`.
    pub fn offer(&self, offset: i64, message: OfferMessage) {
        let mut state = self.state();
        let Some(changed) = state.offer.apply(offset, message) else { return };
        if let Some(followers) = state.events.get(changed.event_id()) {
            let frame = frame::event_delta(offset, &changed);
            for follower in followers.values() {
                follower.tell(Told::Frame(frame.clone()));
            }
        }
    }

    /// Takes in a tombstone of topic `offer`.
    pub fn offer_gone(&self, key: &str) {
        self.state().offer.remove(key);
    }

    /// Takes in an entry of topic `ledger`.
    pub fn ledger(&self, entry: LedgerEntry) {
        let state = self.state();
        if let Some(followers) = state.wallets.get(&entry.customer_id) {
            let entry = Arc::new(entry);
            for follower in followers.values() {
                follower.tell(Told::Ledger(Arc::clone(&entry)));
            }
        }
    }

    /// Takes in a record of topic `tickets`.
    pub fn ticket(&self, offset: i64, ticket: TicketState) {
        let state = self.state();
        if let Some(followers) = state.tickets.get(&ticket.customer_id) {
            let ticket = Arc::new(ticket);
            for follower in followers.values() {
                follower.tell(Told::Ticket(offset, Arc::clone(&ticket)));
            }
        }
    }

    /// What was written to `ledger` before now may not have been told.
    pub fn ledger_gap(&self) {
        for follower in self.state().wallets.values().flat_map(BTreeMap::values) {
            follower.tell(Told::Gap);
        }
    }

    /// What was written to `tickets` before now may not have been told.
    pub fn tickets_gap(&self) {
        for follower in self.state().tickets.values().flat_map(BTreeMap::values) {
            follower.tell(Told::Gap);
        }
    }

    /// Follows an event; its snapshot is told first.
    pub fn follow_event(&self, id: &str, follower: &Follower) {
        let mut state = self.state();
        let snapshot = frame::event_snapshot(id, state.offer.event(id));
        follower.tell(Told::Frame(snapshot));
        state.events.entry(id.to_owned()).or_default().insert(follower.id, follower.clone());
    }

    /// Follows a customer's ledger. The caller reads the wallet after this, and drops entries that it contains.
    pub fn follow_wallet(&self, customer: Uuid, follower: &Follower) {
        self.state().wallets.entry(customer).or_default().insert(follower.id, follower.clone());
    }

    /// Follows a customer's tickets. The caller reads them after this.
    pub fn follow_tickets(&self, customer: Uuid, follower: &Follower) {
        self.state().tickets.entry(customer).or_default().insert(follower.id, follower.clone());
    }

    /// Follows an event no more.
    pub fn leave_event(&self, id: &str, follower: &Follower) {
        leave(&mut self.state().events, &id.to_owned(), follower.id);
    }

    /// Follows a ledger no more.
    pub fn leave_wallet(&self, customer: Uuid, follower: &Follower) {
        leave(&mut self.state().wallets, &customer, follower.id);
    }

    /// Follows tickets no more.
    pub fn leave_tickets(&self, customer: Uuid, follower: &Follower) {
        leave(&mut self.state().tickets, &customer, follower.id);
    }

    /// How many events the offer has.
    pub fn events(&self) -> usize {
        self.state().offer.len()
    }

    /// How many channels are followed by anybody.
    pub fn followed(&self) -> usize {
        let state = self.state();
        state.events.len() + state.wallets.len() + state.tickets.len()
    }
}

fn leave<K: std::hash::Hash + Eq>(
    channels: &mut HashMap<K, BTreeMap<ConnectionId, Follower>>,
    key: &K,
    id: ConnectionId,
) {
    if let Some(followers) = channels.get_mut(key) {
        followers.remove(&id);
        if followers.is_empty() {
            channels.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::frame::sample;

    #[test]
    fn a_snapshot_comes_first_and_then_each_change_once() {
        let live = Live::default();
        live.offer(1, OfferMessage::Line(sample::line("m:1", 1, "2.10")));
        let (follower, mut inbox) = live.connect();
        live.follow_event("m:1", &follower);
        live.offer(2, OfferMessage::Line(sample::line("m:1", 2, "2.20")));
        live.offer(3, OfferMessage::Line(sample::line("m:2", 1, "2.20")));
        live.leave_event("m:1", &follower);
        live.offer(4, OfferMessage::Line(sample::line("m:1", 3, "2.30")));
        let mut seen = Vec::new();
        while let Ok(Told::Frame(frame)) = inbox.queue.try_recv() {
            let frame: serde_json::Value = serde_json::from_str(&frame).unwrap();
            seen.push((frame["type"].as_str().unwrap().to_owned(), frame["sequence"].as_i64().unwrap()));
        }
        assert_eq!(seen, [("snapshot".to_owned(), 1), ("delta".to_owned(), 2)]);
        assert_eq!(live.followed(), 0, "nothing is kept for those who left");
    }

    #[test]
    fn a_full_queue_marks_the_client_as_slow_and_blocks_nobody() {
        let live = Live::default();
        let (slow, slow_inbox) = live.connect();
        live.follow_event("m:1", &slow);
        for sequence in 0..i64::try_from(QUEUE).unwrap() {
            assert!(!slow_inbox.slow.is_cancelled());
            live.offer(sequence, OfferMessage::Line(sample::line("m:1", sequence + 1, "2.10")));
        }
        assert!(slow_inbox.slow.is_cancelled());
        let (quick, mut quick_inbox) = live.connect();
        live.follow_event("m:1", &quick);
        assert!(quick_inbox.queue.try_recv().is_ok() && !quick_inbox.slow.is_cancelled());
    }
}
