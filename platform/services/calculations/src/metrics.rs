//! Metrics of acceptance and settlement.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Metrics of acceptance.
#[derive(Debug, Clone)]
pub struct AcceptanceMetrics {
    /// From request to answer, of requests that made a new ticket.
    pub latency: Histogram,
    /// Decisions of this replica by status and code.
    pub tickets: IntCounterVec,
    /// Age of the newest heartbeat of the offer, ms; -1 before the first.
    pub offer_age: IntGauge,
    /// From the receipt of state changes to when no ticket commits against the older ones any more.
    pub state_changes: Histogram,
}

impl AcceptanceMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::new()?;
        registry.register(Box::new(metrics.latency.clone()))?;
        registry.register(Box::new(metrics.tickets.clone()))?;
        registry.register(Box::new(metrics.offer_age.clone()))?;
        registry.register(Box::new(metrics.state_changes.clone()))?;
        Ok(metrics)
    }

    /// Makes them without a registry.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            latency: Histogram::with_opts(
                HistogramOpts::new("paddock_ticket_answer_seconds", "Time from a new ticket's request to its answer.")
                    .buckets(vec![0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]),
            )?,
            tickets: IntCounterVec::new(
                Opts::new("paddock_tickets_total", "Tickets decided by this replica."),
                &["status", "code"],
            )?,
            offer_age: IntGauge::new(
                "paddock_offer_age_milliseconds",
                "Age of the newest heartbeat of the offer; -1 before the first.",
            )?,
            state_changes: Histogram::with_opts(
                HistogramOpts::new(
                    "paddock_offer_state_change_seconds",
                    "Time from the receipt of suspensions and other state changes to when no ticket commits against the older state.",
                )
                .buckets(vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]),
            )?,
        })
    }

    /// Counts a decision.
    pub fn decided(&self, status: &str, code: &str) {
        self.tickets.with_label_values(&[status, code]).inc();
    }
}

/// Metrics of settlement.
#[derive(Debug, Clone)]
pub struct SettlementMetrics {
    /// Result messages taken in.
    pub results: IntCounter,
    /// Result messages that could not be read: bets may wait for them for ever, so each needs a person.
    pub skipped: IntCounter,
    /// Settlements whose transfers are done, by kind: `settled`, `void`, `rolled-back`.
    pub settlements: IntCounterVec,
    /// Transfers that account refused: each needs a person.
    pub refused: IntCounter,
}

impl SettlementMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::new()?;
        registry.register(Box::new(metrics.results.clone()))?;
        registry.register(Box::new(metrics.skipped.clone()))?;
        registry.register(Box::new(metrics.settlements.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        Ok(metrics)
    }

    /// Makes them without a registry.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            results: IntCounter::new("paddock_results_total", "Result messages taken in.")?,
            skipped: IntCounter::new(
                "paddock_results_skipped_total",
                "Result messages that could not be read; each needs a person.",
            )?,
            settlements: IntCounterVec::new(
                Opts::new("paddock_settlements_total", "Settlements whose transfers are done."),
                &["kind"],
            )?,
            refused: IntCounter::new(
                "paddock_settlement_transfers_refused_total",
                "Transfers of settlements that account refused; each needs a person.",
            )?,
        })
    }
}
