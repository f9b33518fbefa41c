//! Programs that are run against the cluster: kubectl, Helm, containerd's client.

use std::time::Duration;

use super::Cluster;
use crate::{
    command::Run,
    error::Result,
    image::Archive,
    tools::{self, Set},
};

impl Cluster {
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

    pub(super) async fn ctr(&self, args: &[&str]) -> Result<String> {
        let ctr = tools::program(Set::Containerd, "ctr")?;
        Run::new(ctr).arg("-a").arg(self.paths.containerd_socket()).args(["-n", "k8s.io"]).args(args).output().await
    }
}
