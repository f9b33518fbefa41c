//! What a final score makes of each outcome: the settlement rules of the market table.

use serde::{Deserialize, Serialize};

use crate::{Factor, Line, LineError, MarketType, SettlementRule, Specifiers};

/// The result of one outcome of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeResult {
    /// Pays the odds.
    Won,
    /// Pays nothing.
    Lost,
    /// The stake is returned.
    Void,
    /// Half the stake wins, half is returned.
    HalfWon,
    /// Half the stake is returned, half is lost.
    HalfLost,
}

impl OutcomeResult {
    /// The feed's `result` field: whether the part that is not void won.
    pub const fn won(self) -> bool {
        matches!(self, Self::Won | Self::HalfWon)
    }

    /// The feed's `void_factor`: the share of the stake that is returned.
    pub const fn void_factor(self) -> Factor {
        match self {
            Self::Won | Self::Lost => Factor::ZERO,
            Self::HalfWon | Self::HalfLost => Factor::HALF,
            Self::Void => Factor::ONE,
        }
    }

    const fn of(won: bool) -> Self {
        if won { Self::Won } else { Self::Lost }
    }

    /// By the quarters of a goal that a side is ahead of its line. A quarter line is half a stake on each neighbouring
    /// half line, so one quarter ahead is a win and a refund.
    const fn by_quarters_ahead(ahead: i32) -> Self {
        match ahead {
            2.. => Self::Won,
            1 => Self::HalfWon,
            0 => Self::Void,
            -1 => Self::HalfLost,
            _ => Self::Lost,
        }
    }
}

/// The result of every outcome of a line at a final score, in the order of [`MarketType::outcomes`].
pub fn results(
    market: MarketType,
    specifiers: &Specifiers,
    home: u16,
    away: u16,
) -> Result<Vec<(&'static str, OutcomeResult)>, LineError> {
    let line = market.line(specifiers)?;
    Ok(market.outcomes().iter().map(|outcome| (outcome.id, decide(market, line, outcome.id, home, away))).collect())
}

/// The result of one outcome of a line at a final score. An id that the market type does not have is `Void`.
pub fn decide(market: MarketType, line: Line, outcome: &str, home: u16, away: u16) -> OutcomeResult {
    let (home, away) = (i32::from(home), i32::from(away));
    let quarters = match line {
        Line::Only => 0,
        Line::Quarters(quarters) => quarters,
    };
    let ahead = |goals: i32| 4 * goals;
    match (market.settlement(), outcome) {
        (SettlementRule::Result, "1") => OutcomeResult::of(home > away),
        (SettlementRule::Result, "2") => OutcomeResult::of(home == away),
        (SettlementRule::Result, "3") => OutcomeResult::of(home < away),
        (SettlementRule::TwoResults, "9") => OutcomeResult::of(home >= away),
        (SettlementRule::TwoResults, "10") => OutcomeResult::of(home != away),
        (SettlementRule::TwoResults, "11") => OutcomeResult::of(home <= away),
        (SettlementRule::DrawRefunds, "4") => OutcomeResult::by_quarters_ahead(ahead(home - away)),
        (SettlementRule::DrawRefunds, "5") => OutcomeResult::by_quarters_ahead(ahead(away - home)),
        (SettlementRule::Handicap, "1714") => OutcomeResult::by_quarters_ahead(ahead(home - away) + quarters),
        (SettlementRule::Handicap, "1715") => OutcomeResult::by_quarters_ahead(ahead(away - home) - quarters),
        (SettlementRule::Total { home: home_counts, away: away_counts }, "12" | "13") => {
            let goals = i32::from(home_counts) * home + i32::from(away_counts) * away;
            let over = ahead(goals) - quarters;
            OutcomeResult::by_quarters_ahead(if outcome == "12" { over } else { -over })
        }
        (SettlementRule::Parity, "70") => OutcomeResult::of((home + away) % 2 == 1),
        (SettlementRule::Parity, "72") => OutcomeResult::of((home + away) % 2 == 0),
        (SettlementRule::BothScore, "74") => OutcomeResult::of(home > 0 && away > 0),
        (SettlementRule::BothScore, "76") => OutcomeResult::of(home == 0 || away == 0),
        (SettlementRule::Score, "324") => OutcomeResult::of(home > 4 || away > 4),
        (SettlementRule::Score, _) => match outcome.parse().ok().and_then(score_of) {
            Some(score) => OutcomeResult::of(score == (home, away)),
            None => OutcomeResult::Void,
        },
        _ => OutcomeResult::Void,
    }
}

/// Correct scores are numbered 274, 276 … 322 from 0:0 by home goals, then away goals, both up to four.
fn score_of(id: i32) -> Option<(i32, i32)> {
    let index = (id - 274) / 2;
    (id % 2 == 0 && (274..=322).contains(&id)).then_some((index % 5, index / 5))
}

#[cfg(test)]
mod tests {
    use num_rational::Ratio;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::OutcomeResult::{HalfLost, HalfWon, Lost, Void, Won};
    use super::*;

    fn at(market: MarketType, specifiers: &str, home: u16, away: u16) -> Vec<OutcomeResult> {
        let specifiers = Specifiers::parse(specifiers).unwrap();
        results(market, &specifiers, home, away).unwrap().into_iter().map(|(_, result)| result).collect()
    }

