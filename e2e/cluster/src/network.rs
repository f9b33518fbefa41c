//! The cluster's network namespace: one bridge is the node, everything runs behind it.

use std::{fs, time::Duration};

use crate::{
    command::Run,
    error::{Error, Result},
    kernel,
    paths::Paths,
};

/// The node's address, on a bridge of its own (dummy interfaces are not in every kernel).
pub(crate) const NODE_ADDRESS: &str = "10.99.0.1";
/// Addresses of Services.
pub(crate) const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The first address of [`SERVICE_RANGE`]: Service `kubernetes`.
pub(crate) const KUBERNETES_SERVICE: &str = "10.96.0.1";
/// Addresses at which pods reach the apiserver, before and after kube-proxy: those of Service `kubernetes` and of the node.
pub(crate) const APISERVER_ADDRESSES: [&str; 2] = [KUBERNETES_SERVICE, NODE_ADDRESS];
/// Addresses of pods; the one node has all of them.
pub(crate) const POD_RANGE: &str = "10.244.0.0/22";

/// Makes the namespace.
pub(crate) async fn create(paths: &Paths) -> Result<()> {
    let name = paths.namespace();
    ip(&["netns", "add", &name]).await?;
    let node = format!("{NODE_ADDRESS}/24");
    for args in [
        &["link", "set", "lo", "up"][..],
        &["link", "add", "node0", "type", "bridge"],
        &["addr", "add", &node, "dev", "node0"],
        &["link", "set", "node0", "up"],
        // Without it a Service's address is "unreachable" from the node itself, before kube-proxy sees the packet.
        &["route", "add", SERVICE_RANGE, "dev", "node0"],
    ] {
        inside(paths, "ip").args(args).output().await?;
    }
    inside(paths, "sysctl").args(["-qw", "net.ipv4.ip_forward=1"]).output().await?;
    // An answer from pod to pod over the bridge must pass the rules that turned a Service's address into the pod's.
    let bridged = inside(paths, "sysctl").args(["-qw", "net.bridge.bridge-nf-call-iptables=1"]).output().await;
    bridged.map(drop).map_err(|error| kernel::lacking("br_netfilter", &error.to_string()))
}

/// A program run inside the namespace. Not `ip netns exec`: it remounts /sys and hides the control groups.
pub(crate) fn inside(paths: &Paths, program: &str) -> Run {
    Run::new("nsenter").arg(format!("--net={}", paths.namespace_file().display())).arg(program)
}

/// Whether the namespace is there and usable (after a crash its file can be left without a namespace behind it).
pub(crate) async fn exists(paths: &Paths) -> bool {
    paths.namespace_file().exists() && inside(paths, "true").output().await.is_ok()
}

/// Processes that live in the namespace.
pub(crate) async fn processes(paths: &Paths) -> Vec<i32> {
    let pids = ip(&["netns", "pids", &paths.namespace()]).await.unwrap_or_default();
    pids.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Removes the namespace; nothing to do if there is none.
pub(crate) async fn remove(paths: &Paths) -> Result<()> {
    if !paths.namespace_file().exists() {
        return Ok(());
    }
    if ip(&["netns", "del", &paths.namespace()]).await.is_err() {
        // A file without a namespace mounted on it, left by a crash in between.
        let _ = fs::remove_file(paths.namespace_file());
    }
    if paths.namespace_file().exists() {
        return Err(Error::State(format!(
            "network namespace {} cannot be removed; see `ip netns pids {0}`",
            paths.namespace()
        )));
    }
    Ok(())
}

async fn ip(args: &[&str]) -> Result<String> {
    Run::new("ip").args(args).deadline(Duration::from_secs(20)).output().await
}
