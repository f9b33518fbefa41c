//! One cluster: up, down, and what one does with it in between.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Cgroups,
    clean::{anything_left, clean},
    command::Run,
    component::{Component, Place, Supervisor, search_path},
    config,
    error::{Doing as _, Error, Result},
    gateway,
    image::{Archive, Recipe, build},
    machine, network,
    paths::{self, Paths},
    pki::Pki,
    process::{Records, boot_id},
    progress::Progress,
    tools::{self, Set},
};

/// The name of the cluster that a person uses.
pub const DEFAULT_NAME: &str = "demo";

const BASE: &str = include_str!("../manifests/base.yaml");
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

/// Ports on the host's loopback that lead into the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The apiserver.
    pub apiserver: u16,
    /// The Gateway's port 80.
    pub http: u16,
    /// The Gateway's port 443.
    pub https: u16,
}

/// What a cluster remembers about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClusterRecord {
    /// The boot of the machine in which it was made.
    boot: String,
    /// Versions of the tools that it was made with.
    versions: String,
    pub(crate) ports: Ports,
}

impl ClusterRecord {
    fn file(paths: &Paths) -> PathBuf {
        paths.file("cluster.json")
    }

    pub(crate) fn read(paths: &Paths) -> Result<Option<Self>> {
        match fs::read(Self::file(paths)) {
            Ok(content) => Ok(serde_json::from_slice(&content).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| "read the cluster's record".into()),
        }
    }
}

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

    /// The record, if what it describes can be continued: same boot, namespace there, something still running.
    async fn usable(paths: &Paths) -> Result<Option<ClusterRecord>> {
        let Some(record) = ClusterRecord::read(paths)? else { return Ok(None) };
        let running = Records::new(paths.file("pid")).all()?.iter().any(super::process::ProcessRecord::alive);
        let whole = running
            && boot_id().as_deref() == Some(&record.boot)
            && Cgroups::of(paths.name())?.exist()
            && network::exists(paths).await;
        Ok(whole.then_some(record))
    }

    /// Everything that is there before the first process starts. The record comes last: without it, it is a ruin.
    async fn prepare(paths: &Paths) -> Result<ClusterRecord> {
        let ports = choose_ports(paths.name())?;
        for folder in ["log", "pid", "cni", "kubelet", "podlogs", "volumes", "containerd"] {
            let folder = paths.file(folder);
            fs::create_dir_all(&folder).doing(|| format!("create {}", folder.display()))?;
        }
        let cgroups = Cgroups::of(paths.name())?;
        cgroups.create()?;
        for (name, content) in config::files(paths, &cgroups.kubelet_root())? {
            paths::write(&paths.file(name), content)?;
        }
        let folder = paths.file("pki");
        let pki = Pki::create(&folder, &config::APISERVER_NAMES, Some((config::NODE_NAME, network::NODE_ADDRESS)))?;
        let context = format!("paddock-{}", paths.name());
        for client in ["admin", "controller-manager", "scheduler", "proxy", "kubelet"] {
            let kubeconfig = pki.kubeconfig(&folder, client, config::APISERVER, &context)?;
            crate::ca::write_secret(&paths.file(&format!("{client}.kubeconfig")), &kubeconfig)?;
        }
        let outside = format!("https://127.0.0.1:{}", ports.apiserver);
        crate::ca::write_secret(&paths.kubeconfig(), &pki.kubeconfig(&folder, "admin", &outside, &context)?)?;
        network::create(paths).await?;
        let boot = boot_id().ok_or_else(|| Error::Machine("/proc is not mounted".into()))?;
        let record = ClusterRecord { boot, versions: tools::versions()?, ports };
        paths::write(&ClusterRecord::file(paths), serde_json::to_vec_pretty(&record)?)?;
        Ok(record)
    }

    /// Starts what does not run, and installs what is not installed.
    async fn start(&self) -> Result<()> {
        let supervisor = self.supervisor()?;
        let installed = self.paths.file("installed");
        let wanted = format!("{} {BASE} {}", tools::versions()?, gateway::manifest());
        let all_run = COMPONENTS.iter().all(|name| supervisor.alive(name));
        if all_run && fs::read_to_string(&installed).is_ok_and(|done| done == wanted) {
            self.progress.note(&format!("cluster {} is up", self.paths.name()));
            return Ok(());
        }
        let program = self.keep_own_program()?;
        let component = |name: &'static str| self.component(name, &program);

        supervisor.ensure(&component("etcd")?)?;
        supervisor.ensure(&component("apiserver")?)?;
        supervisor.ensure(&component("forwarder")?)?;
        self.progress.step("control plane", self.wait_for_apiserver(&supervisor)).await?;
        supervisor.ensure(&component("controller-manager")?)?;
        supervisor.ensure(&component("scheduler")?)?;
        supervisor.ensure(&component("containerd")?)?;
        let pause = self.progress.step("container runtime", async {
            self.wait_for_containerd(&supervisor).await?;
            let pause = build(Recipe::Pause).await?;
            self.load(&[pause]).await
        });
        pause.await?;
        for name in ["kubelet", "proxy", "coredns", "metrics-server", "provisioner"] {
            supervisor.ensure(&component(name)?)?;
        }
        self.progress
            .step("node", async {
                self.apply(BASE).await?;
                self.wait_for("the node", &supervisor, async || {
                    self.kubectl(&["get", "node", config::NODE_NAME]).await.map(drop)
                })
                .await?;
                let node = format!("node/{}", config::NODE_NAME);
                self.kubectl(&["wait", "--for=condition=Ready", &node, "--timeout=100s"]).await
            })
            .await?;
        self.progress.step("Gateway", gateway::install(self)).await?;
        for name in COMPONENTS {
            if !supervisor.alive(name) {
                return Err(supervisor.died(name));
            }
        }
        paths::write(&installed, wanted)
    }

    fn supervisor(&self) -> Result<Supervisor> {
        let (kubernetes, containerd) = (tools::bin(Set::Kubernetes)?, tools::bin(Set::Containerd)?);
        let path = search_path(&[&kubernetes, &containerd]);
        Ok(Supervisor::new(&self.paths, Cgroups::of(self.paths.name())?, path))
    }

    /// A copy of this tool inside the cluster's folder: the one in `target/` is replaced by the next build.
    fn keep_own_program(&self) -> Result<PathBuf> {
        let kept = self.paths.file("bin/paddock-cluster");
        let supervisor = self.supervisor()?;
        if kept.is_file() && supervisor.alive("forwarder") && supervisor.alive("provisioner") {
            return Ok(kept);
        }
        let own = crate::sibling("paddock-cluster").ok_or_else(|| {
            Error::State("the binary paddock-cluster is not built; run `cargo build -p paddock-cluster`".into())
        })?;
        let content = fs::read(&own).doing(|| format!("read {}", own.display()))?;
        paths::write(&kept, content)?;
        set_runnable(&kept)?;
        Ok(kept)
    }

    fn component(&self, name: &'static str, own: &Path) -> Result<Component> {
        let file = |name: &str| self.paths.file(name);
        let kubernetes = |name: &str| tools::program(Set::Kubernetes, name);
        let pki = file("pki");
        let of_own = |command: &str| vec![command.into(), "--name".into(), self.paths.name().into()];
        let (program, args) = match name {
            "etcd" => (tools::program(Set::Etcd, "etcd")?, config::etcd(&file("etcd"), 2379, 2380)),
            "apiserver" => {
                let mut args = config::apiserver(&pki, network::NODE_ADDRESS, 6443, 2379);
                args.push(format!("--advertise-address={}", network::NODE_ADDRESS).into());
                (kubernetes("kube-apiserver")?, args)
            }
            "controller-manager" => {
                let mut args = config::controller_manager(&file("controller-manager.kubeconfig"), &pki);
                args.extend(config::node_addresses());
                (kubernetes("kube-controller-manager")?, args)
            }
            "scheduler" => (kubernetes("kube-scheduler")?, config::scheduler(&file("scheduler.kubeconfig"))),
            "containerd" => {
                (tools::program(Set::Containerd, "containerd")?, vec!["-c".into(), file("containerd.toml").into()])
            }
            "kubelet" => (kubernetes("kubelet")?, config::kubelet_args(&self.paths)),
            "proxy" => (kubernetes("kube-proxy")?, vec!["--config".into(), file("proxy.json").into()]),
            "coredns" => (tools::program(Set::Coredns, "coredns")?, vec!["-conf".into(), file("Corefile").into()]),
            "metrics-server" => (tools::program(Set::Etcd, "metrics-server")?, config::metrics_server(&self.paths)),
            "forwarder" => (own.into(), of_own("forward")),
            "provisioner" => (own.into(), of_own("provision")),
            other => return Err(Error::State(format!("there is no component {other}"))),
        };
        let place = if name == "forwarder" { Place::Host } else { Place::Inside };
        Ok(Component { name, place, program, args })
    }

    async fn wait_for_apiserver(&self, supervisor: &Supervisor) -> Result<()> {
        self.wait_for("the apiserver", supervisor, async || {
            self.kubectl_with_deadline(&["get", "--raw", "/readyz"], Duration::from_secs(10)).await.map(drop)
        })
        .await
    }

    async fn wait_for_containerd(&self, supervisor: &Supervisor) -> Result<()> {
        self.wait_for("containerd", supervisor, async || self.ctr(&["version"]).await.map(drop)).await
    }

    /// Tries until it works, at most two minutes; ends early when a component has died.
    async fn wait_for(&self, what: &str, supervisor: &Supervisor, attempt: impl AsyncFn() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        loop {
            let Err(error) = attempt().await else { return Ok(()) };
            let records = Records::new(self.paths.file("pid"));
            for name in COMPONENTS {
                if records.get(name).is_some() && !supervisor.alive(name) {
                    return Err(supervisor.died(name));
                }
            }
            if start.elapsed() > Duration::from_mins(2) {
                return Err(Error::Timeout {
                    what: what.into(),
                    waited: start.elapsed(),
                    hint: format!("{error}; logs are in {}", self.paths.file("log").display()),
                });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
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

    /// Runs kubectl; what it printed.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with_deadline(args, Duration::from_mins(2)).await
    }

    /// Runs kubectl for at most this long.
    pub async fn kubectl_with_deadline(&self, args: &[&str], deadline: Duration) -> Result<String> {
        let kubectl = tools::program(Set::Kubernetes, "kubectl")?;
        Run::new(kubectl).env("KUBECONFIG", self.kubeconfig()).args(args).deadline(deadline).output().await
    }

    /// Applies YAML by server-side apply, as field manager `paddock-cluster`.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        let kubectl = tools::program(Set::Kubernetes, "kubectl")?;
        Run::new(kubectl)
            .env("KUBECONFIG", self.kubeconfig())
            .args(["apply", "--server-side", "--force-conflicts", "--field-manager=paddock-cluster", "-f", "-"])
            .stdin(yaml)
            .output()
            .await
            .map(drop)
    }

    /// Runs Helm; what it printed.
    pub async fn helm(&self, args: &[&str]) -> Result<String> {
        self.helm_with_deadline(args, Duration::from_mins(5)).await
    }

    /// Runs Helm for at most this long.
    pub async fn helm_with_deadline(&self, args: &[&str], deadline: Duration) -> Result<String> {
        let helm = tools::program(Set::Etcd, "helm")?;
        // Its caches belong to the cluster, not to the person's own Helm.
        let homes = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"];
        let run = homes.iter().fold(Run::new(helm), |run, home| run.env(home, self.paths.file("helm")));
        run.env("KUBECONFIG", self.kubeconfig()).args(args).deadline(deadline).output().await
    }

    /// Makes images known to the node, by tag and by digest. Those that it has are skipped.
    pub async fn load(&self, images: &[Archive]) -> Result<()> {
        let known = self.ctr(&["images", "list", "-q"]).await?;
        for image in images {
            let by_digest = image.by_digest();
            let has = |name: &str| known.lines().any(|line| line == name);
            if has(&image.reference) && has(&by_digest) {
                continue;
            }
            let file = image.file.to_string_lossy();
            self.ctr(&["images", "import", "--local", &file]).await?;
            self.ctr(&["images", "tag", "--force", "--local", &image.reference, &by_digest]).await?;
        }
        Ok(())
    }

    async fn ctr(&self, args: &[&str]) -> Result<String> {
        let ctr = tools::program(Set::Containerd, "ctr")?;
        Run::new(ctr).arg("-a").arg(self.paths.containerd_socket()).args(["-n", "k8s.io"]).args(args).output().await
    }
}

