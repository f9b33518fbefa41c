//! What must be there before the operator can work, and what of it is missing.

use crate::{
    kube::Cache,
    leader::Leadership,
    metrics::Metrics,
    rbac::{self, Right},
};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// First wait between two looks at what is missing.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two looks.
const LONGEST: Duration = Duration::from_secs(30);
/// Access reviews under way at once.
const REVIEWS_AT_ONCE: usize = 8;

#[derive(Debug, Default)]
struct State {
    definitions_missing: Option<BTreeSet<String>>,
    rights_missing: Option<Vec<String>>,
    stopping: bool,
}

/// Answer of `/readyz`.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Report {
    /// Whether the operator can work. A standby can.
    pub ready: bool,
    /// What is missing, in words that say what to do.
    pub missing: Vec<String>,
    /// What does not work although the operator does: optional APIs, watches that stopped getting on.
    pub notes: Vec<String>,
}

/// Gates of readiness. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
    cache: Cache,
    leader: Leadership,
    doubt: Arc<Notify>,
    restored: Arc<watch::Sender<()>>,
}

impl Readiness {
    /// Nothing was looked at yet.
    pub fn new(cache: Cache, leader: Leadership) -> Self {
        Self { state: Arc::default(), cache, leader, doubt: Arc::default(), restored: Arc::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process is about to end.
    pub fn stopping(&self) {
        self.state().stopping = true;
    }

    /// The present answer.
    pub fn report(&self) -> Report {
        let mut missing = Vec::new();
        {
            let state = self.state();
            if state.stopping {
                missing.push("the process is ending".to_owned());
            }
            match &state.definitions_missing {
                None => missing.push(
                    "CustomResourceDefinitions were not looked for yet: the apiserver does not answer".to_owned(),
                ),
                Some(names) => missing.extend(
                    names.iter().map(|name| format!("CustomResourceDefinition {name}: install the chart paddock-crds")),
                ),
            }
            match &state.rights_missing {
                None => missing.push("rights were not looked at yet: the apiserver does not answer".to_owned()),
                Some(rights) => missing.extend(
                    rights.iter().map(|right| format!("right to {right}: install the chart paddock-operator again")),
                ),
            }
        }
        missing.extend(self.cache.missing().into_iter().map(|kind| format!("watch of {kind}")));
        if self.leader.holder().is_none() {
            missing.push("nobody holds the lease: no replica does the work".to_owned());
        }
        let notes = self.cache.troubles().into_iter().map(|(kind, trouble)| format!("{kind}: {trouble}")).collect();
        Report { ready: missing.is_empty(), missing, notes }
    }

    /// Looks until every CustomResourceDefinition is served.
    pub async fn wait_definitions(&self, client: &Client, metrics: &Metrics, stop: &CancellationToken) {
        let mut wait = FIRST;
        loop {
            match missing_definitions(client).await {
                Ok(missing) => {
                    for name in definitions() {
                        metrics.crd_missing.with_label_values(&[&name]).set(i64::from(missing.contains(&name)));
                    }
                    let complete = missing.is_empty();
                    self.state().definitions_missing = Some(missing);
                    if complete {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot look for CustomResourceDefinitions; trying again"
                    );
                }
            }
            if !pause(&mut wait, stop).await {
                return;
            }
        }
    }

    /// A request was forbidden: see [`Self::follow_rights`].
    pub fn doubt_rights(&self) {
        self.doubt.notify_one();
    }

    /// Changes when rights that were missing are there again: what waited for them need not wait any longer.
    pub fn rights_restored(&self) -> watch::Receiver<()> {
        self.restored.subscribe()
    }

    /// Looks again at the rights after a request was forbidden, until `stop`: one taken away later is named like one that was never given.
    /// At rest nothing is asked.
    pub async fn follow_rights(
        &self,
        client: &Client,
        operator_namespace: &str,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.doubt.notified() => {}
            }
            if self.wait_rights(client, operator_namespace, metrics, stop).await {
                self.restored.send_replace(());
            }
            // What is forbidden for another reason, time and again, is no reason to ask for all rights each time.
            if !sleep(LONGEST, stop).await {
                return;
            }
        }
    }

