//! Feed: source of events, prices and results; simulator and producer states.
//!
//! One instance per environment class, in Tenant `platform`. It reads a [`source::FeedSource`], keeps the state machine of every
//! [`producer`], and publishes topic `feed` and each second the heartbeat `feed.state`. Of several instances one publishes, the
//! others stand by; the broker's producer epoch fences one that lost its turn (rule R6).

pub mod producer;
mod publish;
pub mod simulator;
pub mod source;

use std::sync::Arc;

use paddock_service::{Apps, Command, Service, Settings};

use crate::simulator::{Simulator, World, WorldSettings};

/// Runs the component.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Migrate => anyhow::bail!("feed has no database and no migrations; take `migrate` out of its Release"),
        Command::Serve => serve().await,
    }
}

async fn serve() -> anyhow::Result<()> {
    let mut settings = Settings::from_env();
    let world = WorldSettings::read(&mut settings);
    let service = Service::start("feed", settings).await?;
    let world = Arc::new(World::new(world)?);
    let bus = service.kafka("bus")?;
    let publisher = publish::Publisher::new(bus, service.origin(), service.registry(), service.draining())?;
    service.spawn("publish", async move { publisher.run(|| Simulator::new(Arc::clone(&world))).await });
    service.serve(Apps::default()).await
}
