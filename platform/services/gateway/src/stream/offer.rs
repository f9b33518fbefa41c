//! The gateway's own copy of topic `offer`.

use std::collections::{BTreeMap, HashMap};

use paddock_events::{CatalogueEvent, LineKey, OfferLine, OfferMessage};

/// All events with their lines.
#[derive(Debug, Default)]
pub struct HotOffer {
    events: HashMap<String, HotEvent>,
}

/// One event with its lines. All its records stand in one partition, so their offsets order its changes.
#[derive(Debug, Default, Clone)]
pub struct HotEvent {
    /// The event, once its record was read.
    pub event: Option<CatalogueEvent>,
    /// Its lines.
    pub lines: BTreeMap<LineKey, OfferLine>,
    /// Offset of the newest record.
    pub sequence: i64,
    /// Their partition.
    pub partition: i32,
}

/// What a record changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// A line.
    Line(LineKey),
    /// An event.
    Event {
        /// Its URN.
        id: String,
        /// It is new or has another sport, category or tournament: other market rules select its lines.
        selected_anew: bool,
    },
}

impl Changed {
    /// The event that it belongs to.
    pub fn event_id(&self) -> &str {
        match self {
            Self::Line(key) => &key.event_id,
            Self::Event { id, .. } => id,
        }
    }
}

impl HotOffer {
    /// Takes in a record; `None` if it changes nothing that customers see.
    pub fn apply(&mut self, (partition, offset): (i32, i64), message: OfferMessage) -> Option<Changed> {
        match message {
            OfferMessage::Line(line) => {
                let hot = self.events.entry(line.event_id.clone()).or_default();
                let key = line.line_key();
                if hot.lines.get(&key).is_some_and(|known| known.sequence >= line.sequence) {
                    return None;
                }
                hot.lines.insert(key.clone(), line);
                (hot.partition, hot.sequence) = (partition, hot.sequence.max(offset));
                Some(Changed::Line(key))
            }
            OfferMessage::Event(event) => {
                let hot = self.events.entry(event.event_id.clone()).or_default();
                if hot.event.as_ref().is_some_and(|known| known.sequence >= event.sequence) {
                    return None;
                }
                (hot.partition, hot.sequence) = (partition, hot.sequence.max(offset));
                let id = event.event_id.clone();
                let selected_anew = hot.event.as_ref().is_none_or(|known| {
                    (&known.sport, &known.category, &known.tournament)
                        != (&event.sport, &event.category, &event.tournament)
                });
                hot.event = Some(event);
                Some(Changed::Event { id, selected_anew })
            }
            OfferMessage::Heartbeat(_) => None,
        }
    }

    /// Takes in a tombstone: the key is gone.
    pub fn remove(&mut self, key: &str) {
        if let Ok(line) = key.parse::<LineKey>() {
            if let Some(hot) = self.events.get_mut(&line.event_id) {
                hot.lines.remove(&line);
            }
        } else if let Some(hot) = self.events.get_mut(key) {
            hot.event = None;
        }
        let event = key.split('|').next().unwrap_or(key);
        if self.events.get(event).is_some_and(|hot| hot.event.is_none() && hot.lines.is_empty()) {
            self.events.remove(event);
        }
    }

    /// An event with its lines.
    pub fn event(&self, id: &str) -> Option<&HotEvent> {
        self.events.get(id)
    }

    /// How many events are known.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::frame::sample;

    #[test]
    fn older_sequences_and_heartbeats_change_nothing() {
        let mut offer = HotOffer::default();
        assert!(offer.apply((0, 5), OfferMessage::Line(sample::line("m:1", 2, "2.10"))).is_some());
        assert_eq!(offer.apply((0, 6), OfferMessage::Line(sample::line("m:1", 2, "2.20"))), None);
        assert_eq!(offer.apply((0, 7), OfferMessage::Line(sample::line("m:1", 1, "2.30"))), None);
        let hot = offer.event("m:1").unwrap();
        assert_eq!((hot.sequence, hot.lines.len()), (5, 1));
    }

    #[test]
    fn an_event_that_moves_to_another_tournament_is_selected_anew() {
        let mut offer = HotOffer::default();
        let mut selected_anew = |sequence, tournament: &str| {
            let mut event = sample::event("m:1", sequence);
            event.tournament.name = tournament.to_owned();
            matches!(
                offer.apply((0, sequence), OfferMessage::Event(event)),
                Some(Changed::Event { selected_anew: true, .. })
            )
        };
        assert!(selected_anew(1, "Premier League"));
        assert!(!selected_anew(2, "Premier League"));
        assert!(selected_anew(3, "FA Cup"));
    }

    #[test]
    fn tombstones_remove_lines_and_then_events() {
        let mut offer = HotOffer::default();
        offer.apply((0, 1), OfferMessage::Line(sample::line("m:1", 1, "2.10")));
        offer.apply((0, 2), OfferMessage::Event(sample::event("m:1", 1)));
        offer.remove("m:1|1|");
        assert!(offer.event("m:1").unwrap().lines.is_empty());
        offer.remove("m:1");
        assert!(offer.is_empty());
    }
}
