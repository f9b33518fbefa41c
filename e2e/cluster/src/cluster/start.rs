//! From nothing, or from what stands already, to a cluster whose components run.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    COMPONENTS, Cluster,
    record::{ClusterRecord, choose_ports},
};
use crate::{
    cgroup::Cgroups,
    component::{Component, Place, Supervisor, search_path},
    config,
    error::{Doing as _, Error, Result},
    gateway,
    image::{Recipe, build},
    network,
    paths::{self, Paths},
    pki::Pki,
    process::{Records, boot_id},
    tools::{self, Set},
    tunables,
};

const BASE: &str = include_str!("../../manifests/base.yaml");

impl Cluster {
    /// The record, if what it describes can be continued: same boot, namespace there, something still running.
    pub(super) async fn usable(paths: &Paths) -> Result<Option<ClusterRecord>> {
        let Some(record) = ClusterRecord::read(paths)? else { return Ok(None) };
        let running = Records::new(paths.file("pid")).all()?.iter().any(crate::process::ProcessRecord::alive);
        let whole = running
            && boot_id().as_deref() == Some(&record.boot)
            && Cgroups::of(paths.name())?.exist()
            && network::exists(paths).await;
        Ok(whole.then_some(record))
    }

    /// Everything that is there before the first process starts. The record comes last: without it, it is a ruin.
    pub(super) async fn prepare(paths: &Paths) -> Result<ClusterRecord> {
        let ports = choose_ports(paths.name())?;
        for folder in ["log", "pid", "cni", "kubelet", "podlogs", "volumes", "containerd"] {
            let folder = paths.file(folder);
            fs::create_dir_all(&folder).doing(|| format!("create {}", folder.display()))?;
        }
        let cgroups = Cgroups::of(paths.name())?;
        cgroups.create()?;
        tunables::remember().await?;
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
    pub(super) async fn start(&self) -> Result<()> {
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
}

fn set_runnable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).doing(|| format!("make {} runnable", file.display()))
}
