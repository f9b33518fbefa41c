//! What a Tenant's status says: pure, from what the pass over its environments came to.

use super::apply::Applied;
use super::finding::{Concern, Finding};
use crate::kube::Conditions;
use crate::kube::conditions::Value;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paddock_crds::condition::{READY, RECONCILING, STALLED};
use paddock_crds::v1alpha1::{BettingService, EnvironmentStatus, Tenant, TenantStatus};
use std::sync::Arc;
use strum::IntoEnumIterator as _;

/// The status after a pass.
pub fn status(tenant: &Tenant, environments: &[Applied<'_>]) -> TenantStatus {
    let old = tenant.status.as_ref();
    let states: Vec<EnvironmentStatus> = environments.iter().map(|e| environment(old, e)).collect();
    let findings: Vec<(bool, Finding)> = environments
        .iter()
        .flat_map(|e| {
            let served = is_served(e);
            e.findings.iter().cloned().chain(of_services(e)).map(move |finding| (served, finding))
        })
        .collect();
    let conditions = Conditions::from(old.map_or(&[], |s| &s.conditions), tenant.metadata.generation);
    TenantStatus {
        observed_generation: tenant.metadata.generation,
        summary: Some(summary(&states)),
        environments: states,
        conditions: conclude(conditions, &findings, tenant.spec.suspended),
    }
}

/// `dev 5/5, prod 4/5`.
fn summary(states: &[EnvironmentStatus]) -> String {
    let each: Vec<String> =
        states.iter().map(|s| format!("{} {}/{}", s.name, s.services_ready, s.services_total)).collect();
    each.join(", ")
}

fn environment(old: Option<&TenantStatus>, applied: &Applied<'_>) -> EnvironmentStatus {
    let before = old.and_then(|s| s.environments.iter().find(|e| e.name == applied.spec.name));
    let ready = applied.services.iter().filter(|s| serves(s)).count();
    let total = applied.wanted.unwrap_or(applied.services.len());
    let release =
        if runs_target(applied) { Some(applied.spec.release.clone()) } else { before.and_then(|e| e.release.clone()) };
    EnvironmentStatus {
        name: applied.spec.name.clone(),
        namespace: applied.identity.namespace(),
        target_release: applied.spec.release.clone(),
        release,
        services_ready: count(ready),
        services_total: count(total),
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Whether every wanted service runs what its spec says.
fn runs_target(applied: &Applied<'_>) -> bool {
    applied.wanted == Some(applied.services.len()) && applied.services.iter().all(runs_as_specified)
}

/// What the services themselves report.
fn of_services(applied: &Applied<'_>) -> Vec<Finding> {
    let environment = applied.spec.name.as_str();
    let mut findings = Vec::new();
    for service in &applied.services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        match stalled(service) {
            Some(why) => findings.push(Finding::stalled(
                Concern::Services,
                environment,
                "ServiceStalled",
                format!("service {name} needs you: {}: {}", why.reason, why.message),
            )),
            None if !rests(service) && !serves(service) => {
                // Its own status says more, such as how many pods are ready by now (rule O1).
                let why = condition(service, READY).map_or("it was made a moment ago", |c| c.reason.as_str());
                findings.push(Finding::waiting(
                    Concern::Services,
                    environment,
                    "ServicesNotReady",
                    format!("service {name} is not ready: {why}"),
                ));
            }
            None => {}
        }
        let unbound = condition(service, "ClaimsBound").filter(|c| c.status == "False" && is_current(service));
        if let Some(why) = unbound {
            let message = format!("service {name} waits for its claims: {}", why.message);
            findings.push(Finding::waiting(Concern::Databases, environment, "ClaimsNotBound", message));
        }
    }
    let missing = applied.wanted.unwrap_or(0).saturating_sub(applied.services.len());
    if missing > 0 {
        let message = format!("{missing} services are not made yet");
        findings.push(Finding::waiting(Concern::Services, environment, "ServicesNotReady", message));
    }
    if applied.wanted.is_some() && !runs_target(applied) {
        let behind: Vec<&str> = applied
            .services
            .iter()
            .filter(|s| !runs_as_specified(s))
            .filter_map(|s| s.metadata.name.as_deref())
            .collect();
        let message = format!("Release {} is on its way; not there yet: {}", applied.spec.release, behind.join(", "));
        findings.push(Finding::settling(Concern::Release, environment, "RollingOut", message));
    }
    findings
}

/// Whether everything that an environment should run serves, be it of an earlier spec or Release.
fn is_served(applied: &Applied<'_>) -> bool {
    let services = &applied.services;
    let all_there = applied.wanted.map_or(!services.is_empty(), |wanted| services.len() >= wanted);
    all_there && services.iter().all(serves_or_rests)
}

/// Whether the services that the status told of are all there and serve: for a pass that ended before it came to a status. `services` gives
/// those of a namespace.
pub fn serves_still(tenant: &Tenant, services: impl Fn(&str) -> Vec<Arc<BettingService>>) -> bool {
    let told = tenant.status.iter().flat_map(|status| &status.environments);
    let wanted = |name: &str| tenant.spec.environments.iter().any(|e| e.name == name);
    told.filter(|environment| wanted(&environment.name)).all(|environment| {
        let live = services(&environment.namespace);
        count(live.len()) >= environment.services_total && live.iter().all(|service| serves_or_rests(service))
    })
}

/// Whether a service runs what its spec says, and nothing else.
pub fn runs_as_specified(service: &BettingService) -> bool {
    is_current(service) && serves_or_rests(service) && is_settled(service)
}

/// Whether nothing is missing of a service, be it of an earlier spec.
fn serves_or_rests(service: &BettingService) -> bool {
    serves(service) || rests(service)
}

/// Why nothing moves a service before a person does something.
fn stalled(service: &BettingService) -> Option<&Condition> {
    condition(service, STALLED).filter(|c| c.status == "True" && is_current(service))
}

/// Whether nothing moves a service before a person does something.
pub fn needs_a_person(service: &BettingService) -> bool {
    stalled(service).is_some()
}

/// Whether the status was computed from the present spec.
fn is_current(service: &BettingService) -> bool {
    service.status.as_ref().is_some_and(|s| s.observed_generation == service.metadata.generation)
}

/// Whether enough pods of it are ready, as last told: a spec that was changed a moment ago takes none away.
fn serves(service: &BettingService) -> bool {
    service.metadata.deletion_timestamp.is_none() && condition(service, READY).is_some_and(|c| c.status == "True")
}

/// At size 0 because its spec says so.
fn rests(service: &BettingService) -> bool {
    service.spec.suspended && condition(service, READY).is_some_and(|c| c.reason == "Suspended")
}

/// Whether the stable revision is the one that the spec asks for.
fn is_settled(service: &BettingService) -> bool {
    let reconciling = condition(service, RECONCILING).is_some_and(|c| c.status == "True");
    let Some(status) = service.status.as_ref() else { return false };
    // A suspended service runs nothing, and that is what its spec says.
    let stable = service.spec.suspended
        || (status.revision.is_some()
            && status.revision == status.stable_revision
            && status.stable_version.as_deref() == Some(service.spec.version.as_str()));
    !reconciling && stable
}

fn condition<'a>(service: &'a BettingService, type_: &str) -> Option<&'a Condition> {
    service.status.as_ref()?.conditions.iter().find(|c| c.type_ == type_)
}

