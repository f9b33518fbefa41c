//! Rule O6 for whole controllers: a Tenant lives through its changes while the process that works on it is killed after its n-th
//! write, is refused, loses answers or sees everything late; it must come to the same objects as undisturbed, and then rest.
//!
//! API server, Deployment, Job and autoscaler controllers, garbage collector and scheduler are real; pods become Ready without
//! running. Every life has a process of its own that sees its Tenant alone, so that many go on at once. What is not here is the
//! election (`framework.rs` has it): the next process begins when the first has ended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::print_stdout,
    reason = "a test: its failure is the message"
)]

mod step;
#[path = "../support/mod.rs"]
mod support;
mod world;

use futures::StreamExt as _;
use kube::{
    ResourceExt as _,
    api::{Api, DeleteParams, DynamicObject, ListParams},
};
use paddock_operator::{
    controllers::{self, Ctx},
    kube::ChildKind,
    settings::Settings,
};
use std::{sync::Arc, time::Duration};
use step::{Step, missing};
use strum::IntoEnumIterator as _;
use support::{
    PATIENCE, eventually,
    faults::{Fault, Faults},
    faulty,
    state::{State, differences},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use world::{COMPONENT, IMAGES, LABEL, World};

/// Set for every number of writes, with both kinds of successors.
const SOAK: &str = "PADDOCK_SOAK";
/// Lives that go on at once.
const AT_ONCE: usize = 12;
/// How long nothing may be written before a Tenant counts as resting.
const REST: Duration = Duration::from_millis(500);
/// How late watches are at most, for a process that took over and for one that is never in time.
const LAG: Duration = Duration::from_millis(800);

/// What goes wrong in each step of a life.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    /// The process dies after so many writes; the next one starts then.
    Dies(u64),
    /// The same, and the next one stood by already, with a cache that is behind.
    HandsOver(u64),
    /// Of every so many writes the one with this rest fails.
    Fails(u64, u64, Fault),
    /// Everything is seen late.
    Lags(Duration),
}

impl Trouble {
    fn deadly(self) -> Option<u64> {
        match self {
            Self::Dies(writes) | Self::HandsOver(writes) => Some(writes),
            _ => None,
        }
    }
}

/// What an undisturbed step came to, and with how many writes.
struct Reference {
    writes: u64,
    state: State,
}

/// An operator process that sees one Tenant.
struct Operator {
    ctx: Arc<Ctx>,
    faults: Faults,
    stop: CancellationToken,
    work: JoinSet<()>,
}

impl Operator {
    /// One that stands by: its cache is filled, it does not work yet.
    async fn start(world: &World, tenant: &str, faults: Faults) -> Self {
        let faults = faults.only(LABEL, tenant);
        let stop = CancellationToken::new();
        let settings = Settings { domain_ca_secret: Some("domain-ca".into()), ..Settings::default() };
        let ctx = faulty(&world.server, &faults, settings, &stop).await;
        Self { ctx, faults, stop, work: JoinSet::new() }
    }

    fn lead(mut self) -> Self {
        let (ctx, stop) = (&self.ctx, &self.stop);
        self.work.spawn(ctx.issuer.clone().follow(ctx.client.clone(), stop.clone()));
        self.work.spawn(controllers::tenant::start(ctx.clone(), stop.clone()));
        self.work.spawn(controllers::release::start(ctx.clone(), stop.clone()));
        self.work.spawn(controllers::betting_service::start(ctx.clone(), stop.clone()));
        self.work.spawn(controllers::market::start(ctx.clone(), stop.clone()));
        self
    }

    /// Ends it as a signal 9 does: nothing is finished.
    async fn kill(mut self) {
        self.work.shutdown().await;
        self.stop.cancel();
    }
}

