//! Makes the environments of a Tenant what they should be. The order matters: nothing runs before its isolation stands.

mod hosts;

use super::build::namespace::Whose;
use super::build::tokens::token_issuer;
use super::build::{Identity, Surroundings, access, limits, namespace, network};
use super::confirmed::Confirmed;
use super::domain_claim;
use super::finding::{Concern, Finding};
use super::secret;
use super::validate::Checked;
use crate::controllers::Ctx;
use crate::controllers::betting_service::apply::withdraw_ended;
use crate::fault::{Category, Fault};
use crate::issuer::TOKEN_ISSUER;
use crate::kube::cache::is_ours;
use crate::kube::{ChildKind, ObjectKey, apply, prune};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DynamicObject;
use paddock_crds::labels;
use paddock_crds::v1alpha1::{BettingService, Environment, Owner, Tenant};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Who applies what this controller makes, in managedFields.
const CONCERN: &str = "tenant";
/// How soon something is tried again that a person may mend without any object of ours changing.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How soon rights that were just bound are tried again: the apiserver learns of them within moments.
const RIGHTS_SETTLE: Duration = Duration::from_secs(1);

/// What a pass over one environment came to.
#[derive(Debug)]
pub struct Applied<'a> {
    /// Whose it is.
    pub identity: Identity,
    /// As the Tenant wants it.
    pub spec: &'a Environment,
    /// Its services as they are now.
    pub services: Vec<BettingService>,
    /// How many services should run; `None` when that is unknown.
    pub wanted: Option<usize>,
    /// What keeps it from being as wanted.
    pub findings: Vec<Finding>,
    /// A fault that the pass is repeated for.
    pub retry: Option<Fault>,
    /// When to look again without being told by a watch.
    pub again: Option<Duration>,
}

impl Applied<'_> {
    fn fault(&mut self, concern: Concern, fault: Fault) {
        // A lost race is over by the next look; what ends is worth saying, because it may take long.
        if !fault.category.is_quiet() || fault.category == Category::Terminating {
            self.findings.push(Finding::of_fault(concern, &self.identity.environment, &fault));
        }
        if fault.category.waits_for_a_person() {
            self.look_again(LOOK_AGAIN);
        } else if fault.category != Category::Terminating {
            // Terminating ends with a watch event; anything else is tried again with backoff.
            self.retry.get_or_insert(fault);
        }
    }

    fn look_again(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |sooner| sooner.min(after)));
    }

    fn stalled(&mut self, concern: Concern, reason: &'static str, message: String) {
        self.findings.push(Finding::stalled(concern, &self.identity.environment, reason, message));
    }
}

/// Applies every environment, frees domains that nothing wants, and prunes environments that are no longer in the spec.
pub async fn apply_all<'a>(
    ctx: &Ctx,
    around: &Surroundings,
    tenant: &'a Tenant,
    checked: Vec<Checked<'a>>,
) -> Result<Vec<Applied<'a>>, Fault> {
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    let confirmed = Confirmed::new(ctx, tenant);
    free_domains(ctx, around, &confirmed, name, &tenant.spec.environments).await?;
    prune_removed(ctx, &confirmed, name, &tenant.spec.environments).await?;
    let owners = &tenant.spec.owners;
    Ok(join_all(checked.into_iter().map(|one| environment(ctx, around, &confirmed, owners, one))).await)
}

/// Gives up claims on hosts that `environments` do not want: before new ones are taken, so that a host can move within a Tenant.
async fn free_domains(
    ctx: &Ctx,
    around: &Surroundings,
    confirmed: &Confirmed<'_>,
    tenant: &str,
    environments: &[Environment],
) -> Result<(), Fault> {
    let selector = [(labels::TENANT, tenant), (labels::NAME, super::build::OWNED_NAME)];
    let claims = ctx.cache.children(ChildKind::ConfigMap, Some(&around.operator_namespace), &selector);
    let wanted = |environment: &str, host: &str| {
        environments.iter().any(|e| e.name == environment && e.domains.iter().any(|d| d.host == host))
    };
    for claim in domain_claim::given_up(tenant, &claims, wanted) {
        confirmed.sure().await?;
        ctx.leader.fence()?;
        domain_claim::give_up(&ctx.client, claim, around).await?;
        ctx.cache.deleted(ChildKind::ConfigMap, &claim.metadata);
    }
    Ok(())
}

