//! Two candidates against one Lease kept in memory, on a clock that the test moves.

use super::*;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use std::convert::Infallible;

#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
    /// Requests that fail from now on, as an apiserver that is down.
    down: bool,
    /// Requests that are never answered, though they are carried out.
    silent: u32,
    writes: u32,
}

type Shared = Arc<Mutex<Server>>;

fn client(server: &Shared) -> Client {
    let server = server.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = server.clone();
        async move {
            let answer = answer(&server, request).await;
            let silent = {
                let mut server = server.lock().unwrap();
                let silent = server.silent > 0;
                server.silent = server.silent.saturating_sub(1);
                silent
            };
            if silent {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(answer)
        }
    });
    Client::new(service, "default")
}

async fn answer(server: &Shared, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut server = server.lock().unwrap();
    if server.down {
        return failure(StatusCode::INTERNAL_SERVER_ERROR);
    }
    if parts.method == Method::GET {
        return server.lease.as_ref().map_or_else(|| failure(StatusCode::NOT_FOUND), success);
    }
    let mut new: Lease = serde_json::from_slice(&body).unwrap();
    let stored = server.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
    match parts.method {
        Method::POST if stored.is_some() => return failure(StatusCode::CONFLICT),
        Method::PUT if stored.is_none() || new.metadata.resource_version != stored => {
            return failure(StatusCode::CONFLICT);
        }
        _ => {}
    }
    server.version += 1;
    server.writes += 1;
    new.metadata.resource_version = Some(server.version.to_string());
    server.lease = Some(new.clone());
    success(&new)
}

fn success(lease: &Lease) -> Response<Body> {
    Response::new(Body::from(serde_json::to_vec(lease).unwrap()))
}

fn failure(code: StatusCode) -> Response<Body> {
    let reason = code.canonical_reason().unwrap_or_default().replace(' ', "");
    let status = serde_json::json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "message": "", "reason": reason});
    Response::builder().status(code).body(Body::from(serde_json::to_vec(&status).unwrap())).unwrap()
}

fn candidate(server: &Shared, name: &str) -> (Elector, Leadership) {
    let leadership = Leadership::new();
    (Elector::new(client(server), "system", "paddock", name, Timing::default(), leadership.clone()), leadership)
}

fn spec(holder: Option<&str>) -> LeaseSpec {
    LeaseSpec { holder_identity: holder.map(Into::into), lease_duration_seconds: Some(15), ..LeaseSpec::default() }
}

#[tokio::test]
async fn decides_by_holder_and_own_clock() {
    let seen = Instant::now();
    let late = seen + Duration::from_secs(15);
    assert_eq!(evaluate(None, "me", seen, seen), Step::Acquire);
    assert_eq!(evaluate(Some(&spec(None)), "me", seen, seen), Step::Acquire);
    assert_eq!(evaluate(Some(&spec(Some(""))), "me", seen, seen), Step::Acquire);
    assert_eq!(evaluate(Some(&spec(Some("me"))), "me", seen, late), Step::Renew);
    assert_eq!(evaluate(Some(&spec(Some("you"))), "me", seen, seen), Step::Wait(late));
    assert_eq!(evaluate(Some(&spec(Some("you"))), "me", seen, late), Step::Acquire);
}

