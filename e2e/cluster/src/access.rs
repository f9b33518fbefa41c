//! Which cluster the demo, the tests and the benchmarks talk to: the local one, or the person's own.

use std::{collections::BTreeSet, env, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::process::Command;

use crate::{
    ca::CertificateAuthority,
    cluster::{Cluster, Options},
    command::Run,
    error::{Error, Result},
    gateway::{GATEWAY_NAME, GATEWAY_NAMESPACE},
    image::{Archive, REGISTRY},
    machine::find,
    network::APISERVER_ADDRESSES,
    paths,
    progress::Progress,
    tools::{self, Set},
};

/// The environment variable that chooses: unset or `local`, or `current`.
const VARIABLE: &str = "CLUSTER";
/// How images get into the registry of one's own cluster, unless `IMAGE_PUSH` says otherwise.
const PUSH: &str = "skopeo copy --preserve-digests oci-archive:{file} docker://{reference}";
/// A push may be of some hundred megabytes over a slow line.
const PUSH_DEADLINE: Duration = Duration::from_mins(10);

/// A cluster to work with.
#[derive(Debug, Clone)]
pub enum Access {
    /// The local cluster.
    Local(Cluster),
    /// `CLUSTER=current`: what the person's kubectl talks to. It is neither started nor stopped.
    Own(OwnCluster),
}

/// One's own cluster: everything that cannot be found out by asking it.
#[derive(Debug, Clone)]
pub struct OwnCluster {
    /// The kubectl context, fixed when work begins: choosing another one meanwhile changes nothing.
    context: String,
    /// `IMAGE_REGISTRY`: what stands before an image's name.
    registry: String,
    /// `IMAGE_PUSH`: the command that brings an archive there.
    push: String,
    /// `GATEWAY`: namespace and name of the Gateway that listens for the domains.
    gateway: (String, String),
    /// `GATEWAY_ADDRESS`: where its HTTPS listener is reached from here.
    address: SocketAddr,
    progress: Progress,
}

impl OwnCluster {
    /// Reads the variables; `read` answers the value of one.
    fn parse(context: &str, read: impl Fn(&str) -> Option<String>, progress: Progress) -> Result<Self> {
        let needed = |name: &str, what: &str| {
            read(name).filter(|value| !value.is_empty()).ok_or_else(|| {
                Error::Input(format!("{VARIABLE}=current needs {name}: {what} (README, 'Your own cluster')"))
            })
        };
        let registry =
            needed("IMAGE_REGISTRY", "where your cluster pulls images from, such as registry.example/paddock")?;
        let address =
            needed("GATEWAY_ADDRESS", "IP and port of your Gateway's HTTPS listener, such as 127.0.0.1:8443")?;
        let address = address.parse().map_err(|_| {
            Error::Input(format!("GATEWAY_ADDRESS={address} is no IP address with a port, such as 127.0.0.1:8443"))
        })?;
        let gateway = read("GATEWAY").unwrap_or_else(|| format!("{GATEWAY_NAMESPACE}/{GATEWAY_NAME}"));
        let gateway = gateway
            .split_once('/')
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
            .ok_or_else(|| Error::Input(format!("GATEWAY={gateway} is not NAMESPACE/NAME")))?;
        Ok(Self {
            context: context.trim().to_owned(),
            registry: registry.trim_end_matches('/').to_owned(),
            push: read("IMAGE_PUSH").unwrap_or_else(|| PUSH.to_owned()),
            gateway,
            address,
            progress,
        })
    }

    /// The image under the name by which this cluster pulls it.
    fn named(&self, image: &Archive) -> Archive {
        let name = image.reference.strip_prefix(REGISTRY).unwrap_or(&image.reference).trim_start_matches('/');
        Archive { reference: format!("{}/{name}", self.registry), ..image.clone() }
    }

    /// The push command of an image, word by word: no shell, so nothing in a path is interpreted.
    fn push_command(&self, image: &Archive) -> Vec<String> {
        let file = image.file.to_string_lossy();
        self.push
            .split_whitespace()
            .map(|word| {
                word.replace("{file}", &file)
                    .replace("{reference}", &image.reference)
                    .replace("{digest}", &image.by_digest())
            })
            .collect()
    }

    async fn load(&self, images: &[Archive]) -> Result<Vec<Archive>> {
        let named: Vec<_> = images.iter().map(|image| self.named(image)).collect();
        for image in &named {
            let words = self.push_command(image);
            let Some((program, args)) = words.split_first() else {
                return Err(Error::Input("IMAGE_PUSH is empty: unset it, or name a command".into()));
            };
            // A command that reads CLUSTER itself would push by its own command, without end.
            own(program)?.args(args).env(VARIABLE, "").deadline(PUSH_DEADLINE).output().await?;
        }
        Ok(named)
    }
}

impl Access {
    /// The cluster that `CLUSTER` asks for; the local one is brought up.
    pub async fn from_env(name: &str, options: &Options) -> Result<Self> {
        if !wants_current()? {
            return Cluster::up(name, options).await.map(Self::Local);
        }
        let context = own("kubectl")?.args(["config", "current-context"]).output().await?;
        let cluster = OwnCluster::parse(&context, |name| env::var(name).ok(), options.progress)?;
        options.progress.note(&format!(
            "{VARIABLE}=current: kubectl context {}; it is neither started nor stopped",
            cluster.context
        ));
        let access = Self::Own(cluster);
        access.kubectl(&["version"]).await?;
        Ok(access)
    }

    /// kubectl as a process that the caller starts.
    pub fn kubectl_process(&self) -> Result<Command> {
        match self {
            Self::Local(cluster) => {
                let mut command = Command::new(tools::program(Set::Kubernetes, "kubectl")?);
                command.env("KUBECONFIG", cluster.kubeconfig());
                Ok(command)
            }
            Self::Own(own) => {
                let mut command = Command::new(program("kubectl")?);
                command.args(["--context", &own.context]);
                Ok(command)
            }
        }
    }

    /// Runs kubectl against the cluster; what it printed.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with_deadline(args, Duration::from_mins(2)).await
    }

    /// Runs kubectl for at most this long.
    pub async fn kubectl_with_deadline(&self, args: &[&str], deadline: Duration) -> Result<String> {
        match self {
            Self::Local(cluster) => cluster.kubectl_with_deadline(args, deadline).await,
            Self::Own(cluster) => {
                own("kubectl")?.args(["--context", &cluster.context]).args(args).deadline(deadline).output().await
            }
        }
    }

    /// Applies YAML by server-side apply, as field manager `paddock-cluster`.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        match self {
            Self::Local(cluster) => cluster.apply(yaml).await,
            Self::Own(cluster) => own("kubectl")?
                .args(["--context", &cluster.context])
                .args(["apply", "--server-side", "--force-conflicts", "--field-manager=paddock-cluster", "-f", "-"])
                .stdin(yaml)
                .output()
                .await
                .map(drop),
        }
    }

    /// Runs Helm against the cluster; what it printed.
    pub async fn helm(&self, args: &[&str]) -> Result<String> {
        match self {
            Self::Local(cluster) => cluster.helm(args).await,
            Self::Own(cluster) => {
                let run = own("helm")?.args(["--kube-context", &cluster.context]).args(args);
                run.deadline(Duration::from_mins(5)).output().await
            }
        }
    }

    /// Makes images known to the cluster; the images by the names under which it has them.
    pub async fn load(&self, images: &[Archive]) -> Result<Vec<Archive>> {
        match self {
            Self::Local(cluster) => cluster.load(images).await.map(|()| images.to_vec()),
            Self::Own(cluster) => cluster.load(images).await,
        }
    }

    /// How a Kubernetes client reaches the cluster.
    pub async fn client_config(&self) -> Result<kube::Config> {
        let (kubeconfig, context) = match self {
            Self::Local(cluster) => (kube::config::Kubeconfig::read_from(cluster.kubeconfig()), None),
            Self::Own(own) => (kube::config::Kubeconfig::read(), Some(own.context.clone())),
        };
        let options = kube::config::KubeConfigOptions { context, ..Default::default() };
        let unreadable = |error: kube::config::KubeconfigError| Error::State(format!("the kubeconfig: {error}"));
        kube::Config::from_custom_kubeconfig(kubeconfig.map_err(unreadable)?, &options).await.map_err(unreadable)
    }

    /// The kubeconfig; none means kubectl's own default.
    pub fn kubeconfig(&self) -> Option<PathBuf> {
        match self {
            Self::Local(cluster) => Some(cluster.kubeconfig()),
            Self::Own(_) => None,
        }
    }

    /// Value `apiserver` of the operator's chart: the API server as NetworkPolicies see it. Its addresses are named only where it is
    /// known that they stay, and that ranges hold nodes: not on one's own cluster.
    pub async fn apiserver_values(&self) -> Result<serde_json::Value> {
        let cidrs = match self {
            Self::Local(_) => APISERVER_ADDRESSES.map(|address| format!("{address}/32")).to_vec(),
            Self::Own(_) => Vec::new(),
        };
        let slices = ["get", "endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes"];
        let port = ["-o", "jsonpath={.items[*].ports[*].port}"];
        let printed = self.kubectl(&[&slices[..], &port[..]].concat()).await?;
        // Before kube-proxy, that of Service `kubernetes`; after it, those of its endpoints.
        let ports: BTreeSet<u16> =
            std::iter::once(443).chain(printed.split_whitespace().flat_map(str::parse)).collect();
        Ok(serde_json::json!({"cidrs": cidrs, "ports": ports}))
    }

    /// Namespace and name of the Gateway that listens for the domains.
    pub fn gateway(&self) -> (&str, &str) {
        match self {
            Self::Local(_) => (GATEWAY_NAMESPACE, GATEWAY_NAME),
            Self::Own(own) => (&own.gateway.0, &own.gateway.1),
        }
    }

    /// Where the Gateway's HTTPS listener is reached from here.
    pub fn gateway_address(&self) -> SocketAddr {
        match self {
            Self::Local(cluster) => SocketAddr::from(([127, 0, 0, 1], cluster.gateway_https_port())),
            Self::Own(own) => own.address,
        }
    }

    /// The folder with the authority's files, and what else is made once for this cluster.
    fn ca_folder(&self) -> Result<PathBuf> {
        match self {
            Self::Local(cluster) => Ok(cluster.paths().file("ca")),
            Self::Own(own) => Ok(paths::own_clusters()?.join(file_name(&own.context))),
        }
    }

    /// The certificate of the authority that signs domains and database servers.
    pub fn ca_file(&self) -> Result<PathBuf> {
        Ok(self.ca_folder()?.join("ca.crt"))
    }

    /// That authority; its files are made on first use.
    pub fn ca(&self) -> Result<CertificateAuthority> {
        let name = match self {
            Self::Local(cluster) => return cluster.ca(),
            Self::Own(own) => format!("Paddock demo on {}", own.context),
        };
        CertificateAuthority::open_or_create(&self.ca_folder()?, &name)
    }

    /// Who is told about steps.
    pub(crate) const fn progress(&self) -> Progress {
        match self {
            Self::Local(cluster) => cluster.progress(),
            Self::Own(own) => own.progress,
        }
    }
}

