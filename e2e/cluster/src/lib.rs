//! A real Kubernetes on one Linux machine, for the demo and the end-to-end tests.
//!
//! [`Cluster::up`] starts etcd, control plane, containerd, kubelet, kube-proxy, CoreDNS, metrics-server, a volume provisioner and
//! Envoy Gateway inside a network namespace of its own; [`Cluster::down`] leaves nothing behind. [`apiserver`] is the quick one
//! for tests that need an apiserver and no node. [`Access`] is what a test uses: this cluster, or with `CLUSTER=current` the
//! person's own.

mod access;
mod addons;
pub mod apiserver;
pub mod ca;
mod cgroup;
mod clean;
mod cluster;
mod command;
mod component;
mod config;
mod error;
pub mod forward;
mod gateway;
pub mod image;
mod kernel;
mod machine;
mod mounts;
mod network;
mod paths;
mod pki;
mod process;
mod progress;
pub mod provision;
pub mod tools;
mod tunables;

use std::path::PathBuf;

pub use access::{Access, OwnCluster, wants_current};
pub use addons::{
    DATABASES_NAMESPACE, DATABASES_NAMESPACE_MANIFEST, DatabaseServer, KAFKA_SERVERS, POSTGRESQL_SERVERS,
};
pub use cluster::{COMPONENTS, Cluster, ComponentState, DEFAULT_NAME, Options, Ports};
pub use command::Run;
pub use error::{Error, Result};
pub use gateway::{GATEWAY_NAME, GATEWAY_NAMESPACE};
pub use paths::{Paths, cache};
pub use progress::Progress;

/// A binary of this workspace that was built into the folder of the running one (tests run one folder deeper).
pub fn sibling(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|file| file.is_file())
}