fn set_runnable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).doing(|| format!("make {} runnable", file.display()))
}

/// The default cluster has ports that a person can remember; others take what is free.
fn choose_ports(name: &str) -> Result<Ports> {
    if name == DEFAULT_NAME {
        let ports = Ports { apiserver: 6443, http: 8080, https: 8443 };
        for port in [ports.apiserver, ports.http, ports.https] {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
                Error::Machine(format!(
                    "port {port} of 127.0.0.1 cannot be used ({error}): stop the program that has it \
                     (`ss -ltnp sport = :{port}`), or choose another cluster name with --name"
                ))
            })?;
        }
        return Ok(ports);
    }
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "find a free port".into());
    // All are held until all are chosen, so that they differ.
    let held = [free()?, free()?, free()?];
    let [apiserver, http, https] = held.each_ref().map(|held| held.local_addr().map(|address| address.port()));
    let port = |found: std::io::Result<u16>| found.doing(|| "find a free port".into());
    Ok(Ports { apiserver: port(apiserver)?, http: port(http)?, https: port(https)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_cluster_gets_three_different_free_ports() {
        let ports = choose_ports("test").unwrap();
        let all = std::collections::BTreeSet::from([ports.apiserver, ports.http, ports.https]);
        assert_eq!(all.len(), 3);
        assert!(!all.contains(&0));
    }
}