    /// Looks until the operator has every right of the table, or until `stop`. Rights given later are noticed without a restart.
    /// Says whether any was missing before.
    pub async fn wait_rights(
        &self,
        client: &Client,
        operator_namespace: &str,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> bool {
        let mut wait = FIRST;
        let mut some_missing = false;
        loop {
            match missing_rights(client, operator_namespace).await {
                Ok(missing) => {
                    metrics.rights_missing.reset();
                    for right in &missing {
                        metrics.rights_missing.with_label_values(&[right.group, right.resource, right.verb]).set(1);
                    }
                    let complete = missing.is_empty();
                    if !complete {
                        tracing::warn!(rights = ?missing.iter().map(ToString::to_string).collect::<Vec<_>>(), "rights are missing");
                    }
                    self.state().rights_missing = Some(missing.iter().map(ToString::to_string).collect());
                    if complete {
                        return some_missing;
                    }
                    some_missing = true;
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot look at own rights; trying again");
                }
            }
            if !pause(&mut wait, stop).await {
                return some_missing;
            }
        }
    }
}

/// Waits, twice as long next time; `false` when it is over.
async fn pause(wait: &mut Duration, stop: &CancellationToken) -> bool {
    let now = *wait;
    *wait = (now * 2).min(LONGEST);
    sleep(now, stop).await
}

/// Waits; `false` when it is over.
async fn sleep(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}

/// Names of all our definitions.
fn definitions() -> Vec<String> {
    paddock_crds::all().into_iter().filter_map(|definition| definition.metadata.name).collect()
}

async fn missing_definitions(client: &Client) -> Result<BTreeSet<String>, kube::Error> {
    let version = format!("{}/v1alpha1", paddock_crds::GROUP);
    let served: BTreeSet<String> = match client.list_api_group_resources(&version).await {
        Ok(list) => {
            list.resources.into_iter().map(|resource| format!("{}.{}", resource.name, paddock_crds::GROUP)).collect()
        }
        Err(kube::Error::Api(status)) if status.code == 404 => BTreeSet::new(),
        Err(error) => return Err(error),
    };
    Ok(definitions().into_iter().filter(|name| !served.contains(name)).collect())
}

async fn missing_rights(client: &Client, operator_namespace: &str) -> Result<Vec<Right>, kube::Error> {
    use futures::{StreamExt as _, TryStreamExt as _};
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answers: Vec<(Right, bool)> = futures::stream::iter(rbac::own_rights())
        .map(|right| {
            let api = api.clone();
            async move {
                let review = review(&right, operator_namespace);
                let answer = api.create(&PostParams::default(), &review).await?;
                Ok::<_, kube::Error>((right, answer.status.is_some_and(|status| status.allowed)))
            }
        })
        .buffered(REVIEWS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(answers.into_iter().filter(|(_, allowed)| !allowed).map(|(right, _)| right).collect())
}

fn review(right: &Right, operator_namespace: &str) -> SelfSubjectAccessReview {
    if right.resource.starts_with('/') {
        let path = NonResourceAttributes { path: Some(right.resource.to_owned()), verb: Some(right.verb.to_owned()) };
        return SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                non_resource_attributes: Some(path),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
    }
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (right.resource, None),
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(right.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(right.verb.to_owned()),
                name: right.name.map(Into::into),
                namespace: right.own_namespace.then(|| operator_namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_everything_that_is_missing_and_a_standby_is_ready() {
        let cache = Cache::new();
        let leader = Leadership::new();
        let readiness = Readiness::new(cache.clone(), leader.clone());
        let report = readiness.report();
        assert!(!report.ready);
        for word in ["CustomResourceDefinitions", "rights", "watch of Tenant", "nobody holds the lease"] {
            assert!(report.missing.iter().any(|text| text.contains(word)), "{word}: {report:?}");
        }
        cache.set_ready();
        readiness.state().definitions_missing = Some(BTreeSet::from(["tenants.paddock.bet".to_owned()]));
        readiness.state().rights_missing = Some(vec!["list pods".into()]);
        leader.seen_holder(Some("another"));
        let report = readiness.report();
        assert_eq!(report.missing.len(), 2, "{report:?}");
        assert!(report.missing[0].contains("tenants.paddock.bet") && report.missing[1].contains("list pods"));
        readiness.state().definitions_missing = Some(BTreeSet::new());
        readiness.state().rights_missing = Some(Vec::new());
        assert!(readiness.report().ready, "another leads");
        readiness.stopping();
        assert!(!readiness.report().ready);
    }
}
