//! Settlement: pays bets by the results of their lines. Same database as calculations, a process of its own.

mod consume;
mod pay;
mod plan;

use std::sync::Arc;

use paddock_service::outbox::Outbox;
use paddock_service::{Apps, Command, Service, Settings};

use crate::MIGRATIONS;
use crate::bank::Account;
use crate::metrics::SettlementMetrics;
use crate::store::Store;

pub use pay::Payer;
pub use plan::plan;

/// Runs component `settlement`.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Migrate => paddock_service::migrate("db", &MIGRATIONS).await,
        Command::Serve => serve().await,
    }
}

async fn serve() -> anyhow::Result<()> {
    let mut settings = Settings::from_env();
    let account = settings.get("ACCOUNT_URL", "http://account:8080".to_owned());
    let service = Service::start("settlement", settings).await?;
    let database = service.postgres("db")?;
    let bus = service.kafka("bus")?;
    let outbox = Outbox::default();
    let store = Store::new(database.clone(), outbox.clone(), service.origin());
    let metrics = SettlementMetrics::register(service.registry())?;
    let payer = Payer {
        store: store.clone(),
        bank: Arc::new(Account::new(&account, service.caller_token("account")?)?),
        metrics: metrics.clone(),
    };
    service.spawn("outbox", outbox.relay(database, bus.clone(), service.draining()));
    service.spawn("results", consume::consume(bus, store, metrics, service.draining()));
    service.spawn("payer", payer.pay_forever(service.draining()));
    service.serve(Apps::default()).await
}
