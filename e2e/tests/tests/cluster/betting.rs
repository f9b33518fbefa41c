//! A customer's afternoon, asserted.

use crate::support::LIMIT;
use kube::api::Api;
use paddock_cluster::Access;
use paddock_demo::afternoon::{Afternoon, afternoon};
use paddock_demo::bettor::Bettor;
use paddock_demo::{Installation, play};
use paddock_e2e::on_cluster;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How far ahead the kick-off of a match is that is bet on before it: nothing changes about it meanwhile.
const AHEAD: Duration = Duration::from_mins(1);

/// Minor units of a decimal string with two places.
fn cents(text: &str) -> i64 {
    let (whole, part) = text.split_once('.').unwrap_or((text, "00"));
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    whole.parse::<i64>().unwrap() * 100 + sign * part.parse::<i64>().unwrap()
}

async fn funded(installation: &Installation, amount: &str) -> Bettor {
    let brand = installation.brand("acme.localhost").unwrap();
    play::answers(&brand).await.unwrap();
    let bettor = brand.register("EUR").await.unwrap();
    installation.credit(&bettor.customer_id, "EUR", amount).await.unwrap();
    bettor
}

async fn available(bettor: &Bettor) -> (i64, i64, i64) {
    let wallet = bettor.wallet().await.unwrap();
    let (available, held, at_stake) = play::amounts(&wallet, "EUR").unwrap_or_else(|| panic!("no EUR in {wallet}"));
    (cents(&available), cents(&held), cents(&at_stake))
}

/// What a wallet must hold after a credit of `credited`, by the customer's tickets: available, held, at stake.
async fn by_tickets(bettor: &Bettor, credited: i64) -> (i64, i64, i64) {
    let (mut available, mut held, mut at_stake) = (credited, 0, 0);
    let page = bettor.brand.get("/tickets?limit=100", Some(&bettor.token)).await.unwrap();
    assert_eq!(page["next"], Value::Null, "one page holds them all");
    for ticket in page["tickets"].as_array().unwrap() {
        let into = match ticket["status"].as_str().unwrap() {
            "rejected" => continue,
            "pending" => &mut held,
            _ => &mut at_stake,
        };
        for bet in ticket["bets"].as_array().unwrap() {
            let stake = cents(bet["stake"].as_str().unwrap());
            available -= stake;
            match bet["payout"].as_str() {
                None => *into += stake,
                Some(payout) => available += cents(payout),
            }
        }
    }
    (available, held, at_stake)
}

/// The demo's play: bets, a refusal after a suspension and one after the feed's bet stop, full time, settlement.
#[test]
fn a_bet_is_placed_settled_and_paid_to_the_cent() {
    on_cluster(|installation| async move {
        let Afternoon { bettor, settled } =
            afternoon(installation, |step, text| println!("{step:<22} {text}")).await.unwrap();
        let of =
            |bet: &Value, name: &str| cents(bet[name].as_str().unwrap_or_else(|| panic!("no {name} in {settled}")));
        let bets = settled["bets"].as_array().unwrap();
        assert_eq!(bets.len(), 3, "a bet on each outcome of a match");
        let paid: Vec<_> = bets.iter().filter(|bet| of(bet, "payout") > 0).collect();
        let [winner] = paid.as_slice() else { panic!("one outcome of three happens: {settled}") };
        assert_eq!(of(winner, "payout"), of(winner, "potentialPayout"), "{settled}");
        paddock_demo::wait::until("the wallet is what the tickets say", Duration::from_secs(30), || async {
            let (told, wanted) = (available(&bettor).await, by_tickets(&bettor, 10_000).await);
            if told == wanted { Ok(()) } else { Err(format!("{told:?}, by its tickets {wanted:?}")) }
        })
        .await
        .unwrap();
    });
}

#[test]
fn the_same_key_is_the_same_ticket() {
    on_cluster(|installation| async move {
        let bettor = funded(installation, "50.00").await;
        let found = play::upcoming(&bettor.brand, 1, AHEAD, Duration::from_mins(4)).await.unwrap();
        let (first, second, other) = play::same_key_twice(&bettor, &found.selection).await.unwrap();
        assert_eq!(first["status"], "accepted", "{first}");
        assert_eq!(first["ticketId"], second["ticketId"], "{first} {second}");
        assert_eq!(other.as_u16(), 422);
        assert_eq!(available(&bettor).await.2, 100, "the stake was taken more than once");
    });
}

