//! A real apiserver with etcd on loopback, for tests of controllers: no node, no root, up in seconds, gone with the test.
//!
//! ```no_run
//! # async fn example() -> paddock_cluster::Result<()> {
//! let apiserver = paddock_cluster::apiserver::Apiserver::start().await?;
//! let client = apiserver.client().await?;
//! # drop(client); Ok(()) }
//! ```
//!
//! It has no kube-controller-manager unless asked for ([`Builder::controller_manager`]): Deployments make no pods and namespaces
//! stay Terminating. With [`Builder::fake_nodes`] pods become Ready without running. Starting costs a few seconds and 300 MB,
//! so the tests of a file share one and use namespaces of their own.
//!
//! The processes end when the value is dropped, when the test panics, and when the test process is killed.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{
    command::{Run, tail},
    config,
    error::{Doing as _, Error, Result},
    forward::client_of,
    machine, paths,
    pki::Pki,
    process::temporary_folder,
    progress::Progress,
    tools::{self, Set},
};

/// How long any of it may take to be ready on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(90);
/// Prefix of the folders of data; the rest is the pid of the owner.
const FOLDER_PREFIX: &str = "paddock-apiserver-";

/// Nodes and pods become Ready at once, Jobs complete, deleted pods go.
const STAGES: [&str; 5] = [
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
];

/// What is started beside etcd and the apiserver.
#[derive(Debug, Clone, Copy, Default)]
pub struct Builder {
    controller_manager: bool,
    fake_nodes: usize,
}

impl Builder {
    /// Also starts kube-controller-manager: Deployments make ReplicaSets and pods, deleted namespaces go away.
    #[must_use]
    pub const fn controller_manager(mut self) -> Self {
        self.controller_manager = true;
        self
    }

    /// Also starts kube-controller-manager, kube-scheduler and kwok with this many nodes of 1000 pods each: pods become Ready
    /// without running.
    #[must_use]
    pub const fn fake_nodes(mut self, nodes: usize) -> Self {
        self.fake_nodes = nodes;
        self.controller_manager = true;
        self
    }

    /// Starts it all; ready when this returns. The first call on a machine builds the programs.
    pub async fn start(self) -> Result<Apiserver> {
        machine::check_toolchains()?;
        let mut sets = vec![Set::Kubernetes, Set::Etcd];
        if self.fake_nodes > 0 {
            sets.push(Set::Kwok);
        }
        tools::ensure(&sets, Progress::visible()).await?;
        let mut attempts = 1;
        loop {
            // Ports are found free and taken a moment later; another test can come in between.
            match self.attempt().await {
                Err(Error::State(why)) if attempts < 3 && why.contains("address already in use") => attempts += 1,
                outcome => return outcome,
            }
        }
    }

    async fn attempt(self) -> Result<Apiserver> {
        let folder = temporary_folder(&std::env::temp_dir(), FOLDER_PREFIX)?;
        let [etcd_port, peer_port, port] = free_ports()?;
        let root = folder.path().to_owned();
        let pki = root.join("pki");
        let made = Pki::create(&pki, &config::APISERVER_NAMES, None)?;
        let server = format!("https://127.0.0.1:{port}");
        for client in ["admin", "controller-manager", "scheduler"] {
            paths::write(&kubeconfig_of(&root, client), made.kubeconfig(&pki, client, &server, "test")?)?;
        }
        let mut apiserver = Apiserver { children: Vec::new(), folder, port };
        let kubernetes = |name: &str| tools::program(Set::Kubernetes, name);

        let etcd = config::etcd(&root.join("etcd"), etcd_port, peer_port);
        apiserver.spawn("etcd", tools::program(Set::Etcd, "etcd")?, etcd).await?;
        let mut args = config::apiserver(&pki, "127.0.0.1", port, etcd_port);
        // Nobody reaches it through Service `kubernetes`, and loopback may not stand there.
        args.extend(["--endpoint-reconciler-type=none", "--advertise-address=192.0.2.1"].map(OsString::from));
        apiserver.spawn("kube-apiserver", kubernetes("kube-apiserver")?, args).await?;
        apiserver.until("the apiserver", &["get", "--raw", "/readyz"]).await?;
        apiserver.until("namespace default", &["get", "namespace", "default"]).await?;
        if self.controller_manager {
            let mut args = config::controller_manager(&kubeconfig_of(&root, "controller-manager"), &pki);
            args.push("--secure-port=0".into());
            apiserver.spawn("kube-controller-manager", kubernetes("kube-controller-manager")?, args).await?;
            apiserver.until("ServiceAccounts", &["get", "serviceaccount", "default", "-n", "default"]).await?;
        }
        if self.fake_nodes > 0 {
            let mut args = config::scheduler(&kubeconfig_of(&root, "scheduler"));
            args.push("--secure-port=0".into());
            apiserver.spawn("kube-scheduler", kubernetes("kube-scheduler")?, args).await?;
            apiserver.add_fake_nodes(self.fake_nodes).await?;
        }
        Ok(apiserver)
    }
}

/// A running apiserver. Dropping it stops everything and removes its data.
#[derive(Debug)]
pub struct Apiserver {
    // Before `folder`: processes end before their data goes.
    children: Vec<(&'static str, Running)>,
    folder: TempDir,
    port: u16,
}

impl Apiserver {
    /// etcd and the apiserver, nothing else.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Chooses what runs beside them.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A kubeconfig with all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig_of(self.folder.path(), "admin")
    }

