//! The simulated world: which match is in which slot, and what is said about it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use paddock_events::{EventStatus, MarketStatus};

use super::draw::Draw;
use super::matches::{self, RealMatch, TableError};
use super::plan::{self, Pace, Step};
use super::prices::{self, Means, PriceError, SimulatedLine};
use super::said::{Event, Said};
use super::settings::WorldSettings;

/// Producer of prices in play.
pub(super) const LIVE: u32 = 1;
/// Producer of prices before the kick-off.
pub(super) const PRE_MATCH: u32 = 3;
/// Slots are counted from 2026-01-01T00:00:00Z, ms.
const EPOCH: i64 = 1_767_225_600_000;

/// The world cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The table of matches is broken.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Prices cannot be made.
    #[error(transparent)]
    Price(#[from] PriceError),
}

/// A function from time to messages.
#[derive(Debug)]
pub struct World {
    settings: WorldSettings,
    matches: Vec<RealMatch>,
    lines: Vec<SimulatedLine>,
    /// Fitted once per match of the table.
    means: Mutex<HashMap<usize, Means>>,
}

/// One played match.
struct Slot<'a> {
    number: u64,
    kickoff: i64,
    row: usize,
    real: &'a RealMatch,
    steps: Vec<(i64, Step)>,
}

impl World {
    /// The world of some settings.
    pub fn new(settings: WorldSettings) -> Result<Self, WorldError> {
        Ok(Self { settings, matches: matches::read()?, lines: prices::lines()?, means: Mutex::default() })
    }

    fn pace(&self) -> Pace {
        Pace { minute_ms: 60_000 / i64::from(self.settings.speed.max(1)) }
    }

    fn horizon_ms(&self) -> i64 {
        i64::from(self.settings.horizon_minutes) * 60_000
    }

    fn interval_ms(&self) -> i64 {
        i64::from(self.settings.kickoff_seconds.max(1)) * 1_000
    }

    /// From the kick-off to the last step of a match.
    fn length_ms(&self) -> i64 {
        self.pace().at(plan::MINUTES) + 2 * plan::CONFIRM
    }

