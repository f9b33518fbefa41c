//! Specifiers: what makes one line of a market, such as `total=2.5`.

use std::collections::BTreeMap;
use std::fmt;

use crate::text::is_its_text;

const MAX_LENGTH: usize = 256;

/// The specifiers of a line in canonical form: `key=value` pairs joined by `|`, keys sorted; empty for markets without.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Specifiers(BTreeMap<String, String>);

/// The text is no list of specifiers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no list of specifiers ({reason}): write them as \"total=2.5\", several joined by \"|\"")]
pub struct SpecifiersError {
    /// The refused text, cut to 64 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Specifiers {
    /// No specifiers.
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// One specifier. Fails if key or value are empty or contain `=`, `|`, spaces or controls.
    pub fn one(key: &str, value: &str) -> Result<Self, SpecifiersError> {
        Self::parse(&format!("{key}={value}"))
    }

    /// Reads pairs in any order; a key may stand only once.
    pub fn parse(text: &str) -> Result<Self, SpecifiersError> {
        let fail = |reason| SpecifiersError { text: text.chars().take(64).collect(), reason };
        if text.is_empty() {
            return Ok(Self::none());
        }
        if text.len() > MAX_LENGTH {
            return Err(fail("longer than 256 bytes"));
        }
        let mut pairs = BTreeMap::new();
        for pair in text.split('|') {
            let (key, value) = pair.split_once('=').ok_or_else(|| fail("a pair has no \"=\""))?;
            if key.is_empty() || value.is_empty() || value.contains('=') {
                return Err(fail("a key or value is empty or has a second \"=\""));
            }
            if pair.chars().any(|character| character.is_whitespace() || character.is_control()) {
                return Err(fail("spaces and control characters are not allowed"));
            }
            if pairs.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(fail("a key stands twice"));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pairs in order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl fmt::Display for Specifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            let joint = if at == 0 { "" } else { "|" };
            write!(f, "{joint}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Specifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

is_its_text!(Specifiers, SpecifiersError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted() {
        let specifiers = Specifiers::parse("total=2.5|mapnr=1").unwrap();
        assert_eq!(specifiers.to_string(), "mapnr=1|total=2.5");
        assert_eq!(Specifiers::parse("mapnr=1|total=2.5").unwrap(), specifiers);
        assert_eq!(specifiers.get("total"), Some("2.5"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["total", "=1", "total=", "total=1|total=2", "a=b=c", "a = b", "a=1|", "|"] {
            assert!(Specifiers::parse(text).is_err(), "{text}");
        }
        assert!(Specifiers::parse(&"x".repeat(300)).is_err());
        assert!(Specifiers::parse("").unwrap().is_empty());
    }
}
