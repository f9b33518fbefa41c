//! `make demo`: from nothing to a bet placed, settled and paid.
#![allow(clippy::print_stdout, reason = "this program talks to the person who runs it")]

use anyhow::{Context as _, Result};
use paddock_cluster::{Access, DEFAULT_NAME, Progress};
use paddock_demo::bettor::{self, Bettor, Brand, receive};
use paddock_demo::{Installation, OPERATOR_NAMESPACE, play};
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
    let installation = Installation::up(&arguments.name, Progress::visible()).await?;
    installation.examples().await?;
    println!("\nEvery tenant is Ready after {} s.\n", start.elapsed().as_secs());
    let bettor = if arguments.no_play { None } else { Some(afternoon(&installation).await?) };
    farewell(&installation, bettor.as_ref(), start)
}

fn say(step: &str, text: impl std::fmt::Display) {
    println!("  {step:<22} {text}");
}

/// What a customer sees and does. The match is one that is played already, so that its end is a minute or two away; there is a bet on
/// each outcome, so that one of them is paid, whatever happens.
async fn afternoon(installation: &Installation) -> Result<Bettor> {
    let brand = installation.brand("acme.localhost")?;
    play::answers(&brand).await?;
    println!("A customer's afternoon at {}", brand.base);

    let bettor = brand.register("EUR").await?;
    say("register, log in", &bettor.email);
    installation.credit(&bettor.customer_id, "EUR", "100.00").await?;
    say("cashier's credit", "100.00 EUR");
    say("wallet", balance(&bettor.wallet().await?));

    let next = play::find(&brand, "not_started", 1, Duration::from_mins(3)).await?;
    say("offer, before", format!("{}  {}", next.name, odds(&next)));
    let found = play::closing(&brand, 1, Duration::from_mins(8)).await?;
    say("offer, in play", format!("{}  {} (minute {})", found.name, odds(&found), found.minute));

    let ticket = play::bet_on_each(&bettor, "10.00", &found.outcomes).await?;
    anyhow::ensure!(text(&ticket, "/status") == "accepted", "the ticket was not accepted: {ticket}");
    let id = bettor::text(&ticket, "/ticketId")?;
    for bet in bets(&ticket) {
        let price = text(bet, "/selections/0/odds");
        say("bet 10.00 EUR", format!("at {price} could pay {}", text(bet, "/potentialPayout")));
    }
    say("wallet", balance(&bettor.wallet().await?));

    suspend(installation, &bettor).await?;
    prices_and_bet_stop(&brand, &bettor, &found).await?;

    let settled = play::settled(&bettor, &id, Duration::from_mins(12)).await?;
    for bet in bets(&settled) {
        let outcome = format!("{} pays {}", text(bet, "/selections/0/result"), text(bet, "/payout"));
        say("full time, settlement", outcome);
    }
    anyhow::ensure!(
        bets(&settled).filter(|bet| text(bet, "/payout") != "0.00").count() == 1,
        "one outcome of a match happens, so one bet of three is paid: {settled}"
    );
    say("wallet", balance(&bettor.wallet().await?));
    let entries = bettor.entries().await?;
    for entry in entries.get("entries").and_then(Value::as_array).into_iter().flatten() {
        let route = format!("{} → {}", text(entry, "/from"), text(entry, "/to"));
        let amount = format!("{:>9} {}", text(entry, "/change"), text(entry, "/currency"));
        say("ledger", format!("{amount}  {route} ({})", text(entry, "/reason")));
    }
    Ok(bettor)
}

fn bets(ticket: &Value) -> impl Iterator<Item = &Value> {
    ticket.get("bets").and_then(Value::as_array).into_iter().flatten()
}

fn odds(found: &play::Found) -> String {
    found.outcomes.iter().map(|selection| selection.odds.as_str()).collect::<Vec<_>>().join(" / ")
}

/// Suspends a market and bets on it. The match is chosen now, far from its kick-off, so that nothing else can refuse the bet.
async fn suspend(installation: &Installation, bettor: &Bettor) -> Result<()> {
    let found = play::upcoming(&bettor.brand, 1, Duration::from_mins(1), Duration::from_mins(4)).await?;
    installation.set_market_state("acme-prod", "soccer-match-result", "Suspended").await?;
    let (since, limit, code) = (Instant::now(), Duration::from_secs(20), "market-suspended");
    let refused = play::until_refused(bettor, "0.50", &found.selection, code, since, limit).await;
    installation.set_market_state("acme-prod", "soccer-match-result", "Open").await?;
    let (after, accepted) = refused?;
    say(
        "kubectl patch: suspend",
        format!("a bet is refused ({code}) {} ms after it, {accepted} accepted before", after.as_millis()),
    );
    Ok(())
}

/// Watches the event: prices move, and the feed stops bets before a goal or at the end.
async fn prices_and_bet_stop(brand: &Brand, bettor: &Bettor, found: &play::Found) -> Result<()> {
    let (mut stream, _) = play::watch(brand, None, &format!("event:{}", found.event)).await?;
    say("stream", format!("watching {}", found.name));
    let (mut moves, mut last) = (0_u32, String::new());
    let limit = Instant::now() + Duration::from_mins(10);
    while Instant::now() < limit {
        let frame = receive(&mut stream, Duration::from_mins(2)).await?;
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
                if let Some(code) = play::code(&answer) {
                    // Suspended, or over by the time the bet arrives; anything else is no bet stop.
                    anyhow::ensure!(matches!(code.as_str(), "market-suspended" | "market-closed"), "{answer}");
                    say("feed's bet stop", format!("a bet is refused ({code})"));
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

fn farewell(installation: &Installation, bettor: Option<&Bettor>, start: Instant) -> Result<()> {
    let cluster = &installation.cluster;
    println!("\nDone in {} s. The cluster stays up.", start.elapsed().as_secs());
    let port = cluster.gateway_address().port();
    println!("  page         https://acme.localhost:{port}  https://zenith.localhost:{port}");
    if let Some(Bettor { email, password, .. }) = bettor {
        println!("  log in       {email} / {password}");
    }
    println!("  CA file      {}", cluster.ca_file()?.display());
    let tool = paddock_cluster::sibling("paddock-cluster").unwrap_or_else(|| "paddock-cluster".into());
    let tool = tool.display();
    let end = match cluster {
        Access::Local(local) => {
            println!("  KUBECONFIG   {}", local.kubeconfig().display());
            println!("  logs         {}", local.logs().display());
            println!("Try:");
            println!("  eval \"$({tool} env --name {})\"", local.name());
            if local.name() == DEFAULT_NAME {
                "make demo-down".into()
            } else {
                format!("{tool} down --name {}", local.name())
            }
        }
        Access::Own(_) => {
            println!("Try:");
            // The operator ends its tenants, so it goes last.
            format!("kubectl delete tenants --all && helm uninstall -n {OPERATOR_NAMESPACE} paddock-operator")
        }
    };
    println!("  kubectl get tenants,bsvc,mkt,dbc -A");
    println!("  kubectl describe tenant acme");
    println!("  kubectl explain market.spec.margin");
    println!(
        "  kubectl -n acme-prod patch mkt soccer-match-result --type merge -p '{{\"spec\":{{\"state\":\"Suspended\"}}}}'"
    );
    println!("  {end}");
    Ok(())
}
