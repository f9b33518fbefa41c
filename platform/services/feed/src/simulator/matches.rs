//! The table of real matches.

use paddock_odds::{Fixed, Method, Odds, remove};

const TABLE: &str = include_str!("../../../../../examples/data/matches.csv");

/// Goals of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Goals {
    pub home: u16,
    pub away: u16,
}

/// A real match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RealMatch {
    pub country: String,
    pub league: String,
    pub home: String,
    pub away: String,
    pub half: Goals,
    pub full: Goals,
    /// Probabilities of home, draw, away before the kick-off: average prices without their margin (power method).
    pub result: [Fixed; 3],
    /// Probability of three goals or more.
    pub over: Fixed,
}

/// A line of the table is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of examples/data/matches.csv is unusable: {reason}; the header names the columns")]
pub struct TableError {
    line: usize,
    reason: String,
}

/// Every match of the table.
pub(super) fn read() -> Result<Vec<RealMatch>, TableError> {
    let lines = TABLE.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.starts_with("date,"));
    lines.map(|(at, line)| parse(line).map_err(|reason| TableError { line: at + 1, reason })).collect()
}

fn parse(line: &str) -> Result<RealMatch, String> {
    let fields: Vec<&str> = line.split(',').collect();
    let [_date, country, league, home, away, half_home, half_away, full_home, full_away, prices @ ..] =
        fields.as_slice()
    else {
        return Err("too few columns".to_owned());
    };
    let goals = |text: &str| text.parse::<u16>().map_err(|error| format!("goals {text:?}: {error}"));
    let (half, full) = (
        Goals { home: goals(half_home)?, away: goals(half_away)? },
        Goals { home: goals(full_home)?, away: goals(full_away)? },
    );
    if half.home > full.home || half.away > full.away || full.home + full.away > 20 {
        return Err("the half-time score does not lead to the final one".to_owned());
    }
    let odds = prices.iter().map(|text| Odds::parse(text)).collect::<Result<Vec<_>, _>>();
    let odds = odds.map_err(|error| error.to_string())?;
    let [one, draw, two, over, under] = odds.as_slice() else {
        return Err("five prices are wanted".to_owned());
    };
    let fair = |odds: &[Odds]| remove(Method::Power, odds, 1).map_err(|error| error.to_string());
    let (result, totals) = (fair(&[*one, *draw, *two])?, fair(&[*over, *under])?);
    let (Ok(result), Some(over)) = (<[Fixed; 3]>::try_from(result), totals.first().copied()) else {
        return Err("prices have no probabilities".to_owned());
    };
    Ok(RealMatch {
        country: (*country).to_owned(),
        league: (*league).to_owned(),
        home: (*home).to_owned(),
        away: (*away).to_owned(),
        half,
        full,
        result,
        over,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let matches = read().unwrap();
        assert_eq!(matches.len(), 120);
        let first = &matches[0];
        assert_eq!(
            (first.home.as_str(), first.away.as_str(), first.full),
            ("Burnley", "Man City", Goals { home: 0, away: 3 })
        );
        assert!(first.result[2] > first.result[0], "Man City was the favourite");
    }
}
