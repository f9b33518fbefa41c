//! What a platform without customers does: nothing. The last of the tests.

use super::support::{LIMIT, api, leader};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use paddock_demo::{Installation, wait};
use paddock_e2e::on_cluster;
use std::time::{Duration, Instant};

/// The leader's pod, and the requests that it has made, but for its lease and what its watches send.
async fn requests(installation: &Installation) -> (String, u64) {
    let (pod, metrics) = leader(installation).await;
    // The lease is renewed by update; everything else is read, applied, patched, created or deleted.
    let counted = |labels: &str| {
        let verbs = ["get", "list", "apply", "patch", "create", "delete"];
        verbs.iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")))
    };
    (pod, metrics.sum("paddock_kube_requests_total", counted).unwrap())
}

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

/// How long an autoscaler may look back: it takes the highest need of the last five minutes before it goes down.
const LOOKS_BACK: Duration = Duration::from_mins(8);

#[test]
fn autoscalers_of_idle_services_are_at_their_minimum() {
    on_cluster(|installation| async move {
        let mut seen = 0;
        for namespace in ["platform-prod", "acme-dev", "acme-prod", "zenith-prod"] {
            let autoscalers: Api<HorizontalPodAutoscaler> = api(installation, namespace);
            for listed in autoscalers.list(&ListParams::default()).await.unwrap() {
                let name = listed.name_any();
                wait::until(&format!("{namespace}/{name} is at its minimum"), LOOKS_BACK, || async {
                    let autoscaler = measured(&autoscalers, &name).await;
                    let (spec, status) = (autoscaler.spec.unwrap_or_default(), autoscaler.status.unwrap_or_default());
                    let least = Some(status.desired_replicas) == spec.min_replicas;
                    if least { Ok(()) } else { Err(format!("scales without load: {:?}", status.current_metrics)) }
                })
                .await
                .unwrap();
                seen += 1;
            }
        }
        assert!(seen >= 4, "the examples have autoscalers; {seen} were found");
    });
}

#[test]
fn nothing_is_asked_of_the_apiserver_at_rest() {
    on_cluster(|installation| async move {
        // Rest begins when two windows in a row pass without a request, of one leader; it must come.
        let start = Instant::now();
        let (mut before, mut quiet) = (requests(installation).await, 0);
        while quiet < 2 {
            tokio::time::sleep(Duration::from_secs(20)).await; // the window that is measured
            let after = requests(installation).await;
            quiet = if after == before { quiet + 1 } else { 0 };
            assert!(quiet > 0 || start.elapsed() < Duration::from_mins(4), "no rest: {before:?}, then {after:?}");
            before = after;
        }
    });
}