/// One condition per concern, then the three that tools wait for. Each finding comes with whether its environment is served all the
/// same.
fn conclude(mut conditions: Conditions, findings: &[(bool, Finding)], suspended: bool) -> Vec<Condition> {
    let mut worst: Vec<&Finding> = Vec::new();
    for concern in Concern::iter() {
        let mut mine: Vec<&Finding> = findings.iter().map(|(_, f)| f).filter(|f| f.concern == concern).collect();
        mine.sort_by_key(|f| f.weight);
        conditions = match mine.first() {
            None => {
                let (reason, message) = concern.all_well();
                conditions.set(concern.condition(), true, reason, message)
            }
            Some(first) => conditions.set(concern.condition(), false, first.reason, joined(&mine)),
        };
        worst.extend(mine);
    }
    worst.sort_by_key(|f| f.weight);
    let (stalled, waiting): (Vec<&Finding>, Vec<&Finding>) = worst.iter().partition(|f| f.weight.needs_a_person());
    // What takes nothing away from what is served has its concern's condition, and Reconciling or Stalled: a rollout in flight, one
    // that failed, a Release that does not exist.
    let mut unserved: Vec<&Finding> = findings
        .iter()
        .filter(|(served, f)| f.weight.takes_away() && (!served || f.concern == Concern::Domains))
        .map(|(_, f)| f)
        .collect();
    unserved.sort_by_key(|f| (f.weight, f.concern));
    conditions = match unserved.first() {
        Some(first) => conditions.set(READY, false, first.reason, joined(&unserved)),
        None if suspended => conditions.set(READY, true, "Suspended", "suspended: nothing runs, all data is kept"),
        None => conditions.set(READY, true, "Ready", "every environment is served"),
    };
    if let Some(first) = waiting.first() {
        conditions = conditions.set(RECONCILING, true, first.reason, joined(&waiting));
    }
    if let Some(first) = stalled.first() {
        conditions = conditions.set(STALLED, Value::True, first.reason, joined(&stalled));
    }
    conditions.build()
}