    #[rstest]
    #[case(MarketType::MatchResult, "", 2, 1, [Won, Lost, Lost])]
    #[case(MarketType::MatchResult, "", 1, 1, [Lost, Won, Lost])]
    #[case(MarketType::MatchResult, "", 0, 1, [Lost, Lost, Won])]
    #[case(MarketType::DoubleChance, "", 2, 1, [Won, Won, Lost])]
    #[case(MarketType::DoubleChance, "", 1, 1, [Won, Lost, Won])]
    #[case(MarketType::DoubleChance, "", 0, 1, [Lost, Won, Won])]
    fn three_way(
        #[case] market: MarketType,
        #[case] line: &str,
        #[case] home: u16,
        #[case] away: u16,
        #[case] expected: [OutcomeResult; 3],
    ) {
        assert_eq!(at(market, line, home, away), expected);
    }

    #[rstest]
    #[case(MarketType::DrawNoBet, "", 1, 1, [Void, Void])]
    #[case(MarketType::DrawNoBet, "", 1, 0, [Won, Lost])]
    #[case(MarketType::DrawNoBet, "", 0, 3, [Lost, Won])]
    #[case(MarketType::TotalGoals, "total=2.5", 2, 1, [Won, Lost])]
    #[case(MarketType::TotalGoals, "total=2.5", 1, 1, [Lost, Won])]
    #[case(MarketType::TotalGoals, "total=3", 2, 1, [Void, Void])]
    #[case(MarketType::TotalGoals, "total=2.75", 2, 1, [HalfWon, HalfLost])]
    #[case(MarketType::TotalGoals, "total=3.25", 2, 1, [HalfLost, HalfWon])]
    #[case(MarketType::HomeTotalGoals, "total=1.5", 2, 0, [Won, Lost])]
    #[case(MarketType::AwayTotalGoals, "total=1.5", 2, 0, [Lost, Won])]
    #[case(MarketType::AsianHandicap, "hcp=-0.5", 1, 0, [Won, Lost])]
    #[case(MarketType::AsianHandicap, "hcp=-1", 1, 0, [Void, Void])]
    #[case(MarketType::AsianHandicap, "hcp=-0.75", 1, 0, [HalfWon, HalfLost])]
    #[case(MarketType::AsianHandicap, "hcp=-0.25", 1, 1, [HalfLost, HalfWon])]
    #[case(MarketType::AsianHandicap, "hcp=0.25", 1, 1, [HalfWon, HalfLost])]
    #[case(MarketType::AsianHandicap, "hcp=1.5", 0, 2, [Lost, Won])]
    #[case(MarketType::OddEven, "", 2, 1, [Won, Lost])]
    #[case(MarketType::OddEven, "", 0, 0, [Lost, Won])]
    #[case(MarketType::BothTeamsToScore, "", 1, 2, [Won, Lost])]
    #[case(MarketType::BothTeamsToScore, "", 4, 0, [Lost, Won])]
    fn two_way(
        #[case] market: MarketType,
        #[case] line: &str,
        #[case] home: u16,
        #[case] away: u16,
        #[case] expected: [OutcomeResult; 2],
    ) {
        assert_eq!(at(market, line, home, away), expected);
    }

    #[test]
    fn numbering_of_correct_scores_agrees_with_the_table() {
        for outcome in MarketType::CorrectScore.outcomes().iter().filter(|outcome| outcome.name != "other") {
            let (home, away) = score_of(outcome.id.parse().unwrap()).unwrap();
            assert_eq!(outcome.name, format!("{home}:{away}"));
        }
    }

    #[test]
    fn one_correct_score_wins() {
        let winner = |home, away| {
            let all = results(MarketType::CorrectScore, &Specifiers::none(), home, away).unwrap();
            let mut winners = all.into_iter().filter(|(_, result)| *result == Won).map(|(id, _)| id);
            (winners.next(), winners.next())
        };
        assert_eq!(winner(0, 0), (Some("274"), None));
        assert_eq!(winner(2, 1), (Some("288"), None));
        assert_eq!(winner(4, 4), (Some("322"), None));
        assert_eq!(winner(5, 0), (Some("324"), None));
        assert_eq!(winner(0, 7), (Some("324"), None));
    }

    proptest! {
        /// Shares of the stake over all outcomes: what is not returned is won by exactly the market's winners.
        #[test]
        fn winners_and_refunds_add_up(home in 0_u16..12, away in 0_u16..12, quarters in -12_i32..24) {
            for market in MarketType::all() {
                let line = match market.specifier() {
                    None => Line::Only,
                    Some(crate::Specifier::Total(_)) => Line::Quarters(quarters.abs() + 1),
                    Some(crate::Specifier::Handicap(_)) => Line::Quarters(quarters),
                };
                let specifiers = market.specifiers(line).unwrap();
                let mut sum = Ratio::from_integer(0_i64);
                for (_, result) in results(market, &specifiers, home, away).unwrap() {
                    let void = result.void_factor().ratio();
                    let won = Ratio::from_integer(i64::from(result.won()));
                    sum += (Ratio::from_integer(1) - void) * won + void / 2;
                }
                prop_assert_eq!(sum, Ratio::from_integer(i64::from(market.winners())));
            }
        }
    }
}
