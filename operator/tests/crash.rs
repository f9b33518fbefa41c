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
    reason = "a test: its failure is the message"
)]

mod support;

use futures::StreamExt as _;
use kube::{
    Client, ResourceExt as _,
    api::{Api, DeleteParams, DynamicObject, Patch, PatchParams},
    core::ApiResource,
    runtime::{WatchStreamExt as _, watcher},
};
use paddock_cluster::{
    Progress,
    apiserver::Apiserver,
    tools::{self, Set},
};
use paddock_crds::v1alpha1::{DatabaseClass, DatabaseClaim, Market, Release, Tenant};
use paddock_operator::{
    controllers::{self, Ctx},
    kube::ChildKind,
    settings::Settings,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use support::{
    PATIENCE, authority, eventually,
    faults::{Fault, Faults},
    faulty, gateway_api, install,
    state::{Observer, State, differences},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Set for every number of writes, with both kinds of successors.
const SOAK: &str = "PADDOCK_SOAK";
/// Lives that go on at once.
const AT_ONCE: usize = 12;
/// How long nothing may be written before a Tenant counts as resting.
const REST: Duration = Duration::from_millis(500);
/// How late watches are at most, for a process that took over and for one that is never in time.
const LAG: Duration = Duration::from_millis(800);
const LABEL: &str = "paddock.bet/tenant";
const IMAGES: [&str; 2] = [
    "r.example/p@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "r.example/p@sha256:abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
];

/// What happens in a life, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Two environments from one Release: a service with a route, a claim, a migration and an autoscaler; one with nothing.
    Create,
    /// The autoscaler wants more.
    Grow,
    /// The Tenant gives a service another size.
    Resize,
    /// Another Release: new revisions after a migration, the old ones go to zero.
    Roll,
    OpenMarket,
    ChangeMarket,
    DeleteMarket,
    RemoveEnvironment,
    DeleteTenant,
}

const STEPS: [Step; 9] = [
    Step::Create,
    Step::Grow,
    Step::Resize,
    Step::Roll,
    Step::OpenMarket,
    Step::ChangeMarket,
    Step::DeleteMarket,
    Step::RemoveEnvironment,
    Step::DeleteTenant,
];

/// What goes wrong in each step of a life.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    /// The process dies after so many writes; the next one starts then.
    Dies(u64),
    /// The same, and the next one stood by already, with a cache that is behind.
    HandsOver(u64),
    /// Every so manieth write fails.
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

struct World {
    server: Apiserver,
    client: Client,
    observer: Observer,
}

impl World {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        tools::ensure(&[Set::EnvoyGateway], Progress::visible()).await.expect("the Gateway controller's charts");
        let server = Apiserver::builder().fake_nodes(2).start().await.expect("an API server");
        server.kubectl(&["apply", "--server-side", "-f", &gateway_api()]).await.unwrap();
        install(&server).await;
        server.apply(&authority().to_string()).await.unwrap();
        let client = server.client().await.unwrap();
        tokio::spawn(bind_claims(client.clone()));
        tokio::spawn(program_listeners(client.clone()));
        let observer = Observer::start(&client);
        Self { server, client, observer }
    }

    async fn apply<K>(&self, object: Value)
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let resource = ApiResource::erase::<K>(&());
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        api.patch(&object.name_any(), &PatchParams::apply("person").force(), &Patch::Apply(&object)).await.unwrap();
    }

    async fn release(&self, tenant: &str, number: usize) {
        let component = |name: &str, more: Value| {
            let mut all = json!({
                "name": name, "image": IMAGES[number - 1], "ports": [{"name": "http", "port": 8080}], "replicas": {"min": 1, "max": 1},
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
            });
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        self.apply::<Release>(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Release",
            "metadata": {"name": format!("{tenant}-{number}"), "labels": {LABEL: tenant}},
            "spec": {"version": format!("{number}.0"), "components": [
                component("rates", json!({})),
                component("account", json!({
                    "route": {"path": "/"}, "replicas": {"min": 1, "max": 3}, "needs": [{"name": "db", "engine": "PostgreSQL"}],
                    "migrations": {"need": "db", "expand": {"command": ["/migrate"]}},
                })),
            ]}
        }))
        .await;
    }

    async fn tenant(&self, name: &str, release: usize, rates: u32, dev: bool) {
        let class = format!("{name}-pg");
        let mut environments = vec![json!({
            "name": "prod", "class": "Production", "release": format!("{name}-{release}"), "domains": [{"host": format!("{name}.example")}],
            "services": [{"name": "rates", "replicas": {"min": rates, "max": rates}}],
            "databaseClasses": [{"engine": "PostgreSQL", "className": class}],
        })];
        if dev {
            environments.push(json!({
                "name": "dev", "class": "NonProduction", "release": format!("{name}-1"), "domains": [{"host": format!("dev.{name}.example")}],
                "services": [{"name": "account", "enabled": false}],
            }));
        }
        self.apply::<Tenant>(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": name, "labels": {LABEL: name}},
            "spec": {
                "displayName": name, "licences": [{"name": "mga-1", "jurisdiction": "MT"}], "currencies": ["EUR"],
                "owners": [{"kind": "Group", "name": "leads", "role": "Owner"}], "environments": environments,
            }
        }))
        .await;
    }

    async fn market(&self, tenant: &str, state: &str) {
        self.apply::<Market>(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Market",
            "metadata": {"name": "results", "namespace": format!("{tenant}-prod"), "labels": {LABEL: tenant}},
            "spec": {
                "sport": "soccer", "marketType": "match-result", "state": state,
                "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}},
                "limits": [{"currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000.00"}],
            }
        }))
        .await;
    }

    /// What people (and an autoscaler) do at the beginning of a step.
    async fn change(&self, step: Step, tenant: &str) {
        match step {
            Step::Create => {
                self.apply::<DatabaseClass>(json!({
                    "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass",
                    "metadata": {"name": format!("{tenant}-pg"), "labels": {LABEL: tenant}},
                    "spec": {"engine": "PostgreSQL", "environmentClass": "Production", "servers": [{
                        "name": "a", "adminSecret": "pg-admin", "endpoints": {"readWrite": "pg.example:5432"},
                        "tls": {"mode": "VerifyFull", "caSecret": "pg-ca"}, "network": {"namespace": "db", "podLabels": {"app": "pg"}, "ports": [5432]},
                    }]}
                }))
                .await;
                self.tenant(tenant, 1, 1, true).await;
                self.release(tenant, 1).await;
            }
            Step::Grow => {
                let all = self.observer.of("Deployment", tenant);
                let account = all.iter().find(|it| it.labels()["paddock.bet/component"] == "account").unwrap();
                let resource = ChildKind::Deployment.api_resource();
                let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &format!("{tenant}-prod"), &resource);
                let params = PatchParams { field_manager: Some("autoscaler".into()), ..PatchParams::default() };
                api.patch(&account.name_any(), &params, &Patch::Merge(json!({"spec": {"replicas": 2}}))).await.unwrap();
            }
            Step::Resize => self.tenant(tenant, 1, 2, true).await,
            Step::Roll => {
                self.release(tenant, 2).await;
                self.tenant(tenant, 2, 2, true).await;
            }
            Step::OpenMarket => self.market(tenant, "Open").await,
            Step::ChangeMarket => self.market(tenant, "Suspended").await,
            Step::DeleteMarket => {
                let api: Api<Market> = Api::namespaced(self.client.clone(), &format!("{tenant}-prod"));
                api.delete("results", &DeleteParams::default()).await.unwrap();
            }
            Step::RemoveEnvironment => self.tenant(tenant, 2, 2, false).await,
            Step::DeleteTenant => {
                let releases: Api<Release> = Api::all(self.client.clone());
                for number in 1..=2 {
                    // A short life has had no second one.
                    let _ = releases.delete(&format!("{tenant}-{number}"), &DeleteParams::default()).await;
                }
                let tenants: Api<Tenant> = Api::all(self.client.clone());
                tenants.delete(tenant, &DeleteParams::default()).await.unwrap();
            }
        }
    }
}

