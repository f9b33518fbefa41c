//! What ran: the project's commit, and the versions of servers that do not tell it to a Kubernetes client.

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use paddock_cluster::tools::{self, Set};
use paddock_cluster::{Access, Run};
use paddock_demo::Installation;
use std::path::Path;
use std::process::Command;

/// What the local cluster's Envoy Gateway is built from; the program itself does not know its version.
const ENVOY_GATEWAY: &str = include_str!("../../cluster/tools/envoy-gateway/go.mod");

/// The commit that is measured, as it is now; without git or its history, the version of the crates.
pub fn paddock() -> String {
    let commit = paddock_demo::install::repository().ok().and_then(|root| commit(&root));
    commit.unwrap_or_else(|| format!("{} (git does not tell the commit)", env!("CARGO_PKG_VERSION")))
}

fn commit(root: &Path) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(["describe", "--always", "--dirty"]).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !said.is_empty()).then_some(said)
}

/// kwok, which plays the nodes of a bare API server.
pub async fn kwok() -> Result<String> {
    let said = Run::new(tools::program(Set::Kwok, "kwok")?).arg("--version").output().await?;
    Ok(format!("kwok {}", of_kwok(&said)))
}

/// "kwok version v0.8.0 go1.26.8 (linux/amd64)"
fn of_kwok(said: &str) -> &str {
    said.split_whitespace().nth(2).unwrap_or(said.trim())
}

/// The proxy behind the Gateway, and what configures it.
pub async fn gateway(installation: &Installation) -> Result<String> {
    let (namespace, name) = installation.cluster.gateway();
    let labels = [("name", name), ("namespace", namespace)]
        .map(|(what, value)| format!("gateway.envoyproxy.io/owning-gateway-{what}={value}"))
        .join(",");
    let pods = Api::<Pod>::all(installation.client.clone()).list(&ListParams::default().labels(&labels)).await?;
    // One's own cluster may have another kind of Gateway.
    let Some(pod) = pods.items.first() else { return Ok(format!("Gateway {namespace}/{name} (not Envoy's)")) };
    let (namespace, pod) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let exec = ["exec", "-n", &namespace, &pod, "-c", "envoy", "--", "/usr/local/bin/envoy", "--version"];
    let said = installation.cluster.kubectl(&exec).await?;
    let proxy = format!("Envoy {}", of_envoy(&said));
    Ok(match (&installation.cluster, pinned(ENVOY_GATEWAY, "github.com/envoyproxy/gateway")) {
        (Access::Local(_), Some(version)) => format!("Envoy Gateway {version} with {proxy}"),
        _ => proxy,
    })
}

/// "/usr/local/bin/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL"
fn of_envoy(said: &str) -> &str {
    said.split_once("version: ").and_then(|(_, build)| build.split('/').nth(1)).unwrap_or(said.trim())
}

/// The version of a module in a go.mod.
fn pinned<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(of_kwok("kwok version v0.8.0 go1.26.8 (linux/amd64)\n"), "v0.8.0");
        assert_eq!(of_envoy("\n/usr/local/bin/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n\n"), "1.40.0");
        assert_eq!((of_kwok("new\n"), of_envoy("new\n")), ("new", "new"), "an unknown form is shown as it is");
    }

    #[test]
    fn the_pin_of_envoy_gateway_is_found() {
        let version = pinned(ENVOY_GATEWAY, "github.com/envoyproxy/gateway").unwrap();
        assert!(version.starts_with('v'), "{version}");
        assert_eq!(pinned("tool a/b\n\ta/b v1 // indirect\n", "a/b"), Some("v1"));
        assert_eq!(pinned("\ta/bc v1\n", "a/b"), None);
    }

    #[test]
    fn a_folder_without_history_has_no_commit() {
        assert_eq!(commit(Path::new("/proc")), None);
    }
}
