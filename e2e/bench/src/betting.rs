//! Bets, prices and suspensions on a real cluster with the examples.

use crate::report::{Report, shown};
use crate::versions;
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

/// How long a program beside a server may take that has little to do.
const SHORT: Duration = Duration::from_mins(3);

/// Measures and reports.
pub async fn run(report: &mut Report, bettors: usize, seconds: u64) -> Result<()> {
    let installation = Installation::up("bench", Progress::visible()).await?;
    installation.examples().await?;
    let brand = installation.brand("acme.localhost")?;
    play::answers(&brand).await?;

    report.version(format!("Kubernetes {}", installation.client.apiserver_version().await?.git_version));
    let psql = ["psql", "-h", "/tmp", "-U", "postgres", "-Atc", "show server_version"];
    report.version(format!("PostgreSQL {}", in_pod(&installation, "pg-prod-0", &psql, SHORT).await?.trim()));
    report.version(format!("Kafka {}", kafka(&installation, &["kafka.Kafka", "--version"]).await?.trim()));
    report.version(versions::gateway(&installation).await?);

    pgbench_tables(&installation, bettors).await?;
    let before = pgbench(&installation, bettors, seconds).await?;
    let Bets { accepted, refused, took, latencies } = bets(&installation, bettors, seconds).await?;
    let after = pgbench(&installation, bettors, seconds).await?;
    on_postgresql(&installation, "psql -qc 'drop database bench'", SHORT).await?;
    report.row(
        &format!("bets through the Gateway, {bettors} bettors, durable hold, {seconds} s"),
        format!("{} bets/s accepted ({accepted} accepted, {refused} refused), {}", rate(accepted, took), shown(latencies)),
        format!(
            "pgbench TPC-B on the same server, {bettors} clients, scale {bettors}, {seconds} s: {before} tps before, {after} tps after"
        ),
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

/// What the bettors saw.
struct Bets {
    accepted: u64,
    refused: u64,
    /// Until the last answer.
    took: Duration,
    /// Of accepted bets.
    latencies: Vec<Duration>,
}

/// Per second, in whole ones.
fn rate(count: u64, took: Duration) -> u128 {
    u128::from(count) * 1000 / took.as_millis().max(1)
}

async fn bets(installation: &Installation, bettors: usize, seconds: u64) -> Result<Bets> {
    let brand = installation.brand("acme.localhost")?;
    // Its prices stand still for as long as the load lasts.
    let ahead = Duration::from_secs(seconds + 60);
    let found = play::upcoming(&brand, 1, ahead, Duration::from_mins(4)).await?;
    let mut customers = Vec::new();
    for _ in 0..bettors {
        customers.push(funded(installation).await?);
    }
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
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
    let took = start.elapsed();
    Ok(Bets { accepted: accepted.load(Ordering::Relaxed), refused: refused.load(Ordering::Relaxed), took, latencies })
}

/// Runs a command in a pod of the database servers; what it printed.
async fn in_pod(installation: &Installation, pod: &str, command: &[&str], deadline: Duration) -> Result<String> {
    let args = [["exec", "-n", paddock_cluster::DATABASES_NAMESPACE, pod, "--"].as_slice(), command].concat();
    Ok(installation.cluster.kubectl_with_deadline(&args, deadline).await?)
}

/// Runs a program of Kafka's beside acme's broker, small enough for its pod.
async fn kafka(installation: &Installation, args: &[&str]) -> Result<String> {
    let java = ["/opt/java/bin/java", "-Xms16m", "-Xmx64m", "-cp", "/opt/kafka/libs/*"];
    in_pod(installation, "kafka-prod-0", &[java.as_slice(), args].concat(), SHORT).await
}

/// Runs a script beside acme's PostgreSQL server, as its superuser.
async fn on_postgresql(installation: &Installation, script: &str, deadline: Duration) -> Result<String> {
    let script = format!(
        "set -e; cd /tmp; export PGHOST=/tmp PGUSER=postgres PGDATABASE=postgres PATH=/usr/lib/postgresql/15/bin:$PATH; {script}"
    );
    in_pod(installation, "pg-prod-0", &["bash", "-c", &script], deadline).await
}

/// Makes pgbench's tables in a database of its own. Every transaction updates one of `scale` rows: with fewer rows than clients it would
/// measure how they wait for each other.
async fn pgbench_tables(installation: &Installation, scale: usize) -> Result<()> {
    // An interrupted run leaves its database. The checkpoint writes the tables now, and not while something is measured.
    let script = format!(
        "psql -qc 'drop database if exists bench with (force)'; psql -qc 'create database bench'; \
         pgbench -i -q -s {scale} bench; psql -qc checkpoint"
    );
    on_postgresql(installation, &script, Duration::from_mins(5)).await.map(drop)
}

/// Transactions per second of pgbench's TPC-B on acme's server. It begins with a vacuum of the small tables and an empty history, so
/// that a second run finds what the first one found.
async fn pgbench(installation: &Installation, clients: usize, seconds: u64) -> Result<String> {
    let script = format!("pgbench -c {clients} -j 2 -T {seconds} bench");
    let output = on_postgresql(installation, &script, SHORT + Duration::from_secs(seconds)).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_the_part_of_a_second() {
        assert_eq!(rate(300, Duration::from_millis(1500)), 200);
        assert_eq!(rate(300, Duration::ZERO), 300_000);
    }
}