/// Ends workloads and routes of environments that left the spec. Their namespaces, policies and database claims stay.
async fn prune_removed(
    ctx: &Ctx,
    confirmed: &Confirmed<'_>,
    tenant: &str,
    environments: &[Environment],
) -> Result<(), Fault> {
    let selector = [(labels::TENANT, tenant), (labels::NAME, super::build::OWNED_NAME)];
    let nothing = BTreeSet::new();
    for namespace in ctx.cache.children(ChildKind::Namespace, None, &selector) {
        let found = namespace.metadata.labels.as_ref().and_then(|l| l.get(labels::ENVIRONMENT));
        let (Some(environment), Some(name)) = (found, namespace.metadata.name.as_deref()) else { continue };
        if !environments.iter().any(|e| e.name == *environment) {
            confirmed.prune(&[ChildKind::BettingService], name, &[(labels::TENANT, tenant)], &nothing).await?;
            confirmed.prune(&[ChildKind::HTTPRoute, ChildKind::ListenerSet], name, &selector, &nothing).await?;
        }
    }
    Ok(())
}

async fn environment<'a>(
    ctx: &Ctx,
    around: &Surroundings,
    confirmed: &Confirmed<'_>,
    owners: &[Owner],
    checked: Checked<'a>,
) -> Applied<'a> {
    let Checked { identity, spec, databases, services, findings } = checked;
    let mut pass = Applied {
        spec,
        services: live_services(ctx, &identity),
        wanted: services.as_ref().map(Vec::len),
        findings,
        retry: None,
        again: None,
        identity,
    };
    if !own_namespace(ctx, &mut pass).await {
        return pass;
    }
    let namespace = pass.identity.namespace();
    let live = |name: &str| ctx.cache.child(ChildKind::NetworkPolicy, Some(&namespace), name);
    let mut isolation = network::policies(&pass.identity, spec, &databases, live, around);
    isolation.push(limits::quota(&pass.identity, spec));
    isolation.push(limits::limit_range(&pass.identity, spec));
    isolation.extend(access::role_bindings(&pass.identity, spec, owners, around));
    let kinds = [ChildKind::NetworkPolicy, ChildKind::RoleBinding, ChildKind::ResourceQuota, ChildKind::LimitRange];
    let isolated = set(ctx, &mut pass, Concern::Namespaces, &kinds, &isolation).await;
    control_token(ctx, &mut pass).await;
    issuer_keys(ctx, &mut pass).await;
    hosts::domains(ctx, around, &mut pass).await;
    match services {
        Some(wanted) if isolated => run_services(ctx, confirmed, &mut pass, &wanted).await,
        // Refused, or not isolated: what runs is left alone.
        _ => {}
    }
    pass
}

/// The namespace exists and is ours; otherwise nothing else is done in it.
async fn own_namespace(ctx: &Ctx, pass: &mut Applied<'_>) -> bool {
    let name = pass.identity.namespace();
    let live = ctx.cache.child(ChildKind::Namespace, None, &name);
    let result = match live.map(|live| namespace::whose(&pass.identity, &live)) {
        Some(Whose::OfClass(found)) => {
            let message = format!(
                "Namespace {name} was made for class {found} and keeps its claims and Secrets, and the environment is {} now: give it \
                 class {found} again, choose another name for it, or take the data away and delete the namespace with its claims",
                pass.identity.class
            );
            pass.stalled(Concern::Namespaces, "ClassChanged", message);
            return false;
        }
        Some(Whose::Others) => Err(Fault::new(Category::NotOurs, String::new())),
        Some(Whose::Ours) | None => apply(ctx, CONCERN, &namespace::namespace(&pass.identity)).await,
    };
    match result {
        Ok(_) => true,
        Err(fault) if fault.category == Category::NotOurs => {
            let message = format!(
                "Namespace {name} exists and was not made for this environment: delete it, or choose another name for the environment"
            );
            pass.stalled(Concern::Namespaces, "NamespaceNotOurs", message);
            pass.look_again(LOOK_AGAIN);
            false
        }
        Err(fault) => {
            pass.fault(Concern::Namespaces, fault);
            false
        }
    }
}

/// Applies a set of objects at once and prunes what else we have of these kinds. Returns whether all of it stands.
async fn set(
    ctx: &Ctx,
    pass: &mut Applied<'_>,
    concern: Concern,
    kinds: &[ChildKind],
    objects: &[DynamicObject],
) -> bool {
    let keep: BTreeSet<ObjectKey> = objects.iter().filter_map(ObjectKey::of_dynamic).collect();
    let mut all = true;
    for result in join_all(objects.iter().map(|object| apply(ctx, CONCERN, object))).await {
        if let Err(fault) = result {
            pass.fault(concern, fault);
            all = false;
        }
    }
    let namespace = pass.identity.namespace();
    let pruned = prune(ctx, kinds, Some(&namespace), &pass.identity.selector(), &keep).await;
    if let Err(fault) = pruned {
        pass.fault(concern, fault);
    }
    all
}

