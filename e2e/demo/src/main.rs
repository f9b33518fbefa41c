//! `make demo`: from nothing to a bet placed, settled and paid.
#![allow(clippy::print_stdout, reason = "this program talks to the person who runs it")]

use anyhow::{Context as _, Result};
use paddock_cluster::Progress;
use paddock_demo::{Installation, play};
use serde_json::Value;
use std::time::{Duration, Instant};

#[derive(clap::Parser)]
#[command(about = "Two brands on a real Kubernetes on this machine, and one bet")]
struct Arguments {
    /// Name of the cluster.
    #[arg(long, default_value = "demo")]
    name: String,
    /// Only install and wait until every tenant is Ready.
    #[arg(long)]
    no_play: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Arguments = clap::Parser::parse();
    rustls::crypto::ring::default_provider().install_default().ok().context("a TLS provider was installed twice")?;
    let start = Instant::now();
    announce();
    let installation = Installation::up(&arguments.name, Progress::visible()).await?;
    installation.examples().await?;
    println!("\nEvery tenant is Ready after {} s.\n", start.elapsed().as_secs());
    if !arguments.no_play {
        afternoon(&installation).await?;
    }
    farewell(&installation, &arguments.name, start);
    Ok(())
}

fn announce() {
    println!(
        "This brings up a real Kubernetes on this machine in a network namespace of its own, the operator, two databases"
    );
    println!("servers, two brokers and three tenants, and then plays a customer's afternoon.");
    println!(
        "  time    first run about 35 minutes on 2 cores (Kubernetes, containerd, Envoy Gateway are built from source),"
    );
    println!("          later runs 2 to 6 minutes, most of it the match that is bet on");
    println!("  disk    about 12 GB of caches and images    memory  below 8 GiB while it runs");
    println!("  leaves  a running cluster; `make demo-down` removes it\n");
}

fn say(step: &str, text: impl std::fmt::Display) {
    println!("  {step:<22} {text}");
}

async fn afternoon(installation: &Installation) -> Result<()> {
    let brand = installation.brand("acme.localhost")?;
    play::answers(&brand).await?;
    println!("A customer's afternoon at {}", brand.base);

    let bettor = brand.register("EUR").await?;
    say("register, log in", &bettor.email);
    installation.credit(&bettor.customer_id, "EUR", "100.00").await?;
    say("cashier's credit", "100.00 EUR");
    say("wallet", balance(&bettor.wallet().await?));

    let found = play::find(&brand, "not_started", 1, Duration::from_secs(180)).await?;
    say("offer", format!("{}, home win at {}", found.name, found.selection.odds));

    let ticket = play::bet(&bettor, "10.00", &found.selection).await?;
    let id =
        paddock_demo::bettor::text(&ticket, "/ticketId").with_context(|| format!("the bet was refused: {ticket}"))?;
    say(
        "bet 10.00 EUR",
        format!("{} (ticket {id}, could pay {})", text(&ticket, "/status"), text(&ticket, "/potentialPayout")),
    );
    anyhow::ensure!(text(&ticket, "/status") == "accepted", "the bet was not accepted: {ticket}");
    say("wallet", balance(&bettor.wallet().await?));

    suspend(installation, &bettor, &found.selection).await?;
    prices_and_bet_stop(&brand, &bettor, &found).await?;

    let settled = play::settled(&bettor, &id, Duration::from_mins(12)).await?;
    say(
        "full time, settlement",
        format!("{} pays {}", text(&settled, "/bets/0/selections/0/result"), text(&settled, "/bets/0/payout")),
    );
    say("wallet", balance(&bettor.wallet().await?));
    let entries = bettor.entries().await?;
    for entry in entries.get("entries").and_then(Value::as_array).into_iter().flatten() {
        let route = format!("{} → {}", text(entry, "/from"), text(entry, "/to"));
        say(
            "ledger",
            format!("{:>9} {}  {route} ({})", text(entry, "/change"), text(entry, "/currency"), text(entry, "/reason")),
        );
    }
    Ok(())
}

