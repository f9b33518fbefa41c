//! Election of one leader by a Lease, with fencing.
//!
//! The decision is a pure function; the write is a `replace` with the resourceVersion that was read, so that the apiserver decides every
//! race. Expiry of another's term is measured by our own clock, from the moment we saw its last renewal: clocks are never compared.
//! A leader that could not renew in time stops itself before anyone else can take the lease (rule O5).

use crate::fault::{Category, Fault};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Times of the election.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long others wait after the last renewal that they saw.
    pub lease: Duration,
    /// How long the leader may go without a renewal before it stops itself. Less than `lease`.
    pub renew_deadline: Duration,
    /// Time between two attempts.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew_deadline: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody holds it: write ourselves in, in a new term.
    Acquire,
    /// We hold it: write the time.
    Renew,
    /// Someone else holds it until the given moment at least.
    Wait(Instant),
}

/// Decides. `observed_at` is when we saw this state of the lease first, by our own clock.
pub fn evaluate(spec: Option<&LeaseSpec>, me: &str, observed_at: Instant, now: Instant) -> Step {
    let Some(spec) = spec else { return Step::Acquire };
    match spec.holder_identity.as_deref() {
        None | Some("") => Step::Acquire,
        Some(holder) if holder == me => Step::Renew,
        Some(_) => {
            let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
            let end = observed_at + Duration::from_secs(seconds);
            if now >= end { Step::Acquire } else { Step::Wait(end) }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Our term: its number, and until when writes are allowed without another renewal.
    term: Option<(u64, Instant)>,
    /// An epoch that ours is to pass.
    floor: u64,
    /// Who holds the lease as last seen, if that term had not ended then.
    holder: Option<String>,
}

/// What the rest of the process knows of the election. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Leadership(Arc<Mutex<State>>);

impl Leadership {
    /// Nobody leads yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A term without end and without lease: for tests and tools that run alone.
    pub fn alone(epoch: u64) -> Self {
        let leadership = Self::default();
        leadership.state().term = Some((epoch, Instant::now() + Duration::from_hours(24 * 365)));
        leadership
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch of our term, if writes are allowed at this moment. Ask before every write, above all outside the apiserver.
    ///
    /// # Errors
    /// `NotLeader`.
    pub fn fence(&self) -> Result<u64, Fault> {
        match self.state().term {
            Some((epoch, until)) if Instant::now() < until => Ok(epoch),
            _ => Err(Fault::new(Category::NotLeader, "this process does not lead: another one does the work")),
        }
    }

    /// The epoch of our term, higher than those of all terms before; 0 while we do not lead.
    pub fn epoch(&self) -> u64 {
        self.fence().unwrap_or_default()
    }

    /// Asks for an epoch above `epoch`, which a server or a status knows though the lease has not come to it: a lease that was lost began
    /// anew. The next renewal writes it; if the lease is no longer ours that renewal fails, and so ends a leader that was deposed.
    pub fn exceed(&self, epoch: u64) {
        let mut state = self.state();
        state.floor = state.floor.max(epoch);
    }

    /// Whether writes are allowed at this moment.
    pub fn is_leader(&self) -> bool {
        self.fence().is_ok()
    }

    #[cfg(test)]
    pub(crate) fn seen_holder(&self, holder: Option<&str>) {
        self.state().holder = holder.map(Into::into);
    }

    /// Who holds the lease as far as we know; `None` if nobody does.
    pub fn holder(&self) -> Option<String> {
        self.state().holder.clone()
    }
}

/// How holding the lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// We were asked to stop; the lease is still ours until [`Elector::release`].
    Stopped,
    /// Someone else took it, or it could not be renewed in time: nothing may be written any more.
    Lost,
}

/// One candidate.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    timing: Timing,
    leadership: Leadership,
    /// The lease as last read or written, and when this state of it was seen first.
    seen: Option<(Lease, Instant)>,
}

impl Elector {
    /// A candidate `me`, a name that no other process ever has, for the lease `namespace/name`.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str, timing: Timing, leadership: Leadership) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.into(),
            me: me.into(),
            timing,
            leadership,
            seen: None,
        }
    }

    /// Tries until we lead. Returns the epoch, or `None` when `stop` comes first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> Option<u64> {
        loop {
            let trying = async {
                let held = self.attempt().await;
                if let Err(error) = &held {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "the lease cannot be read or written; trying again"
                    );
                }
                held.unwrap_or(false)
            };
            tokio::select! {
                () = stop.cancelled() => return None,
                held = trying => if held {
                    return self.leadership.fence().ok();
                },
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(jittered(self.timing.retry)) => {}
            }
        }
    }

    /// Renews until `stop`, or until the lease is lost.
    pub async fn hold(&mut self, stop: &CancellationToken) -> End {
        let mut pause = self.timing.retry;
        loop {
            let Some((_, until)) = self.leadership.state().term else { return End::Lost };
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                () = tokio::time::sleep(pause) => {}
            }
            pause = self.timing.retry;
            // An answer that never comes on one connection must leave time to ask on another.
            let limit = until.min(Instant::now() + self.timing.renew_deadline / 2);
            match tokio::time::timeout_at(limit, self.attempt()).await {
                Ok(Ok(true)) => {}
                Err(_) if Instant::now() < until => {
                    tracing::warn!("the apiserver does not answer to the renewal of the lease; trying again");
                    pause = Duration::ZERO;
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the lease was not renewed; trying again");
                }
                Ok(Ok(false)) | Err(_) => break,
            }
            if !self.leadership.is_leader() {
                break;
            }
        }
        self.leadership.state().term = None;
        End::Lost
    }

    /// Gives the lease back so that another takes it at once. To be called when nothing of ours writes any more.
    pub async fn release(&mut self) {
        self.leadership.state().term = None;
        let Some((lease, _)) = self.seen.take() else { return };
        if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) != Some(self.me.as_str()) {
            return;
        }
        let mut free = lease;
        if let Some(spec) = &mut free.spec {
            spec.holder_identity = Some(String::new());
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        // If it fails the lease ends by itself.
        match tokio::time::timeout(self.timing.retry, self.api.replace(&self.name, &PostParams::default(), &free)).await
        {
            Ok(Ok(_)) => tracing::info!("gave the lease back"),
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the lease was not given back; it ends by itself"
            ),
            Err(_) => tracing::warn!("the lease was not given back in time; it ends by itself"),
        }
    }

    /// One attempt to get or keep the lease: `true` when it is ours after it, `false` when it is another's.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let leading = self.leadership.state().term.is_some();
        // While we lead, our last write is the state of the lease unless a conflict says otherwise.
        if !leading || self.seen.is_none() {
            self.observe().await?;
        }
        let now = Instant::now();
        let (spec, observed_at) = match &self.seen {
            Some((lease, at)) => (lease.spec.as_ref(), *at),
            None => (None, now),
        };
        let step = evaluate(spec, &self.me, observed_at, now);
        let held_by_other = matches!(step, Step::Wait(_));
        {
            let mut state = self.leadership.state();
            state.holder =
                spec.and_then(|spec| spec.holder_identity.clone()).filter(|_| held_by_other || step == Step::Renew);
        }
        if held_by_other {
            return Ok(false);
        }
        let floor = self.leadership.state().floor;
        let lease = self.written(step == Step::Acquire, floor);
        let result = match &self.seen {
            Some(_) => self.api.replace(&self.name, &PostParams::default(), &lease).await,
            None => self.api.create(&PostParams::default(), &lease).await,
        };
        match result {
            Ok(lease) => {
                let epoch = epoch(&lease);
                self.seen = Some((lease, now));
                let mut state = self.leadership.state();
                if state.term.is_some_and(|(before, _)| before != epoch) {
                    tracing::info!(epoch, "the term goes on under a higher epoch: a server knew a later one");
                }
                // Counted from before the request: whenever the apiserver took it, others wait longer than that.
                state.term = Some((epoch, now + self.timing.renew_deadline));
                state.holder = Some(self.me.clone());
                Ok(true)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                // Another writer: look again. If the lease is ours after all, the next attempt renews it.
                self.observe().await?;
                let ours = self.seen.as_ref().and_then(|(lease, _)| lease.spec.as_ref()?.holder_identity.as_deref())
                    == Some(&self.me);
                if leading && ours { Ok(true) } else { Ok(false) }
            }
            Err(error) => Err(error),
        }
    }

    async fn observe(&mut self) -> Result<(), kube::Error> {
        let found = self.api.get_opt(&self.name).await?;
        let now = Instant::now();
        self.seen = match (found, self.seen.take()) {
            (Some(new), Some((old, at))) if new.spec == old.spec => Some((new, at)),
            (Some(new), _) => Some((new, now)),
            (None, _) => None,
        };
        Ok(())
    }

    /// The lease as we want it: ours from now on, in a new term or one whose epoch must pass `floor`.
    fn written(&self, new_term: bool, floor: u64) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = self.seen.as_ref().map(|(lease, _)| lease.clone()).unwrap_or_default();
        let before = old.spec.unwrap_or_default();
        let count = before.lease_transitions.unwrap_or_default();
        let floor = i32::try_from(floor).unwrap_or(i32::MAX);
        let count = if new_term || floor >= count { count.max(floor).saturating_add(1) } else { count };
        Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..old.metadata },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: i32::try_from(self.timing.lease.as_secs()).ok(),
                lease_transitions: Some(count),
                acquire_time: if new_term { Some(now.clone()) } else { before.acquire_time },
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Number of the term that the lease is in.
fn epoch(lease: &Lease) -> u64 {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.lease_transitions)
        .and_then(|count| u64::try_from(count).ok())
        .unwrap_or_default()
}

/// Up to a fifth more, so that candidates do not move in step.
fn jittered(time: Duration) -> Duration {
    time + time.mul_f64(rand::random::<f64>() / 5.0)
}

#[cfg(test)]
mod tests;
