//! A pod's life, from start to exit (`docs/service-contract.md`).

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::binding::Bindings;
use crate::control::{self, Pod};
use crate::kafka::Bus;
use crate::postgres::{Database, PoolBounds};
use crate::telemetry::{self, HttpMetrics};
use crate::{Allowed, BookHolder, CallerToken, Callers, Environment, Readiness, Settings, http};

/// Where the contract's files and ports are. Only tests use another one.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Address of all ports.
    pub address: Ipv4Addr,
    /// `http`, `internal`, `metrics`, `control`.
    pub ports: [u16; 4],
    /// File with the control token.
    pub control_token: PathBuf,
    /// File with the market book.
    pub market_book: PathBuf,
    /// Folder with a folder for each called component, with the file `token`.
    pub tokens: PathBuf,
    /// Folder with `issuer` and `jwks.json` of callers' tokens.
    pub token_issuer: PathBuf,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::UNSPECIFIED,
            ports: [8080, 8082, 9090, 9091],
            control_token: PathBuf::from("/control/token"),
            market_book: PathBuf::from("/market-book/book.json"),
            tokens: PathBuf::from("/tokens"),
            token_issuer: PathBuf::from("/token-issuer"),
        }
    }
}

/// The routers of the business ports.
#[derive(Debug, Clone, Default)]
pub struct Apps {
    /// Port `http`.
    pub http: Router,
    /// Port `internal`: staff.
    pub internal: Router,
}

/// A running pod. Make it first, ask it for bindings, spawn tasks, then [`Service::serve`].
#[derive(Debug)]
pub struct Service {
    component: &'static str,
    environment: Environment,
    readiness: Readiness,
    registry: prometheus::Registry,
    metrics: HttpMetrics,
    bindings: Arc<Bindings>,
    tokens: Arc<Bindings>,
    token_issuer: PathBuf,
    book: Option<BookHolder>,
    databases: Mutex<Vec<Database>>,
    tasks: TaskTracker,
    draining: CancellationToken,
    ended: CancellationToken,
    drained: Arc<AtomicBool>,
    drain_period: Duration,
    listeners: Mutex<Option<(TcpListener, TcpListener)>>,
    addresses: [SocketAddr; 4],
}

impl Service {
    /// Starts a pod without market book: reads the operator's variables, binds all ports, serves `metrics` and `control`.
    /// Read the component's own settings from `settings`; they are finished here.
    pub async fn start(component: &'static str, settings: Settings) -> anyhow::Result<Self> {
        Self::start_at(component, settings, Layout::default(), false).await
    }

    /// The same for a component with `marketBook: true`; `/readyz` waits until the operator put the book in force, or
    /// stays away.
    pub async fn start_with_market_book(component: &'static str, settings: Settings) -> anyhow::Result<Self> {
        Self::start_at(component, settings, Layout::default(), true).await
    }

