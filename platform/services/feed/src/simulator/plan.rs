//! What happens in one simulated match, and when.

use super::draw::Draw;
use super::matches::{Goals, RealMatch};

/// Minutes of the break at half-time.
const BREAK: i64 = 15;
/// Minutes of play.
pub(super) const MINUTES: u16 = 90;

/// The compressed clock of a match: real milliseconds from the kick-off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Milliseconds of a match minute.
    pub minute_ms: i64,
}

impl Pace {
    /// When a minute has been played.
    pub(super) fn at(self, minute: u16) -> i64 {
        let pause = if minute > 45 { BREAK } else { 0 };
        (i64::from(minute) + pause) * self.minute_ms
    }

    /// How long before a goal bets are stopped.
    fn warning(self) -> i64 {
        (self.minute_ms / 2).min(1_500)
    }

    /// How long after a goal prices come back.
    fn review(self) -> i64 {
        self.minute_ms.min(3_000)
    }
}

/// Time from the end of play to confirmed results, and from there to closing, ms.
pub(super) const CONFIRM: i64 = 10_000;
/// Time between price changes before the kick-off, ms.
pub(super) const DRIFT: i64 = 120_000;

/// One step of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The fixture appears.
    Fixture,
    /// Prices before the kick-off, the n-th time.
    PreMatch(u32),
    /// The pre-match producer hands its lines over.
    HandOver,
    /// Prices in play after a minute, at a score.
    Play(u16, Goals),
    /// Only the clock moves: bets are stopped.
    Clock(u16, Goals),
    /// Bets are stopped.
    Stop,
    /// After a goal: new score, new prices, and results of lines that it decided.
    Goal(u16, Goals, Goals),
    /// Results of the lines that a goal decided (from, to).
    Decided(Goals, Goals),
    /// The end: no prices any more.
    End,
    /// Results of the lines that were still open, live scouted.
    Scouted,
    /// All results, confirmed.
    Confirmed,
    /// The event is closed.
    Closed,
}

impl Step {
    /// Whether a later step of its kind makes it superfluous.
    pub(super) const fn is_refresh(self) -> bool {
        matches!(self, Self::PreMatch(_) | Self::Play(..) | Self::Clock(..))
    }
}

/// All steps of a match with their times relative to the kick-off, ms, in order.
pub(super) fn plan(real: &RealMatch, draw: &mut Draw, pace: Pace, horizon_ms: i64) -> Vec<(i64, Step)> {
    let mut steps = vec![(-horizon_ms, Step::Fixture), (-horizon_ms, Step::PreMatch(0))];
    let drifts = (1_u32..).map(|number| (-horizon_ms + i64::from(number) * DRIFT, number));
    steps.extend(drifts.take_while(|(at, _)| *at < -1_000).map(|(at, number)| (at, Step::PreMatch(number))));
    steps.push((0, Step::HandOver));
    let mut score = Goals { home: 0, away: 0 };
    steps.push((0, Step::Play(0, score)));
    let goals = goals(real, draw);
    let mut next = goals.iter().copied().peekable();
    let mut stopped_until = i64::MIN;
    for minute in 1..=MINUTES {
        let at = pace.at(minute);
        if at > stopped_until && minute < MINUTES {
            steps.push((at, Step::Play(minute, score)));
        } else if minute < MINUTES {
            steps.push((at, Step::Clock(minute, score)));
        }
        // A goal falls in the middle of the minute that starts now.
        while let Some((_, home)) = next.next_if(|(goal, _)| *goal == minute) {
            let from = score;
            if home {
                score.home += 1;
            } else {
                score.away += 1;
            }
            let goal = at + pace.minute_ms / 2;
            stopped_until = goal + pace.review();
            steps.push((goal - pace.warning() + 1, Step::Stop));
            steps.push((stopped_until, Step::Goal(minute, from, score)));
            steps.push((stopped_until, Step::Decided(from, score)));
        }
    }
    let end = pace.at(MINUTES);
    steps.push((end - pace.warning(), Step::Stop));
    steps.push((end, Step::End));
    steps.push((end, Step::Scouted));
    steps.push((end + CONFIRM, Step::Confirmed));
    steps.push((end + 2 * CONFIRM, Step::Closed));
    steps.sort_by_key(|(at, _)| *at);
    steps
}

/// Minutes of goals (and whether they are the home side's), consistent with the half-time and final score: every second minute
/// at most, away from the ends of the halves, so that bet stops never overlap.
fn goals(real: &RealMatch, draw: &mut Draw) -> Vec<(u16, bool)> {
    let mut all = Vec::new();
    let second = Goals { home: real.full.home - real.half.home, away: real.full.away - real.half.away };
    for (first_minute, goals) in [(2, real.half), (46, second)] {
        let mut minutes: Vec<u16> = (0..20).map(|number| first_minute + 2 * number).collect();
        draw.shuffle(&mut minutes);
        let sides = (0..goals.home).map(|_| true).chain((0..goals.away).map(|_| false));
        all.extend(minutes.into_iter().zip(sides));
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::matches;

    fn every_plan() -> impl Iterator<Item = (RealMatch, Vec<(i64, Step)>)> {
        let pace = Pace { minute_ms: 3_000 };
        matches::read().unwrap().into_iter().enumerate().map(move |(at, real)| {
            let steps = plan(&real, &mut Draw::at(7, [at as u64, 0]), pace, 1_800_000);
            (real, steps)
        })
    }

    #[test]
    fn scores_grow_to_the_real_ones() {
        for (real, steps) in every_plan() {
            let mut score = Goals { home: 0, away: 0 };
            for (at, step) in &steps {
                if let Step::Goal(minute, from, to) = step {
                    assert_eq!(*from, score);
                    assert_eq!(from.home + from.away + 1, to.home + to.away);
                    score = *to;
                    let first_half = *at <= Pace { minute_ms: 3_000 }.at(45) + 6_000;
                    assert_eq!(*minute < 46, first_half);
                    if first_half {
                        assert!(score.home <= real.half.home && score.away <= real.half.away);
                    }
                }
            }
            assert_eq!(score, real.full);
        }
    }

    /// From a stop on nothing is priced until the goal is in, and after the end nothing is.
    #[test]
    fn every_goal_is_within_a_stop() {
        for (_, steps) in every_plan() {
            let mut stopped = false;
            for (_, step) in &steps {
                match step {
                    Step::Stop => {
                        assert!(!stopped, "stops overlap");
                        stopped = true;
                    }
                    Step::Goal(..) => {
                        assert!(stopped);
                        stopped = false;
                    }
                    Step::Play(..) => assert!(!stopped),
                    Step::End => assert!(stopped),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn steps_come_in_order() {
        for (_, steps) in every_plan() {
            assert!(steps.is_sorted_by_key(|(at, _)| *at));
            assert_eq!(steps.first().unwrap().1, Step::Fixture);
            assert_eq!(steps.last().unwrap().1, Step::Closed);
        }
    }
}
