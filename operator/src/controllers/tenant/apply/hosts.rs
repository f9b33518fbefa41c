//! Hosts of an environment: who holds them, their certificates, their listeners.

use super::{Applied, CONCERN, LOOK_AGAIN, live_secret, secret_fault, set};
use crate::controllers::Ctx;
use crate::controllers::tenant::build::Surroundings;
use crate::controllers::tenant::build::domains::{
    PUBLIC, PUBLIC_HTTP, Served, Serving, brought, certificate_secret, listeners, serve, serving,
};
use crate::controllers::tenant::certificate::{self, Authority, Verdict, as_wanted};
use crate::controllers::tenant::domain_claim::{self, Holder};
use crate::controllers::tenant::finding::{Concern, Finding};
use crate::controllers::tenant::secret::CONTROL;
use crate::fault::{Category, Fault};
use crate::kube::apply::installed;
use crate::kube::{ChildKind, ObjectKey, apply, prune, secret};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use paddock_crds::v1alpha1::Tenant;

/// Takes the environment's hosts, gives each a certificate, and brings them to the Gateway. A host that cannot have its certificate now, or
/// of which nobody can say whose it is, stays as it is served: only who gives it up, or another holder, takes it away (ADR 0025).
pub(super) async fn domains(ctx: &Ctx, around: &Surroundings, pass: &mut Applied<'_>) {
    let found_before = pass.findings.len();
    // Asked first: what was not listed by then is not known to be absent.
    let kinds = [ChildKind::HTTPRoute, ChildKind::ListenerSet];
    let installed = kinds.into_iter().try_for_each(|kind| installed(ctx, kind));
    let now = at_the_gateway(ctx, pass);
    let mut served = Vec::new();
    for domain in &pass.spec.domains {
        let own = domain.tls.as_ref().map(|tls| tls.secret_name.clone());
        let certificate = match (hold(ctx, around, pass, &domain.host).await, own) {
            (Held::ByUs, None) => certified(ctx, pass, &domain.host).await,
            (Held::ByUs, own) => own,
            (Held::Unknown, _) => None,
            (Held::ByOthers, _) => continue,
        };
        served.extend(serve(&domain.host, certificate, &now));
    }
    served.sort();
    let objects = listeners(&pass.identity, &served, around);
    match installed {
        Ok(()) => {
            if set(ctx, pass, Concern::Domains, &kinds, &objects).await {
                forget_certificates(ctx, pass).await;
            }
        }
        Err(fault) if !objects.is_empty() => pass.fault(Concern::Domains, fault),
        Err(_) => {}
    }
    let now = at_the_gateway(ctx, pass);
    let all = served.len() == pass.spec.domains.len();
    if all && served.iter().all(|served| now.iter().any(|live| live.host == served.host)) {
        for finding in pass.findings.iter_mut().skip(found_before) {
            finding.weight = finding.weight.harmless();
        }
    }
    if !served.is_empty() {
        listening(ctx, pass);
    }
}

/// The environment's hosts as the Gateway has them.
fn at_the_gateway(ctx: &Ctx, pass: &Applied<'_>) -> Vec<Served> {
    let live = ctx.cache.child(ChildKind::ListenerSet, Some(&pass.identity.namespace()), PUBLIC);
    brought(live.as_deref())
}

/// Certificates of hosts that the environment wants no more, or brings its own for, go when no listener names them any more.
async fn forget_certificates(ctx: &Ctx, pass: &mut Applied<'_>) {
    let namespace = pass.identity.namespace();
    let signed = pass.spec.domains.iter().filter(|domain| domain.tls.is_none());
    let names = signed.map(|domain| certificate_secret(&domain.host)).chain([CONTROL.to_owned()]);
    let keep = names.map(|name| ObjectKey::new(ChildKind::Secret, Some(&namespace), &name)).collect();
    let pruned = prune(ctx, &[ChildKind::Secret], Some(&namespace), &pass.identity.selector(), &keep).await;
    if let Err(fault) = pruned {
        secret_fault(pass, Concern::Domains, fault);
    }
}

/// Who has a host.
enum Held {
    ByUs,
    ByOthers,
    /// That cannot be said now, or the claim is nobody's.
    Unknown,
}

/// Whether the environment has the host; if not, why is told.
async fn hold(ctx: &Ctx, around: &Surroundings, pass: &mut Applied<'_>, host: &str) -> Held {
    let name = domain_claim::name(host);
    let cached = ctx.cache.child(ChildKind::ConfigMap, Some(&around.operator_namespace), &name);
    let seen = cached.map(|live| domain_claim::holder(&live, &pass.identity));
    let holder = match (seen, ctx.leader.fence()) {
        (Some(Holder::Us), _) => Ok(Holder::Us),
        (_, Err(fault)) => Err(fault),
        // The cache may be behind a claim that was just given up: the apiserver decides.
        (None, Ok(_)) => domain_claim::take(&ctx.client, &pass.identity, host, around).await,
        (Some(held), Ok(_)) => Ok(held),
    };
    match holder {
        Ok(Holder::Us) => Held::ByUs,
        Ok(Holder::Other { tenant, environment }) => {
            let known = ctx.cache.get::<Tenant>(None, &tenant).is_some();
            let gone = !known && !ctx.cache.is_unreadable::<Tenant>(None, &tenant);
            let advice = if gone {
                format!(
                    "that Tenant does not exist any more: delete ConfigMap {}/{name} to free it",
                    around.operator_namespace
                )
            } else {
                "a host belongs to one environment: remove it there or choose another".to_owned()
            };
            let message = format!("domain {host} is held by tenant {tenant}, environment {environment}; {advice}");
            pass.stalled(Concern::Domains, "DomainTaken", message);
            Held::ByOthers
        }
        Ok(Holder::NotOurs) => {
            let message = format!(
                "ConfigMap {}/{name} has the name of the claim on domain {host} and was not made by the operator: delete it",
                around.operator_namespace
            );
            pass.stalled(Concern::Domains, "NotOurs", message);
            pass.look_again(LOOK_AGAIN);
            Held::Unknown
        }
        Err(fault) => {
            pass.fault(Concern::Domains, fault);
            Held::Unknown
        }
    }
}

