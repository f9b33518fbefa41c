//! Calculations and settlement: ticket acceptance and payout. One crate and one database, two processes.

pub mod acceptance;
pub mod bank;
#[cfg(test)]
mod bulk_scenarios;
#[cfg(test)]
mod described_scenarios;
pub mod domain;
pub mod http;
pub mod metrics;
pub mod offer;
#[cfg(test)]
mod scenarios;
pub mod settlement;
pub mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_world;

use std::sync::Arc;

use paddock_service::outbox::Outbox;
use paddock_service::{Apps, Command, Service, Settings};

use crate::acceptance::Acceptance;
use crate::bank::Account;
use crate::metrics::AcceptanceMetrics;
use crate::offer::OfferCopy;
use crate::store::Store;

/// The schema of calculations and settlement.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Runs component `calculations`.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Migrate => paddock_service::migrate("db", &MIGRATIONS).await,
        Command::Serve => serve().await,
    }
}

async fn serve() -> anyhow::Result<()> {
    let mut settings = Settings::from_env();
    let account = settings.get("ACCOUNT_URL", "http://account:8080".to_owned());
    let service = Service::start_with_market_book("calculations", settings).await?;
    let database = service.postgres("db")?;
    let bus = service.kafka("bus")?;
    let outbox = Outbox::default();
    let acceptance = Acceptance {
        store: Store::new(database.clone(), outbox.clone(), service.origin()),
        offer: OfferCopy::default(),
        book: service.market_book()?,
        bank: Arc::new(Account::new(&account, service.caller_token("account")?)?),
        metrics: AcceptanceMetrics::register(service.registry())?,
    };
    acceptance.book.compare_first();
    let gate = service.readiness().gate("offer", "the topic has not been read to its end yet");
    let newest = service.readiness().gate("market-book generation", "not compared with other replicas yet");
    service.spawn("outbox", outbox.relay(database, bus.clone(), service.draining()));
    let follow = acceptance.offer.clone().follow(
        bus,
        acceptance.store.clone(),
        gate,
        acceptance.metrics.state_changes.clone(),
        service.draining(),
    );
    service.spawn("offer", follow);
    service.spawn("tickets", acceptance.clone().resume_forever(service.draining()));
    service.spawn("market-book", acceptance.clone().announce_books(newest, service.draining()));
    let callers = service.callers(http::CALLERS);
    service.serve(Apps { http: http::app(acceptance, &callers), ..Apps::default() }).await
}