/// How many findings a message tells in full.
const TOLD: usize = 5;

fn joined(findings: &[&Finding]) -> String {
    let mut parts: Vec<&str> = findings.iter().take(TOLD).map(|f| f.message.as_str()).collect();
    let more = format!("and {} more", findings.len().saturating_sub(TOLD));
    if findings.len() > TOLD {
        parts.push(&more);
    }
    parts.join("; ")
}

/// What deserves an event: a person has to do something, and did not have to, or for something else, before.
pub fn news(before: Option<&TenantStatus>, after: &TenantStatus) -> Option<Condition> {
    let stalled = |status: &TenantStatus| status.conditions.iter().find(|c| c.type_ == STALLED).cloned();
    let old = before.and_then(stalled);
    stalled(after).filter(|new| old.is_none_or(|old| (&old.reason, &old.message) != (&new.reason, &new.message)))
}

#[cfg(test)]
mod tests {
    use super::super::build::Identity;
    use super::super::build::fixtures::{DIGEST, from, tenant};
    use super::super::finding::Weight;
    use super::*;
    use paddock_crds::v1alpha1::Environment;
    use serde_json::json;

    fn service(name: &str, ready: &str, settled: bool, generation: i64) -> BettingService {
        from(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService",
            "metadata": {"name": name, "namespace": "acme-prod", "generation": 2},
            "spec": {"component": name, "version": "1.0", "image": DIGEST},
            "status": {
                "observedGeneration": generation, "revision": "b", "stableRevision": if settled { "b" } else { "a" },
                "stableVersion": if settled { "1.0" } else { "0.9" },
                "conditions": [{"type": "Ready", "status": ready, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            }
        }))
    }