    /// The same at another place.
    pub async fn start_at(
        component: &'static str,
        mut settings: Settings,
        layout: Layout,
        market_book: bool,
    ) -> anyhow::Result<Self> {
        telemetry::log_to_stdout();
        let environment = Environment::read(&mut settings);
        let drain_period = Duration::from_secs(settings.get("PADDOCK_DRAIN_SECONDS", 30_u64).clamp(1, 3600));
        settings.finish()?;
        let registry = registry(component, &environment)?;
        let metrics = HttpMetrics::register(&registry)?;
        let readiness = Readiness::default();
        let book = market_book
            .then(|| BookHolder::new(readiness.gate("market-book", "the operator has not put it in force yet")));
        let bindings = Arc::new(Bindings::new(environment.bindings.clone()));
        let [http, internal, metrics_port, control_port] = bind(&layout).await?;
        let mut addresses = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)); 4];
        for (slot, listener) in addresses.iter_mut().zip([&http, &internal, &metrics_port, &control_port]) {
            *slot = listener.local_addr()?;
        }
        let service = Self {
            component,
            environment,
            readiness,
            registry,
            metrics,
            bindings,
            tokens: Arc::new(Bindings::new(layout.tokens.clone())),
            token_issuer: layout.token_issuer.clone(),
            book,
            databases: Mutex::default(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            ended: CancellationToken::new(),
            drained: Arc::new(AtomicBool::new(false)),
            drain_period,
            listeners: Mutex::new(Some((http, internal))),
            addresses,
        };
        service.serve_operator(metrics_port, control_port, &layout);
        tracing::info!(
            component,
            tenant = service.environment.tenant,
            environment = service.environment.environment,
            revision = service.environment.revision,
            "started"
        );
        Ok(service)
    }

    /// `metrics` and `control` live until the process ends, and so do the readers of files.
    fn serve_operator(&self, metrics_port: TcpListener, control_port: TcpListener, layout: &Layout) {
        let pod = Pod {
            readiness: self.readiness.clone(),
            registry: self.registry.clone(),
            bindings: Arc::clone(&self.bindings),
            book: self.book.clone(),
            draining: self.draining.clone(),
            drained: Arc::clone(&self.drained),
            token: Arc::from(Path::new(&layout.control_token)),
        };
        let metrics = control::metrics(pod.clone());
        // A market book may be larger than requests of customers.
        let control = control::control(pod).layer(DefaultBodyLimit::max(8 * 1024 * 1024));
        let ended = &self.ended;
        tokio::spawn(http::serve(metrics_port, metrics, ended.clone()));
        tokio::spawn(http::serve(control_port, control, ended.clone()));
        self.background(Arc::clone(&self.bindings).poll());
        self.background(Arc::clone(&self.tokens).poll());
        if let Some(book) = &self.book {
            self.background(book.clone().follow_file(layout.market_book.clone()));
        }
    }

    /// Work that needs no end of its own: it is dropped when the process ends.
    fn background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        tokio::spawn(async move {
            tokio::select! { () = work => {}, () = ended.cancelled() => {} }
        });
    }

    /// Where the pod runs.
    pub const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The writer's part of event envelopes.
    pub fn origin(&self) -> paddock_events::Origin {
        self.environment.origin()
    }

    /// Register metrics here; tenant, environment and component are added.
    pub const fn registry(&self) -> &prometheus::Registry {
        &self.registry
    }

    /// Add gates here for memory that must be filled first.
    pub const fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Addresses of `http`, `internal`, `metrics`, `control`.
    pub const fn addresses(&self) -> [SocketAddr; 4] {
        self.addresses
    }

    /// The market book.
    pub fn market_book(&self) -> anyhow::Result<BookHolder> {
        self.book.clone().context("the service was started without market book; this is a fault of the service")
    }

    /// This component's token for one that it calls.
    pub fn caller_token(&self, callee: &str) -> anyhow::Result<CallerToken> {
        let token = self.tokens.watch(callee).and_then(CallerToken::new);
        token.with_context(|| format!("there is no token for calls to {callee}; add it to the component's `calls`"))
    }

    /// Who may call this component. `/readyz` waits for the keys of the token issuer.
    pub fn callers(&self, table: &'static [Allowed]) -> Callers {
        let callers = Callers::new(self.component, &self.environment.namespace(), table);
        let gate = self.readiness.gate("token-issuer", "not read yet");
        self.background(callers.clone().follow(self.token_issuer.clone(), gate));
        callers
    }

    /// The database of a need, with default bounds.
    pub fn postgres(&self, need: &str) -> anyhow::Result<Database> {
        self.postgres_bounded(need, PoolBounds::default())
    }

    /// The database of a need.
    pub fn postgres_bounded(&self, need: &str, bounds: PoolBounds) -> anyhow::Result<Database> {
        let binding = self.bindings.watch(need)?;
        let database = Database::connect(&Arc::clone(&binding.borrow()), bounds)?;
        let gate = self.readiness.gate(format!("binding {need}"), "the database has not answered yet");
        self.background(database.clone().follow(binding, bounds));
        self.background(database.clone().watch_server(gate));
        self.databases.lock().unwrap_or_else(PoisonError::into_inner).push(database.clone());
        Ok(database)
    }

    /// The bus of a need.
    pub fn kafka(&self, need: &str) -> anyhow::Result<Bus> {
        let bus = Bus::new(self.bindings.watch(need)?)?;
        let gate = self.readiness.gate(format!("binding {need}"), "the broker has not answered yet");
        self.background(bus.clone().watch_server(gate));
        Ok(bus)
    }

    /// Cancelled when the pod drains: tasks end their present step and return, WebSockets say goodbye.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Runs work that must end in order when the pod drains. An error ends the process, so that it starts anew.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let (draining, ended) = (self.draining.clone(), self.ended.clone());
        self.tasks.spawn(async move {
            if let Err(error) = work.await {
                tracing::error!(task = name, error = format!("{error:#}"), "task failed, the pod starts anew");
                draining.cancel();
                ended.cancel();
            } else if !draining.is_cancelled() {
                tracing::error!(task = name, "task ended before the pod, the pod starts anew");
                draining.cancel();
                ended.cancel();
            }
        });
    }

    /// Serves the business ports until SIGTERM or SIGINT, then drains and returns.
    pub async fn serve(self, apps: Apps) -> anyhow::Result<()> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (http, internal) = listeners.context("a service serves once")?;
        for (listener, router, port) in [(http, apps.http, "http"), (internal, apps.internal, "internal")] {
            let router = http::bounded(router, port, self.metrics.clone());
            let end = self.draining.clone();
            self.tasks.spawn(async move {
                if let Err(error) = http::serve(listener, router, end).await {
                    tracing::error!(port, %error, "server failed");
                }
            });
        }
        self.tasks.close();
        let failed = self.ended.clone();
        let told = async {
            tokio::select! { done = signalled() => done, () = failed.cancelled() => Ok(()) }
        };
        let mut told = std::pin::pin!(told);
        // Drained by the control port first, or told to end at once: either way the same steps, once.
        let early = tokio::select! {
            done = &mut told => Some(done),
            () = self.draining.cancelled() => None,
        };
        tracing::info!("draining");
        self.draining.cancel();
        if tokio::time::timeout(self.drain_period, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                seconds = self.drain_period.as_secs(),
                "work is left that did not end within the drain period"
            );
        }
        self.drained.store(true, Ordering::Release);
        let databases = std::mem::take(&mut *self.databases.lock().unwrap_or_else(PoisonError::into_inner));
        for database in databases {
            let _closed = tokio::time::timeout(Duration::from_secs(3), database.close()).await;
        }
        let failed = self.ended.is_cancelled();
        match early {
            Some(done) => done?,
            None if failed => {}
            None => told.await?,
        }
        self.ended.cancel();
        anyhow::ensure!(!failed, "a task failed; its error stands above");
        tracing::info!("ended");
        Ok(())
    }
}

fn registry(component: &str, environment: &Environment) -> anyhow::Result<prometheus::Registry> {
    let labels = [
        ("tenant", environment.tenant.as_str()),
        ("environment", environment.environment.as_str()),
        ("component", component),
    ];
    let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let registry = prometheus::Registry::new_custom(None, Some(labels))?;
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    Ok(registry)
}

async fn bind(layout: &Layout) -> anyhow::Result<[TcpListener; 4]> {
    let [http, internal, metrics, control] = layout.ports;
    let bind = async |port: u16| {
        TcpListener::bind((layout.address, port))
            .await
            .with_context(|| format!("port {port} is taken; nothing else may listen on it in this pod"))
    };
    Ok([bind(http).await?, bind(internal).await?, bind(metrics).await?, bind(control).await?])
}

async fn signalled() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
    Ok(())
}
