//! What `/metrics` answered.

use anyhow::{Context as _, Result};

/// Metrics in Prometheus' text format.
pub struct Metrics(String);

impl Metrics {
    /// As they were answered.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Sum over the series of a family whose labels are wanted.
    ///
    /// # Errors
    /// A value that is no whole number.
    pub fn sum(&self, family: &str, wanted: impl Fn(&str) -> bool) -> Result<u64> {
        let series = self.0.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{')?.rsplit_once("} "));
        let values = series.filter(|(labels, _)| wanted(labels));
        values
            .map(|(labels, value)| value.parse::<u64>().with_context(|| format!("{family}{{{labels}}} is {value}")))
            .sum()
    }
}
