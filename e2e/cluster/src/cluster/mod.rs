//! One cluster: up, down, and what one does with it in between.

mod programs;
mod record;
mod start;

use std::{fs, path::PathBuf};

pub(crate) use record::ClusterRecord;
pub use record::Ports;

use crate::{
    clean::{anything_left, clean},
    error::{Error, Result},
    kernel, machine,
    paths::{self, Paths},
    process::Records,
    progress::Progress,
    tools::{self, Set},
};

/// The name of the cluster that a person uses.
pub const DEFAULT_NAME: &str = "demo";

/// Components in the order in which they start.
pub const COMPONENTS: [&str; 11] = [
    "etcd",
    "apiserver",
    "forwarder",
    "controller-manager",
    "scheduler",
    "containerd",
    "kubelet",
    "proxy",
    "coredns",
    "metrics-server",
    "provisioner",
];
const NEEDED: [Set; 6] = [Set::Kubernetes, Set::Etcd, Set::Containerd, Set::Coredns, Set::EnvoyGateway, Set::Envoy];

/// How a cluster comes up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Who is told about steps.
    pub progress: Progress,
}

/// A component and whether it runs.
#[derive(Debug, Clone)]
pub struct ComponentState {
    /// Its name.
    pub name: &'static str,
    /// Its process id, if it runs.
    pub pid: Option<i32>,
}

/// A cluster that is up, or was.
#[derive(Debug, Clone)]
pub struct Cluster {
    paths: Paths,
    ports: Ports,
    progress: Progress,
}

impl Cluster {
    /// Brings a cluster up: from nothing, from what a crash left, or by starting what has stopped. Quick when it is up.
    pub async fn up(name: &str, options: &Options) -> Result<Self> {
        let (paths, progress) = (Paths::new(name)?, options.progress);
        machine::check()?;
        machine::install_packages(progress).await?;
        kernel::load_modules().await?;
        tools::ensure(&NEEDED, progress).await?;
        let _lock = tools::lock(paths.lock_file()?, name, progress).await?;

        let record = if let Some(record) = Self::usable(&paths).await? {
            record
        } else {
            if anything_left(&paths)? {
                progress.step("clear away what an earlier run left", clean(&paths)).await?;
            }
            progress.step("certificates, configuration, network", Self::prepare(&paths)).await?
        };
        if record.versions != tools::versions()? {
            progress.note("this cluster runs older versions of its tools; `down` and `up` brings the newer ones");
        }
        let cluster = Self { paths, ports: record.ports, progress };
        // Made now, so that the file which `env` names is there.
        cluster.ca()?;
        cluster.start().await?;
        Ok(cluster)
    }

    /// A cluster that is up.
    pub fn open(name: &str) -> Result<Self> {
        let paths = Paths::new(name)?;
        let running = Records::new(paths.file("pid")).alive("apiserver");
        match ClusterRecord::read(&paths)? {
            Some(record) if running => Ok(Self { paths, ports: record.ports, progress: Progress::visible() }),
            _ => Err(Error::State(format!("cluster {name} is not up; run `paddock-cluster up --name {name}`"))),
        }
    }

    /// Takes a cluster away, in whatever state it is. Says whether there was anything.
    pub async fn down(name: &str, progress: Progress) -> Result<bool> {
        let paths = Paths::new(name)?;
        machine::check_root()?;
        if !anything_left(&paths)? {
            return Ok(false);
        }
        let _lock = tools::lock(paths.lock_file()?, name, progress).await?;
        progress.step(&format!("remove cluster {name}"), clean(&paths)).await?;
        Ok(true)
    }

    /// Names of the clusters that have a folder.
    pub fn names() -> Result<Vec<String>> {
        let folder = paths::clusters()?;
        let mut names: Vec<_> = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        self.paths.name()
    }

    /// Its files.
    pub(crate) const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Who is told about steps.
    pub(crate) const fn progress(&self) -> Progress {
        self.progress
    }

    /// The kubeconfig with which the host reaches the cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.paths.kubeconfig()
    }

    /// The folder with one log per component.
    pub fn logs(&self) -> PathBuf {
        self.paths.file("log")
    }

    /// Ports on 127.0.0.1 that lead into the cluster.
    pub const fn ports(&self) -> Ports {
        self.ports
    }

    /// The port on 127.0.0.1 that leads to the Gateway's port 443.
    pub const fn gateway_https_port(&self) -> u16 {
        self.ports.https
    }

    /// The port on 127.0.0.1 that leads to the Gateway's port 80.
    pub const fn gateway_http_port(&self) -> u16 {
        self.ports.http
    }

    /// The certificate of the cluster's own authority, which signs domains and database servers.
    pub fn ca_file(&self) -> PathBuf {
        self.paths.file("ca/ca.crt")
    }

    /// The cluster's own certificate authority.
    pub fn ca(&self) -> Result<crate::ca::CertificateAuthority> {
        let name = format!("Paddock local cluster {}", self.name());
        crate::ca::CertificateAuthority::open_or_create(&self.paths.file("ca"), &name)
    }

    /// The network namespace in which everything runs; `nsenter --net=<file>` runs a program beside the pods.
    pub fn network_namespace(&self) -> PathBuf {
        self.paths.namespace_file()
    }

    /// Every component and whether it runs.
    pub fn components(&self) -> Vec<ComponentState> {
        let records = Records::new(self.paths.file("pid"));
        let pid = |name: &str| records.get(name).filter(super::process::ProcessRecord::alive).map(|record| record.pid);
        COMPONENTS.iter().map(|name| ComponentState { name, pid: pid(name) }).collect()
    }
}
