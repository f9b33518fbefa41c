//! What a platform without customers does: nothing. The last of the tests.

use super::support::{LIMIT, api};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use paddock_demo::wait;
use paddock_e2e::on_cluster;

/// An autoscaler as soon as it has something to scale by.
async fn measured(autoscalers: &Api<HorizontalPodAutoscaler>, name: &str) -> HorizontalPodAutoscaler {
    wait::until(&format!("a measure for autoscaler {name}"), LIMIT, || async {
        let autoscaler = autoscalers.get(name).await.map_err(|error| error.to_string())?;
        let conditions = autoscaler.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        match conditions.iter().find(|condition| condition.type_ == "ScalingActive") {
            Some(active) if active.status == "True" => Ok(autoscaler),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap()
}

/// An autoscaler takes the highest need of the last five minutes before it goes down: one look is a look back.
#[test]
fn autoscalers_of_idle_services_are_at_their_minimum() {
    on_cluster(|installation| async move {
        let mut seen = 0;
        for namespace in ["platform-prod", "acme-dev", "acme-prod", "zenith-prod"] {
            let autoscalers: Api<HorizontalPodAutoscaler> = api(installation, namespace);
            for listed in autoscalers.list(&ListParams::default()).await.unwrap() {
                let name = listed.name_any();
                let autoscaler = measured(&autoscalers, &name).await;
                let (spec, status) = (autoscaler.spec.unwrap_or_default(), autoscaler.status.unwrap_or_default());
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
