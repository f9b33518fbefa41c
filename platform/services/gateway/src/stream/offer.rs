//! The gateway's own copy of topic `offer`, as customers may see it.

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
}

/// What a record changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// A line, whole.
    Line(OfferLine),
    /// An event, whole.
    Event(CatalogueEvent),
}

impl Changed {
    /// The event that it belongs to.
    pub fn event_id(&self) -> &str {
        match self {
            Self::Line(line) => &line.event_id,
            Self::Event(event) => &event.event_id,
        }
    }
}

impl HotOffer {
    /// Takes in a record; `None` if it changes nothing that customers see.
    pub fn apply(&mut self, offset: i64, message: OfferMessage) -> Option<Changed> {
        match message {
            OfferMessage::Line(mut line) => {
                // What the house believes is not for customers.
                for outcome in &mut line.outcomes {
                    outcome.probability = None;
                }
                let hot = self.events.entry(line.event_id.clone()).or_default();
                let key = line.line_key();
                if hot.lines.get(&key).is_some_and(|known| known.sequence >= line.sequence) {
                    return None;
                }
                hot.lines.insert(key, line.clone());
                hot.sequence = hot.sequence.max(offset);
                Some(Changed::Line(line))
            }
            OfferMessage::Event(event) => {
                let hot = self.events.entry(event.event_id.clone()).or_default();
                if hot.event.as_ref().is_some_and(|known| known.sequence >= event.sequence) {
                    return None;
                }
                hot.event = Some(event.clone());
                hot.sequence = hot.sequence.max(offset);
                Some(Changed::Event(event))
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
        assert!(offer.apply(5, OfferMessage::Line(sample::line("m:1", 2, "2.10"))).is_some());
        assert_eq!(offer.apply(6, OfferMessage::Line(sample::line("m:1", 2, "2.20"))), None);
        assert_eq!(offer.apply(7, OfferMessage::Line(sample::line("m:1", 1, "2.30"))), None);
        let hot = offer.event("m:1").unwrap();
        assert_eq!((hot.sequence, hot.lines.len()), (5, 1));
    }

    #[test]
    fn what_the_house_believes_is_not_shown() {
        let mut offer = HotOffer::default();
        let line = sample::line("m:1", 1, "2.10");
        assert!(line.outcomes[0].probability.is_some());
        let Some(Changed::Line(shown)) = offer.apply(1, OfferMessage::Line(line)) else { panic!("a change") };
        assert!(shown.outcomes.iter().all(|outcome| outcome.probability.is_none()));
    }

    #[test]
    fn tombstones_remove_lines_and_then_events() {
        let mut offer = HotOffer::default();
        offer.apply(1, OfferMessage::Line(sample::line("m:1", 1, "2.10")));
        offer.apply(2, OfferMessage::Event(sample::event("m:1", 1)));
        offer.remove("m:1|1|");
        assert!(offer.event("m:1").unwrap().lines.is_empty());
        offer.remove("m:1");
        assert!(offer.is_empty());
    }
}
