//! Rates: catalogue, margins, offer, results.
//!
//! Each replica works on some partitions of topic `feed`: a record's effects, its offset and the events that tell of them are
//! one transaction, so every record counts once. Truth is in PostgreSQL; the offer of open events is also in memory. Every replica
//! answers the API from PostgreSQL.

pub mod api;
pub mod domain;
pub mod partition;
pub mod producers;
mod store;
mod worker;

use std::time::Duration;

use paddock_service::outbox::Outbox;
use paddock_service::{Apps, Command, Service, Settings};
use prometheus::IntCounter;
use sqlx::migrate::Migrator;
use tokio::sync::watch;

use crate::partition::Outlet;
use crate::worker::{Metrics, Worker};

/// The database's schema.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Runs the component.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Migrate => paddock_service::migrate("db", &MIGRATIONS).await,
        Command::Serve => serve().await,
    }
}

async fn serve() -> anyhow::Result<()> {
    let mut settings = Settings::from_env();
    let keep_closed = Duration::from_secs(settings.get("RATES_KEEP_CLOSED_MINUTES", 60_u64) * 60);
    let service = Service::start_with_market_book("rates", settings).await?;
    let database = service.postgres("db")?;
    let (bus, feed) = (service.kafka("bus")?, service.kafka("feed")?);
    let outbox = Outbox::default();
    let (state, feed_state) = watch::channel(None);
    service.spawn("feed-state", producers::follow(feed.clone(), state, service.draining()));
    let unreadable = IntCounter::new(
        "paddock_rates_feed_records_skipped_total",
        "Feed records that cannot be read or stored; each needs a person.",
    )?;
    service.registry().register(Box::new(unreadable.clone()))?;
    let worker = Worker {
        database: database.clone(),
        feed,
        bus: bus.clone(),
        outlet: Outlet { origin: service.origin(), outbox: outbox.clone(), unreadable },
        book: service.market_book()?,
        feed_state,
        keep_closed,
        ready: service.readiness().gate("feed", "no partition of the feed is assigned yet"),
        metrics: Metrics::register(service.registry())?,
        draining: service.draining(),
    };
    service.spawn("worker", worker.run());
    service.spawn("outbox", outbox.relay(database.clone(), bus, service.draining()));
    let callers = service.callers(api::CALLERS);
    service.serve(Apps { http: api::app(database, &callers), ..Apps::default() }).await
}