/// Whether `CLUSTER=current` is set.
pub fn wants_current() -> Result<bool> {
    parse(env::var(VARIABLE).ok().as_deref())
}

fn parse(value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("" | "local") => Ok(false),
        Some("current") => Ok(true),
        Some(other) => Err(Error::Input(format!(
            "{VARIABLE}={other} means nothing: unset it for the local cluster, or set {VARIABLE}=current for your kubectl context"
        ))),
    }
}

/// A context's name (EKS: an ARN with slashes) as a file's name.
fn file_name(context: &str) -> String {
    context.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

fn own(name: &str) -> Result<Run> {
    program(name).map(Run::new)
}

fn program(name: &str) -> Result<PathBuf> {
    find(name).ok_or_else(|| Error::Machine(format!("{VARIABLE}=current needs `{name}` in PATH: install it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<OwnCluster> {
        let value = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        OwnCluster::parse("kind-kind\n", value, Progress::default())
    }

    fn image() -> Archive {
        Archive { file: "/x y/app.tar".into(), reference: "paddock.local/app:123".into(), digest: "sha256:123".into() }
    }

    #[test]
    fn only_two_values_mean_something() {
        assert!(!parse(None).unwrap() && !parse(Some("local")).unwrap() && parse(Some("current")).unwrap());
        assert!(parse(Some("mine")).unwrap_err().to_string().contains("CLUSTER=current"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = |vars: &[(&str, &str)]| read(vars).unwrap_err().to_string();
        assert!(error(&[]).contains("IMAGE_REGISTRY"));
        assert!(error(&[("IMAGE_REGISTRY", "r")]).contains("GATEWAY_ADDRESS"));
        assert!(error(&[("IMAGE_REGISTRY", "r"), ("GATEWAY_ADDRESS", "localhost")]).contains("no IP address"));
        let gateway = [("IMAGE_REGISTRY", "r"), ("GATEWAY_ADDRESS", "127.0.0.1:1"), ("GATEWAY", "public")];
        assert!(error(&gateway).contains("NAMESPACE/NAME"));
    }

    #[test]
    fn images_go_to_the_registry_under_its_name() {
        let cluster =
            read(&[("IMAGE_REGISTRY", "registry.example/paddock/"), ("GATEWAY_ADDRESS", "127.0.0.1:8443")]).unwrap();
        assert_eq!(cluster.context, "kind-kind");
        let named = cluster.named(&image());
        assert_eq!(named.by_digest(), "registry.example/paddock/app@sha256:123");
        assert_eq!(
            cluster.push_command(&named),
            [
                "skopeo",
                "copy",
                "--preserve-digests",
                "oci-archive:/x y/app.tar",
                "docker://registry.example/paddock/app:123"
            ]
        );
    }

    #[test]
    fn a_context_is_a_file_name() {
        assert_eq!(file_name("arn:aws:eks:eu-1:1:cluster/a"), "arn_aws_eks_eu-1_1_cluster_a");
    }
}
