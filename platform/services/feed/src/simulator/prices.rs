//! Prices and results of a simulated match.

use paddock_events::{FeedMarket, FeedOutcome, LineName, MarketResult, MarketStatus, OutcomeResult};
use paddock_odds::grid::{Grid, State};
use paddock_odds::winning::{self, OutcomeResult as Won};
use paddock_odds::{Factor, Fixed, LineError, MarketType, Specifiers};

use super::draw::Draw;
use super::matches::{Goals, RealMatch};
use super::plan::MINUTES;

/// A line that the simulator prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SimulatedLine {
    market: MarketType,
    specifiers: Specifiers,
}

impl SimulatedLine {
    fn name(&self) -> LineName {
        LineName { market_id: self.market.feed_id(), specifiers: self.specifiers.clone() }
    }
}

/// Prices cannot be made; a fault of the table or of the line list.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// A line does not exist.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A line's text is malformed.
    #[error(transparent)]
    Specifiers(#[from] paddock_odds::SpecifiersError),
    /// The model is out of range.
    #[error(transparent)]
    Model(#[from] paddock_odds::grid::StateError),
}

/// Every line of a match.
pub(super) fn lines() -> Result<Vec<SimulatedLine>, PriceError> {
    let mut lines = Vec::new();
    for market in
        [MarketType::MatchResult, MarketType::DoubleChance, MarketType::DrawNoBet, MarketType::BothTeamsToScore]
    {
        lines.push(SimulatedLine { market, specifiers: Specifiers::none() });
    }
    for total in ["1.5", "2.5", "3.5"] {
        lines.push(SimulatedLine { market: MarketType::TotalGoals, specifiers: Specifiers::one("total", total)? });
    }
    Ok(lines)
}

/// Expected goals of both sides that explain a match's prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Means {
    total: Fixed,
    supremacy: Fixed,
}

impl Means {
    /// The total from the price of over 2.5 (the sum of two Poissons is one), then the supremacy from home − away.
    pub(super) fn of(real: &RealMatch) -> Result<Self, PriceError> {
        let (half, ten) = (Fixed::ONE.over(2), Fixed::from_int(10));
        let over = |total: Fixed| Fixed::ONE - (-total).exp() * (Fixed::ONE + total + total * total * half);
        let total = bisect(Fixed::ONE.over(10), ten, |total| Ok(over(total) < real.over))?;
        let [home, _, away] = real.result;
        let ahead = |supremacy: Fixed| -> Result<Fixed, PriceError> {
            let grid = Grid::new(&State::before(total, supremacy))?;
            let chances = grid.chances(MarketType::MatchResult, &Specifiers::none())?;
            let win = |id: &str| chances.iter().find(|(found, _)| *found == id).map_or(Fixed::ZERO, |(_, it)| it.win);
            Ok(win("1") - win("3"))
        };
        let supremacy = bisect(-total, total, |supremacy| Ok(ahead(supremacy)? < home - away))?;
        Ok(Self { total, supremacy })
    }
}

