//! The way in: listens on the host's loopback and connects inside the cluster's network namespace.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::{
    sched::{CloneFlags, setns},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Mutex, Semaphore, oneshot},
    time::timeout,
};

use crate::{
    cluster::ClusterRecord,
    error::{Doing as _, Error, Result},
    gateway::{GATEWAY_NAME, GATEWAY_NAMESPACE},
    network::NODE_ADDRESS,
    paths::Paths,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the address of the Gateway's Service is believed.
const ADDRESS_AGE: Duration = Duration::from_secs(5);
/// Open files that are no forwarded connection: listeners, log, namespace, the client's own.
const OTHER_FILES: u64 = 100;
/// Connections at a time to the apiserver; what visitors of the Gateway hold open cannot take them.
const APISERVER_CONNECTIONS: u64 = 1000;

/// Where connections to a port go.
#[derive(Debug, Clone, Copy)]
enum Target {
    Apiserver,
    /// This port of the Service of the Gateway's proxy.
    Gateway(u16),
}

/// Forwards until it is killed.
pub async fn run(paths: &Paths) -> Result<()> {
    let record = ClusterRecord::read(paths)?
        .ok_or_else(|| Error::State(format!("there is no cluster {}; run `paddock-cluster up`", paths.name())))?;
    let forwarder = Arc::new(Forwarder {
        sockets: Sockets::start(&paths.namespace_file())?,
        kubeconfig: fs::read_to_string(paths.kubeconfig()).doing(|| "read the kubeconfig".into())?,
        client: Mutex::new(None),
        address: Mutex::new(None),
    });
    let [apiserver, gateway] = slots(raise_file_limit()?).map(|slots| Arc::new(Semaphore::new(slots)));
    let ports = [
        (record.ports.apiserver, Target::Apiserver, &apiserver),
        (record.ports.http, Target::Gateway(80), &gateway),
        (record.ports.https, Target::Gateway(443), &gateway),
    ];
    let mut serving = Vec::new();
    for (port, target, slots) in ports {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await.doing(|| format!("listen on {address}"))?;
        serving.push(serve(Arc::clone(&forwarder), Arc::clone(slots), listener, target));
    }
    try_join_all(serving).await.map(drop)
}

/// Raises the limit of open files as far as this process may; answers it.
fn raise_file_limit() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(|| "read the limit of open files".into())?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(|| "raise the limit of open files".into())?;
    Ok(hard)
}

/// How many connections at a time go to the apiserver, and to the Gateway: each has two of the files that one process may open.
fn slots(files: u64) -> [usize; 2] {
    let connections = files.saturating_sub(OTHER_FILES) / 2;
    let apiserver = APISERVER_CONNECTIONS.min(connections / 2);
    [apiserver, connections - apiserver]
        .map(|slots| usize::try_from(slots).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS))
}

