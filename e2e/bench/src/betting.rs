//! Bets, prices and suspensions on a real cluster with the examples.

use crate::report::{Report, shown};
use anyhow::{Context as _, Result};
use paddock_cluster::Progress;
use paddock_demo::bettor::{Bettor, receive};
use paddock_demo::{Installation, play};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Measures and reports.
pub async fn run(report: &mut Report, bettors: usize, seconds: u64) -> Result<()> {
    let installation = Installation::up("bench", Progress::visible()).await?;
    installation.examples().await?;
    let brand = installation.brand("acme.localhost")?;
    play::answers(&brand).await?;

    let before = pgbench(&installation, bettors).await?;
    let (rate, accepted, refused, latencies) = bets(&installation, bettors, seconds).await?;
    let after = pgbench(&installation, bettors).await?;
    report.row(
        &format!("bets through the Gateway, {bettors} bettors, durable hold"),
        format!("{rate} bets/s accepted ({accepted} accepted, {refused} refused), {}", shown(latencies)),
        format!("pgbench TPC-B on the same server, {bettors} clients: {before} tps before, {after} tps after"),
    );
    report.row("price change at the feed → WebSocket client", shown(prices(&installation, seconds).await?), "-");
    report.row(
        "kubectl apply of a suspended Market → first refused bet",
        shown(suspensions(&installation).await?),
        "-",
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
    let found = play::find(&brand, "not_started", 1, Duration::from_mins(4)).await?;
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

/// Transactions per second of pgbench's TPC-B on acme's server, in a database of its own.
async fn pgbench(installation: &Installation, clients: usize) -> Result<String> {
    let script = format!(
        "cd /tmp; export PGHOST=/tmp PGUSER=postgres; B=/usr/lib/postgresql/15/bin; psql -qc 'create database bench' postgres 2>/dev/null; \
         $B/pgbench -i -s 5 -q bench >/dev/null 2>&1; $B/pgbench -n -c {clients} -j 2 -T 10 bench; psql -qc 'drop database bench' postgres"
    );
    let output = installation
        .cluster
        .kubectl_with_deadline(
            &["exec", "-n", paddock_cluster::DATABASES_NAMESPACE, "pg-prod-0", "--", "bash", "-c", &script],
            Duration::from_mins(3),
        )
        .await?;
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))
        .with_context(|| format!("pgbench said: {output}"))?;
    Ok(line.split('.').next().unwrap_or(line).to_owned())
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
        let found = play::find(&bettor.brand, "not_started", 1, Duration::from_mins(4)).await?;
        let start = Instant::now();
        installation.set_market_state("acme-prod", "soccer-match-result", "Suspended").await?;
        let (after, _, _) =
            play::until_refused(&bettor, "0.10", &found.selection, start, Duration::from_secs(30)).await?;
        samples.push(after);
        installation.set_market_state("acme-prod", "soccer-match-result", "Open").await?;
    }
    Ok(samples)
}
