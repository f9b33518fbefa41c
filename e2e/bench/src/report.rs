//! The table: a figure, its yardstick, and the machine.

use crate::versions;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// What was measured.
pub struct Report {
    machine: String,
    versions: BTreeSet<String>,
    rows: Vec<(String, String, String)>,
}

impl Report {
    /// An empty report that names the machine and the commit.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1).map(str::to_owned))
            .unwrap_or_else(|| format!("CPU of unknown model, {}", std::env::consts::ARCH));
        let memory = read("/proc/meminfo")
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:").map(|rest| rest.trim().to_owned()))
            .unwrap_or_default();
        Self {
            machine: format!("{cores} cores ({cpu}), {memory}; Paddock {}", versions::paddock()),
            versions: BTreeSet::new(),
            rows: Vec::new(),
        }
    }

    /// Names a server and its version, once however often it is named.
    pub fn version(&mut self, what: impl Into<String>) {
        self.versions.insert(what.into());
    }

    /// Adds a figure and its yardstick.
    pub fn row(&mut self, what: &str, figure: impl fmt::Display, yardstick: impl fmt::Display) {
        self.rows.push((what.to_owned(), figure.to_string(), yardstick.to_string()));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\n{}", self.machine)?;
        writeln!(out, "{}\n", self.versions.iter().map(String::as_str).collect::<Vec<_>>().join(", "))?;
        writeln!(out, "| figure | measured | yardstick of the same run |\n| --- | --- | --- |")?;
        for (what, figure, yardstick) in &self.rows {
            writeln!(out, "| {what} | {figure} | {yardstick} |")?;
        }
        Ok(())
    }
}

/// Median and 99th percentile of durations, in milliseconds.
pub fn quantiles(mut samples: Vec<Duration>) -> Option<(u128, u128)> {
    samples.sort_unstable();
    let at = |per_mille: usize| {
        samples.get((samples.len().checked_sub(1)?).saturating_mul(per_mille) / 1000).map(Duration::as_millis)
    };
    Some((at(500)?, at(990)?))
}

/// `p50 a ms, p99 b ms (n)`.
pub fn shown(samples: Vec<Duration>) -> String {
    let count = samples.len();
    quantiles(samples)
        .map_or_else(|| "no sample".into(), |(median, high)| format!("p50 {median} ms, p99 {high} ms (n={count})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_hundred() {
        let samples: Vec<Duration> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(quantiles(samples), Some((51, 100)));
        assert_eq!(quantiles(Vec::new()), None);
    }
}
