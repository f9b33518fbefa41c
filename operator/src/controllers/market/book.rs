//! One pass over one namespace: read, compile, publish, push, tell.

use super::build::{self, Published};
use super::push::{Answer, Follower, Pusher};
use super::status::{Progress, faulty, news, outside, status};
use super::validate::{Compiled, compiled};
use crate::controllers::tenant::secret::{CONTROL, TOKEN};
use crate::controllers::{Category, Ctx, Fault, Outcome};
use crate::kube::cache::is_ours;
use crate::kube::{Cache, ChildKind, apply, secret, write_status};
use futures::StreamExt as _;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use paddock_crds::labels;
use paddock_crds::v1alpha1::{Market, MarketStatus};
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// First wait for a pod that does not answer, and the longest: a lost node must not keep passes busy. A pod that changes, and a new
/// book, wait for nothing.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Statuses that are written at once.
const WRITES_AT_ONCE: usize = 8;
/// Label of pods that follow the book.
const FOLLOWS: (&str, &str) = (labels::MARKET_BOOK, "true");
/// How far above ours a number that a pod claims can be: more books than were ever published.
const LEAP: u64 = 1 << 32;

/// What is remembered of a namespace. Losing it costs one push to each pod, nothing else.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// The last book that this process published: the cache may be older.
    published: Option<Published>,
    /// Lowest generation that a pod would take.
    floor: u64,
    /// Latest generation that every pod had in force.
    acknowledged: u64,
    /// Processes that have the generation in force.
    in_force: BTreeMap<Follower, u64>,
    /// How often in a row a process did not take the present generation.
    missed: BTreeMap<Follower, u32>,
    /// Processes above whose number we published, and that have taken none of our books since.
    raised: BTreeSet<Follower>,
}

/// The books of all namespaces.
#[derive(Debug)]
pub struct Books {
    pusher: Pusher,
    memory: Mutex<HashMap<String, Memory>>,
    /// The last pass over each namespace.
    passes: Mutex<HashMap<String, CancellationToken>>,
}

impl Books {
    /// No books yet.
    pub fn new(pusher: Pusher) -> Self {
        Self { pusher, memory: Mutex::default(), passes: Mutex::default() }
    }

    /// A pass over a namespace begins: the token tells it that it is superseded.
    pub fn begin(&self, namespace: &str) -> CancellationToken {
        let superseded = CancellationToken::new();
        lock(&self.passes).insert(namespace.to_owned(), superseded.clone());
        superseded
    }

    /// A rule changed: it does not wait until a pass under way has written the statuses of all others.
    pub fn supersede(&self, namespace: &str) {
        if let Some(superseded) = lock(&self.passes).get(namespace) {
            superseded.cancel();
        }
    }

    /// Nothing is left of a namespace.
    pub fn forget(&self, namespace: &str) {
        lock(&self.memory).remove(namespace);
        lock(&self.passes).remove(namespace);
    }

    fn recall(&self, namespace: &str) -> Memory {
        lock(&self.memory).get(namespace).cloned().unwrap_or_default()
    }

    fn remember(&self, namespace: &str, memory: Memory) {
        lock(&self.memory).insert(namespace.to_owned(), memory);
    }

    /// One pass. A namespace is passed by one task at a time. A pass that is `superseded` puts the book in force and leaves statuses
    /// that are not written yet to the next one.
    pub async fn pass(&self, ctx: &Ctx, namespace: &str, superseded: &CancellationToken) -> Result<Outcome, Fault> {
        let markets = ctx.cache.list_in::<Market>(namespace);
        let Some(environment) = environment(&ctx.cache, namespace) else {
            lock(&self.memory).remove(namespace);
            if ctx.cache.child(ChildKind::Namespace, None, namespace).is_some_and(|it| ends(&it)) {
                return Ok(Outcome::Done);
            }
            write_all(ctx, &markets, superseded, outside).await?;
            return Ok(Outcome::Done);
        };
        let rules = compiled(markets.iter().map(AsRef::as_ref));
        let (progress, again) = self.enforce(ctx, namespace, &environment, &rules, &markets).await?;
        write_all(ctx, &markets, superseded, |market| {
            let name = market.metadata.name.as_deref().unwrap_or_default();
            status(market, rules.refused.get(name), &progress)
        })
        .await?;
        Ok(again.map_or(Outcome::Done, |after| Outcome::Again { after }))
    }