#[tokio::test(start_paused = true)]
async fn the_second_waits_and_takes_over_after_expiry_with_a_higher_epoch() {
    let server = Shared::default();
    let stop = CancellationToken::new();
    let (mut a, a_leads) = candidate(&server, "a");
    let (mut b, b_leads) = candidate(&server, "b");
    assert_eq!(a.acquire(&stop).await, Some(1));
    assert!(a_leads.is_leader());
    // a is never heard of again: its process hangs.
    let begin = Instant::now();
    assert_eq!(b.acquire(&stop).await, Some(2));
    assert!(begin.elapsed() >= Timing::default().lease, "{:?}", begin.elapsed());
    assert!(begin.elapsed() < Timing::default().lease + Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(!a_leads.is_leader(), "a fenced itself by its own clock");
    assert_eq!((b_leads.epoch(), a_leads.epoch()), (2, 0));
    assert_eq!(b_leads.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_never_answered_costs_no_leadership() {
    let server = Shared::default();
    let stop = CancellationToken::new();
    let (mut leader, leads) = candidate(&server, "a");
    leader.acquire(&stop).await;
    let asked = stop.clone();
    let hold = tokio::spawn(async move { leader.hold(&asked).await });
    server.lock().unwrap().silent = 1;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(leads.is_leader());
    }
    assert_eq!((server.lock().unwrap().silent, leads.epoch()), (0, 1));
    // One that answers to nothing at all does.
    server.lock().unwrap().silent = u32::MAX;
    assert_eq!(hold.await.unwrap(), End::Lost);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_renews_keeps_it_and_a_standby_knows_the_holder() {
    let server = Shared::default();
    let stop = CancellationToken::new();
    let (mut a, a_leads) = candidate(&server, "a");
    a.acquire(&stop).await;
    let resign = CancellationToken::new();
    let asked = resign.clone();
    let hold = tokio::spawn(async move { (a.hold(&asked).await, a) });
    let (mut b, b_leads) = candidate(&server, "b");
    let gives_up = CancellationToken::new();
    let waiting = gives_up.clone();
    let standby = tokio::spawn(async move { b.acquire(&waiting).await });
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(a_leads.is_leader() && !b_leads.is_leader());
    }
    assert_eq!(b_leads.holder().as_deref(), Some("a"));
    gives_up.cancel();
    assert_eq!(standby.await.unwrap(), None);
    resign.cancel();
    let (end, mut a) = hold.await.unwrap();
    assert_eq!(end, End::Stopped);
    a.release().await;
    assert!(!a_leads.is_leader());
    let (mut c, _) = candidate(&server, "c");
    let begin = Instant::now();
    assert_eq!(c.acquire(&stop).await, Some(2), "hand-over is a new term");
    assert!(begin.elapsed() < Duration::from_secs(1), "and does not wait for expiry");
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_from_the_apiserver_stops_before_its_lease_can_be_taken() {
    let server = Shared::default();
    let stop = CancellationToken::new();
    let (mut a, a_leads) = candidate(&server, "a");
    a.acquire(&stop).await;
    let begin = Instant::now();
    server.lock().unwrap().down = true;
    assert_eq!(a.hold(&CancellationToken::new()).await, End::Lost);
    assert!(begin.elapsed() <= Timing::default().renew_deadline + Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(begin.elapsed() < Timing::default().lease);
    assert!(!a_leads.is_leader());
    server.lock().unwrap().down = false;
    let (mut b, _) = candidate(&server, "b");
    assert_eq!(b.acquire(&stop).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_nothing() {
    let server = Shared::default();
    let stop = CancellationToken::new();
    let (mut a, a_leads) = candidate(&server, "a");
    a.acquire(&stop).await;
    let resign = CancellationToken::new();
    let asked = resign.clone();
    let hold = tokio::spawn(async move { a.hold(&asked).await });
    server.lock().unwrap().down = true;
    tokio::time::sleep(Duration::from_secs(7)).await;
    server.lock().unwrap().down = false;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(a_leads.epoch(), 1, "the same term");
    resign.cancel();
    assert_eq!(hold.await.unwrap(), End::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_took_is_lost_at_once() {
    let server = Shared::default();
    let (mut a, a_leads) = candidate(&server, "a");
    a.acquire(&CancellationToken::new()).await;
    {
        let mut server = server.lock().unwrap();
        let lease = server.lease.as_mut().unwrap();
        lease.metadata.resource_version = Some("99".into());
        lease.spec.as_mut().unwrap().holder_identity = Some("b".into());
    }
    assert_eq!(a.hold(&CancellationToken::new()).await, End::Lost);
    assert!(!a_leads.is_leader());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_passes_the_epoch_that_others_know() {
    let server = Shared::default();
    let stop = CancellationToken::new();
    let (mut a, a_leads) = candidate(&server, "a");
    assert_eq!(a.acquire(&stop).await, Some(1));
    a_leads.exceed(57);
    a_leads.exceed(40);
    let resign = CancellationToken::new();
    let asked = resign.clone();
    let hold = tokio::spawn(async move { (a.hold(&asked).await, a) });
    tokio::time::sleep(Timing::default().retry * 2).await;
    assert_eq!(a_leads.epoch(), 58);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(a_leads.epoch(), 58, "once");
    resign.cancel();
    hold.await.unwrap().1.release().await;
    let (mut b, _) = candidate(&server, "b");
    assert_eq!(b.acquire(&stop).await, Some(59));
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_passes_nobodys_epoch() {
    let server = Shared::default();
    let stop = CancellationToken::new();
    let (mut a, a_leads) = candidate(&server, "a");
    a.acquire(&stop).await;
    let (mut b, b_leads) = candidate(&server, "b");
    assert_eq!(b.acquire(&stop).await, Some(2));
    // a wakes up, and a server tells it of b's term.
    a_leads.exceed(2);
    assert_eq!(a.hold(&CancellationToken::new()).await, End::Lost);
    assert_eq!((a_leads.epoch(), b_leads.epoch()), (0, 2));
    assert_eq!(server.lock().unwrap().lease.as_ref().map(epoch), Some(2));
}

#[tokio::test(start_paused = true)]
async fn never_two_leaders_whatever_fails_when() {
    // 200 scripted lives: outages and hangs of the leader at times drawn from the seed.
    for seed in 0..200_u64 {
        let server = Shared::default();
        let stop = CancellationToken::new();
        let mut views = Vec::new();
        for name in ["a", "b", "c"] {
            let (mut elector, leadership) = candidate(&server, name);
            views.push(leadership);
            let stop = stop.clone();
            tokio::spawn(async move {
                while elector.acquire(&stop).await.is_some() {
                    if elector.hold(&stop).await == End::Stopped {
                        elector.release().await;
                        return;
                    }
                }
            });
        }
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut highest = 0;
        for _ in 0..60 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            server.lock().unwrap().down = random % 4 == 0;
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(random % 1500)).await;
                let leading: Vec<u64> = views.iter().map(Leadership::epoch).filter(|epoch| *epoch > 0).collect();
                assert!(leading.len() <= 1, "seed {seed}: {leading:?}");
                if let Some(epoch) = leading.first() {
                    assert!(*epoch >= highest, "seed {seed}: epochs never go back");
                    highest = *epoch;
                }
            }
        }
        assert!(highest > 0, "seed {seed}: somebody led");
        stop.cancel();
    }
}
