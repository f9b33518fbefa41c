//! From news of results to moved money.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::plan;
use crate::bank::{Bank, BankError};
use crate::metrics::SettlementMetrics;
use crate::store::{OpenSettlement, Store};

/// Bets of one round.
const ROUND: i64 = 100;
/// Bets of one round that are marked as due.
const MARK: i64 = 1000;
/// Settlements paid at the same time.
const AT_ONCE: usize = 8;
/// Between two looks when there is nothing to do.
const LOOK: Duration = Duration::from_millis(100);
/// Before account is asked again.
const ASK_AGAIN_MS: i64 = 500;
/// Before a refused transfer is tried again.
const REFUSED_MS: i64 = 30_000;

/// Settles due bets and makes their transfers.
#[derive(Clone)]
pub struct Payer {
    /// Rows.
    pub store: Store,
    /// Account.
    pub bank: Arc<dyn Bank>,
    /// Metrics.
    pub metrics: SettlementMetrics,
}

impl Payer {
    /// One round: how many bets and intents it worked on. Told to end, it leaves what it did not begin to whom the leases go next.
    pub async fn round(&self, end: &CancellationToken) -> anyhow::Result<usize> {
        let marked = self.store.mark_due(MARK).await?;
        let mut open = self.store.lease_open(ROUND).await?;
        let due = self.store.lease_due(ROUND).await?;
        let count = marked + open.len() + due.len();
        for bet in due {
            if end.is_cancelled() {
                return Ok(count);
            }
            match self.store.settle(bet, plan).await {
                Ok(intent) => open.extend(intent),
                Err(error) => tracing::error!(%bet, error = format!("{error:#}"), "bet cannot be settled yet"),
            }
        }
        let payments = open.into_iter().map(|settlement| self.pay(settlement, end));
        futures::StreamExt::for_each_concurrent(futures::stream::iter(payments), AT_ONCE, |work| work).await;
        Ok(count)
    }

    async fn pay(&self, settlement: OpenSettlement, end: &CancellationToken) {
        let OpenSettlement { bet, version, customer, currency, transfers } = settlement;
        for step in &transfers {
            if end.is_cancelled() {
                return;
            }
            let wait = match self.bank.transfer(customer, currency, step).await {
                Ok(()) => continue,
                Err(BankError::Refused(code)) => {
                    self.metrics.refused.inc();
                    tracing::error!(%bet, version, transfer = %step.id, code, "account refuses a transfer of a settlement");
                    REFUSED_MS
                }
                Err(error @ BankError::Unavailable(_)) => {
                    tracing::warn!(%bet, version, %error, "settlement waits for account");
                    ASK_AGAIN_MS
                }
            };
            if let Err(error) = self.store.settle_later(bet, version, wait).await {
                tracing::warn!(%bet, version, %error, "settlement is tried again when its lease ends");
            }
            return;
        }
        match self.store.settled(bet, version).await {
            Ok(Some(kind)) => self.metrics.settlements.with_label_values(&[kind]).inc(),
            Ok(None) => {}
            Err(error) => tracing::warn!(%bet, version, %error, "settlement is finished when its lease ends"),
        }
    }

    /// Rounds until told to end.
    pub async fn pay_forever(self, end: CancellationToken) -> anyhow::Result<()> {
        while !end.is_cancelled() {
            let count = match self.round(&end).await {
                Ok(count) => count,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "settlement goes on in a moment");
                    0
                }
            };
            if count == 0 {
                tokio::select! { () = tokio::time::sleep(LOOK) => {}, () = end.cancelled() => {} }
            }
        }
        Ok(())
    }
}