    /// Publishes the book and puts it in force; says how far it came and when to try again.
    async fn enforce(
        &self,
        ctx: &Ctx,
        namespace: &str,
        environment: &Environment,
        rules: &Compiled,
        markets: &[Arc<Market>],
    ) -> Result<(Progress, Option<Duration>), Fault> {
        let mut memory = self.recall(namespace);
        let digest = build::digest(&rules.book).map_err(defect)?;
        let told = |pick: fn(&paddock_crds::v1alpha1::BookStatus) -> i64| {
            let books = markets.iter().filter_map(|market| market.status.as_ref()?.book.as_ref().map(pick));
            books.max().and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
        };
        // Ends, because a process is believed once.
        loop {
            let mut known: Vec<Published> = memory.published.iter().cloned().collect();
            known
                .extend(ctx.cache.child(ChildKind::ConfigMap, Some(namespace), build::NAME).map(|it| build::read(&it)));
            let floor = memory.floor.max(environment.born).max(told(|book| book.generation));
            let generation = build::generation(&digest, &known, floor).ok_or_else(|| {
                let message = "no number is left above that of ConfigMap market-book: delete it, it is made again";
                Fault::new(Category::InvalidSpec, message)
            })?;
            let book = rules.book.clone().with_generation(generation);
            let object = build::config_map(namespace, &environment.tenant, &environment.name, &book).map_err(defect)?;
            if memory.published.as_ref().is_none_or(|published| published.generation != generation) {
                memory.missed.clear();
            }
            // Remembered first: if the answer is lost, the write may still have happened.
            memory.published = Some(Published { generation, digest: digest.clone() });
            self.remember(namespace, memory.clone());
            apply(ctx, "market", &object).await?;
            let text = book.to_json().map_err(defect)?;
            // What was acknowledged stays so when pods come and go; a restart of the operator reads it from the Markets.
            memory.acknowledged = memory.acknowledged.max(told(|book| book.acknowledged)).min(generation);
            let pods = ctx.cache.children(ChildKind::Pod, Some(namespace), &[FOLLOWS]);
            let pods = pods.iter().filter_map(|pod| Follower::of(pod)).collect();
            let (mut higher, mut waiting) = self.push(ctx, namespace, generation, &text, pods, &mut memory).await?;
            if higher.is_none() && waiting.is_empty() && memory.acknowledged < generation {
                // That every pod has it is said once of a book: then the watch, which may be behind, is not enough.
                let pods = running(ctx, namespace).await?;
                (higher, waiting) = self.push(ctx, namespace, generation, &text, pods, &mut memory).await?;
            }
            if let Some(higher) = higher {
                tracing::warn!(namespace, higher, generation, "a pod has another market book; publishing above it");
                // Above it also if it has our number and other rules.
                memory.floor = higher.max(generation.saturating_add(1));
                continue;
            }
            let again = if waiting.is_empty() {
                memory.acknowledged = generation;
                None
            } else {
                Some(wait(memory.missed.values().min().copied()))
            };
            let progress = Progress { generation, acknowledged: memory.acknowledged, waiting };
            self.remember(namespace, memory);
            return Ok((progress, again));
        }
    }

    /// Tells those of the pods that do not have the generation in force yet. Returns the highest generation of another book that one of them
    /// has, and those that still miss ours, each with why.
    async fn push(
        &self,
        ctx: &Ctx,
        namespace: &str,
        generation: u64,
        book: &str,
        followers: BTreeSet<Follower>,
        memory: &mut Memory,
    ) -> Result<(Option<u64>, Vec<String>), Fault> {
        memory.in_force.retain(|follower, _| followers.contains(follower));
        memory.missed.retain(|follower, _| followers.contains(follower));
        memory.raised.retain(|follower| followers.contains(follower));
        let missing: Vec<Follower> =
            followers.into_iter().filter(|follower| memory.in_force.get(follower) != Some(&generation)).collect();
        if missing.is_empty() {
            return Ok((None, Vec::new()));
        }
        let token = match token(ctx, namespace).await? {
            Ok(token) => token,
            Err(why) => {
                return Ok((None, missing.iter().map(|follower| format!("{}: {why}", follower.name)).collect()));
            }
        };
        // Outside of the apiserver: only while this process leads (rule O5).
        ctx.leader.fence()?;
        let mut higher = None;
        let mut waiting = Vec::new();
        for (follower, answer) in self.pusher.push(missing, &token, generation, book).await {
            let why = match answer {
                Answer::InForce => {
                    memory.missed.remove(&follower);
                    memory.raised.remove(&follower);
                    memory.in_force.insert(follower, generation);
                    continue;
                }
                // It may be a tenant's own component, which must not lead the environment's book. Repeated without a book of ours in
                // between, or far above all that was published, it is no news of another operator.
                Answer::Newer(other)
                    if other.saturating_sub(generation) <= LEAP && memory.raised.insert(follower.clone()) =>
                {
                    higher = higher.max(Some(other));
                    format!("it has market book {other}")
                }
                Answer::Newer(other) => format!("it claims market book {other}, which was never published; restart it"),
                Answer::Failed(why) => why,
            };
            waiting.push(format!("{}: {why}", follower.name));
            let missed = memory.missed.entry(follower).or_default();
            *missed = missed.saturating_add(1);
        }
        waiting.sort();
        Ok((higher, waiting))
    }
}