/// The Secret with the certificate for the host that the operator signs. One that cannot be renewed stays in use; `None` when there is none,
/// or nobody can say.
async fn certified(ctx: &Ctx, pass: &mut Applied<'_>, host: &str) -> Option<String> {
    let name = certificate_secret(host);
    let live = match live_secret(ctx, &pass.identity, &name).await {
        Ok(live) => live,
        Err(fault) => {
            secret_fault(pass, Concern::Domains, fault);
            return None;
        }
    };
    let signed = sign(ctx, pass, host, live.as_deref()).await;
    (signed || live.is_some()).then_some(name)
}

/// Makes the certificate what it should be; says whether it is, and tells why not.
async fn sign(ctx: &Ctx, pass: &mut Applied<'_>, host: &str, live: Option<&Secret>) -> bool {
    let Some(authority) = authority(ctx, pass, host).await else { return false };
    let now = Timestamp::now();
    let (secret, renew_in) = match live.map(|live| (live, authority.judge(live, host, now))) {
        Some((live, Verdict::Keep { renew_in })) => (as_wanted(&pass.identity, host, live), renew_in),
        _ => match authority.sign(&pass.identity, host, now) {
            Ok(signed) => (signed, certificate::RENEW_IN),
            Err(error) => {
                pass.fault(Concern::Domains, unsigned(host, error));
                return false;
            }
        },
    };
    match apply(ctx, CONCERN, &secret).await {
        Ok(_) => {
            pass.look_again(renew_in);
            true
        }
        Err(fault) => {
            secret_fault(pass, Concern::Domains, fault);
            false
        }
    }
}

/// Who signs for the host; without one, why is told.
async fn authority(ctx: &Ctx, pass: &mut Applied<'_>, host: &str) -> Option<Authority> {
    let Some(name) = ctx.settings.domain_ca_secret.as_deref() else {
        let message = format!(
            "domain {host} names no certificate and the operator has no authority to sign one: set tls.secretName, or the operator's domain authority"
        );
        pass.stalled(Concern::Domains, "TlsSecretMissing", message);
        return None;
    };
    let namespace = ctx.settings.operator_namespace.as_str();
    match secret(ctx, namespace, name).await.map(|found| found.map(|secret| Authority::read(&secret))) {
        Ok(Some(Ok(authority))) => return Some(authority),
        Ok(Some(Err(error))) => pass.fault(Concern::Domains, unsigned(host, error)),
        Ok(None) => {
            let message = format!(
                "the operator's domain authority, Secret {namespace}/{name}, does not exist: create it with tls.crt and tls.key, or set tls.secretName of {host}"
            );
            pass.stalled(Concern::Domains, "TlsSecretMissing", message);
        }
        Err(fault) => pass.fault(Concern::Domains, fault),
    }
    None
}

fn unsigned(host: &str, error: certificate::SigningError) -> Fault {
    Fault::new(Category::Rejected, format!("a certificate for {host} cannot be signed: {error}")).with_source(error)
}

/// What the Gateway says about the listeners.
fn listening(ctx: &Ctx, pass: &mut Applied<'_>) {
    let namespace = pass.identity.namespace();
    for name in [PUBLIC, PUBLIC_HTTP] {
        let live = ctx.cache.child(ChildKind::ListenerSet, Some(&namespace), name);
        let environment = pass.identity.environment.as_str();
        let finding = match serving(live.as_deref()) {
            Serving::Programmed => continue,
            Serving::Changed => {
                let why = "the Gateway has not looked at the listeners again since they changed";
                Finding::settling(Concern::Domains, environment, "ListenersPending", why)
            }
            Serving::Pending(why) => Finding::waiting(Concern::Domains, environment, "ListenersPending", why),
            Serving::BadCertificate { host, message } => Finding::stalled(
                Concern::Domains,
                environment,
                "TlsSecretMissing",
                format!(
                    "the Gateway cannot use the certificate of {host}: {message}; create the Secret that tls.secretName names, of type kubernetes.io/tls"
                ),
            ),
            Serving::Refused(why) => Finding::stalled(
                Concern::Domains,
                environment,
                "ListenersRefused",
                format!(
                    "the Gateway refuses ListenerSet {namespace}/{name}: {why}; check that the Gateway allows listeners of this namespace"
                ),
            ),
        };
        pass.findings.push(finding);
    }
}
