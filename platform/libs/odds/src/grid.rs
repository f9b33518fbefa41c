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
        Ok(self
            .chances(market, specifiers)?
            .into_iter()
            .map(|(id, chances)| (id, crate::fair_share(&chances)))
            .collect())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Line, Specifier};

    fn fixed(text: &str) -> Fixed {
        Fixed::parse(text).unwrap()
    }

    fn near(left: Fixed, right: Fixed, tolerance: &str) -> bool {
        (left - right).abs() <= fixed(tolerance)
    }

    /// With means 1 and 1 the chance of a draw is Σ (e⁻¹/n!)² = e⁻²·I₀(2) = 0.308508…, of 0:0 e⁻².
    #[test]
    fn known_probabilities() {
        let state = State::before(fixed("2"), Fixed::ZERO);
        let grid = Grid::new(&state).unwrap();
        let result = grid.chances(MarketType::MatchResult, &Specifiers::none()).unwrap();
        assert!(near(result[1].1.win, fixed("0.308508322553671"), "0.000000000001"));
        assert_eq!(result[0].1.win, result[2].1.win);
        let score = grid.chances(MarketType::CorrectScore, &Specifiers::none()).unwrap();
        assert!(near(score[0].1.win, fixed("0.135335283236612691"), "0.000000000000001"));
        let over = grid.chances(MarketType::TotalGoals, &Specifiers::parse("total=2.5").unwrap()).unwrap();
        // 1 − e⁻²(1 + 2 + 2)
        assert!(near(over[0].1.win, fixed("0.323323583816936"), "0.000000000001"));
    }

    #[test]
    fn a_finished_match_is_certain() {
        let state = State { remaining: Fixed::ZERO, home: 2, away: 1, ..State::before(fixed("2.6"), fixed("0.4")) };
        let grid = Grid::new(&state).unwrap();
        let result = grid.fair(MarketType::MatchResult, &Specifiers::none()).unwrap();
        assert_eq!(result, [("1", Some(Fixed::ONE)), ("2", Some(Fixed::ZERO)), ("3", Some(Fixed::ZERO))]);
        let total = grid.fair(MarketType::TotalGoals, &Specifiers::parse("total=3").unwrap()).unwrap();
        assert_eq!(total, [("12", None), ("13", None)]);
    }

    #[test]
    fn nonsense_states_are_refused() {
        let good = State::before(fixed("2.6"), fixed("0.4"));
        assert!(Grid::new(&State { home_mean: fixed("-0.1"), ..good }).is_err());
        assert!(Grid::new(&State { away_mean: fixed("12.1"), ..good }).is_err());
        assert!(Grid::new(&State { remaining: fixed("1.1"), ..good }).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_market_is_coherent(
            home_mean in 1_i128..500, away_mean in 1_i128..500, remaining in 1_i128..=100,
            home in 0_u16..4, away in 0_u16..4, quarters in 1_i32..24,
        ) {
            let hundredth = |n: i128| Fixed::ONE.over(100) * Fixed::from_int(i64::try_from(n).unwrap());
            let state = State {
                home_mean: hundredth(home_mean), away_mean: hundredth(away_mean), remaining: hundredth(remaining), home, away,
            };
            let grid = Grid::new(&state).unwrap();
            for market in MarketType::all() {
                let line = match market.specifier() {
                    None => Line::Only,
                    Some(Specifier::Total(_)) => Line::Quarters(quarters),
                    Some(Specifier::Handicap(_)) => Line::Quarters(quarters - 12),
                };
                let specifiers = market.specifiers(line).unwrap();
                let mut fair_sum = Fixed::ZERO;
                for (_, c) in grid.chances(market, &specifiers).unwrap() {
                    let sum = c.win + c.half_win + c.refund + c.half_lose + c.lose;
                    prop_assert!(near(sum, Fixed::ONE, "0.000000000000001"), "{market} {sum}");
                    fair_sum = fair_sum + crate::fair_share(&c).unwrap_or(Fixed::ZERO);
                }
                let winners = Fixed::from_int(i64::from(market.winners()));
                prop_assert!(near(fair_sum, winners, "0.000000000000001") || fair_sum == Fixed::ZERO, "{market} {fair_sum}");
            }
        }
    }
}