/// The pods that follow the book, as the apiserver has them now.
async fn running(ctx: &Ctx, namespace: &str) -> Result<BTreeSet<Follower>, Fault> {
    let pods: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), namespace, &ChildKind::Pod.api_resource());
    let ours = format!("{}={},{}={}", labels::MANAGED_BY, labels::MANAGED_BY_PADDOCK, FOLLOWS.0, FOLLOWS.1);
    let found = pods.list(&ListParams::default().labels(&ours)).await;
    let found = found.map_err(|error| Fault::of_request(&format!("listing pods of {namespace}"), error))?;
    Ok(found.items.iter().filter_map(Follower::of).collect())
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long to wait after a pass that processes missed; `missed`: how often in a row the one did that missed fewest. `None`: nobody could
/// be told, for want of the token, whose arrival is a change once it is watched.
fn wait(missed: Option<u32>) -> Duration {
    missed.map_or(LONGEST_WAIT, |missed| {
        FIRST_WAIT.saturating_mul(1 << missed.saturating_sub(1).min(8)).min(LONGEST_WAIT)
    })
}

/// The environment that a namespace is.
struct Environment {
    tenant: String,
    name: String,
    /// When the namespace was made, in seconds. Books are numbered from there: all that knows their numbers here goes with the
    /// namespace, but databases of its services stay and refuse what is lower, also if it is made again.
    born: u64,
}

/// The environment that a namespace is, if it stays.
fn environment(cache: &Cache, namespace: &str) -> Option<Environment> {
    let found = cache.child(ChildKind::Namespace, None, namespace)?;
    if ends(&found) {
        return None;
    }
    let labels = found.metadata.labels.as_ref()?;
    let born = found.metadata.creation_timestamp.as_ref().and_then(|time| u64::try_from(time.0.as_second()).ok());
    Some(Environment {
        tenant: labels.get(labels::TENANT)?.clone(),
        name: labels.get(labels::ENVIRONMENT)?.clone(),
        born: born.unwrap_or_default(),
    })
}

/// Whether a namespace goes, and all Markets with it.
fn ends(namespace: &DynamicObject) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

/// The token of the environment's control ports, or why there is none to use.
async fn token(ctx: &Ctx, namespace: &str) -> Result<Result<SecretString, String>, Fault> {
    // Suspensions do not wait for the Tenant's pass, which begins the watch.
    let found = if ctx.cache.secrets_ready(namespace) {
        Ok(ctx.cache.secret(namespace, CONTROL))
    } else {
        secret(ctx, namespace, CONTROL).await
    };
    let found = match found {
        Err(fault) if fault.category == Category::Forbidden => {
            return Ok(Err(format!("the operator has no right yet to read Secret {CONTROL} of the environment")));
        }
        found => found?,
    };
    let Some(found) = found else { return Ok(Err(format!("Secret {CONTROL} of the environment is not there yet"))) };
    if !is_ours(&found.metadata) {
        let why = format!("Secret {CONTROL} of the environment was not made by the operator: delete or rename it");
        return Ok(Err(why));
    }
    let token = found.data.as_ref().and_then(|data| String::from_utf8(data.get(TOKEN)?.0.clone()).ok());
    Ok(token
        .map(|token| token.trim().into())
        .ok_or_else(|| format!("Secret {CONTROL} of the environment has no token")))
}

/// Puts a fault of a pass onto the Markets of its namespace.
pub(super) async fn tell(
    ctx: &Ctx,
    namespace: &str,
    fault: &Fault,
    superseded: &CancellationToken,
) -> Result<(), Fault> {
    write_all(ctx, &ctx.cache.list_in::<Market>(namespace), superseded, |market| faulty(market, fault)).await
}

/// Writes the statuses that say something new, those of changed Markets first, with one event for each that says that something is
/// wrong. All are tried unless the pass is superseded; the first fault counts.
async fn write_all(
    ctx: &Ctx,
    markets: &[Arc<Market>],
    superseded: &CancellationToken,
    status: impl Fn(&Market) -> MarketStatus,
) -> Result<(), Fault> {
    let mut writes = Vec::with_capacity(markets.len());
    for market in markets {
        let new = status(market);
        let value = serde_json::to_value(&new).map_err(|error| {
            Fault::new(Category::Panic, "a Market's status has no JSON form: report this defect").with_source(error)
        })?;
        writes.push((market.clone(), new, value));
    }
    writes.sort_by_key(|(market, ..)| seen(market));
    let results: Vec<Result<(), Fault>> = futures::stream::iter(writes)
        .take_until(superseded.cancelled())
        .map(|(market, new, value)| async move {
            write_status(ctx, market.as_ref(), value).await?;
            if let Some(wrong) = news(&market, &new) {
                ctx.events.warning(market.as_ref(), &wrong.reason, "Compile", wrong.message.clone()).await;
            }
            Ok(())
        })
        .buffer_unordered(WRITES_AT_ONCE)
        .collect()
        .await;
    results.into_iter().collect()
}