    fn applied(environment: &Environment, services: Vec<BettingService>, findings: Vec<Finding>) -> Applied<'_> {
        Applied {
            identity: Identity {
                tenant: "acme".into(),
                environment: environment.name.clone(),
                class: environment.class,
            },
            spec: environment,
            wanted: Some(services.len()),
            services,
            findings,
            retry: None,
            again: None,
        }
    }

    fn prod() -> Tenant {
        tenant(json!([{"name": "prod", "class": "Production", "release": "new"}]))
    }

    fn get<'a>(status: &'a TenantStatus, type_: &str) -> Option<(&'a str, &'a str)> {
        status.conditions.iter().find(|c| c.type_ == type_).map(|c| (c.status.as_str(), c.reason.as_str()))
    }

    #[test]
    fn all_well_is_ready_and_nothing_else() {
        let tenant = prod();
        let services = vec![service("rates", "True", true, 2), service("account", "True", true, 2)];
        let status = status(&tenant, &[applied(&tenant.spec.environments[0], services, Vec::new())]);
        assert_eq!(status.summary.as_deref(), Some("prod 2/2"));
        assert_eq!(status.environments[0].release.as_deref(), Some("new"));
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(get(&status, "Ready"), Some(("True", "Ready")));
        for concern in Concern::iter() {
            assert_eq!(get(&status, concern.condition()).map(|c| c.0), Some("True"), "{concern:?}");
        }
        assert_eq!((get(&status, "Reconciling"), get(&status, "Stalled")), (None, None));
    }

    #[test]
    fn a_rollout_in_flight_serves_and_reconciles() {
        let mut tenant = prod();
        tenant.status = Some(TenantStatus {
            environments: vec![EnvironmentStatus {
                name: "prod".into(),
                release: Some("old".into()),
                ..EnvironmentStatus::default()
            }],
            ..TenantStatus::default()
        });
        let services = vec![service("rates", "True", false, 2)];
        let status = status(&tenant, &[applied(&tenant.spec.environments[0], services, Vec::new())]);
        assert_eq!(status.environments[0].release.as_deref(), Some("old"), "the last Release that all services ran");
        assert_eq!(get(&status, "Ready"), Some(("True", "Ready")));
        assert_eq!(get(&status, "ReleaseApplied"), Some(("False", "RollingOut")));
        assert_eq!(get(&status, "Reconciling"), Some(("True", "RollingOut")));
    }

    #[test]
    fn a_spec_that_changed_a_moment_ago_takes_nothing_away() {
        let tenant = prod();
        let mut new = service("account", "True", true, 1);
        let services = vec![service("rates", "True", true, 1), new.clone()];
        let changed = status(&tenant, &[applied(&tenant.spec.environments[0], services, Vec::new())]);
        assert_eq!(changed.summary.as_deref(), Some("prod 2/2"));
        assert_eq!(
            (get(&changed, "Ready"), get(&changed, "ServicesReady")),
            (Some(("True", "Ready")), Some(("True", "AllReady")))
        );
        assert_eq!(get(&changed, "ReleaseApplied"), Some(("False", "RollingOut")));
        assert_eq!(get(&changed, "Reconciling"), Some(("True", "RollingOut")));
        assert_eq!(changed.environments[0].release, None, "nobody has said yet that it runs");

        new.status = None;
        let services = vec![service("rates", "True", true, 1), new];
        let made = status(&tenant, &[applied(&tenant.spec.environments[0], services, Vec::new())]);
        assert_eq!(get(&made, "Ready"), Some(("False", "ServicesNotReady")));
    }

    #[test]
    fn a_measurement_of_a_service_moves_nothing() {
        let tenant = prod();
        let with = |message: &str| {
            let mut service = service("rates", "False", true, 2);
            service.status.as_mut().expect("status").conditions[0].message = message.into();
            status(&tenant, &[applied(&tenant.spec.environments[0], vec![service], Vec::new())])
        };
        let (one, two) = (with("1 of 3 pods is ready"), with("2 of 3 pods are ready"));
        let told =
            |status: &TenantStatus| -> Vec<String> { status.conditions.iter().map(|c| c.message.clone()).collect() };
        assert_eq!(told(&one), told(&two));
        assert!(
            told(&one).iter().any(|message| message.ends_with("service rates is not ready: R")),
            "{:?}",
            told(&one)
        );
    }

    #[test]
    fn a_failed_rollout_stalls_and_what_serves_goes_on() {
        let tenant = prod();
        let failed = |ready: &str| {
            let mut service = service("rates", ready, false, 2);
            let stalled = json!({
                "type": "Stalled", "status": "True", "reason": "ProgressDeadlineExceeded", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"
            });
            service.status.as_mut().expect("status").conditions.push(from(stalled));
            status(&tenant, &[applied(&tenant.spec.environments[0], vec![service], Vec::new())])
        };
        let stable = failed("True");
        assert_eq!(get(&stable, "Ready"), Some(("True", "Ready")));
        assert_eq!(
            (get(&stable, "Stalled"), get(&stable, "ServicesReady")),
            (Some(("True", "ServiceStalled")), Some(("False", "ServiceStalled")))
        );
        assert_eq!(get(&failed("False"), "Ready"), Some(("False", "ServiceStalled")));
    }

    #[test]
    fn listeners_that_changed_a_moment_ago_take_nothing_away() {
        let tenant = prod();
        let with = |finding: Finding| {
            let services = vec![service("rates", "True", true, 2)];
            status(&tenant, &[applied(&tenant.spec.environments[0], services, vec![finding])])
        };
        let changed = with(Finding::settling(Concern::Domains, "prod", "ListenersPending", "changed"));
        assert_eq!(
            (get(&changed, "Ready"), get(&changed, "Reconciling")),
            (Some(("True", "Ready")), Some(("True", "ListenersPending")))
        );
        assert_eq!(get(&changed, "DomainsReady"), Some(("False", "ListenersPending")));
        let pending = with(Finding::waiting(Concern::Domains, "prod", "ListenersPending", "no address"));
        assert_eq!(get(&pending, "Ready"), Some(("False", "ListenersPending")));
    }

    #[test]
    fn what_keeps_no_domain_from_being_served_is_told_and_takes_nothing_away() {
        let tenant = prod();
        let with = |weight: fn(Weight) -> Weight| {
            let services = vec![service("rates", "True", true, 2)];
            let mut missing = Finding::stalled(Concern::Domains, "prod", "TlsSecretMissing", "no authority");
            missing.weight = weight(missing.weight);
            let status = status(&tenant, &[applied(&tenant.spec.environments[0], services, vec![missing])]);
            assert_eq!(get(&status, "DomainsReady"), Some(("False", "TlsSecretMissing")));
            assert_eq!(
                (get(&status, "Stalled"), get(&status, "Reconciling")),
                (Some(("True", "TlsSecretMissing")), None)
            );
            get(&status, "Ready").map(|(value, reason)| (value.to_owned(), reason.to_owned()))
        };
        assert_eq!(with(Weight::harmless), Some(("True".into(), "Ready".into())));
        assert_eq!(with(|weight| weight), Some(("False".into(), "TlsSecretMissing".into())));
    }

    #[test]
    fn what_was_told_serves_still_or_not() {
        let mut tenant = prod();
        let services = || vec![service("rates", "True", true, 2), service("account", "True", true, 2)];
        tenant.status = Some(status(&tenant, &[applied(&tenant.spec.environments[0], services(), Vec::new())]));
        let still = |tenant: &Tenant, live: &[BettingService]| {
            serves_still(tenant, |namespace| {
                assert_eq!(namespace, "acme-prod");
                live.iter().cloned().map(Arc::new).collect()
            })
        };
        assert!(still(&tenant, &services()));
        assert!(!still(&tenant, &[service("rates", "True", true, 2), service("account", "False", true, 2)]));
        assert!(!still(&tenant, &[service("rates", "True", true, 2)]), "one has gone");
        tenant.spec.environments.clear();
        assert!(still(&tenant, &[]), "what left the spec need not serve");
    }

    #[test]
    fn findings_of_one_environment_do_not_unserve_another() {
        let tenant = tenant(json!([
            {"name": "dev", "class": "NonProduction", "release": "none"}, {"name": "prod", "class": "Production", "release": "new"}
        ]));
        let missing =
            vec![Finding::stalled(Concern::Release, "dev", "ReferenceNotFound", "Release none does not exist")];
        let dev = |services: Vec<BettingService>| Applied {
            wanted: None,
            ..applied(&tenant.spec.environments[0], services, missing.clone())
        };
        let prod = || applied(&tenant.spec.environments[1], vec![service("rates", "True", true, 2)], Vec::new());
        let running = status(&tenant, &[dev(vec![service("rates", "True", true, 2)]), prod()]);
        assert_eq!(
            (get(&running, "Ready"), get(&running, "Stalled")),
            (Some(("True", "Ready")), Some(("True", "ReferenceNotFound")))
        );
        let empty = status(&tenant, &[dev(Vec::new()), prod()]);
        assert_eq!(get(&empty, "Ready"), Some(("False", "ReferenceNotFound")));
    }

    #[test]
    fn a_suspended_tenant_rests_without_complaint() {
        let mut tenant = prod();
        tenant.spec.suspended = true;
        let mut service = service("rates", "False", false, 2);
        service.spec.suspended = true;
        for condition in service.status.iter_mut().flat_map(|s| &mut s.conditions) {
            condition.reason = "Suspended".into();
        }
        let status = status(&tenant, &[applied(&tenant.spec.environments[0], vec![service], Vec::new())]);
        assert_eq!(status.summary.as_deref(), Some("prod 0/1"));
        assert_eq!(get(&status, "Ready"), Some(("True", "Suspended")));
        assert_eq!((get(&status, "Reconciling"), get(&status, "Stalled")), (None, None));
    }

    #[test]
    fn what_needs_a_person_comes_first_and_stalls() {
        let tenant = prod();
        let services = vec![service("rates", "False", true, 2)];
        let findings = vec![Finding::stalled(Concern::Domains, "prod", "DomainTaken", "a.example is held by zenith")];
        let status = status(&tenant, &[applied(&tenant.spec.environments[0], services, findings)]);
        assert_eq!(get(&status, "Ready"), Some(("False", "DomainTaken")));
        assert_eq!(get(&status, "DomainsReady"), Some(("False", "DomainTaken")));
        assert_eq!(get(&status, "Stalled"), Some(("True", "DomainTaken")));
        assert_eq!(get(&status, "Reconciling"), Some(("True", "ServicesNotReady")));
        assert_eq!(get(&status, "NamespacesReady"), Some(("True", "Applied")));
    }

    #[test]
    fn an_unknown_release_keeps_the_old_count_and_stalls() {
        let tenant = prod();
        let findings =
            vec![Finding::stalled(Concern::Release, "prod", "ReferenceNotFound", "Release new does not exist")];
        let mut one = applied(&tenant.spec.environments[0], vec![service("rates", "True", true, 2)], findings);
        one.wanted = None;
        let status = status(&tenant, &[one]);
        assert_eq!(status.summary.as_deref(), Some("prod 1/1"));
        assert_eq!(status.environments[0].release, None, "what runs is another Release");
        assert_eq!(get(&status, "Ready"), Some(("True", "Ready")), "and goes on");
        assert_eq!(get(&status, "Stalled"), Some(("True", "ReferenceNotFound")));
        assert_eq!(get(&status, "ReleaseApplied"), Some(("False", "ReferenceNotFound")));
    }

    #[test]
    fn an_event_is_news_once() {
        let tenant = prod();
        let findings =
            vec![Finding::stalled(Concern::Release, "prod", "ReferenceNotFound", "Release new does not exist")];
        let first = status(&tenant, &[applied(&tenant.spec.environments[0], Vec::new(), findings)]);
        assert_eq!(news(None, &first).map(|c| c.reason), Some("ReferenceNotFound".into()));
        assert_eq!(news(Some(&first), &first), None);
        let well = status(&tenant, &[applied(&tenant.spec.environments[0], Vec::new(), Vec::new())]);
        assert_eq!(news(Some(&first), &well), None);
    }

    #[test]
    fn many_findings_make_one_readable_message() {
        let found: Vec<Finding> =
            (0..8).map(|n| Finding::waiting(Concern::Services, "prod", "ServicesNotReady", format!("s{n}"))).collect();
        let text = joined(&found.iter().collect::<Vec<_>>());
        assert!(text.ends_with("; and 3 more"), "{text}");
    }
}