/// The token of the control ports.
async fn control_token(ctx: &Ctx, pass: &mut Applied<'_>) {
    ctx.cache.watch_secrets(&pass.identity.namespace());
    let made = async {
        let live = live_secret(ctx, &pass.identity, secret::CONTROL).await?;
        apply(ctx, CONCERN, &secret::control(&pass.identity, live.as_deref())).await
    };
    let result = made.await;
    if let Err(fault) = result {
        secret_fault(pass, Concern::Namespaces, fault);
    }
}

/// What its pods check each other's tokens with. Until the issuer is known what stands stays.
async fn issuer_keys(ctx: &Ctx, pass: &mut Applied<'_>) {
    let Some(keys) = ctx.issuer.keys() else {
        let namespace = pass.identity.namespace();
        if ctx.cache.child(ChildKind::ConfigMap, Some(&namespace), TOKEN_ISSUER).is_none() {
            let message = "pods wait for the keys of the cluster's ServiceAccount tokens, which the apiserver has not given yet: \
                           see the operator's log";
            let environment = pass.identity.environment.as_str();
            pass.findings.push(Finding::waiting(Concern::Namespaces, environment, "TokenIssuerUnknown", message));
        }
        return;
    };
    if let Err(fault) = apply(ctx, CONCERN, &token_issuer(&pass.identity, &keys)).await {
        pass.fault(Concern::Namespaces, fault);
    }
}

/// The rights to Secrets come with a `RoleBinding` that may be moments old.
fn secret_fault(pass: &mut Applied<'_>, concern: Concern, fault: Fault) {
    if fault.category == Category::Forbidden {
        let message = format!("waiting for the operator's rights to Secrets: {}", fault.message);
        pass.findings.push(Finding::waiting(concern, &pass.identity.environment, "Forbidden", message));
        pass.look_again(RIGHTS_SETTLE);
    } else {
        pass.fault(concern, fault);
    }
}

/// A Secret of ours.
async fn live_secret(ctx: &Ctx, identity: &Identity, name: &str) -> Result<Option<Arc<Secret>>, Fault> {
    let namespace = identity.namespace();
    match crate::kube::secret(ctx, &namespace, name).await? {
        Some(live) if !is_ours(&live.metadata) => Err(Fault::new(
            Category::NotOurs,
            format!("Secret {namespace}/{name} exists and was not made by the operator: delete or rename it"),
        )),
        live => Ok(live),
    }
}

/// One `BettingService` per component; the others that we made go.
async fn run_services(ctx: &Ctx, confirmed: &Confirmed<'_>, pass: &mut Applied<'_>, wanted: &[BettingService]) {
    let keep: BTreeSet<ObjectKey> = wanted.iter().filter_map(ObjectKey::of).collect();
    let mut made = Vec::new();
    for result in join_all(wanted.iter().map(|service| apply(ctx, CONCERN, service))).await {
        match result {
            Ok(service) => made.push(service),
            Err(fault) => pass.fault(Concern::Services, fault),
        }
    }
    let namespace = pass.identity.namespace();
    let selector =
        [(labels::TENANT, pass.identity.tenant.as_str()), (labels::ENVIRONMENT, pass.identity.environment.as_str())];
    let pruned = confirmed.prune(&[ChildKind::BettingService], &namespace, &selector, &keep).await;
    if let Err(fault) = pruned {
        pass.fault(Concern::Services, fault);
    }
    match withdraw_ended(ctx, &namespace).await {
        // Their pods end without waking the Tenant.
        Ok(true) => pass.look_again(LOOK_AGAIN),
        Ok(false) => {}
        Err(fault) => pass.fault(Concern::Databases, fault),
    }
    pass.services = live_services(ctx, &pass.identity)
        .into_iter()
        .filter(|live| wanted.iter().any(|w| w.metadata.name == live.metadata.name))
        .collect();
    // Writes go through the cache, but what is new comes to it by the watch.
    made.retain(|made| pass.services.iter().all(|live| live.metadata.name != made.metadata.name));
    pass.services.extend(made.into_iter().filter_map(|made| made.try_parse().ok()));
    pass.services.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
}

/// The services that we made in the environment, as last seen.
fn live_services(ctx: &Ctx, identity: &Identity) -> Vec<BettingService> {
    let all = ctx.cache.list_in::<BettingService>(&identity.namespace());
    all.iter().filter(|s| is_ours(&s.metadata)).map(|s| s.as_ref().clone()).collect()
}

#[cfg(test)]
mod tests;
