//! The gateway's process.

use std::num::NonZeroU32;

use http::HeaderName;
use paddock_service::{Apps, Command, Service, Settings};

use crate::api::{self, AppState, StreamPlaces};
use crate::client::{Block, Trust};
use crate::stream::source::{follow_ledger, follow_offer, follow_tickets};
use crate::upstream::{Addresses, Tokens, Upstream};

/// Need of the bus.
const BUS: &str = "bus";

struct Config {
    addresses: Addresses,
    trust: Trust,
    by_ip: NonZeroU32,
    by_session: NonZeroU32,
    places: StreamPlaces,
}

impl Config {
    fn read(settings: &mut Settings) -> Self {
        let mut proxies = Vec::new();
        for text in
            settings.get("TRUSTED_PROXIES", String::new()).split(',').map(str::trim).filter(|text| !text.is_empty())
        {
            match text.parse::<Block>() {
                Ok(block) => proxies.push(block),
                Err(error) => settings.reject(format!("TRUSTED_PROXIES: {error}")),
            }
        }
        let country_header = settings.optional::<HeaderName>("GEO_COUNTRY_HEADER");
        if country_header.is_some() && proxies.is_empty() {
            settings.reject("GEO_COUNTRY_HEADER is believed from proxies only: set TRUSTED_PROXIES");
        }
        let address = |settings: &mut Settings, name: &str, default: &str| settings.get(name, default.to_owned());
        let positive = |settings: &mut Settings, name: &str, default: u32| {
            settings.get(name, NonZeroU32::MIN.saturating_add(default - 1))
        };
        Self {
            addresses: Addresses {
                rates: address(settings, "RATES_URL", "http://rates:8080"),
                account: address(settings, "ACCOUNT_URL", "http://account:8080"),
                calculations: address(settings, "CALCULATIONS_URL", "http://calculations:8080"),
            },
            trust: Trust { proxies, country_header },
            by_ip: positive(settings, "REQUESTS_PER_SECOND_IP", 100),
            by_session: positive(settings, "REQUESTS_PER_SECOND_SESSION", 20),
            places: StreamPlaces {
                all: settings.get("STREAM_CONNECTIONS", 10_000),
                // Many homes can share an address.
                address: positive(settings, "STREAM_CONNECTIONS_IP", 500),
                customer: positive(settings, "STREAM_CONNECTIONS_CUSTOMER", 20),
            },
        }
    }
}

/// Runs the gateway. It has no database: there is nothing to migrate.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Migrate => Ok(()),
        Command::Serve => serve().await,
    }
}

async fn serve() -> anyhow::Result<()> {
    let mut settings = Settings::from_env();
    let config = Config::read(&mut settings);
    let service = Service::start_with_market_book("gateway", settings).await?;
    let filled = service.readiness().gate("offer", "the copy of the offer is not complete yet");
    let bus = service.kafka(BUS)?;
    let draining = service.draining();
    let tokens = Tokens {
        rates: service.caller_token("rates")?,
        account: service.caller_token("account")?,
        calculations: service.caller_token("calculations")?,
    };
    let upstream = Upstream::new(config.addresses, tokens)?;
    let limits = (config.by_ip, config.by_session);
    let state = AppState::new(
        api::Brand::of(service.environment()),
        upstream,
        config.trust,
        limits,
        config.places,
        draining.clone(),
    );

    state.follow_book(&service.market_book()?).await;
    let (source, live, end) = (bus.clone(), state.live.clone(), draining.clone());
    service.spawn("offer", async move {
        follow_offer(&source, &live, &filled, &end).await;
        Ok(())
    });
    let (source, live, end) = (bus.clone(), state.live.clone(), draining.clone());
    service.spawn("ledger", async move {
        follow_ledger(&source, &live, &end).await;
        Ok(())
    });
    let (source, live, end) = (bus, state.live.clone(), draining.clone());
    service.spawn("tickets", async move {
        follow_tickets(&source, &live, &end).await;
        Ok(())
    });
    // A drained pod has said goodbye to every client of the stream.
    let (connections, end) = (state.connections.clone(), draining);
    service.spawn("stream", async move {
        end.cancelled().await;
        connections.close();
        connections.wait().await;
        Ok(())
    });
    service.serve(Apps { http: api::app(state), ..Apps::default() }).await
}
