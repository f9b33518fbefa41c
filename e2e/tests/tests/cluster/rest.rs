//! What a platform without customers does: nothing. The last of the tests.

use super::support::api;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt as _;
use paddock_e2e::on_cluster;

/// An autoscaler takes the highest need of the last five minutes before it goes down: one look is a look back.
#[test]
fn autoscalers_of_idle_services_are_at_their_minimum() {
    on_cluster(|installation| async move {
        let mut seen = 0;
        for namespace in ["platform-prod", "acme-dev", "acme-prod", "zenith-prod"] {
            let autoscalers = api::<HorizontalPodAutoscaler>(installation, namespace);
            for autoscaler in autoscalers.list(&kube::api::ListParams::default()).await.unwrap() {
                let name = autoscaler.name_any();
                let (spec, status) = (autoscaler.spec.unwrap_or_default(), autoscaler.status.unwrap_or_default());
                let conditions = status.conditions.clone().unwrap_or_default();
                let measures =
                    conditions.iter().any(|condition| condition.type_ == "ScalingActive" && condition.status == "True");
                assert!(measures, "{namespace}/{name} has no measure to scale by: {conditions:?}");
                assert_eq!(
                    Some(status.desired_replicas),
                    spec.min_replicas,
                    "{namespace}/{name} scales without load: {:?}",
                    status.current_metrics
                );
                seen += 1;
            }
        }
        assert!(seen >= 4, "the examples have autoscalers; {seen} were found");
    });
}