/// Whether the status is of the present spec.
fn seen(market: &Market) -> bool {
    market.status.as_ref().is_some_and(|status| status.observed_generation == market.metadata.generation)
}

fn defect(error: paddock_market_book::BookError) -> Fault {
    Fault::new(Category::Panic, "a market book has no JSON form: report this defect").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::market;
    use super::*;
    use crate::settings::Settings;
    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::convert::Infallible;

    const OURS: &str = "paddock";

    /// What the apiserver answers here: objects as they are written, the token of control ports, and the pods.
    fn answer(method: &str, path: &str, pods: &Value) -> Value {
        let labels = json!({"app.kubernetes.io/managed-by": OURS});
        match (method, path.rsplit('/').next()) {
            ("GET", Some("pods")) => pods.clone(),
            ("GET", Some(name)) => json!({
                "apiVersion": "v1", "kind": "Secret", "data": {TOKEN: "dG9rZW4="},
                "metadata": {"name": name, "namespace": "acme-prod", "labels": labels},
            }),
            _ => json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "book", "namespace": "acme-prod", "resourceVersion": "2", "labels": labels},
            }),
        }
    }

    #[tokio::test]
    async fn a_pod_that_the_watch_does_not_show_is_asked_before_a_book_counts_as_acknowledged() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pods = Arc::new(Mutex::new(json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [{
            "metadata": {"name": "hidden", "namespace": "acme-prod", "uid": "1"},
            // Nobody answers there.
            "spec": {"containers": [{"name": "main", "ports": [{"name": "control", "containerPort": 1}]}]},
            "status": {"phase": "Running", "podIP": "127.0.0.1"},
        }]})));
        let listed = pods.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = answer(request.method().as_str(), request.uri().path(), &lock(&listed));
            async move { Ok::<_, Infallible>(Response::new(Body::from(serde_json::to_vec(&answer).unwrap()))) }
        });
        let ctx = Ctx::detached(Client::new(service, "default"), Settings::default()).unwrap();
        let books = Books::new(Pusher::new().unwrap());
        let environment = Environment { tenant: "acme".into(), name: "prod".into(), born: 1 };
        let markets = [Arc::new(market("a", 1, Value::Null))];
        let rules = compiled(markets.iter().map(AsRef::as_ref));
        let look = async || books.enforce(&ctx, "acme-prod", &environment, &rules, &markets).await.unwrap();

        let (progress, again) = look().await;
        assert!(progress.waiting.iter().any(|why| why.starts_with("hidden: ")), "{:?}", progress.waiting);
        assert!(again.is_some() && progress.acknowledged < progress.generation);
        lock(&pods)["items"] = json!([]);
        let (progress, again) = look().await;
        assert_eq!((progress.acknowledged, again), (progress.generation, None));
        // What was said once is not asked again when pods come and go.
        *lock(&pods) = Value::Null;
        let (progress, again) = look().await;
        assert_eq!((progress.acknowledged, again), (progress.generation, None));
    }

    #[tokio::test]
    async fn a_superseded_pass_leaves_statuses_to_the_next() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Nobody answers there.
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let ctx = Ctx::detached(kube::Client::try_from(config).unwrap(), Settings::default()).unwrap();
        let markets = [Arc::new(market("a", 1, Value::Null)), Arc::new(market("b", 2, Value::Null))];
        let tried = || ctx.metrics.status_writes.with_label_values(&["Market", "failed"]).get();
        let superseded = CancellationToken::new();
        write_all(&ctx, &markets, &superseded, outside).await.unwrap_err();
        assert_eq!(tried(), 2);
        superseded.cancel();
        write_all(&ctx, &markets, &superseded, outside).await.unwrap();
        assert_eq!(tried(), 2);
    }

    #[test]
    fn a_changed_market_is_told_first() {
        let mut old = market("a", 1, Value::Null);
        old.status = Some(MarketStatus { observed_generation: old.metadata.generation, ..MarketStatus::default() });
        let mut changed = old.clone();
        changed.metadata.generation = Some(2);
        assert!((seen(&old), seen(&changed)) == (true, false) && !seen(&market("new", 1, Value::Null)));
    }
}
