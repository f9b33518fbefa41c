//! A customer's afternoon, step by step: what the demo shows and the tests assert.

use crate::bettor::{Bettor, Brand, Selection, Stream, receive, send, text};
use crate::{Installation, wait};
use anyhow::{Context as _, Result, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};

impl Installation {
    /// A brand's public address.
    pub fn brand(&self, host: &str) -> Result<Brand> {
        Brand::new(host, self.cluster.gateway_address(), &self.cluster.ca_file()?)
    }

    /// A cashier credits a customer of acme's production environment, over the staff API that no Gateway routes.
    pub async fn credit(&self, customer: &str, currency: &str, amount: &str) -> Result<Value> {
        let token = self.staff.token("demo-cashier", "cashier", "acme", "prod")?;
        let forward = PortForward::open(self, "acme-prod", "svc/account", 8082).await?;
        let response = reqwest::Client::new()
            .post(format!("http://127.0.0.1:{}/backoffice/v1/customers/{customer}/credits", forward.port))
            .bearer_auth(token)
            .timeout(Duration::from_secs(10))
            .json(&json!({"id": uuid::Uuid::now_v7(), "currency": currency, "amount": amount, "reason": "demo: first credit"}))
            .send()
            .await?;
        let status = response.status();
        let body = response.text().await?;
        if !status.is_success() {
            bail!("the credit was refused: {status} {body}");
        }
        Ok(serde_json::from_str(&body).unwrap_or(Value::Null))
    }
}

/// `kubectl port-forward`, ended when dropped.
struct PortForward {
    port: u16,
    _child: tokio::process::Child,
}

