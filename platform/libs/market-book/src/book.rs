//! The book itself and what services ask it.

use paddock_odds::{MarketType, Specifiers};
use serde::{Deserialize, Serialize};

use crate::{EventAttributes, MarketRule, Phase};

/// Version of the book's JSON; a reader refuses a higher one, because it could not enforce what it does not know.
pub const SCHEMA: u32 = 1;

/// The rules in force in one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Book {
    schema: u32,
    generation: u64,
    rules: Vec<MarketRule>,
}

/// A book that cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// No JSON of a book.
    #[error("the market book cannot be read: {0}; let the operator write it again")]
    Malformed(#[from] serde_json::Error),
    /// Written for newer services.
    #[error("the market book has schema {0}, this service knows {SCHEMA}: roll out a newer release of the service")]
    NewerSchema(u32),
}

impl Book {
    pub(crate) fn new(generation: u64, mut rules: Vec<MarketRule>) -> Self {
        rules.sort_by(|one, other| one.name.cmp(&other.name));
        Self { schema: SCHEMA, generation, rules }
    }

    /// Reads a book's JSON.
    pub fn from_json(json: &[u8]) -> Result<Self, BookError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_slice(json)?;
        if schema > SCHEMA {
            return Err(BookError::NewerSchema(schema));
        }
        let book: Self = serde_json::from_slice(json)?;
        Ok(Self::new(book.generation, book.rules))
    }

    /// The book's JSON: the same bytes for the same generation and rules.
    pub fn to_json(&self) -> Result<String, BookError> {
        Ok(serde_json::to_string(self)?)
    }

    /// What a digest of the book's content is computed over: schema and rules without the generation. Two books with the
    /// same digest input enforce the same.
    pub fn digest_input(&self) -> Result<String, BookError> {
        Ok(serde_json::to_string(&(self.schema, &self.rules))?)
    }

    /// Which book it is; a pod refuses a lower one than it has.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The same rules as another generation.
    #[must_use]
    pub fn with_generation(self, generation: u64) -> Self {
        Self { generation, ..self }
    }

    /// The rules by name.
    pub fn rules(&self) -> &[MarketRule] {
        &self.rules
    }

    /// A rule by name.
    pub fn rule(&self, name: &str) -> Option<&MarketRule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// The narrowest rule of a line, whatever its state; `None` = the line is not offered. Ask [`Book::open_rule`] before taking
    /// a bet.
    pub fn rule_for(
        &self,
        event: &EventAttributes,
        market_type: MarketType,
        specifiers: &Specifiers,
        phase: Phase,
    ) -> Option<&MarketRule> {
        let admits = |list: &std::collections::BTreeSet<String>, names: &[String]| {
            list.is_empty() || names.iter().any(|name| list.contains(name))
        };
        self.rules
            .iter()
            .filter(|rule| {
                rule.sport == event.sport
                    && rule.market_type == market_type
                    && rule.selector.phases.contains(&phase)
                    && admits(&rule.selector.categories, &event.categories)
                    && admits(&rule.selector.tournaments, &event.tournaments)
                    && (phase == Phase::Live || rule.specifiers.is_empty() || rule.specifiers.contains(specifiers))
            })
            .max_by_key(|rule| (rule.narrowness(phase), std::cmp::Reverse(&rule.name)))
    }
}
