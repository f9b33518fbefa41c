//! A customer's afternoon: what the demo shows, and a test asserts.

use crate::bettor::{self, Bettor, Brand, receive};
use crate::{Installation, play};
use anyhow::Result;
use serde_json::Value;
use std::time::{Duration, Instant};

/// What is left of an afternoon.
pub struct Afternoon {
    /// The customer.
    pub bettor: Bettor,
    /// The ticket with a bet on each outcome of the match, settled.
    pub settled: Value,
}

/// What a customer sees and does; each step is told to `say`. The match is one that is played already, so that its end is a minute or two
/// away; there is a bet on each outcome, so that one of them is paid, whatever happens.
///
/// # Errors
/// A step that did not go as it must, or not in time.
pub async fn afternoon(installation: &Installation, say: impl Fn(&str, &str)) -> Result<Afternoon> {
    let brand = installation.brand("acme.localhost")?;
    play::answers(&brand).await?;
    let about = brand.get("/brand", None).await?;
    say("brand", &format!("{}  {}", text(&about, "/name"), brand.base));
    let bettor = brand.register("EUR").await?;
    say("register, log in", &bettor.email);
    installation.credit(&bettor.customer_id, "EUR", "100.00").await?;
    say("cashier's credit", "100.00 EUR");
    say("wallet", &balance(&bettor.wallet().await?));

    let next = play::find(&brand, "not_started", 1, Duration::from_mins(3)).await?;
    say("offer, before", &format!("{}  {}", next.name, odds(&next)));
    suspend(installation, &bettor, &say).await?;
    let (found, ticket) = bets_on_each(&bettor, &say).await?;
    let id = bettor::text(&ticket, "/ticketId")?;
    for bet in bets(&ticket) {
        let price = text(bet, "/selections/0/odds");
        say("bet 10.00 EUR", &format!("at {price} could pay {}", text(bet, "/potentialPayout")));
    }
    say("wallet", &balance(&bettor.wallet().await?));

    prices_and_bet_stop(&brand, &bettor, &found, &say).await?;

    let settled = play::settled(&bettor, &id, Duration::from_mins(12)).await?;
    for bet in bets(&settled) {
        let outcome = format!("{} pays {}", text(bet, "/selections/0/result"), text(bet, "/payout"));
        say("full time, settlement", &outcome);
    }
    anyhow::ensure!(
        bets(&settled).filter(|bet| text(bet, "/payout") != "0.00").count() == 1,
        "one outcome of a match happens, so one bet of three is paid: {settled}"
    );
    say("wallet", &balance(&bettor.wallet().await?));
    let entries = bettor.entries().await?;
    for entry in entries.get("entries").and_then(Value::as_array).into_iter().flatten() {
        let route = format!("{} → {}", text(entry, "/from"), text(entry, "/to"));
        let amount = format!("{:>9} {}", text(entry, "/change"), text(entry, "/currency"));
        say("ledger", &format!("{amount}  {route} ({})", text(entry, "/reason")));
    }
    Ok(Afternoon { bettor, settled })
}

/// Finds a match and bets on each of its outcomes; on another when a goal came between, or when one outcome is as good as certain.
async fn bets_on_each(bettor: &Bettor, say: &impl Fn(&str, &str)) -> Result<(play::Found, Value)> {
    let limit = Instant::now() + Duration::from_mins(8);
    loop {
        let found = play::closing(&bettor.brand, 1, limit.saturating_duration_since(Instant::now())).await?;
        say("offer, in play", &format!("{}  {} (minute {})", found.name, odds(&found), found.minute));
        let ticket = play::bet_on_each(bettor, "10.00", &found.outcomes).await?;
        match play::code(&ticket).as_deref() {
            None if text(&ticket, "/status") == "accepted" => return Ok((found, ticket)),
            Some(code @ ("market-suspended" | "market-closed")) => say("bet refused", code),
            _ => anyhow::bail!("the ticket was not accepted: {ticket}"),
        }
    }
}

fn bets(ticket: &Value) -> impl Iterator<Item = &Value> {
    ticket.get("bets").and_then(Value::as_array).into_iter().flatten()
}

fn odds(found: &play::Found) -> String {
    found.outcomes.iter().map(|selection| selection.odds.as_str()).collect::<Vec<_>>().join(" / ")
}

/// Suspends a market and bets on it. The match is chosen now, far from its kick-off, so that nothing else can refuse the bet.
async fn suspend(installation: &Installation, bettor: &Bettor, say: &impl Fn(&str, &str)) -> Result<()> {
    let found = play::upcoming(&bettor.brand, 1, Duration::from_mins(1), Duration::from_mins(4)).await?;
    installation.set_market_state("acme-prod", "soccer-match-result", "Suspended").await?;
    let (since, limit, code) = (Instant::now(), Duration::from_secs(20), "market-suspended");
    let refused = play::until_refused(bettor, "0.50", &found.selection, code, since, limit).await;
    installation.set_market_state("acme-prod", "soccer-match-result", "Open").await?;
    let (after, accepted) = refused?;
    say(
        "kubectl patch: suspend",
        &format!("a bet is refused ({code}) {} ms after it, {accepted} accepted before", after.as_millis()),
    );
    Ok(())
}

/// Watches the event: prices move, and the feed stops bets before a goal or at the end.
async fn prices_and_bet_stop(
    brand: &Brand,
    bettor: &Bettor,
    found: &play::Found,
    say: &impl Fn(&str, &str),
) -> Result<()> {
    let (mut stream, _) = play::watch(brand, None, &format!("event:{}", found.event)).await?;
    say("stream", &format!("watching {}", found.name));
    let (mut moves, mut last, mut stopped) = (0_u32, String::new(), false);
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
                    say("price", &format!("{now}  ({}, {})", text(line, "/phase"), text(line, "/status")));
                }
                last = now;
            }
            if !stopped
                && text(line, "/phase") == "live"
                && text(line, "/status") == "suspended"
                && text(line, "/suspendedBy") == "feed"
            {
                let answer = play::bet(bettor, "0.50", &found.selection).await?;
                if let Some(code) = play::code(&answer) {
                    // Suspended, or over by the time the bet arrives; anything else is no bet stop.
                    anyhow::ensure!(matches!(code.as_str(), "market-suspended" | "market-closed"), "{answer}");
                    say("feed's bet stop", &format!("a bet is refused ({code})"));
                    stopped = true;
                }
            }
        }
        // The first price that comes is no move.
        if stopped && moves > 1 {
            return Ok(());
        }
    }
    anyhow::bail!("{} within 10 minutes: prices came {moves} times, bets stopped: {stopped}", found.name)
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