    /// `https://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A client with all rights. Impersonation gives the rights of others.
    pub async fn client(&self) -> Result<kube::Client> {
        client_of(&paths::read(&self.kubeconfig())?).await
    }

    /// A client configuration with all rights, for clients with layers of one's own.
    pub async fn config(&self) -> Result<kube::Config> {
        let invalid = |error: kube::config::KubeconfigError| Error::State(format!("kubeconfig: {error}"));
        let parsed = kube::config::Kubeconfig::read_from(self.kubeconfig()).map_err(invalid)?;
        kube::Config::from_custom_kubeconfig(parsed, &kube::config::KubeConfigOptions::default()).await.map_err(invalid)
    }

    /// Runs kubectl; what it printed.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.run_kubectl(args, None).await
    }

    /// Applies YAML by server-side apply.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        self.run_kubectl(&["apply", "--server-side", "-f", "-"], Some(yaml)).await.map(drop)
    }

    /// The log of one of the processes: `etcd`, `kube-apiserver`, `kube-controller-manager`, …
    pub fn log(&self, process: &str) -> PathBuf {
        self.folder.path().join(format!("{process}.log"))
    }

    async fn run_kubectl(&self, args: &[&str], stdin: Option<&str>) -> Result<String> {
        let run = Run::new(tools::program(Set::Kubernetes, "kubectl")?)
            .arg(format!("--kubeconfig={}", self.kubeconfig().display()))
            .arg(format!("--cache-dir={}", self.folder.path().join("kubectl").display()))
            .args(args);
        match stdin {
            Some(content) => run.stdin(content).output().await,
            None => run.output().await,
        }
    }

    async fn spawn(&mut self, name: &'static str, program: PathBuf, args: Vec<OsString>) -> Result<()> {
        let running = spawn(program, args, self.log(name)).await?;
        self.children.push((name, running));
        Ok(())
    }

    /// Tries a kubectl command until it succeeds or a process has died.
    async fn until(&mut self, what: &str, args: &[&str]) -> Result<()> {
        let start = Instant::now();
        loop {
            let Err(error) = self.kubectl(args).await else { return Ok(()) };
            if let Some(name) = self.dead() {
                let log = fs::read_to_string(self.log(name)).unwrap_or_default();
                return Err(Error::State(format!("{name} ended: {}", tail(&log))));
            }
            if start.elapsed() > READY_DEADLINE {
                let hint = error.to_string();
                return Err(Error::Timeout { what: what.into(), waited: start.elapsed(), hint });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn dead(&mut self) -> Option<&'static str> {
        self.children.iter_mut().find_map(|(name, child)| child.ended().then_some(*name))
    }

    async fn add_fake_nodes(&mut self, nodes: usize) -> Result<()> {
        let stages = tools::folder(Set::Kwok, "kustomize/stage")?;
        let mut args: Vec<OsString> = vec![
            format!("--kubeconfig={}", self.kubeconfig().display()).into(),
            "--manage-all-nodes=true".into(),
            "--node-lease-duration-seconds=40".into(),
        ];
        args.extend(STAGES.iter().map(|stage| format!("--config={}", stages.join(stage).display()).into()));
        self.spawn("kwok", tools::program(Set::Kwok, "kwok")?, args).await?;
        let node = |index: usize| {
            let room = json!({"cpu": "1000", "memory": "4Ti", "pods": "1000", "ephemeral-storage": "4Ti"});
            let name = format!("fake-{index}");
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "type": "kwok"},
                             "annotations": {"kwok.x-k8s.io/node": "fake"}},
                "status": {"allocatable": room, "capacity": room},
            })
        };
        let items: Vec<_> = (0..nodes).map(node).collect();
        let list = serde_json::to_string(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
        self.run_kubectl(&["create", "-f", "-"], Some(&list)).await?;
        self.until("fake nodes", &["wait", "--for=condition=Ready", "nodes", "--all", "--timeout=5s"]).await
    }
}

fn kubeconfig_of(root: &Path, client: &str) -> PathBuf {
    root.join(format!("{client}.kubeconfig"))
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
struct Running {
    child: Child,
}

impl Running {
    fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Order {
    command: Command,
    answer: oneshot::Sender<std::io::Result<Child>>,
}

/// Starts a process that the kernel kills when this process ends, however that happens. The kernel looks at the thread that
/// started it, and a test's threads end with the test: so one thread that never ends starts all.
async fn spawn(program: PathBuf, args: Vec<OsString>, log: PathBuf) -> Result<Running> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, queue) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for Order { mut command, answer } in queue {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let out = fs::File::create(&log).doing(|| format!("create {}", log.display()))?;
    let errors = out.try_clone().doing(|| format!("open {}", log.display()))?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(&program)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", log.parent().unwrap_or(Path::new("/")))
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors)
        // Ctrl-C is for the test; these end with it.
        .process_group(0);
    let shown = program.display().to_string();
    let (answer, child) = oneshot::channel();
    let gone = || Error::State("the thread that starts processes ended".into());
    spawner.send(Order { command, answer }).map_err(|_| gone())?;
    let child = child.await.map_err(|_| gone())?.doing(|| format!("start {shown}"))?;
    Ok(Running { child })
}

fn free_ports() -> Result<[u16; 3]> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "find a free port".into());
    // All are held until all are chosen, so that they differ.
    let held = [free()?, free()?, free()?];
    let port = |held: &TcpListener| held.local_addr().map(|address| address.port()).doing(|| "find a free port".into());
    let [a, b, c] = &held;
    Ok([port(a)?, port(b)?, port(c)?])
}
