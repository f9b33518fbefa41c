//! How many objects are in which phase: counted when the metrics are asked for, so that what changes without a reconcile counts too.

use super::betting_service::report::STRATEGY;
use crate::kube::Cache;
use crate::metrics::Metrics;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paddock_crds::condition::{RECONCILING, STALLED};
use paddock_crds::v1alpha1::{BettingService, Tenant};

const SETTLED: &str = "settled";
const PROGRESSING: &str = "progressing";
const STUCK: &str = "stalled";
const PHASES: [&str; 3] = [SETTLED, PROGRESSING, STUCK];

/// Sets the gauges of Tenants and rollouts from the cache.
pub fn measure(cache: &Cache, metrics: &Metrics) {
    let tenants: Vec<_> = cache.list::<Tenant>();
    let tenants: Vec<_> = tenants.iter().filter_map(|it| it.status.as_ref()).map(|it| phase(&it.conditions)).collect();
    let services: Vec<_> = cache.list::<BettingService>();
    let services: Vec<_> =
        services.iter().filter_map(|it| it.status.as_ref()).map(|it| phase(&it.conditions)).collect();
    let count = |all: &[&str], phase: &str| {
        i64::try_from(all.iter().filter(|found| **found == phase).count()).unwrap_or(i64::MAX)
    };
    for phase in PHASES {
        metrics.tenants.with_label_values(&[phase]).set(count(&tenants, phase));
        metrics.rollouts.with_label_values(&[STRATEGY, phase]).set(count(&services, phase));
    }
}

fn phase(conditions: &[Condition]) -> &'static str {
    let has = |type_: &str| conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True");
    if has(STALLED) {
        STUCK
    } else if has(RECONCILING) {
        PROGRESSING
    } else {
        SETTLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::betting_service::build::fixtures::{betting_service, tenant};
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    #[test]
    fn phases_are_counted_as_they_are_now() {
        let (cache, metrics) = (Cache::new(), Metrics::new().unwrap());
        let condition = |type_: &str| json!({"conditions": [{"type": type_, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let mut tenant = tenant();
        tenant.status = serde_json::from_value(condition("Stalled")).unwrap();
        let mut service = betting_service(Value::Null);
        service.status = serde_json::from_value(condition("Reconciling")).unwrap();
        cache.observe(tenant);
        cache.observe(service.clone());
        let counts = || {
            measure(&cache, &metrics);
            PHASES.map(|phase| {
                (
                    metrics.tenants.with_label_values(&[phase]).get(),
                    metrics.rollouts.with_label_values(&[STRATEGY, phase]).get(),
                )
            })
        };
        assert_eq!(counts(), [(0, 0), (0, 1), (1, 0)]);
        cache.watched(Event::Delete(service));
        assert_eq!(counts(), [(0, 0), (0, 0), (1, 0)], "without a reconcile of another service");
    }
}
