//! The Gateway API of the cluster: Envoy Gateway by its own chart, with images made here.

use std::time::Duration;

use serde_json::json;

use crate::{
    cluster::Cluster,
    error::{Doing as _, Result},
    image::{Archive, Recipe, build},
    paths,
    tools::{self, Set},
};

/// The Gateway that routes attach to.
pub const GATEWAY_NAME: &str = "public";
/// Where it lives.
pub const GATEWAY_NAMESPACE: &str = "envoy-gateway-system";

const INSTALL_ATTEMPTS: u32 = 3;

const MANIFEST: &str = include_str!("../manifests/gateway.yaml");

/// Installs or updates Envoy Gateway and the Gateway, and waits until it is programmed.
pub(crate) async fn install(cluster: &Cluster) -> Result<()> {
    let (envoy, controller) = (build(Recipe::Envoy).await?, build(Recipe::EnvoyGateway).await?);
    cluster.load(&[envoy.clone(), controller.clone()]).await?;

    // The chart comes with a template of its default values, which its release process fills in.
    let source = tools::folder(Set::EnvoyGateway, "charts")?.join("gateway-helm");
    let chart = cluster.paths().file("charts/gateway-helm");
    if chart.exists() {
        std::fs::remove_dir_all(&chart).doing(|| format!("replace {}", chart.display()))?;
    }
    tools::copy_folder(&source, &chart)?;
    let defaults = paths::read(&chart.join("values.tmpl.yaml"))?
        .replace("${GatewayImage}", &controller.reference)
        .replace("${GatewayImagePullPolicy}", "IfNotPresent");
    paths::write(&chart.join("values.yaml"), defaults)?;
    let values = cluster.paths().file("charts/gateway-values.json");
    paths::write(&values, serde_json::to_vec_pretty(&values_for(&controller))?)?;

    let (chart, values) = (chart.to_string_lossy(), values.to_string_lossy());
    let install = [
        "upgrade",
        "--install",
        "eg",
        &chart,
        "--namespace",
        GATEWAY_NAMESPACE,
        "--create-namespace",
        "--values",
        &values,
        "--wait",
        "--timeout",
        "4m",
    ];
    let mut attempts = 1;
    loop {
        drop_interrupted_install(cluster).await?;
        match cluster.helm_with_deadline(&install, Duration::from_mins(5)).await {
            Ok(_) => break,
            Err(error) if attempts >= INSTALL_ATTEMPTS => return Err(error),
            // A Helm that an `up` killed a moment ago has left behind is still at it, and ends by itself.
            Err(_) => tokio::time::sleep(Duration::from_secs(10)).await,
        }
        attempts += 1;
    }
    cluster.apply(&MANIFEST.replace("@envoy@", &envoy.reference)).await?;
    let gateway = format!("gateway/{GATEWAY_NAME}");
    cluster
        .kubectl_with_deadline(
            &["wait", "-n", GATEWAY_NAMESPACE, "--for=condition=Programmed", &gateway, "--timeout=180s"],
            Duration::from_secs(200),
        )
        .await
        .map(drop)
}

/// Helm refuses to touch a release whose last operation was cut off. What it made is made again; the CRDs stay.
async fn drop_interrupted_install(cluster: &Cluster) -> Result<()> {
    let pending = ["list", "--namespace", GATEWAY_NAMESPACE, "--pending", "--short", "--filter", "^eg$"];
    if !cluster.helm(&pending).await?.trim().is_empty() {
        cluster.helm(&["uninstall", "eg", "--namespace", GATEWAY_NAMESPACE, "--no-hooks"]).await?;
    }
    Ok(())
}

/// What is applied, before the image's name stands in it.
pub(crate) const fn manifest() -> &'static str {
    MANIFEST
}

/// Small requests, so that a two-core node has room for the brands; probes that see readiness soon.
fn values_for(controller: &Archive) -> serde_json::Value {
    json!({
        "global": {"images": {"envoyGateway": {"image": controller.reference, "pullPolicy": "IfNotPresent"}}},
        "deployment": {"envoyGateway": {
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
            "readinessProbe": {"periodSeconds": 2},
        }},
        "topologyInjector": {"enabled": false},
    })
}
