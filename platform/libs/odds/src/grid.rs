//! Football markets from one goal model: independent Poisson goals of both sides.
//!
//! The feed's expected totals T and supremacy D give the means (T ± D)/2 of a whole match; live, the means of the remaining
//! share count on top of the score. Every market of the table is read off the same grid, so prices agree with each other.
//! (Maher, "Modelling association football scores", 1982.)

use crate::winning::{self, OutcomeResult};
use crate::{Fixed, LineError, MarketType, Specifiers};

/// Further goals of one side that the grid tells apart; the last cell holds all above.
const GOALS: u16 = 24;

/// Probabilities of what an outcome can become; they sum to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chances {
    /// Pays the odds.
    pub win: Fixed,
    /// Half wins, half is returned.
    pub half_win: Fixed,
    /// The stake is returned.
    pub refund: Fixed,
    /// Half is returned, half is lost.
    pub half_lose: Fixed,
    /// Pays nothing.
    pub lose: Fixed,
}

/// What is left of a match, for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Expected goals of the home side over a whole match, from 0 to 12.
    pub home_mean: Fixed,
    /// Expected goals of the away side over a whole match, from 0 to 12.
    pub away_mean: Fixed,
    /// Share of the match that remains: 1 before the kick-off, 0 at the end.
    pub remaining: Fixed,
    /// Goals of the home side so far.
    pub home: u16,
    /// Goals of the away side so far.
    pub away: u16,
}

/// The model's input is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the match state is out of range: means must be from 0 to 12, the remaining share from 0 to 1")]
pub struct StateError;

impl State {
    /// Before the kick-off, from the feed's expected total and supremacy (home minus away).
    pub fn before(total: Fixed, supremacy: Fixed) -> Self {
        Self {
            home_mean: (total + supremacy).over(2),
            away_mean: (total - supremacy).over(2),
            remaining: Fixed::ONE,
            home: 0,
            away: 0,
        }
    }
}

/// Probabilities of final scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    home_so_far: u16,
    away_so_far: u16,
    home: Vec<Fixed>,
    away: Vec<Fixed>,
}

impl Grid {
    /// The grid of a state.
    pub fn new(state: &State) -> Result<Self, StateError> {
        let most = Fixed::from_int(12);
        let fits = |value: Fixed, most: Fixed| value >= Fixed::ZERO && value <= most;
        if !fits(state.home_mean, most) || !fits(state.away_mean, most) || !fits(state.remaining, Fixed::ONE) {
            return Err(StateError);
        }
        Ok(Self {
            home_so_far: state.home,
            away_so_far: state.away,
            home: poisson(state.home_mean * state.remaining),
            away: poisson(state.away_mean * state.remaining),
        })
    }

    /// Final scores with their probabilities, which sum to 1.
    pub fn scores(&self) -> impl Iterator<Item = (u16, u16, Fixed)> {
        (self.home_so_far..).zip(&self.home).flat_map(move |(home, p_home)| {
            (self.away_so_far..).zip(&self.away).map(move |(away, p_away)| (home, away, *p_home * *p_away))
        })
    }

    /// The chances of every outcome of a line, in the order of [`MarketType::outcomes`].
    pub fn chances(
        &self,
        market: MarketType,
        specifiers: &Specifiers,
    ) -> Result<Vec<(&'static str, Chances)>, LineError> {
        let line = market.line(specifiers)?;
        let mut all: Vec<_> = market.outcomes().iter().map(|outcome| (outcome.id, Chances::default())).collect();
        for (home, away, probability) in self.scores() {
            for (id, chances) in &mut all {
                let share = match winning::decide(market, line, id, home, away) {
                    OutcomeResult::Won => &mut chances.win,
                    OutcomeResult::HalfWon => &mut chances.half_win,
                    OutcomeResult::Void => &mut chances.refund,
                    OutcomeResult::HalfLost => &mut chances.half_lose,
                    OutcomeResult::Lost => &mut chances.lose,
                };
                *share = *share + probability;
            }
        }
        Ok(all)
    }

    /// Fair probabilities for [`crate::price`]: refunds are left out as in [`crate::fair_share`]. `None` for an outcome that
    /// can only be refunded.
    pub fn fair(
        &self,
        market: MarketType,
        specifiers: &Specifiers,
    ) -> Result<Vec<(&'static str, Option<Fixed>)>, LineError> {
        Ok(self.chances(market, specifiers)?.into_iter().map(|(id, chances)| (id, crate::fair_share(&chances))).collect())
    }
}

/// e^−λ·λⁿ/n! for n = 0 … 24, the rest in the last; sums to 1 exactly.
fn poisson(mean: Fixed) -> Vec<Fixed> {
    let mut cells = Vec::with_capacity(usize::from(GOALS) + 1);
    let (mut term, mut rest) = ((-mean).exp(), Fixed::ONE);
    for goals in 1..=GOALS {
        cells.push(term);
        rest = rest - term;
        term = (term * mean).over(i128::from(goals));
    }
    cells.push(rest.max(Fixed::ZERO));
    cells
}
