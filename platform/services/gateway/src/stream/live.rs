//! Who follows what. Taking in a record or a market book and telling followers is one step, and so is subscribing with its
//! snapshot: no follower misses a change or sees one twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use paddock_events::{LedgerEntry, LineKey, OfferFreshness, OfferLine, OfferMessage, TicketState};
use paddock_market_book::{Book, Refusal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::frame;
use super::offer::{Changed, HotEvent, HotOffer};
use crate::shown::{EventRules, shown};

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
    /// Where the client is: markets may be open to some countries only.
    country: Arc<str>,
}

type Followers = BTreeMap<ConnectionId, Follower>;
type Fresh = BTreeSet<(i32, i32)>;

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
    freshness: OfferFreshness,
    /// Partitions of `offer` and of `feed` whose lines are shown as fresh.
    fresh: Fresh,
    book: Option<Arc<Book>>,
    events: HashMap<String, Followers>,
    wallets: HashMap<Uuid, Followers>,
    tickets: HashMap<Uuid, Followers>,
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

    /// A connection from a country (empty = unknown) that follows nothing yet.
    pub fn connect(&self, country: &str) -> (Follower, Inbox) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let slow = CancellationToken::new();
        let mut state = self.state();
        state.last_id += 1;
        let follower = Follower { id: state.last_id, queue: sender, slow: slow.clone(), country: country.into() };
        (follower, Inbox { queue: receiver, slow })
    }

    /// Takes in a record of a partition of topic `offer`. What a heartbeat says is shown from the next [`Live::look`] on.
    pub fn offer(&self, partition: i32, offset: i64, message: OfferMessage) {
        let mut state = self.state();
        if let OfferMessage::Heartbeat(beat) = &message {
            state.freshness.heartbeat(partition, beat);
        }
        let Some(changed) = state.offer.apply((partition, offset), message) else { return };
        let id = changed.event_id();
        let (Some(followers), Some(hot)) = (state.events.get(id), state.offer.event(id)) else { return };
        if let (Changed::Event { .. }, Some(event)) = (&changed, &hot.event) {
            let frame = frame::event_delta(hot.sequence, event);
            for follower in followers.values() {
                follower.tell(Told::Frame(frame.clone()));
            }
        }
        let lines: Vec<&OfferLine> = match &changed {
            Changed::Line(key) => hot.lines.get(key).into_iter().collect(),
            Changed::Event { selected_anew: true, .. } => hot.lines.values().collect(),
            Changed::Event { selected_anew: false, .. } => Vec::new(),
        };
        let rules = EventRules::new(state.book.as_deref(), hot.event.as_ref());
        tell_lines(followers, id, hot, |country| {
            lines.iter().map(|line| seen(hot, line, &rules, country, &state.fresh)).collect()
        });
    }

    /// Puts a market book in force. When this returns, every snapshot is of this book, and followers are told of the lines that
    /// it changes.
    pub fn enforce(&self, book: &Arc<Book>) {
        let mut state = self.state();
        let before = state.book.replace(Arc::clone(book));
        for (id, followers) in &state.events {
            let Some(hot) = state.offer.event(id) else { continue };
            let old = EventRules::new(before.as_deref(), hot.event.as_ref());
            let new = EventRules::new(Some(book), hot.event.as_ref());
            tell_lines(followers, id, hot, |country| {
                let seen = |line, rules: &EventRules<'_>| seen(hot, line, rules, country, &state.fresh);
                let lines = hot.lines.values().map(|line| (seen(line, &old), seen(line, &new)));
                lines.filter(|(was, is)| was != is).map(|(_, is)| is).collect()
            });
        }
    }

    /// Looks at how old the offer is, ms since 1970 UTC. Lines that are no longer fresh are shown as suspended from here on, those that
    /// are again as they are; followers are told.
    pub fn look(&self, now: i64) {
        let mut state = self.state();
        let fresh: Fresh = state.freshness.fresh(now).collect();
        if fresh == state.fresh {
            return;
        }
        let before = std::mem::replace(&mut state.fresh, fresh);
        for (id, followers) in &state.events {
            let Some(hot) = state.offer.event(id) else { continue };
            let rules = EventRules::new(state.book.as_deref(), hot.event.as_ref());
            tell_lines(followers, id, hot, |country| {
                let seen = |line, fresh| seen(hot, line, &rules, country, fresh);
                let lines = hot.lines.values().map(|line| (seen(line, &before), seen(line, &state.fresh)));
                lines.filter(|(was, is)| was != is).map(|(_, is)| is).collect()
            });
        }
    }

    /// The market book in force; `None` before the first.
    pub fn book(&self) -> Option<Arc<Book>> {
        self.state().book.clone()
    }

    /// Why a market book takes no bets on a line from a country. `None` also if this copy of the offer has no such line: who knows
    /// more decides.
    pub fn refusal(&self, book: &Book, line: &LineKey, country: &str) -> Option<Refusal> {
        let state = self.state();
        let hot = state.offer.event(&line.event_id)?;
        let (event, line) = (hot.event.as_ref()?, hot.lines.get(line)?);
        EventRules::new(Some(book), Some(event)).refusal(line, country)
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
        let hot = state.offer.event(id);
        let event = hot.and_then(|hot| hot.event.as_ref());
        let rules = EventRules::new(state.book.as_deref(), event);
        let seen = |hot, line| seen(hot, line, &rules, &follower.country, &state.fresh);
        let lines: Vec<_> = hot.iter().flat_map(|hot| hot.lines.values().map(|line| seen(hot, line))).collect();
        let sequence = hot.map_or(-1, |hot| hot.sequence);
        follower.tell(Told::Frame(frame::event_snapshot(id, sequence, event, &lines)));
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

    /// Whether the copy of a line is complete: what another has read of it is shown as open only then.
    pub fn is_fresh(&self, line: &OfferLine) -> bool {
        let state = self.state();
        state.offer.event(&line.event_id).is_some_and(|hot| is_fresh(hot, line, &state.fresh))
    }

    /// How many channels are followed by anybody.
    pub fn followed(&self) -> usize {
        let state = self.state();
        state.events.len() + state.wallets.len() + state.tickets.len()
    }
}

