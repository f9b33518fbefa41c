//! The Paddock operator: one process that leads, any number that stand by.

use anyhow::Context as _;
use clap::Parser as _;
use paddock_operator::{
    cli::Cli,
    controllers::{self, Ctx, States, Terms},
    http::{App, router},
    issuer::Issuer,
    kube::{Cache, Events, client},
    leader::{Elector, End, Leadership, Timing},
    metrics::Metrics,
    readiness::Readiness,
    settings::Settings,
    telemetry::Telemetry,
};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let settings = Cli::parse().settings;
    // Two crates with different providers would panic at the first connection: there is one, chosen here.
    let provider = rustls::crypto::ring::default_provider().install_default();
    let telemetry = Telemetry::install(&settings.log, settings.otlp_endpoint.as_deref());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let (Ok(()), Ok(telemetry), Ok(runtime)) = (provider, &telemetry, runtime) else {
        use std::io::Write as _;
        let reason =
            telemetry.err().map_or_else(|| "the process cannot be set up".to_owned(), |error| format!("{error:#}"));
        let _ = writeln!(std::io::stderr(), "paddock-operator: {reason}");
        return ExitCode::from(2);
    };
    let result = runtime.block_on(operate(settings, telemetry.clone()));
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#}"), "the operator ends");
    }
    telemetry.flush();
    runtime.shutdown_timeout(Duration::from_secs(1));
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn operate(settings: Settings, telemetry: Telemetry) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        asked.cancel();
    });
    let metrics = Arc::new(Metrics::new()?);
    let (cache, leader, terms, states) = (Cache::new(), Leadership::new(), Terms::default(), States::default());
    let readiness = Readiness::new(cache.clone(), leader.clone());
    let listener = tokio::net::TcpListener::bind(settings.http).await;
    let listener = listener.with_context(|| format!("cannot listen on {}: choose another --http", settings.http))?;
    let app = App {
        metrics: metrics.clone(),
        cache: cache.clone(),
        readiness: readiness.clone(),
        leader: leader.clone(),
        states: states.clone(),
        telemetry,
    };
    tokio::spawn(async move { axum::serve(listener, router(app)).await });

    let config = kube::Config::infer().await.context("no way to the apiserver: run in a cluster or set KUBECONFIG")?;
    let client = client::build(config, &metrics)?;
    let events = Events::new(client.clone(), &settings.pod_name, metrics.clone());
    readiness.wait_definitions(&client, &metrics, &stop).await;
    // A standby fills its cache too, so that it can take over at once. The watches end with the process, and it with them.
    let watches = CancellationToken::new();
    cache.start(&client, &settings.operator_namespace, &metrics, &events, &watches);
    readiness.wait_rights(&client, &settings.operator_namespace, &metrics, &stop).await;

    let me = format!("{}_{}", settings.pod_name, uuid::Uuid::now_v7());
    let mut elector = Elector::new(
        client.clone(),
        &settings.operator_namespace,
        &settings.lease,
        &me,
        Timing::default(),
        leader.clone(),
    );
    let Some(epoch) = elector.acquire(&stop).await else { return Ok(()) };
    tracing::info!(epoch, holder = me, "leading");
    let (settings, issuer) = (Arc::new(settings), Issuer::default());
    let cluster = OnceCell::new();
    let ctx =
        Arc::new(Ctx { client, settings, cache, events, metrics, leader, cluster, terms, issuer, states, readiness });
    let resign = CancellationToken::new();
    let result = {
        let mut hold = std::pin::pin!(elector.hold(&resign));
        let result = tokio::select! {
            // Everything of ours ends with the process, at once: nothing may be written any more (rule O5).
            _ = &mut hold => anyhow::bail!("the lease was lost: another replica leads"),
            () = watches.cancelled() => anyhow::bail!("a watch ended by a defect: report it with the log"),
            result = controllers::work(&ctx, &stop) => result,
        };
        resign.cancel();
        // A renewal under way comes to its end, so that the release knows the lease's version.
        anyhow::ensure!(hold.await == End::Stopped, "the lease was lost while stopping");
        result
    };
    elector.release().await;
    result
}