/// Where a condition stops to hold, to about 1e-6 of the interval.
fn bisect(
    mut low: Fixed,
    mut high: Fixed,
    holds: impl Fn(Fixed) -> Result<bool, PriceError>,
) -> Result<Fixed, PriceError> {
    for _step in 0..20 {
        let middle = (low + high).over(2);
        if holds(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok((low + high).over(2))
}

/// Lines before the kick-off. Match result, double chance, draw no bet and 2.5 goals are the real prices' own probabilities, the
/// others come from the goal model; later rounds lean a little to one side, as a market does.
pub(super) fn before(
    lines: &[SimulatedLine],
    real: &RealMatch,
    means: Means,
    mut draw: Draw,
    round: u32,
) -> Result<Vec<FeedMarket>, PriceError> {
    let grid = Grid::new(&State::before(means.total, means.supremacy))?;
    let [home, tie, away] = lean(real.result, if round == 0 { None } else { Some(&mut draw) });
    let over = if round == 0 { real.over } else { sway(real.over, &mut draw) };
    let two_way = home + away;
    let mut markets = Vec::new();
    for line in lines {
        let fair: Vec<(&str, Option<Fixed>)> = match (line.market, line.specifiers.get("total")) {
            (MarketType::MatchResult, _) => vec![("1", Some(home)), ("2", Some(tie)), ("3", Some(away))],
            (MarketType::DoubleChance, _) => {
                vec![("9", Some(home + tie)), ("10", Some(home + away)), ("11", Some(tie + away))]
            }
            (MarketType::DrawNoBet, _) => vec![("4", Some(home / two_way)), ("5", Some(away / two_way))],
            (MarketType::TotalGoals, Some("2.5")) => vec![("12", Some(over)), ("13", Some(Fixed::ONE - over))],
            _ => grid.fair(line.market, &line.specifiers)?,
        };
        markets.push(market(line, &fair));
    }
    Ok(markets)
}

/// Moves up to 1.5 % from one side to the other and keeps the sum.
fn lean([home, tie, away]: [Fixed; 3], draw: Option<&mut Draw>) -> [Fixed; 3] {
    let Some(draw) = draw else { return [home, tie, away] };
    let moved = sway(home, draw) - home;
    [home + moved, tie, away - moved]
}

/// Up to 1.5 % of the smaller side, up or down.
fn sway(probability: Fixed, draw: &mut Draw) -> Fixed {
    let steps = i64::try_from(draw.below(31)).unwrap_or(0) - 15;
    let room = probability.min(Fixed::ONE - probability);
    probability + (room * Fixed::from_int(steps)).over(1_000)
}

/// Lines in play that the score has not decided.
pub(super) fn in_play(
    lines: &[SimulatedLine],
    means: Means,
    minute: u16,
    score: Goals,
) -> Result<Vec<FeedMarket>, PriceError> {
    let before = State::before(means.total, means.supremacy);
    let left = i128::from(MINUTES.saturating_sub(minute));
    let state = State {
        remaining: Fixed::from_raw(Fixed::ONE.raw() * left).over(i128::from(MINUTES)),
        home: score.home,
        away: score.away,
        ..before
    };
    let grid = Grid::new(&state)?;
    let mut markets = Vec::new();
    for line in lines {
        if !is_decided(line, score)? {
            markets.push(market(line, &grid.fair(line.market, &line.specifiers)?));
        }
    }
    Ok(markets)
}

fn market(line: &SimulatedLine, fair: &[(&str, Option<Fixed>)]) -> FeedMarket {
    let outcomes = fair
        .iter()
        .map(|(id, probability)| FeedOutcome {
            id: (*id).to_owned(),
            active: probability.is_some(),
            odds: None,
            probability: *probability,
        })
        .collect();
    FeedMarket { line: line.name(), status: MarketStatus::Active, outcomes }
}

/// Lines that take a status without prices.
pub(super) fn closed(lines: &[SimulatedLine], status: MarketStatus) -> Vec<FeedMarket> {
    lines.iter().map(|line| FeedMarket { line: line.name(), status, outcomes: Vec::new() }).collect()
}

/// Lines that a goal decided.
pub(super) fn decided(lines: &[SimulatedLine], from: Goals, to: Goals) -> Result<Vec<SimulatedLine>, PriceError> {
    let mut all = Vec::new();
    for line in lines {
        if is_decided(line, to)? && !is_decided(line, from)? {
            all.push(line.clone());
        }
    }
    Ok(all)
}

/// Lines that are still open at a score.
pub(super) fn open(lines: &[SimulatedLine], score: Goals) -> Result<Vec<SimulatedLine>, PriceError> {
    let mut all = Vec::new();
    for line in lines {
        if !is_decided(line, score)? {
            all.push(line.clone());
        }
    }
    Ok(all)
}

/// Whether no further goal can change the result: more goals only help "over" and "yes".
fn is_decided(line: &SimulatedLine, score: Goals) -> Result<bool, PriceError> {
    let sure = match line.market {
        MarketType::TotalGoals => "12",
        MarketType::BothTeamsToScore => "74",
        _ => return Ok(false),
    };
    let results = winning::results(line.market, &line.specifiers, score.home, score.away)?;
    Ok(results.iter().any(|(id, result)| *id == sure && *result == Won::Won))
}

/// Results of lines at a score.
pub(super) fn results(lines: &[SimulatedLine], score: Goals) -> Result<Vec<MarketResult>, PriceError> {
    let mut all = Vec::new();
    for line in lines {
        let outcomes = winning::results(line.market, &line.specifiers, score.home, score.away)?
            .into_iter()
            .map(|(id, result)| OutcomeResult {
                id: id.to_owned(),
                won: Some(result.won()),
                void_factor: result.void_factor(),
                dead_heat_factor: Factor::ONE,
            })
            .collect();
        all.push(MarketResult { line: line.name(), void_reason: None, outcomes });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::matches;

    fn probability(markets: &[FeedMarket], market: u32, specifiers: &str, outcome: &str) -> Fixed {
        let line = markets
            .iter()
            .find(|found| found.line.market_id == market && found.line.specifiers.to_string() == specifiers)
            .unwrap();
        line.outcomes.iter().find(|found| found.id == outcome).unwrap().probability.unwrap()
    }

    fn close(one: Fixed, other: Fixed, per_mille: i64) -> bool {
        (one - other).abs() <= Fixed::from_int(per_mille).over(1000)
    }

    /// The goal model, fitted to totals and supremacy of real prices, gives back what it was fitted to.
    #[test]
    fn the_model_agrees_with_the_prices_it_was_fitted_to() {
        let lines = lines().unwrap();
        for real in matches::read().unwrap().into_iter().take(12) {
            let means = Means::of(&real).unwrap();
            let markets = in_play(&lines, means, 0, Goals { home: 0, away: 0 }).unwrap();
            assert!(close(probability(&markets, 18, "total=2.5", "12"), real.over, 1), "{real:?}");
            let ahead = probability(&markets, 1, "", "1") - probability(&markets, 1, "", "3");
            assert!(close(ahead, real.result[0] - real.result[2], 1), "{real:?}");
        }
    }

    #[test]
    fn probabilities_sum_to_the_number_of_winners() {
        let lines = lines().unwrap();
        let real = &matches::read().unwrap()[0];
        let means = Means::of(real).unwrap();
        for round in 0..5 {
            let all = before(&lines, real, means, Draw::at(1, [2, u64::from(round)]), round).unwrap();
            for market in all {
                let sum = market.outcomes.iter().fold(Fixed::ZERO, |sum, outcome| sum + outcome.probability.unwrap());
                let winners = MarketType::of_feed_id(market.line.market_id).unwrap().winners();
                assert!(close(sum, Fixed::from_int(winners.into()), 1), "{market:?}");
            }
        }
    }

    #[test]
    fn a_goal_decides_what_it_decides() {
        let lines = lines().unwrap();
        let names = |from: (u16, u16), to: (u16, u16)| {
            let goals = |(home, away)| Goals { home, away };
            let all = decided(&lines, goals(from), goals(to)).unwrap();
            all.iter().map(|line| format!("{}{}", line.market, line.specifiers)).collect::<Vec<_>>()
        };
        assert_eq!(names((0, 0), (1, 0)), Vec::<String>::new());
        assert_eq!(names((1, 0), (1, 1)), ["both-teams-to-score", "total-goalstotal=1.5"]);
        assert_eq!(names((2, 0), (3, 0)), ["total-goalstotal=2.5"]);
        assert_eq!(names((3, 1), (4, 1)), Vec::<String>::new());
    }
}