/// A life without trouble. Each step rests in the end: another process that begins then writes nothing.
async fn reference(world: &World) -> Vec<Reference> {
    let tenant = "life-plain";
    let process = Operator::start(world, tenant, Faults::default()).await.lead();
    let mut references = Vec::new();
    let mut before = 0;
    for step in Step::iter() {
        world.change(step, tenant).await;
        let mut last = (State::new(), tokio::time::Instant::now());
        let done = async {
            // Longer than services' progress may take to reach the status of their Tenant.
            while last.1.elapsed() < 6 * REST || !missing(step, &last.0).is_empty() {
                tokio::time::sleep(REST / 5).await;
                let state = world.observer.state(tenant);
                if state != last.0 {
                    last = (state, tokio::time::Instant::now());
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, done).await.is_ok();
        assert!(in_time, "{step:?} is not done: {:?}", missing(step, &world.observer.state(tenant)));
        let writes = process.faults.writes();
        let other = Operator::start(world, tenant, Faults::default()).await.lead();
        tokio::time::sleep(4 * REST).await;
        let none: (Vec<String>, Vec<String>) = Default::default();
        assert_eq!((other.faults.since(0), process.faults.since(writes)), none, "writes at rest after {step:?}");
        other.kill().await;
        references.push(Reference { writes: writes - before, state: last.0 });
        before = writes;
    }
    process.kill().await;
    references
}

/// Resolves when the Tenant is as wanted and nothing was written for a while.
async fn converged(world: &World, process: &Operator, tenant: &str, wanted: &State) {
    let mut writes = u64::MAX;
    let mut equal = false;
    loop {
        tokio::time::sleep(REST / 2).await;
        let now = process.faults.writes();
        let was = std::mem::replace(&mut writes, now) == now && equal;
        equal = writes == now && world.observer.state(tenant) == *wanted;
        if was && equal {
            return;
        }
    }
}

/// A life in trouble.
async fn life(world: Arc<World>, tenant: String, trouble: Trouble, references: Arc<Vec<Reference>>) {
    let faults = match trouble {
        Trouble::Fails(every, rest, fault) => Faults::default().recurring(every, rest, fault),
        Trouble::Lags(lag) => Faults::default().lag(lag),
        _ => Faults::default(),
    };
    let mut process = Operator::start(&world, &tenant, faults).await.lead();
    for (number, step) in Step::iter().enumerate() {
        // Where it would die later than the step's last write, it is dead at rest: that is said once.
        let rest = references[number..].iter().map(|reference| reference.writes).max().unwrap();
        if trouble.deadly().is_some_and(|writes| writes > rest + 1) {
            break;
        }
        let wanted = &references[number].state;
        let next = match trouble {
            Trouble::HandsOver(_) => Some(Operator::start(&world, &tenant, Faults::default().lag(LAG)).await),
            _ => None,
        };
        if let Some(writes) = trouble.deadly() {
            process.faults.die_after_more(writes);
        }
        world.change(step, &tenant).await;
        if trouble.deadly().is_some() {
            tokio::select! {
                () = process.faults.dead() => {}
                done = tokio::time::timeout(PATIENCE, converged(&world, &process, &tenant, wanted)) => done.unwrap_or_default(),
            }
            process.kill().await;
            process = match next {
                Some(next) => next,
                None => Operator::start(&world, &tenant, Faults::default()).await,
            }
            .lead();
        }
        if tokio::time::timeout(PATIENCE, converged(&world, &process, &tenant, wanted)).await.is_err() {
            let found = world.observer.state(&tenant);
            panic!(
                "{tenant}, {trouble:?}, {step:?}: last writes {:?}\n{}",
                process.faults.since(process.faults.writes().saturating_sub(10)),
                differences(wanted, &found)
            );
        }
    }
    process.kill().await;
}

/// Every trouble. Without a soak the longest step, the first creation, is tried at every third number beyond the longest of the
/// others: most of its writes are made at once and in any order, so that neighbouring numbers are the same case.
fn troubles(references: &[Reference]) -> Vec<Trouble> {
    let soak = std::env::var_os(SOAK).is_some();
    let longest = references.iter().map(|it| it.writes).max().unwrap();
    let others = references.iter().skip(1).map(|it| it.writes).max().unwrap();
    let mut all = Vec::new();
    for writes in 1..=longest {
        match (soak, writes % 2) {
            (true, _) => all.extend([Trouble::Dies(writes), Trouble::HandsOver(writes)]),
            (false, _) if writes > others + 1 && writes % 3 != 0 => {}
            (false, 0) => all.push(Trouble::Dies(writes)),
            (false, _) => all.push(Trouble::HandsOver(writes)),
        }
    }
    let codes = [409, 429, 500, 504].map(Fault::Refused);
    for (number, fault) in codes.into_iter().chain([Fault::AnswerLost, Fault::NeverSent]).enumerate() {
        let rests = if soak { 0..4 } else { number as u64 % 4..number as u64 % 4 + 1 };
        all.extend(rests.map(|rest| Trouble::Fails(4, rest, fault)));
    }
    all.extend([LAG, 2 * LAG].map(Trouble::Lags));
    all.push(Trouble::None);
    all
}

/// A Tenant that ends as soon as its services are made, before the operator has seen them, leaves no service and no host behind.
async fn a_short_life_leaves_nothing(world: &World) {
    let tenant = "life-short";
    let mut faults = Faults::default();
    for plural in ["bettingservices", "configmaps", "listenersets", "httproutes"] {
        faults = faults.late(plural, 5 * LAG);
    }
    let process = Operator::start(world, tenant, faults).await.lead();
    world.change(Step::Create, tenant).await;
    eventually("its services", async || world.observer.of("BettingService", tenant).len() == 3).await;
    world.change(Step::DeleteTenant, tenant).await;
    eventually("the Tenant goes", async || world.observer.of("Tenant", tenant).is_empty()).await;
    let left = || -> Vec<String> {
        let state = world.observer.state(tenant);
        let stays = |key: &&String| {
            let ends = ["BettingService", "ListenerSet", "HTTPRoute", "Deployment", "ConfigMap paddock-system"];
            ends.iter().any(|head| key.starts_with(&format!("{head} ")) || key.starts_with(&format!("{head}/")))
        };
        state.keys().filter(stays).cloned().collect()
    };
    let nothing = async {
        while !left().is_empty() {
            tokio::time::sleep(REST / 5).await;
        }
    };
    let done = tokio::time::timeout(20 * LAG, nothing).await;
    assert!(done.is_ok(), "left behind: {:?}", left());
    process.kill().await;
}

/// The record of the revision that serves is lost while no operator runs, and the next one finds that another is wanted: what
/// serves goes on until that does (rule R1).
async fn a_lost_record_takes_no_pod_away(world: &World) {
    let tenant = "life-lost";
    let process = Operator::start(world, tenant, Faults::default()).await.lead();
    world.change(Step::Create, tenant).await;
    eventually("it runs", async || missing(Step::Create, &world.observer.state(tenant)).is_empty()).await;
    process.kill().await;

    // The controller of Tenants alone, so that the service is of the new Release before its own controller sees it.
    let mut process = Operator::start(world, tenant, Faults::default()).await;
    process.ctx.issuer.ask(&process.ctx.client).await.unwrap();
    process.work.spawn(controllers::tenant::start(process.ctx.clone(), process.stop.clone()));
    world.release(tenant, 2).await;
    world.tenant(tenant, 2, 1, true).await;
    let namespace = format!("{tenant}-prod");
    let rates = |kind: &str| -> Vec<_> {
        let all = world.observer.of(kind, tenant).into_iter();
        all.filter(|it| it.namespace() == Some(namespace.clone()) && it.labels()[COMPONENT] == "rates").collect()
    };
    eventually("the service is of the new Release", async || {
        rates("BettingService").iter().any(|it| it.data["spec"]["image"] == IMAGES[1])
    })
    .await;
    process.kill().await;
    let api = |kind: ChildKind| -> Api<DynamicObject> {
        Api::namespaced_with(world.client.clone(), &namespace, &kind.api_resource())
    };
    let record = rates("ControllerRevision").remove(0).name_any();
    api(ChildKind::ControllerRevision).delete(&record, &DeleteParams::default()).await.unwrap();

    let process = Operator::start(world, tenant, Faults::default()).await.lead();
    let list = ListParams::default().labels(&format!("{COMPONENT}=rates"));
    eventually("the old one goes when the new one serves", async || {
        let all = api(ChildKind::Deployment).list(&list).await.unwrap().items;
        let serving = all.iter().filter_map(|it| it.data.pointer("/status/availableReplicas")?.as_i64()).sum::<i64>();
        assert!(serving >= 1, "a pod serves: {all:#?}");
        all.len() == 1 && all[0].data["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGES[1]
    })
    .await;
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_comes_to_the_same_whatever_happens_to_the_operator() {
    let world = Arc::new(World::start().await);
    a_short_life_leaves_nothing(&world).await;
    a_lost_record_takes_no_pod_away(&world).await;
    let began = std::time::Instant::now();
    let references = Arc::new(reference(&world).await);
    let writes: Vec<_> = Step::iter().zip(references.iter()).map(|(step, it)| (step, it.writes)).collect();
    println!("writes of an undisturbed life: {writes:?}, {:?}", began.elapsed());
    let troubles = troubles(&references);
    let lives = troubles.len();
    let results: Vec<_> = futures::stream::iter(troubles.into_iter().enumerate())
        .map(|(number, trouble)| {
            tokio::spawn(life(world.clone(), format!("life-n{number:03}"), trouble, references.clone()))
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    println!("{lives} lives, {:?}", began.elapsed());
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(failed, 0, "of {lives} lives; each says above what it came to");
}