#[test]
fn a_suspended_market_is_shown_so_and_takes_no_bet_once_it_is_acknowledged() {
    on_cluster(|installation| async move {
        let bettor = funded(installation, "50.00").await;
        // Two waits of 30 s follow: the kick-off must not come between.
        let found = play::upcoming(&bettor.brand, 1, 2 * AHEAD, Duration::from_mins(4)).await.unwrap();
        let other = installation.brand("zenith.localhost").unwrap().register("GBP").await.unwrap();
        let of_other = play::upcoming(&other.brand, 1, 2 * AHEAD, Duration::from_mins(4)).await.unwrap();
        let channel = format!("event:{}", found.event);
        let (mut stream, snapshot) = play::watch(&bettor.brand, None, &channel).await.unwrap();
        let open = snapshot["lines"].as_array().unwrap().iter().find(|line| line["marketId"] == found.selection.market);
        assert_eq!(open.unwrap()["status"], "active", "{snapshot}");
        let markets: Api<paddock_crds::v1alpha1::Market> = Api::namespaced(installation.client.clone(), "acme-prod");
        let before =
            markets.get("soccer-match-result").await.unwrap().status.and_then(|it| it.book).unwrap().generation;
        let start = Instant::now();
        installation.set_market_state("acme-prod", "soccer-match-result", "Suspended").await.unwrap();
        let shown = play::until_suspended(&mut stream, found.selection.market, "rule", Duration::from_secs(30)).await;
        let shown_after = start.elapsed();
        let acknowledged =
            paddock_demo::wait::until("the Market is suspended and acknowledged", Duration::from_secs(30), || async {
                let market = markets.get("soccer-match-result").await.map_err(|error| error.to_string())?;
                let status = market.status.clone().unwrap_or_default();
                let suspended = status
                    .conditions
                    .iter()
                    .any(|condition| condition.type_ == "Suspended" && condition.status == "True");
                let book = status.book.clone().unwrap_or_default();
                if suspended
                    && book.generation > before
                    && book.generation == book.acknowledged
                    && status.observed_generation == market.metadata.generation
                {
                    Ok(())
                } else {
                    Err(format!("{status:?}"))
                }
            })
            .await;
        let took = start.elapsed();
        let refused = play::bet(&bettor, "1.00", &found.selection).await;
        let elsewhere = play::bet(&other, "1.00", &of_other.selection).await;
        // Open again before anything can fail: other tests bet on it.
        installation.set_market_state("acme-prod", "soccer-match-result", "Open").await.unwrap();
        acknowledged.unwrap();
        shown.unwrap();
        println!("suspension shown after {} ms, acknowledged by {} ms", shown_after.as_millis(), took.as_millis());
        let refused = refused.unwrap();
        assert_ne!(refused["status"], "accepted", "{refused}");
        assert_eq!(play::code(&refused).as_deref(), Some("market-suspended"), "{refused}");
        // The other brand never noticed: there the market takes the bet, and only the empty wallet refuses it.
        let elsewhere = elsewhere.unwrap();
        assert_eq!(play::code(&elsewhere).as_deref(), Some("insufficient-funds"), "{elsewhere}");
    });
}

#[test]
fn what_cannot_be_bet_is_refused_with_a_code() {
    on_cluster(|installation| async move {
        let bettor = funded(installation, "5.00").await;
        let found = play::upcoming(&bettor.brand, 1, AHEAD, Duration::from_mins(4)).await.unwrap();
        let mut unknown = found.selection.clone();
        unknown.outcome = "99".into();
        for (what, credit, stake, selection, code) in [
            ("more than the wallet has", None, "6.00", &found.selection, "insufficient-funds"),
            ("less than the least stake", None, "0.05", &found.selection, "stake-too-low"),
            // The wallet has it: only the limit of 500.00 refuses.
            ("more than the greatest stake", Some("600.00"), "501.00", &found.selection, "stake-too-high"),
            ("an outcome that is not there", None, "1.00", &unknown, "unknown-selection"),
        ] {
            if let Some(amount) = credit {
                installation.credit(&bettor.customer_id, "EUR", amount).await.unwrap();
            }
            let answer = play::bet(&bettor, stake, selection).await.unwrap();
            assert_ne!(answer["status"], "accepted", "{what}: {answer}");
            assert_eq!(play::code(&answer).as_deref(), Some(code), "{what}: {answer}");
        }
        assert_eq!(available(&bettor).await, (60_500, 0, 0), "a refused bet left a trace in the wallet");
    });
}

#[test]
fn the_stream_shows_prices_that_move_and_the_page_is_there() {
    on_cluster(|installation| async move {
        let brand = installation.brand("zenith.localhost").unwrap();
        play::answers(&brand).await.unwrap();
        let page = brand.page().await.unwrap();
        assert!(page.contains("<html"), "{page}");
        let about = brand.get("/brand", None).await.unwrap();
        assert_eq!((&about["name"], &about["currencies"]), (&json!("Zenith Sports"), &json!(["GBP"])), "{about}");
        let found = play::find(&brand, "live", 1, Duration::from_mins(4)).await.unwrap();
        let (mut stream, snapshot) = play::watch(&brand, None, &format!("event:{}", found.event)).await.unwrap();
        assert!(snapshot["lines"].as_array().is_some_and(|lines| !lines.is_empty()), "{snapshot}");
        let (mut last, mut prices) = (0, BTreeMap::<String, BTreeSet<String>>::new());
        // Prices of one line that differ: it moved.
        while prices.values().all(|seen| seen.len() < 2) {
            let frame: Value = paddock_demo::bettor::receive(&mut stream, Duration::from_mins(1)).await.unwrap();
            assert_eq!(frame["type"], "delta", "{frame}");
            let sequence = frame["sequence"].as_i64().unwrap();
            assert!(sequence > last, "{frame}");
            last = sequence;
            for line in frame["payload"]["lines"].as_array().into_iter().flatten() {
                let odds: Option<Vec<&str>> =
                    line["outcomes"].as_array().unwrap().iter().map(|outcome| outcome["odds"].as_str()).collect();
                let name = format!("{} {}", line["marketId"], line["specifiers"]);
                prices.entry(name).or_default().extend(odds.map(|odds| odds.join(" / ")));
            }
        }
    });
}

/// On one's own cluster nobody says where the plain listener is.
#[test]
fn plain_http_leads_to_https() {
    on_cluster(|installation| async move {
        let Access::Local(cluster) = &installation.cluster else { return };
        let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        let url = format!("http://127.0.0.1:{}/sports?x=1", cluster.gateway_http_port());
        let answer = client.get(url).header("host", "acme.localhost").timeout(LIMIT).send().await.unwrap();
        let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        let wanted = format!("https://acme.localhost:{}/sports?x=1", cluster.gateway_https_port());
        assert_eq!((answer.status().as_u16(), location), (301, Some(wanted)));
    });
}