impl PortForward {
    async fn open(installation: &Installation, namespace: &str, target: &str, port: u16) -> Result<Self> {
        let mut child = installation
            .cluster
            .kubectl_process()?
            .args(["port-forward", "-n", namespace, target, &format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("kubectl has an output")?;
        let mut lines = BufReader::new(output).lines();
        let first = tokio::time::timeout(Duration::from_secs(20), lines.next_line())
            .await
            .context("kubectl port-forward did not start")??;
        // "Forwarding from 127.0.0.1:40123 -> 8082"
        let local = first.as_deref().and_then(|line| line.split("127.0.0.1:").nth(1)?.split(' ').next()?.parse().ok());
        // The pipe stays open and is read, or kubectl would end at its next line.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { port: local.with_context(|| format!("kubectl port-forward said: {first:?}"))?, _child: child })
    }
}

/// An event of the offer with an open line of a market type.
pub struct Found {
    /// Event id.
    pub event: String,
    /// `Home – Away`.
    pub name: String,
    /// Kick-off, milliseconds of Unix time.
    pub start: i64,
    /// Minutes played, 0 before the kick-off.
    pub minute: u64,
    /// First outcome of the line.
    pub selection: Selection,
    /// Every outcome of the line; all can be bet on.
    pub outcomes: Vec<Selection>,
}

/// Looks for an event of a status (`not_started`, `live`) with an open line of a market id, in the order of their kick-offs.
pub async fn find(brand: &Brand, status: &str, market: u64, limit: Duration) -> Result<Found> {
    // One that starts in a moment could start before the bet arrives.
    let soon = Duration::from_secs(5);
    search(brand, status, market, limit, |_, ahead| status != "not_started" || ahead >= soon).await
}

/// Looks for a match with an open line of a market id that starts no sooner than in a time.
pub async fn upcoming(brand: &Brand, market: u64, ahead: Duration, limit: Duration) -> Result<Found> {
    search(brand, "not_started", market, limit, |_, until| until >= ahead).await
}

/// Looks for a match in its second half whose end is near, but far enough for a customer to act before it: minute 50 to 72.
pub async fn closing(brand: &Brand, market: u64, limit: Duration) -> Result<Found> {
    search(brand, "live", market, limit, |minute, _| (50..=72).contains(&minute)).await
}

/// `wanted` is asked with the minutes played and the time until the kick-off.
async fn search(
    brand: &Brand,
    status: &str,
    market: u64,
    limit: Duration,
    wanted: impl Fn(u64, Duration) -> bool,
) -> Result<Found> {
    wait::until(&format!("an event ({status}) with an open line of market {market}"), limit, || async {
        let path = format!("/events?sport=sr:sport:1&status={status}");
        let events = brand.get(&path, None).await.map_err(|error| error.to_string())?;
        let events = events.get("events").and_then(Value::as_array).cloned().unwrap_or_default();
        for event in &events {
            let minute = event.get("minute").and_then(Value::as_u64).unwrap_or_default();
            let start = event.get("startTime").and_then(Value::as_i64).unwrap_or_default();
            let ahead = start.saturating_sub(jiff::Timestamp::now().as_millisecond());
            if !wanted(minute, Duration::from_millis(u64::try_from(ahead).unwrap_or_default())) {
                continue;
            }
            let Ok(id) = text(event, "/eventId") else { continue };
            let Ok(full) = brand.get(&format!("/events/{id}"), None).await else { continue };
            let lines = full.get("lines").and_then(Value::as_array).cloned().unwrap_or_default();
            let mut lines = lines.iter().filter(|line| line.get("marketId").and_then(Value::as_u64) == Some(market));
            let Some(outcomes) = lines.find_map(open_outcomes) else { continue };
            let Some(selection) = outcomes.first().cloned() else { continue };
            let side = |n: usize| text(event, &format!("/competitors/{n}/name")).unwrap_or_else(|_| "?".into());
            let name = format!("{} – {}", side(0), side(1));
            return Ok(Found { event: id, name, start, minute, selection, outcomes });
        }
        Err(format!("{} such events, none with an open line of it at this time", events.len()))
    })
    .await
}

/// The outcomes of an open line; none unless all of them can be bet on.
fn open_outcomes(line: &Value) -> Option<Vec<Selection>> {
    if line.get("status")?.as_str()? != "active" {
        return None;
    }
    let selection = |outcome: &Value| {
        outcome.get("active")?.as_bool()?.then_some(())?;
        Some(Selection {
            event: line.get("eventId")?.as_str()?.to_owned(),
            market: line.get("marketId")?.as_u64()?,
            specifiers: line.get("specifiers").and_then(Value::as_str).unwrap_or_default().to_owned(),
            outcome: outcome.get("id")?.as_str()?.to_owned(),
            odds: outcome.get("odds")?.as_str()?.to_owned(),
        })
    };
    line.get("outcomes")?.as_array()?.iter().map(selection).collect()
}

/// Subscribes to an event; answers the stream and the snapshot's payload.
pub async fn watch(brand: &Brand, token: Option<&str>, channel: &str) -> Result<(Stream, Value)> {
    let mut stream = brand.stream(token).await?;
    send(&mut stream, &json!({"type": "subscribe", "channel": channel})).await?;
    loop {
        let frame = receive(&mut stream, Duration::from_secs(15)).await?;
        match frame.get("type").and_then(Value::as_str) {
            Some("snapshot") => return Ok((stream, frame.get("payload").cloned().unwrap_or_default())),
            Some("error") => bail!("subscribe {channel}: {frame}"),
            _ => {}
        }
    }
}

/// Reads the stream until a line of a market is suspended by something.
pub async fn until_suspended(stream: &mut Stream, market: u64, by: &str, limit: Duration) -> Result<()> {
    let read = async {
        loop {
            let frame = receive(stream, limit).await?;
            let lines = frame.pointer("/payload/lines").and_then(Value::as_array);
            let shown = lines.into_iter().flatten().any(|line| {
                line.get("marketId").and_then(Value::as_u64) == Some(market)
                    && line.get("status").and_then(Value::as_str) == Some("suspended")
                    && line.get("suspendedBy").and_then(Value::as_str) == Some(by)
            });
            if shown {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(limit, read)
        .await
        .with_context(|| format!("market {market} was not shown as suspended by {by} within {} s", limit.as_secs()))?
}

/// The pace of asking again.
const PACE: Duration = Duration::from_millis(500);
/// What a bet on a price that is older than three seconds is refused with.
const STALE: &str = "offer-stale";

/// What one on a suspended line is refused with.
const SUSPENDED: &str = "market-suspended";

/// Places a bet and waits for its decision; answers the ticket as decided. Prices that are older than three seconds are no offer, nor is
/// a line whose producer was not heard of for a moment: then it tries again for a while, under another key, as an app would.
pub async fn bet(bettor: &Bettor, stake: &str, selection: &Selection) -> Result<Value> {
    bet_on_each(bettor, stake, std::slice::from_ref(selection)).await
}

/// Places one ticket with a single bet of `stake` on each selection, as [`bet`] does.
pub async fn bet_on_each(bettor: &Bettor, stake: &str, selections: &[Selection]) -> Result<Value> {
    Ok(bet_on_fresh(bettor, stake, selections).await?.1)
}

/// The key of the ticket that was decided on a fresh price, and the ticket.
async fn bet_on_fresh(bettor: &Bettor, stake: &str, selections: &[Selection]) -> Result<(String, Value)> {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let key = uuid::Uuid::now_v7().to_string();
        let answer = bet_once(bettor, &key, stake, selections).await?;
        let passing = match code(&answer).as_deref() {
            Some(STALE) => true,
            Some(SUSPENDED) => without_its_producer(bettor, selections).await?,
            _ => false,
        };
        if !passing || Instant::now() > patience {
            return Ok((key, answer));
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Whether a line of the selections is suspended because nothing was heard of its producer for a moment.
async fn without_its_producer(bettor: &Bettor, selections: &[Selection]) -> Result<bool> {
    for selection in selections {
        let event = bettor.brand.get(&format!("/events/{}", selection.event), None).await?;
        let lines = event.get("lines").and_then(Value::as_array);
        let mut of_market = lines
            .into_iter()
            .flatten()
            .filter(|line| line.get("marketId").and_then(Value::as_u64) == Some(selection.market));
        if of_market.any(|line| line.get("suspendedBy").and_then(Value::as_str) == Some("producer")) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn bet_once(bettor: &Bettor, key: &str, stake: &str, selections: &[Selection]) -> Result<Value> {
    let (status, body) = bettor.bet_on_each(key, stake, selections).await?;
    if !status.is_success() && body.get("code").is_none() {
        bail!("POST /tickets: {status} {body}");
    }
    let Ok(id) = text(&body, "/ticketId") else { return Ok(body) };
    if body.get("status").and_then(Value::as_str) != Some("pending") {
        return Ok(body);
    }
    wait::until("the decision on the ticket", Duration::from_mins(1), || async {
        let ticket = bettor.ticket(&id).await.map_err(|error| error.to_string())?;
        match ticket.get("status").and_then(Value::as_str) {
            Some("pending") | None => Err("pending".to_owned()),
            Some(_) => Ok(ticket),
        }
    })
    .await
}

/// The code of a refusal: of the ticket, else of its first bet, else of the problem document; none if nothing was refused.
pub fn code(answer: &Value) -> Option<String> {
    ["/code", "/bets/0/code", "/bets/0/selections/0/code"].into_iter().find_map(|pointer| {
        answer.pointer(pointer).and_then(Value::as_str).filter(|code| !code.is_empty()).map(str::to_owned)
    })
}

/// Bets until one is refused with a code; answers the time from `since` to that refusal, and how many were accepted meanwhile. One that
/// is refused with another code is a failure: it says nothing about what is waited for.
pub async fn until_refused(
    bettor: &Bettor,
    stake: &str,
    selection: &Selection,
    wanted: &str,
    since: Instant,
    limit: Duration,
) -> Result<(Duration, usize)> {
    let mut accepted = 0;
    while since.elapsed() < limit {
        let key = uuid::Uuid::now_v7().to_string();
        let answer = bet_once(bettor, &key, stake, std::slice::from_ref(selection)).await?;
        match code(&answer).as_deref() {
            None if answer.get("status").and_then(Value::as_str) == Some("accepted") => accepted += 1,
            Some(found) if found == wanted => return Ok((since.elapsed(), accepted)),
            // Neither yes nor no: the price comes in a moment.
            Some(STALE) => tokio::time::sleep(PACE / 10).await,
            _ => bail!("a bet was not refused with {wanted}, but so: {answer}"),
        }
    }
    bail!("no bet was refused with {wanted} within {} s; {accepted} were accepted", limit.as_secs())
}

/// Waits until every bet of a ticket is settled.
pub async fn settled(bettor: &Bettor, ticket: &str, limit: Duration) -> Result<Value> {
    wait::until("full time and settlement of the bet", limit, || async {
        let body = bettor.ticket(ticket).await.map_err(|error| error.to_string())?;
        match body.pointer("/status").and_then(Value::as_str) {
            Some("settled" | "cancelled") => Ok(body),
            other => Err(format!("the ticket is {}", other.unwrap_or("without a status"))),
        }
    })
    .await
}

/// Amounts of one currency in a wallet: available, held, at stake, as decimal strings.
pub fn amounts(wallet: &Value, currency: &str) -> Option<(String, String, String)> {
    let wallets = wallet.get("wallets")?.as_array()?;
    let entry = wallets.iter().find(|entry| entry.get("currency").and_then(Value::as_str) == Some(currency))?;
    let pick = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
    Some((pick("available")?, pick("held")?, pick("atStake")?))
}

/// A repeated request under the same key gives the same ticket; another body is refused.
pub async fn same_key_twice(bettor: &Bettor, selection: &Selection) -> Result<(Value, Value, StatusCode)> {
    let (key, first) = bet_on_fresh(bettor, "1.00", std::slice::from_ref(selection)).await?;
    let (_, second) = bettor.bet(&key, "1.00", selection).await?;
    let (status, _) = bettor.bet(&key, "2.00", selection).await?;
    Ok((first, second, status))
}

/// Whether the brand answers at all.
pub async fn answers(brand: &Brand) -> Result<()> {
    wait::until(&format!("{} answers", brand.base), Duration::from_secs(90), || async {
        match brand.call(Method::GET, "/sports", None, None, None).await {
            Ok((StatusCode::OK, _)) => Ok(()),
            Ok((status, body)) => Err(format!("{status} {body}")),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await
}
