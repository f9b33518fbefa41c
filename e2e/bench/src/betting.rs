//! Bets, prices and suspensions on a real cluster with the examples.

use crate::report::{Report, shown};
use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, WatchParams};
use paddock_cluster::Progress;
use paddock_demo::bettor::{Bettor, receive};
use paddock_demo::{Installation, play};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Measures and reports.
pub async fn run(report: &mut Report, bettors: usize, seconds: u64) -> Result<()> {
    let installation = Installation::up("bench", Progress::visible()).await?;
    installation.examples().await?;
    let brand = installation.brand("acme.localhost")?;
    play::answers(&brand).await?;

    report.version(format!("Kubernetes {}", installation.client.apiserver_version().await?.git_version));
    let psql = ["psql", "-h", "/tmp", "-U", "postgres", "-Atc", "show server_version"];
    report.version(format!("PostgreSQL {}", in_pod(&installation, "pg-prod-0", &psql).await?.trim()));
    report.version(format!("Kafka {}", kafka(&installation, &["kafka.Kafka", "--version"]).await?.trim()));

    let before = pgbench(&installation, bettors).await?;
    let (rate, accepted, refused, latencies) = bets(&installation, bettors, seconds).await?;
    let after = pgbench(&installation, bettors).await?;
    report.row(
        &format!("bets through the Gateway, {bettors} bettors, durable hold"),
        format!("{rate} bets/s accepted ({accepted} accepted, {refused} refused), {}", shown(latencies)),
        format!("pgbench TPC-B on the same server, {bettors} clients: {before} tps before, {after} tps after"),
    );
    report.row(
        "price change at the feed → WebSocket client (two topics and two services between)",
        shown(prices(&installation, seconds).await?),
        format!("one topic of the same broker, there and back: {}", one_topic(&installation).await?),
    );
    let suspended = shown(suspensions(&installation).await?);
    report.row(
        "patch of a suspended Market → answer of the first refused bet",
        suspended,
        format!("patch of a ConfigMap → a bare watch shows it: {}", shown(bare_watch(&installation).await?)),
    );
    Ok(())
}

async fn funded(installation: &Installation) -> Result<Bettor> {
    let bettor = installation.brand("acme.localhost")?.register("EUR").await?;
    installation.credit(&bettor.customer_id, "EUR", "5000.00").await?;
    Ok(bettor)
}

