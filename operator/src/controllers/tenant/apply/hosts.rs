//! Hosts of an environment: who holds them, their certificates, their listeners.

use super::{Applied, CONCERN, LOOK_AGAIN, live_secret, secret_fault, set};
use crate::controllers::Ctx;
use crate::controllers::tenant::build::Surroundings;
use crate::controllers::tenant::build::domains::{
    PUBLIC, PUBLIC_HTTP, Served, Serving, certificate_secret, listeners, serving,
};
use crate::controllers::tenant::certificate::{self, Authority, Verdict, as_wanted};
use crate::controllers::tenant::domain_claim::{self, Holder};
use crate::controllers::tenant::finding::{Concern, Finding};
use crate::controllers::tenant::secret::CONTROL;
use crate::fault::{Category, Fault};
use crate::kube::{ChildKind, ObjectKey, apply, prune};
use jiff::Timestamp;
use paddock_crds::v1alpha1::Tenant;

/// Takes the environment's hosts, gives each a certificate, and brings them to the Gateway.
pub(super) async fn domains(ctx: &Ctx, around: &Surroundings, pass: &mut Applied<'_>) {
    let mut served = Vec::new();
    for domain in &pass.spec.domains {
        if !hold(ctx, around, pass, &domain.host).await {
            continue;
        }
        let own = domain.tls.as_ref().map(|tls| tls.secret_name.clone());
        let secret = match own {
            Some(secret) => Some(secret),
            None => signed(ctx, pass, &domain.host).await,
        };
        served.extend(secret.map(|secret| Served { host: domain.host.clone(), secret }));
    }
    served.sort();
    let objects = listeners(&pass.identity, &served, around);
    let kinds = [ChildKind::HTTPRoute, ChildKind::ListenerSet];
    let available = ctx.cache.available(ChildKind::ListenerSet);
    if (!objects.is_empty() || available) && set(ctx, pass, Concern::Domains, &kinds, &objects).await {
        forget_certificates(ctx, pass).await;
    }
    if !served.is_empty() {
        listening(ctx, pass);
    }
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

/// Whether the environment has the host.
async fn hold(ctx: &Ctx, around: &Surroundings, pass: &mut Applied<'_>, host: &str) -> bool {
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
        Ok(Holder::Us) => return true,
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
        }
        Ok(Holder::NotOurs) => {
            let message = format!(
                "ConfigMap {}/{name} has the name of the claim on domain {host} and was not made by the operator: delete it",
                around.operator_namespace
            );
            pass.stalled(Concern::Domains, "NotOurs", message);
            pass.look_again(LOOK_AGAIN);
        }
        Err(fault) => pass.fault(Concern::Domains, fault),
    }
    false
}

/// The Secret with a certificate for the host that the operator signs; `None` when it cannot.
async fn signed(ctx: &Ctx, pass: &mut Applied<'_>, host: &str) -> Option<String> {
    let Some(name) = ctx.settings.domain_ca_secret.as_deref() else {
        let message = format!(
            "domain {host} names no certificate and the operator has no authority to sign one: set tls.secretName, or the operator's domain authority"
        );
        pass.stalled(Concern::Domains, "TlsSecretMissing", message);
        return None;
    };
    let namespace = ctx.settings.operator_namespace.as_str();
    let Some(secret) = ctx.cache.secret(namespace, name) else {
        let message = format!(
            "the operator's domain authority, Secret {namespace}/{name}, does not exist: create it with tls.crt and tls.key, or set tls.secretName of {host}"
        );
        pass.stalled(Concern::Domains, "TlsSecretMissing", message);
        return None;
    };
    let wanted = async {
        let now = Timestamp::now();
        let invalid = |error: certificate::SigningError| {
            Fault::new(Category::Rejected, format!("a certificate for {host} cannot be signed: {error}"))
                .with_source(error)
        };
        let authority = Authority::read(&secret).map_err(invalid)?;
        let live = live_secret(ctx, &pass.identity, &certificate_secret(host)).await?;
        let kept = live.as_deref().map(|live| (live, authority.judge(live, host, now)));
        let (secret, renew_in) = match kept {
            Some((live, Verdict::Keep { renew_in })) => (as_wanted(&pass.identity, host, live), renew_in),
            _ => authority
                .sign(&pass.identity, host, now)
                .map(|signed| (signed, certificate::RENEW_IN))
                .map_err(invalid)?,
        };
        apply(ctx, CONCERN, &secret).await.map(|_| renew_in)
    };
    let result = wanted.await;
    match result {
        Ok(renew_in) => {
            pass.look_again(renew_in);
            Some(certificate_secret(host))
        }
        Err(fault) => {
            secret_fault(pass, Concern::Domains, fault);
            None
        }
    }
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