async fn suspend(
    installation: &Installation,
    bettor: &paddock_demo::bettor::Bettor,
    selection: &paddock_demo::bettor::Selection,
) -> Result<()> {
    installation.set_market_state("acme-prod", "soccer-match-result", "Suspended").await?;
    let (after, code, accepted) =
        play::until_refused(bettor, "0.50", selection, Instant::now(), Duration::from_secs(20)).await?;
    say(
        "kubectl patch: suspend",
        format!("a bet is refused ({code}) {} ms after it, {accepted} accepted before", after.as_millis()),
    );
    installation.set_market_state("acme-prod", "soccer-match-result", "Open").await
}

/// Watches the event: prices move, the match begins, the feed stops bets before a goal or at the end.
async fn prices_and_bet_stop(
    brand: &paddock_demo::bettor::Brand,
    bettor: &paddock_demo::bettor::Bettor,
    found: &play::Found,
) -> Result<()> {
    let (mut stream, _) = play::watch(brand, None, &format!("event:{}", found.event)).await?;
    say("stream", format!("watching {}", found.name));
    let (mut moves, mut last) = (0_u32, String::new());
    let limit = Instant::now() + Duration::from_mins(10);
    while Instant::now() < limit {
        let frame = paddock_demo::bettor::receive(&mut stream, Duration::from_secs(120)).await?;
        for line in frame.pointer("/payload/lines").and_then(Value::as_array).into_iter().flatten() {
            if line.get("marketId").and_then(Value::as_u64) != Some(1) {
                continue;
            }
            let prices: Vec<String> = line
                .get("outcomes")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|outcome| text(outcome, "/odds"))
                .collect();
            let now = prices.join(" / ");
            if now != last {
                moves += 1;
                if moves <= 8 || moves.is_multiple_of(20) {
                    say("price", format!("{now}  ({}, {})", text(line, "/phase"), text(line, "/status")));
                }
                last = now;
            }
            if text(line, "/phase") == "live"
                && text(line, "/status") == "suspended"
                && text(line, "/suspendedBy") == "feed"
            {
                let answer = play::bet(bettor, "0.50", &found.selection).await?;
                if text(&answer, "/status") != "accepted" {
                    say("feed's bet stop", format!("a bet is refused ({})", play::code(&answer)));
                    return Ok(());
                }
            }
        }
    }
    anyhow::bail!("the feed did not stop bets on {} within 10 minutes", found.name)
}

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".into(),
        Some(other) => other.to_string(),
    }
}

fn balance(wallet: &Value) -> String {
    play::amounts(wallet, "EUR").map_or_else(
        || wallet.to_string(),
        |(available, held, at_stake)| format!("available {available}, held {held}, at stake {at_stake} EUR"),
    )
}

fn farewell(installation: &Installation, name: &str, start: Instant) {
    let cluster = &installation.cluster;
    println!("\nDone in {} s. The cluster stays up.", start.elapsed().as_secs());
    println!("  page         https://acme.localhost:{0}  https://zenith.localhost:{0}", cluster.gateway_https_port());
    println!("  CA file      {}", cluster.ca_file().display());
    println!("  KUBECONFIG   {}", cluster.kubeconfig().display());
    println!("  logs         {}", cluster.logs().display());
    println!("Try:");
    println!("  eval \"$(target/debug/paddock-cluster env --name {name})\"");
    println!("  kubectl get tenants,bsvc,mkt,dbc -A");
    println!("  kubectl describe tenant acme");
    println!("  kubectl explain market.spec.margin");
    println!(
        "  kubectl -n acme-prod patch mkt soccer-match-result --type merge -p '{{\"spec\":{{\"state\":\"Suspended\"}}}}'"
    );
    println!("  make demo-down");
}