async fn bets(installation: &Installation, bettors: usize, seconds: u64) -> Result<(u64, u64, u64, Vec<Duration>)> {
    let brand = installation.brand("acme.localhost")?;
    // Its prices stand still for as long as the load lasts.
    let ahead = Duration::from_secs(seconds + 60);
    let found = play::upcoming(&brand, 1, ahead, Duration::from_mins(4)).await?;
    let mut customers = Vec::new();
    for _ in 0..bettors {
        customers.push(funded(installation).await?);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let tasks: Vec<_> = customers
        .into_iter()
        .map(|bettor| {
            let (accepted, refused, selection) = (Arc::clone(&accepted), Arc::clone(&refused), found.selection.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    let sent = Instant::now();
                    let (_, answer) = bettor.bet(&uuid::Uuid::now_v7().to_string(), "0.10", &selection).await?;
                    if answer.get("status").and_then(Value::as_str) == Some("accepted") {
                        latencies.push(sent.elapsed());
                        accepted.fetch_add(1, Ordering::Relaxed);
                    } else {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let (accepted, refused) = (accepted.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    Ok((accepted / start.elapsed().as_secs().max(1), accepted, refused, latencies))
}

/// Runs a command in a pod of the database servers; what it printed.
async fn in_pod(installation: &Installation, pod: &str, command: &[&str]) -> Result<String> {
    let args = [["exec", "-n", paddock_cluster::DATABASES_NAMESPACE, pod, "--"].as_slice(), command].concat();
    Ok(installation.cluster.kubectl_with_deadline(&args, Duration::from_mins(3)).await?)
}

/// Runs a program of Kafka's beside acme's broker, small enough for its pod.
async fn kafka(installation: &Installation, args: &[&str]) -> Result<String> {
    let java = ["/opt/java/bin/java", "-Xms16m", "-Xmx64m", "-cp", "/opt/kafka/libs/*"];
    in_pod(installation, "kafka-prod-0", &[java.as_slice(), args].concat()).await
}

/// Transactions per second of pgbench's TPC-B on acme's server, in a database of its own.
async fn pgbench(installation: &Installation, clients: usize) -> Result<String> {
    let script = format!(
        "cd /tmp; export PGHOST=/tmp PGUSER=postgres; B=/usr/lib/postgresql/15/bin; psql -qc 'create database bench' postgres 2>/dev/null; \
         $B/pgbench -i -s 5 -q bench >/dev/null 2>&1; $B/pgbench -n -c {clients} -j 2 -T 10 bench; psql -qc 'drop database bench' postgres"
    );
    let output = in_pod(installation, "pg-prod-0", &["bash", "-c", &script]).await?;
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))
        .with_context(|| format!("pgbench said: {output}"))?;
    Ok(line.split('.').next().unwrap_or(line).to_owned())
}

/// Kafka's own measure: a message to a topic of acme's broker and back, one at a time.
async fn one_topic(installation: &Installation) -> Result<String> {
    let args = ["org.apache.kafka.tools.EndToEndLatency", "localhost:9092", "bench-latency", "2000", "all", "300"];
    let output = kafka(installation, &args).await?;
    // "Percentiles: 50th = 1, 99th = 4, 99.9th = 9"
    let line = output.lines().find(|line| line.contains("50th")).with_context(|| format!("Kafka said: {output}"))?;
    Ok(format!("{} (ms, n=2000)", line.trim()))
}

/// The least that any reaction to a changed object costs: the API server's answer on a watch.
async fn bare_watch(installation: &Installation) -> Result<Vec<Duration>> {
    let maps: Api<ConfigMap> = Api::namespaced(installation.client.clone(), "default");
    let map = |value: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bench-watch"}, "data": {"n": value.to_string()}});
    let params = PatchParams::apply("bench");
    let first = maps.patch("bench-watch", &params, &Patch::Apply(&map(0))).await?;
    let only = WatchParams::default().fields("metadata.name=bench-watch");
    let mut changes = maps.watch(&only, &first.resource_version().unwrap_or_default()).await?.boxed();
    let mut samples = Vec::new();
    for n in 1..=20 {
        let start = Instant::now();
        maps.patch("bench-watch", &params, &Patch::Apply(&map(n))).await?;
        tokio::time::timeout(Duration::from_secs(10), changes.next()).await?.context("the watch ended")??;
        samples.push(start.elapsed());
    }
    maps.delete("bench-watch", &DeleteParams::default()).await?;
    Ok(samples)
}

/// Time from the feed's own timestamp of a price to its frame here; one clock, as all is on this machine.
async fn prices(installation: &Installation, seconds: u64) -> Result<Vec<Duration>> {
    let brand = installation.brand("acme.localhost")?;
    let found = play::find(&brand, "live", 1, Duration::from_mins(4)).await?;
    let (mut stream, _) = play::watch(&brand, None, &format!("event:{}", found.event)).await?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut samples = Vec::new();
    while Instant::now() < end {
        let Ok(frame) = receive(&mut stream, end.saturating_duration_since(Instant::now())).await else { break };
        let now = jiff::Timestamp::now().as_millisecond();
        for line in frame.pointer("/payload/lines").and_then(Value::as_array).into_iter().flatten() {
            if let Some(at) = line.pointer("/source/timestamp").and_then(Value::as_i64) {
                samples.push(Duration::from_millis(u64::try_from(now.saturating_sub(at)).unwrap_or(0)));
            }
        }
    }
    Ok(samples)
}

async fn suspensions(installation: &Installation) -> Result<Vec<Duration>> {
    let bettor = funded(installation).await?;
    let mut samples = Vec::new();
    for _ in 0..10 {
        // Far from its kick-off: only the suspension can refuse a bet on it.
        let found = play::upcoming(&bettor.brand, 1, Duration::from_mins(1), Duration::from_mins(4)).await?;
        let start = Instant::now();
        installation.set_market_state("acme-prod", "soccer-match-result", "Suspended").await?;
        let limit = Duration::from_secs(30);
        let refused = play::until_refused(&bettor, "0.10", &found.selection, "market-suspended", start, limit).await;
        installation.set_market_state("acme-prod", "soccer-match-result", "Open").await?;
        samples.push(refused?.0);
    }
    Ok(samples)
}
