//! Why the book lets nobody bet on a line, the same for all who ask.

use paddock_odds::{MarketType, Specifiers};
use serde::{Deserialize, Serialize};

use crate::{Book, EventAttributes, MarketRule, Phase, RuleState};

/// Why the book takes no bet on a line, whatever its price and stake. Written as the stable code of a refused ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumIter)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Refusal {
    /// The line's rule is suspended.
    MarketSuspended,
    /// The line's rule is closed, or it has none.
    MarketClosed,
    /// The line's rule does not admit the country.
    CountryNotAllowed,
}

impl Book {
    /// The narrowest rule of a line if it takes bets.
    pub fn open_rule(
        &self,
        event: &EventAttributes,
        market_type: MarketType,
        specifiers: &Specifiers,
        phase: Phase,
    ) -> Result<&MarketRule, Refusal> {
        let rule = self.rule_for(event, market_type, specifiers, phase).ok_or(Refusal::MarketClosed)?;
        match rule.state {
            RuleState::Open => Ok(rule),
            RuleState::Suspended => Err(Refusal::MarketSuspended),
            RuleState::Closed => Err(Refusal::MarketClosed),
        }
    }
}

impl MarketRule {
    /// Whether bets are taken from a country (upper case, empty = unknown).
    pub fn admits(&self, country: &str) -> Result<(), Refusal> {
        if self.geography.admits(country) { Ok(()) } else { Err(Refusal::CountryNotAllowed) }
    }
}