async fn serve(forwarder: Arc<Forwarder>, slots: Arc<Semaphore>, listener: TcpListener, target: Target) -> Result<()> {
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.map_err(|_| Error::State("forwarder stopped".into()))?;
        let mut outer = match listener.accept().await {
            Ok((outer, _)) => outer,
            Err(error) => {
                // Out of files, or a client that left in between: the next one may work.
                log_line(&format!("accept: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let forwarder = Arc::clone(&forwarder);
        tokio::spawn(async move {
            match forwarder.connect(target).await {
                Ok(mut inner) => {
                    // Whoever notices the loss of a connection is one of its two ends.
                    let _ = outer.set_nodelay(true).and_then(|()| inner.set_nodelay(true));
                    let _ = copy_bidirectional(&mut outer, &mut inner).await;
                }
                Err(error) => log_line(&format!("{target:?}: {error}")),
            }
            drop(slot);
        });
    }
}

/// One line into the component's log.
fn log_line(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{} {line}", jiff::Timestamp::now());
}

struct Forwarder {
    sockets: Sockets,
    kubeconfig: String,
    client: Mutex<Option<Client>>,
    address: Mutex<Option<(Instant, IpAddr)>>,
}

impl Forwarder {
    async fn connect(&self, target: Target) -> Result<TcpStream> {
        match target {
            Target::Apiserver => {
                let node: IpAddr = NODE_ADDRESS.parse().map_err(|_| Error::State("the node's address".into()))?;
                self.dial(SocketAddr::new(node, 6443)).await
            }
            Target::Gateway(port) => {
                let address = self.gateway().await?;
                let dialled = self.dial(SocketAddr::new(address, port)).await;
                if dialled.is_err() {
                    *self.address.lock().await = None;
                }
                dialled
            }
        }
    }

    async fn dial(&self, address: SocketAddr) -> Result<TcpStream> {
        let socket = self.sockets.create().await?;
        let connected = timeout(CONNECT_TIMEOUT, socket.connect(address)).await;
        connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).doing(|| format!("connect to {address}"))
    }

    /// The address of the Service that Envoy Gateway makes for the Gateway.
    async fn gateway(&self) -> Result<IpAddr> {
        let mut known = self.address.lock().await;
        if let Some((since, address)) = *known
            && since.elapsed() < ADDRESS_AGE
        {
            return Ok(address);
        }
        let services: Api<Service> = Api::namespaced(self.client().await?, GATEWAY_NAMESPACE);
        let label = "gateway.envoyproxy.io/owning-gateway";
        let selector = format!("{label}-name={GATEWAY_NAME},{label}-namespace={GATEWAY_NAMESPACE}");
        let params = ListParams::default().labels(&selector);
        let found = timeout(CONNECT_TIMEOUT, services.list(&params))
            .await
            .map_err(|_| Error::State("the apiserver did not answer".into()))??;
        let address = found
            .items
            .into_iter()
            .find_map(|service| service.spec?.cluster_ip?.parse().ok())
            .ok_or_else(|| Error::State(format!("Gateway {GATEWAY_NAME} has no Service yet")))?;
        *known = Some((Instant::now(), address));
        Ok(address)
    }

    /// A client of the apiserver, by way of this forwarder's own port.
    async fn client(&self) -> Result<Client> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = client_of(&self.kubeconfig).await?;
        *client = Some(made.clone());
        Ok(made)
    }
}

/// A client for a kubeconfig.
pub(crate) async fn client_of(kubeconfig: &str) -> Result<Client> {
    let invalid = |error: kube::config::KubeconfigError| Error::State(format!("kubeconfig: {error}"));
    let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(invalid)?;
    let config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.map_err(invalid)?;
    Ok(Client::try_from(config)?)
}

/// Makes sockets inside a network namespace. A namespace belongs to a thread: one thread enters it and stays. What it
/// makes keeps belonging to the namespace and is used everywhere.
struct Sockets {
    requests: mpsc::SyncSender<oneshot::Sender<std::io::Result<TcpSocket>>>,
}

impl Sockets {
    fn start(namespace: &Path) -> Result<Self> {
        let file = fs::File::open(namespace).doing(|| format!("open {}", namespace.display()))?;
        let (requests, queue) = mpsc::sync_channel::<oneshot::Sender<std::io::Result<TcpSocket>>>(1024);
        let (entered, outcome) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("namespace".into())
            .spawn(move || {
                let result = setns(&file, CloneFlags::CLONE_NEWNET);
                let failed = result.is_err();
                let _ = entered.send(result);
                if failed {
                    return;
                }
                for answer in queue {
                    let _ = answer.send(TcpSocket::new_v4());
                }
            })
            .doing(|| "start a thread".into())?;
        outcome
            .recv()
            .map_err(|_| Error::State("the namespace thread ended".into()))?
            .doing(|| format!("enter {}", namespace.display()))?;
        Ok(Self { requests })
    }

    async fn create(&self) -> Result<TcpSocket> {
        let (answer, socket) = oneshot::channel();
        let gone = || Error::State("the namespace thread ended".into());
        self.requests.try_send(answer).map_err(|_| Error::State("too many connections at once".into()))?;
        socket.await.map_err(|_| gone())?.doing(|| "make a socket".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_together_stay_below_the_limit_of_open_files() {
        for files in [1024, 20_000, 1 << 20] {
            let [apiserver, gateway] = slots(files);
            assert!(apiserver > 0 && gateway >= apiserver, "{files}");
            assert!(2 * (apiserver + gateway) as u64 + OTHER_FILES <= files, "{files}");
        }
        assert_eq!(slots(20_000), [1000, 8950]);
        // "Unlimited".
        assert_eq!(slots(u64::MAX)[0], 1000);
    }
}