/// What the DatabaseClaim controller does, which has tests of its own with a real server.
async fn bind_claims(client: Client) {
    let all: Api<DatabaseClaim> = Api::all(client.clone());
    let mut claims = std::pin::pin!(watcher(all, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(claim) = claims.next().await {
        let Ok(claim) = claim else { continue };
        let (name, namespace) = (claim.name_any(), claim.namespace().unwrap());
        let secrets: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &ChildKind::Secret.api_resource());
        for role in &claim.spec.roles {
            let secret = format!("{name}-{}", role.name);
            let object = json!({
                "apiVersion": "v1", "kind": "Secret", "stringData": {"type": "x"}, "metadata": {"name": secret, "labels": claim.labels()}
            });
            secrets.patch(&secret, &PatchParams::apply("claims").force(), &Patch::Apply(object)).await.unwrap();
        }
        let bound = claim.status.iter().flat_map(|status| &status.conditions).any(|it| it.type_ == "Bound");
        if !bound {
            let status = json!({"status": {"conditions": [{
                "type": "Bound", "status": "True", "reason": "Bound", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"
            }]}});
            let api: Api<DatabaseClaim> = Api::namespaced(client.clone(), &namespace);
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
    }
}

/// What the Gateway's controller does.
async fn program_listeners(client: Client) {
    let resource = ChildKind::ListenerSet.api_resource();
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut sets = std::pin::pin!(watcher(all, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(set) = sets.next().await {
        let Ok(set) = set else { continue };
        let seen = set.data.pointer("/status/conditions/0/observedGeneration").and_then(Value::as_i64);
        if seen == set.metadata.generation {
            continue;
        }
        let condition = |type_: &str| json!({"type": type_, "status": "True", "reason": type_, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": set.metadata.generation});
        let status = json!({"status": {"conditions": [condition("Accepted"), condition("Programmed")]}});
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &set.namespace().unwrap(), &resource);
        // It may have gone meanwhile.
        let _ = api.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
    }
}

/// An operator process that sees one Tenant.
struct Process {
    ctx: Arc<Ctx>,
    faults: Faults,
    stop: CancellationToken,
    work: JoinSet<()>,
}

impl Process {
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

/// What is still missing in an undisturbed run; nothing when the step is done.
fn missing(step: Step, state: &State) -> Vec<String> {
    let mut missing = Vec::new();
    let mut want = |holds: bool, what: &str| {
        if !holds {
            missing.push(what.to_owned());
        }
    };
    for (key, object) in state.iter().filter(|(_, object)| object["data"].get("current").is_some()) {
        let condition = |type_: &str| {
            let all = object["data"]["status"]["conditions"].as_array();
            all.into_iter().flatten().find(|it| it["type"] == type_).map(|it| it["status"].clone())
        };
        want(object["data"]["current"] == true && condition("Ready") == Some(json!("True")), &format!("{key} ready"));
        want(condition("Reconciling").is_none(), &format!("{key} at rest"));
    }
    let count = |kind: &str, place: &str| {
        let head = format!("{kind} TENANT-{place}/");
        state.keys().filter(|key| key.starts_with(&head)).count()
    };
    let size = |name: &str| state.get(&format!("Deployment TENANT-{name}")).map(|it| it["data"]["spec"]["replicas"].clone());
    let book = state.get("ConfigMap TENANT-prod/market-book").map(|it| it["annotations"]["paddock.bet/book-generation"].clone());
    let after = |first: Step| STEPS.iter().position(|it| *it == step) >= STEPS.iter().position(|it| *it == first);
    let gone = after(Step::DeleteTenant);
    let dev = usize::from(!after(Step::RemoveEnvironment));
    let new = if after(Step::Roll) { 2 } else { 1 };
    if gone {
        for kind in ["Tenant", "Release", "BettingService", "Deployment", "HTTPRoute", "ListenerSet", "Service", "ControllerRevision", "Job"] {
            want(!state.keys().any(|key| key.starts_with(&format!("{kind} "))), &format!("no {kind}"));
        }
        want(!state.contains_key("ConfigMap paddock-system/domain.TENANT.example"), "a free host");
    } else {
        let rates = if after(Step::Resize) { 2 } else { 1 };
        let account = if after(Step::Grow) { 2 } else { 1 };
        want(size(&format!("prod/rates-revision{new}")) == Some(json!(rates)), "rates at its size");
        want(size(&format!("prod/account-revision{new}")) == Some(json!(account)), "account at its size");
        want(new == 1 || size("prod/rates-revision1") == Some(json!(0)), "old rates at zero");
        want(new == 1 || size("prod/account-revision1") == Some(json!(0)), "old account at zero");
        want(count("Job", "prod") == 1 && count("HorizontalPodAutoscaler", "prod") == 1, "one Job, one autoscaler");
        want(count("HTTPRoute", "prod") == 2, "the route and the redirect");
        want(count("BettingService", "prod") == 2 && count("BettingService", "dev") == dev, "its services");
        want(count("Deployment", "dev") == dev && count("Service", "dev") == dev, "what belongs to dev's service");
        want(state.contains_key("ConfigMap paddock-system/domain.dev.TENANT.example") == (dev == 1), "dev's host");
    }
    let generation = match step {
        Step::OpenMarket => "2",
        Step::ChangeMarket => "3",
        _ if after(Step::DeleteMarket) => "4",
        _ => "1",
    };
    want(book == Some(json!(generation)), "the market book's generation");
    want(count("DatabaseClaim", "prod") == 1 && count("Secret", "prod") == 4, "claim, bindings, token and certificate");
    missing
}

/// A life without trouble. Each step rests in the end: another process that begins then writes nothing.
async fn reference(world: &World) -> Vec<Reference> {
    let tenant = "life-plain";
    let process = Process::start(world, tenant, Faults::default()).await.lead();
    let mut references = Vec::new();
    let mut before = 0;
    for step in STEPS {
        world.change(step, tenant).await;
        let mut last = (State::new(), tokio::time::Instant::now());
        let done = async {
            while last.1.elapsed() < 4 * REST || !missing(step, &last.0).is_empty() {
                tokio::time::sleep(REST / 5).await;
                let state = world.observer.state(tenant);
                if state != last.0 {
                    last = (state, tokio::time::Instant::now());
                }
            }
        };
        if tokio::time::timeout(PATIENCE, done).await.is_err() {
            panic!("{step:?} is not done: {:?}", missing(step, &world.observer.state(tenant)));
        }
        let writes = process.faults.writes();
        let other = Process::start(world, tenant, Faults::default()).await.lead();
        tokio::time::sleep(4 * REST).await;
        assert_eq!((other.faults.writes(), process.faults.writes()), (0, writes), "writes at rest after {step:?}");
        other.kill().await;
        references.push(Reference { writes: writes - before, state: last.0 });
        before = writes;
    }
    process.kill().await;
    references
}

/// Resolves when the Tenant is as wanted and nothing was written for a while.
async fn converged(world: &World, process: &Process, tenant: &str, wanted: &State) {
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
    let mut process = Process::start(&world, &tenant, faults).await.lead();
    for (number, step) in STEPS.into_iter().enumerate() {
        // Where it would die later than the step's last write, it is dead at rest: that is said once.
        let rest = references[number..].iter().map(|reference| reference.writes).max().unwrap();
        if trouble.deadly().is_some_and(|writes| writes > rest + 1) {
            break;
        }
        let wanted = &references[number].state;
        let next = match trouble {
            Trouble::HandsOver(_) => Some(Process::start(&world, &tenant, Faults::default().lag(LAG)).await),
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
                None => Process::start(&world, &tenant, Faults::default()).await,
            }
            .lead();
        }
        if tokio::time::timeout(PATIENCE, converged(&world, &process, &tenant, wanted)).await.is_err() {
            let found = world.observer.state(&tenant);
            panic!("{tenant}, {trouble:?}, {step:?}: {} writes\n{}", process.faults.writes(), differences(wanted, &found));
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
    let process = Process::start(world, tenant, faults).await.lead();
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

/// The record of the revision that serves is lost while no operator runs, and the next one finds another Release: what serves goes on
/// until that does (rule R1).
async fn a_lost_record_takes_no_pod_away(world: &World) {
    let tenant = "life-lost";
    let process = Process::start(world, tenant, Faults::default()).await.lead();
    world.change(Step::Create, tenant).await;
    eventually("it runs", async || missing(Step::Create, &world.observer.state(tenant)).is_empty()).await;
    process.kill().await;
    let records = world.observer.of("ControllerRevision", tenant);
    let record = records.iter().find(|it| it.namespace() == Some(format!("{tenant}-prod")) && it.name_any().starts_with("rates-"));
    let namespace = format!("{tenant}-prod");
    let api = |kind: ChildKind| -> Api<DynamicObject> {
        Api::namespaced_with(world.client.clone(), &namespace, &kind.api_resource())
    };
    api(ChildKind::ControllerRevision).delete(&record.unwrap().name_any(), &DeleteParams::default()).await.unwrap();
    world.release(tenant, 2).await;
    world.tenant(tenant, 2, 1, true).await;
    let process = Process::start(world, tenant, Faults::default()).await.lead();
    let done = async {
        loop {
            let all = api(ChildKind::Deployment).list(&Default::default()).await.unwrap();
            let rates: Vec<_> = all.iter().filter(|it| it.labels()["paddock.bet/component"] == "rates").collect();
            let available = |it: &DynamicObject| it.data.pointer("/status/availableReplicas").and_then(Value::as_i64).unwrap_or(0);
            assert!(rates.iter().map(|it| available(it)).sum::<i64>() >= 1, "a pod serves: {rates:#?}");
            let new = |it: &DynamicObject| it.data["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGES[1];
            if rates.len() == 1 && new(rates[0]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("the old one goes when the new one serves");
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_comes_to_the_same_whatever_happens_to_the_operator() {
    let world = Arc::new(World::start().await);
    a_short_life_leaves_nothing(&world).await;
    a_lost_record_takes_no_pod_away(&world).await;
    let began = std::time::Instant::now();
    let references = Arc::new(reference(&world).await);
    let writes: Vec<_> = STEPS.iter().zip(references.iter()).map(|(step, it)| (step, it.writes)).collect();
    println!("writes of an undisturbed life: {writes:?}, {:?}", began.elapsed());
    let troubles = troubles(&references);
    let lives = troubles.len();
    let results: Vec<_> = futures::stream::iter(troubles.into_iter().enumerate())
        .map(|(number, trouble)| tokio::spawn(life(world.clone(), format!("life-n{number:03}"), trouble, references.clone())))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    println!("{lives} lives, {:?}", began.elapsed());
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(failed, 0, "of {lives} lives; each says above what it came to");
}