    /// Slots with a step in (after, until].
    fn slots(&self, after: i64, until: i64) -> impl Iterator<Item = Slot<'_>> {
        let first = (after - self.length_ms() - EPOCH).div_euclid(self.interval_ms()).max(0);
        let last = (until + self.horizon_ms() - EPOCH).div_euclid(self.interval_ms());
        (first..=last).filter_map(|number| self.slot(u64::try_from(number).ok()?))
    }

    /// Match days follow each other: each plays the whole table in an order of its own.
    fn slot(&self, number: u64) -> Option<Slot<'_>> {
        let size = self.matches.len() as u64;
        let (day, place) = (number.checked_div(size)?, number.checked_rem(size)?);
        let mut order: Vec<usize> = (0..self.matches.len()).collect();
        Draw::at(self.settings.seed, [1, day]).shuffle(&mut order);
        let row = order.get(usize::try_from(place).ok()?).copied()?;
        let real = self.matches.get(row)?;
        let kickoff = EPOCH + i64::try_from(number).ok()? * self.interval_ms();
        let mut draw = Draw::at(self.settings.seed, [2, number]);
        let steps = plan::plan(real, &mut draw, self.pace(), self.horizon_ms());
        Some(Slot { number, kickoff, row, real, steps })
    }

    /// Everything a producer says in (after, until], in order of time. What only refreshes prices is left out where a later refresh
    /// of the same match follows before `thin_before`: nobody who catches up needs it.
    pub fn said(
        &self,
        after: i64,
        until: i64,
        thin_before: i64,
        product: Option<u32>,
    ) -> Result<Vec<Said>, PriceError> {
        self.render_slots(self.slots(after, until), after, until, thin_before, product)
    }

    fn render_slots<'a>(
        &self,
        slots: impl Iterator<Item = Slot<'a>>,
        after: i64,
        until: i64,
        thin_before: i64,
        product: Option<u32>,
    ) -> Result<Vec<Said>, PriceError> {
        let mut all = Vec::new();
        for slot in slots {
            let within = |at: i64| slot.kickoff + at > after && slot.kickoff + at <= until;
            let newest_old = slot
                .steps
                .iter()
                .rposition(|(at, step)| step.is_refresh() && within(*at) && slot.kickoff + at < thin_before);
            for (number, (at, step)) in slot.steps.iter().enumerate() {
                let old = step.is_refresh() && slot.kickoff + at < thin_before && Some(number) != newest_old;
                if within(*at) && !old {
                    self.render(&slot, number, *at, *step, product, &mut all)?;
                }
            }
        }
        all.sort_by_key(|said| said.at);
        Ok(all)
    }

    /// The present state: what a producer that lost everything needs to know at a time.
    pub fn snapshot(&self, now: i64, product: u32) -> Result<Vec<Said>, PriceError> {
        let after = now - self.length_ms() - self.horizon_ms();
        // Matches that are over are no part of it, so each of the others is there with its fixture.
        let present = self.slots(after, now).filter(|slot| slot.kickoff - self.horizon_ms() > after);
        self.render_slots(present, after, now, now, Some(product))
    }

    fn means(&self, slot: &Slot<'_>) -> Result<Means, PriceError> {
        let mut fitted = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(means) = fitted.get(&slot.row) {
            return Ok(*means);
        }
        let means = Means::of(slot.real)?;
        fitted.insert(slot.row, means);
        Ok(means)
    }

    fn render(
        &self,
        slot: &Slot<'_>,
        number: usize,
        at: i64,
        step: Step,
        product: Option<u32>,
        all: &mut Vec<Said>,
    ) -> Result<(), PriceError> {
        let speaker = match step {
            Step::Fixture | Step::PreMatch(_) | Step::HandOver => PRE_MATCH,
            _ => LIVE,
        };
        if product.is_some_and(|wanted| wanted != speaker) {
            return Ok(());
        }
        let at = slot.kickoff + at;
        let said = Event {
            world_number: self.settings.world_number(),
            number: slot.number,
            kickoff: slot.kickoff,
            real: slot.real,
            at,
            speaker,
        };
        let message = match step {
            Step::Fixture => said.fixture(),
            Step::PreMatch(round) => {
                let draw = Draw::at(self.settings.seed, [3 + u64::from(round), slot.number]);
                said.odds(None, prices::before(&self.lines, slot.real, self.means(slot)?, draw, round)?)
            }
            Step::HandOver => said.odds(None, prices::closed(&self.lines, MarketStatus::HandedOver)),
            Step::Play(minute, score) => {
                let markets = prices::in_play(&self.lines, self.means(slot)?, minute, score)?;
                said.odds(Some((EventStatus::Live, score, Some(minute))), markets)
            }
            Step::Clock(minute, score) => said.odds(Some((EventStatus::Live, score, Some(minute))), Vec::new()),
            Step::Stop => said.stop(),
            Step::Goal(minute, from, to) => {
                let mut markets = prices::in_play(&self.lines, self.means(slot)?, minute, to)?;
                markets.extend(prices::closed(&prices::decided(&self.lines, from, to)?, MarketStatus::Settled));
                said.odds(Some((EventStatus::Live, to, Some(minute))), markets)
            }
            Step::Decided(from, to) => {
                let decided = prices::decided(&self.lines, from, to)?;
                if decided.is_empty() {
                    return Ok(());
                }
                said.settlement(1, prices::results(&decided, to)?)
            }
            Step::End => {
                let markets = prices::closed(&self.lines, MarketStatus::Settled);
                said.odds(Some((EventStatus::Ended, slot.real.full, None)), markets)
            }
            Step::Scouted => {
                let open = prices::open(&self.lines, slot.real.full)?;
                said.settlement(1, prices::results(&open, slot.real.full)?)
            }
            Step::Confirmed => said.settlement(2, prices::results(&self.lines, slot.real.full)?),
            Step::Closed => said.odds(Some((EventStatus::Closed, slot.real.full, None)), Vec::new()),
        };
        all.push(Said { at, id: said.id(number), message });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use paddock_events::FeedMessage;
    use uuid::Uuid;

    use super::*;

    const NOON: i64 = EPOCH + 90 * 86_400_000;

    fn world() -> World {
        World::new(WorldSettings::default()).unwrap()
    }

    #[test]
    fn two_worlds_of_the_same_settings_say_the_same() {
        let (one, other) = (world(), world());
        let said = one.said(NOON, NOON + 120_000, 0, None).unwrap();
        assert!(!said.is_empty());
        assert_eq!(said, other.said(NOON, NOON + 120_000, 0, None).unwrap());
    }

    /// A restart may ask in other pieces; together they are the same.
    #[test]
    fn time_can_be_cut_anywhere() {
        let world = world();
        let whole = world.said(NOON, NOON + 60_000, 0, None).unwrap();
        let mut parts = Vec::new();
        for piece in 0..8 {
            parts.extend(world.said(NOON + piece * 7_500, NOON + (piece + 1) * 7_500, 0, None).unwrap());
        }
        assert_eq!(whole, parts);
        let ids: BTreeSet<Uuid> = whole.iter().map(|said| said.id).collect();
        assert_eq!(ids.len(), whole.len());
    }

    #[test]
    fn there_is_always_a_kickoff_within_minutes_and_play_under_way() {
        let world = world();
        for hour in 0..3 {
            let now = NOON + hour * 3_600_000;
            let fixtures = world.snapshot(now, PRE_MATCH).unwrap();
            let next = fixtures.iter().filter_map(|said| match &said.message {
                FeedMessage::Fixture(fixture) if fixture.start_time > now => Some(fixture.start_time - now),
                _ => None,
            });
            let waits: Vec<i64> = next.collect();
            assert!(waits.iter().min().is_some_and(|wait| *wait <= 60_000), "{waits:?}");
            assert!(waits.len() >= 19);
        }
    }

    /// Nobody hears of a match before its fixture.
    #[test]
    fn a_snapshot_holds_whole_matches() {
        let world = world();
        let mut known = BTreeSet::new();
        for said in [PRE_MATCH, LIVE].into_iter().flat_map(|product| world.snapshot(NOON, product).unwrap()) {
            match said.message {
                FeedMessage::Fixture(fixture) => drop(known.insert(fixture.head.event_id)),
                other => assert!(known.contains(&other.head().unwrap().event_id), "{other:?}"),
            }
        }
        assert!(known.len() > 20);
    }

    /// Who catches up hears every stop and result, and the newest price.
    #[test]
    fn thinning_leaves_out_prices_only() {
        let world = world();
        let until = NOON + 600_000;
        let (all, thin) =
            (world.said(NOON, until, 0, Some(LIVE)).unwrap(), world.said(NOON, until, until, Some(LIVE)).unwrap());
        assert!(thin.len() * 3 < all.len(), "{} of {}", thin.len(), all.len());
        let facts = |list: &[Said]| -> Vec<Uuid> {
            list.iter().filter(|said| !matches!(said.message, FeedMessage::OddsChange(_))).map(|said| said.id).collect()
        };
        assert_eq!(facts(&all), facts(&thin));
        let last_price = |list: &[Said]| -> HashMap<String, Uuid> {
            list.iter()
                .filter(|said| matches!(said.message, FeedMessage::OddsChange(_)))
                .map(|said| (said.message.head().unwrap().event_id.clone(), said.id))
                .collect()
        };
        assert_eq!(last_price(&all), last_price(&thin));
    }

    #[test]
    fn another_seed_is_another_world() {
        let other = World::new(WorldSettings { seed: 5, ..WorldSettings::default() }).unwrap();
        assert_ne!(world().settings.world_number(), other.settings.world_number());
    }
}
