//! Account's process.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use paddock_money::Currency;
use paddock_service::outbox::Outbox;
use paddock_service::{Apps, Command, Service, Settings};
use prometheus::IntGauge;
use secrecy::{ExposeSecret, SecretString};

use crate::http::{self, AppState};
use crate::janitor::{self, Calculations};
use crate::limiter::Limiter;
use crate::password::Passwords;
use crate::staff::StaffTokens;
use crate::store::{MIGRATIONS, Store};

/// Need of the database.
const DATABASE: &str = "db";
/// Need of the bus.
const BUS: &str = "bus";
/// Seconds beyond the longest bet delay after which a hold is asked about.
const HOLD_GRACE_S: u32 = 30;

struct Config {
    session_lifetime_s: u32,
    logins_per_minute: NonZeroU32,
    attempts_per_minute_ip: NonZeroU32,
    hash_threads: usize,
    max_bet_delay_s: u32,
    janitor_period_s: u32,
    calculations_url: String,
    staff: Option<StaffConfig>,
}

struct StaffConfig {
    issuer: String,
    audience: String,
    jwks: SecretString,
}

impl Config {
    fn read(settings: &mut Settings) -> Self {
        let staff = (
            settings.optional::<String>("STAFF_ISSUER"),
            settings.optional::<String>("STAFF_AUDIENCE"),
            settings.sensitive("STAFF_JWKS"),
        );
        let staff = match staff {
            (Some(issuer), Some(audience), Some(jwks)) => Some(StaffConfig { issuer, audience, jwks }),
            (None, None, None) => None,
            _ => {
                settings.reject("STAFF_ISSUER, STAFF_AUDIENCE and STAFF_JWKS belong together: set all or none");
                None
            }
        };
        let mut positive = |name: &str, default: u32| {
            let value = settings.get(name, default);
            if value == 0 {
                settings.reject(format!("{name}: must be above 0"));
            }
            value.max(1)
        };
        let session_lifetime_s = positive("SESSION_LIFETIME_S", 12 * 60 * 60);
        let max_bet_delay_s = positive("MAX_BET_DELAY_S", 30);
        let janitor_period_s = positive("HOLD_JANITOR_PERIOD_S", 10);
        Self {
            session_lifetime_s,
            logins_per_minute: settings.get("LOGINS_PER_MINUTE", NonZeroU32::MIN.saturating_add(9)),
            // Of log-ins and of registrations each: a shop or a provider's address has many customers.
            attempts_per_minute_ip: settings.get("ATTEMPTS_PER_MINUTE_IP", NonZeroU32::MIN.saturating_add(59)),
            hash_threads: settings.get("PASSWORD_THREADS", 2),
            max_bet_delay_s,
            janitor_period_s,
            calculations_url: settings.get("CALCULATIONS_URL", "http://calculations:8080".to_owned()),
            staff,
        }
    }
}

/// Runs account, or its migrations.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Migrate => paddock_service::migrate(DATABASE, &MIGRATIONS).await,
        Command::Serve => serve().await,
    }
}

async fn serve() -> anyhow::Result<()> {
    let mut settings = Settings::from_env();
    let config = Config::read(&mut settings);
    let service = Service::start("account", settings).await?;
    let database = service.postgres(DATABASE)?;
    let bus = service.kafka(BUS)?;
    let outbox = Outbox::default();
    let store = Store::new(database.clone(), outbox.clone(), service.origin());

    service.spawn("outbox", outbox.relay(database, bus, service.draining()));

    let calculations = Calculations::new(&config.calculations_url, service.caller_token("calculations")?)?;
    let older_than_s = i64::from(config.max_bet_delay_s) + i64::from(HOLD_GRACE_S);
    let period = Duration::from_secs(u64::from(config.janitor_period_s));
    let waiting = IntGauge::new(
        "paddock_account_stale_holds",
        "Holds older than any decision takes, for which calculations has no decision",
    )?;
    service.registry().register(Box::new(waiting.clone()))?;
    let (janitor_store, draining) = (store.clone(), service.draining());
    service.spawn("hold-janitor", async move {
        janitor::run(janitor_store, calculations, older_than_s, period, waiting, draining).await;
        Ok(())
    });

    let environment = service.environment();
    let staff = config.staff.map(|staff| {
        StaffTokens::new(
            staff.jwks.expose_secret(),
            staff.issuer,
            staff.audience,
            environment.tenant.clone(),
            environment.environment.clone(),
        )
    });
    let staff = staff.transpose().map_err(|error| anyhow::anyhow!("STAFF_JWKS is no JWKS document: {error}"))?;
    anyhow::ensure!(
        !environment.currencies.is_empty(),
        "PADDOCK_CURRENCIES names no currency: give the brand at least one, or nobody can register"
    );
    let currencies: Arc<[Currency]> = environment.currencies.as_slice().into();
    let state = AppState {
        store,
        passwords: Passwords::new(config.hash_threads, argon2::Params::default())?,
        limiter: Limiter::per_minute(config.logins_per_minute, config.attempts_per_minute_ip),
        staff: staff.map(Arc::new),
        currencies,
        session_lifetime_s: i64::from(config.session_lifetime_s),
    };
    let callers = service.callers(http::CALLERS);
    service.serve(Apps { http: http::internal(state.clone(), &callers), internal: http::backoffice(state) }).await
}