/// A line of an event as a country sees it.
fn seen(hot: &HotEvent, line: &OfferLine, rules: &EventRules<'_>, country: &str, fresh: &Fresh) -> OfferLine {
    shown(line, rules.refusal(line, country), is_fresh(hot, line, fresh))
}

fn is_fresh(hot: &HotEvent, line: &OfferLine, fresh: &Fresh) -> bool {
    fresh.contains(&(hot.partition, line.source.feed_partition))
}

/// Tells followers of an event about lines, each as its country sees them.
fn tell_lines(followers: &Followers, id: &str, hot: &HotEvent, lines: impl Fn(&str) -> Vec<OfferLine>) {
    let mut frames: HashMap<&str, Option<Utf8Bytes>> = HashMap::new();
    for follower in followers.values() {
        let frame = frames.entry(&follower.country).or_insert_with(|| {
            let lines = lines(&follower.country);
            (!lines.is_empty()).then(|| frame::lines_delta(id, hot.sequence, &lines))
        });
        if let Some(frame) = frame {
            follower.tell(Told::Frame(frame.clone()));
        }
    }
}

fn leave<K: std::hash::Hash + Eq>(channels: &mut HashMap<K, Followers>, key: &K, id: ConnectionId) {
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

    fn frames(inbox: &mut Inbox) -> Vec<serde_json::Value> {
        std::iter::from_fn(|| match inbox.queue.try_recv() {
            Ok(Told::Frame(frame)) => Some(serde_json::from_str(&frame).unwrap()),
            _ => None,
        })
        .collect()
    }

    fn beat(feed_partition: i32, at: i64) -> OfferMessage {
        let feed_partitions = vec![feed_partition];
        OfferMessage::Heartbeat(paddock_events::OfferHeartbeat { feed_partitions, at, book_generation: 1 })
    }

    /// Its offer stays fresh.
    fn live() -> Live {
        let live = Live::default();
        live.offer(0, 0, beat(0, i64::MAX));
        live.look(0);
        live
    }

    fn words(frame: &serde_json::Value) -> (&str, i64, Vec<&str>) {
        let lines = frame["payload"]["lines"].as_array();
        let lines = lines.into_iter().flatten().map(|line| line["status"].as_str().unwrap()).collect();
        (frame["type"].as_str().unwrap(), frame["sequence"].as_i64().unwrap(), lines)
    }

    #[test]
    fn a_book_is_told_at_once_to_those_whose_lines_it_changes() {
        let live = live();
        for id in ["m:1", "m:2"] {
            live.offer(0, 1, OfferMessage::Event(sample::event(id, 1)));
        }
        live.offer(0, 2, OfferMessage::Line(sample::line("m:1", 1, "2.10")));
        let (malta, mut in_malta) = live.connect("MT");
        let (france, mut in_france) = live.connect("FR");
        for follower in [&malta, &france] {
            live.follow_event("m:1", follower);
            live.follow_event("m:2", follower);
        }
        assert_eq!(words(&frames(&mut in_malta)[0]), ("snapshot", 2, vec!["suspended"]), "no book yet");
        assert_eq!(words(&frames(&mut in_france)[0]), ("snapshot", 2, vec!["suspended"]));

        live.enforce(&Arc::new(sample::book(1, "Open")));
        assert_eq!(frames(&mut in_malta).iter().map(words).collect::<Vec<_>>(), [("delta", 2, vec!["active"])]);
        assert_eq!(frames(&mut in_france).iter().map(words).collect::<Vec<_>>(), [("delta", 2, vec!["deactivated"])]);
        live.enforce(&Arc::new(sample::book(2, "Open")));
        assert_eq!(frames(&mut in_malta), [] as [serde_json::Value; 0], "the same rules");

        live.enforce(&Arc::new(sample::book(3, "Suspended")));
        let told = frames(&mut in_malta);
        assert_eq!(told.iter().map(words).collect::<Vec<_>>(), [("delta", 2, vec!["suspended"])]);
        assert_eq!(told[0]["payload"]["lines"][0]["suspendedBy"], "rule");
        assert_eq!(frames(&mut in_france).iter().map(words).collect::<Vec<_>>(), [("delta", 2, vec!["suspended"])]);
        // Rates has not heard of it: its next price is shown as suspended too.
        live.offer(0, 3, OfferMessage::Line(sample::line("m:1", 2, "2.20")));
        assert_eq!(frames(&mut in_malta).iter().map(words).collect::<Vec<_>>(), [("delta", 3, vec!["suspended"])]);
        let key = sample::line("m:1", 1, "2.10").line_key();
        let book = live.book().unwrap();
        assert_eq!(live.refusal(&book, &key, "MT"), Some(Refusal::MarketSuspended));
        assert_eq!(live.refusal(&book, &LineKey { market_id: 2, ..key }, "MT"), None, "not known here");
    }

    #[test]
    fn an_event_that_other_rules_select_brings_its_lines() {
        let live = live();
        live.enforce(&Arc::new(sample::book(1, "Open")));
        live.offer(0, 1, OfferMessage::Line(sample::line("m:1", 1, "2.10")));
        let (follower, mut inbox) = live.connect("MT");
        live.follow_event("m:1", &follower);
        live.offer(0, 2, OfferMessage::Event(sample::event("m:1", 1)));
        live.offer(0, 3, OfferMessage::Event(sample::event("m:1", 2)));
        let told = frames(&mut inbox);
        let told: Vec<_> = told.iter().map(words).collect();
        let none = || Vec::<&str>::new();
        assert_eq!(
            told,
            [
                ("snapshot", 1, vec!["suspended"]),
                ("delta", 2, none()),
                ("delta", 2, vec!["active"]),
                ("delta", 3, none())
            ]
        );
    }

    #[test]
    fn lines_of_a_partition_without_heartbeats_are_suspended() {
        let live = Live::default();
        live.enforce(&Arc::new(sample::book(1, "Open")));
        for (partition, id) in [(0, "m:1"), (1, "m:2")] {
            live.offer(partition, 1, OfferMessage::Event(sample::event(id, 1)));
            live.offer(partition, 2, OfferMessage::Line(sample::line(id, 1, "2.10")));
        }
        let (follower, mut inbox) = live.connect("MT");
        live.follow_event("m:1", &follower);
        live.follow_event("m:2", &follower);
        let told = frames(&mut inbox);
        let told: Vec<_> = told.iter().map(words).collect();
        assert_eq!(told, [("snapshot", 2, vec!["suspended"]), ("snapshot", 2, vec!["suspended"])], "never fresh");

        live.offer(0, 3, beat(0, 10_000));
        live.offer(1, 3, beat(0, 12_000));
        live.offer(1, 4, beat(7, 99_000));
        live.look(12_000);
        let told = frames(&mut inbox);
        let mut told: Vec<_> = told.iter().map(words).collect();
        assert_eq!(told, [("delta", 2, vec!["active"]), ("delta", 2, vec!["active"])]);
        live.look(13_000);
        assert_eq!(frames(&mut inbox), [] as [serde_json::Value; 0]);
        live.look(13_001);
        let stale = frames(&mut inbox);
        told = stale.iter().map(words).collect();
        assert_eq!(told, [("delta", 2, vec!["suspended"])], "the other partition's is younger");
        assert_eq!(
            (&stale[0]["channel"], &stale[0]["payload"]["lines"][0]["suspendedBy"]),
            (&"event:m:1".into(), &"producer".into())
        );
        live.offer(0, 4, OfferMessage::Line(sample::line("m:1", 2, "2.20")));
        live.follow_event("m:1", &follower);
        let told = frames(&mut inbox);
        let told: Vec<_> = told.iter().map(words).collect();
        assert_eq!(
            told,
            [("delta", 4, vec!["suspended"]), ("snapshot", 4, vec!["suspended"])],
            "a price is no heartbeat"
        );
        live.offer(0, 5, beat(0, 14_000));
        live.look(14_000);
        assert_eq!(frames(&mut inbox).iter().map(words).collect::<Vec<_>>(), [("delta", 4, vec!["active"])]);
    }

    #[test]
    fn a_snapshot_comes_first_and_then_each_change_once() {
        let live = live();
        live.offer(0, 1, OfferMessage::Line(sample::line("m:1", 1, "2.10")));
        let (follower, mut inbox) = live.connect("MT");
        live.follow_event("m:1", &follower);
        live.offer(0, 2, OfferMessage::Line(sample::line("m:1", 2, "2.20")));
        live.offer(0, 3, OfferMessage::Line(sample::line("m:2", 1, "2.20")));
        live.leave_event("m:1", &follower);
        live.offer(0, 4, OfferMessage::Line(sample::line("m:1", 3, "2.30")));
        let seen = frames(&mut inbox);
        let seen: Vec<_> = seen.iter().map(words).map(|(kind, sequence, _)| (kind, sequence)).collect();
        assert_eq!(seen, [("snapshot", 1), ("delta", 2)]);
        assert_eq!(live.followed(), 0, "nothing is kept for those who left");
    }

    #[test]
    fn a_full_queue_marks_the_client_as_slow_and_blocks_nobody() {
        let live = live();
        let (slow, slow_inbox) = live.connect("MT");
        live.follow_event("m:1", &slow);
        for sequence in 0..i64::try_from(QUEUE).unwrap() {
            assert!(!slow_inbox.slow.is_cancelled());
            live.offer(0, sequence, OfferMessage::Line(sample::line("m:1", sequence + 1, "2.10")));
        }
        assert!(slow_inbox.slow.is_cancelled());
        let (quick, mut quick_inbox) = live.connect("MT");
        live.follow_event("m:1", &quick);
        assert!(quick_inbox.queue.try_recv().is_ok() && !quick_inbox.slow.is_cancelled());
    }
}
