//! From an empty machine to running brands: cluster, images, charts, examples.

use crate::staff::StaffIssuer;
use crate::{OPERATOR_NAMESPACE, wait};
use anyhow::{Context as _, Result};
use kube::api::{Api, Patch, PatchParams};
use paddock_cluster::{Access, Options, Progress, image};
use paddock_crds::v1alpha1::Tenant;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The placeholder of the platform image in `examples/10-releases.yaml`.
const PLACEHOLDER: &str =
    "paddock.local/platform@sha256:0000000000000000000000000000000000000000000000000000000000000000";
/// The placeholder of the staff issuer's keys in `examples/21-acme.yaml`.
const NO_KEYS: &str = "'{\"keys\":[]}'";

/// Releases of `examples/10-releases.yaml`.
const RELEASES: [&str; 2] = ["platform-2026.11.1", "brand-2026.11.1"];

/// A cluster with Paddock on it.
pub struct Installation {
    /// The cluster.
    pub cluster: Access,
    /// A client of its API server.
    pub client: kube::Client,
    /// Who signs tokens for staff.
    pub staff: StaffIssuer,
    /// The platform image, by digest.
    pub platform_image: String,
    progress: Progress,
    root: PathBuf,
}

impl Installation {
    /// Brings up the local cluster `name` (or takes the one that `CLUSTER=current` means) with the operator installed by Helm and the database servers running; no tenant yet.
    pub async fn up(name: &str, progress: Progress) -> Result<Self> {
        let root = repository()?;
        let cluster = Access::from_env(name, &Options { progress }).await?;
        let client = kube::Client::try_from(cluster.client_config().await?)?;
        let staff = StaffIssuer::open_or_create(&staff_folder(&cluster)?)?;
        let operator = progress.step("image operator", image::build(image::Recipe::Operator)).await?;
        let platform = progress.step("image platform", image::build(image::Recipe::Platform)).await?;
        let images = progress.step("load the images", cluster.load(&[operator, platform])).await?;
        let [operator, platform] = images.as_slice() else {
            anyhow::bail!("two images were loaded, and not two came back");
        };
        cluster.addon_databases().await?;
        let installation = Self { cluster, client, staff, platform_image: platform.by_digest(), progress, root };
        installation.secrets().await?;
        progress.step("charts paddock-crds, paddock-operator", installation.charts(&operator.by_digest())).await?;
        Ok(installation)
    }

    /// Administrator logins of the database servers and the CA of domains, in the operator's namespace.
    async fn secrets(&self) -> Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}});
        self.cluster.apply(&namespace.to_string()).await?;
        for server in paddock_cluster::POSTGRESQL_SERVERS {
            let name = server.admin_secret();
            let found = self
                .cluster
                .kubectl(&["get", "secret", "-n", paddock_cluster::DATABASES_NAMESPACE, &name, "-o", "json"])
                .await?;
            let found: Value = serde_json::from_str(&found)?;
            let copy = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": OPERATOR_NAMESPACE}, "data": found.get("data"),
            });
            self.cluster.apply(&copy.to_string()).await?;
        }
        let ca = self.cluster.ca()?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "paddock-domain-ca", "namespace": OPERATOR_NAMESPACE},
            "stringData": {"tls.crt": ca.certificate_pem(), "tls.key": ca.key_pem()},
        });
        self.cluster.apply(&secret.to_string()).await?;
        Ok(())
    }

    async fn charts(&self, operator_image: &str) -> Result<()> {
        let chart = |name: &str| self.root.join("charts").join(name).to_string_lossy().into_owned();
        self.cluster
            .helm(&["upgrade", "--install", "paddock-crds", &chart("paddock-crds"), "-n", OPERATOR_NAMESPACE, "--wait"])
            .await?;
        let image = format!("image={operator_image}");
        let (namespace, name) = self.cluster.gateway();
        let (namespace, name) = (format!("gateway.namespace={namespace}"), format!("gateway.name={name}"));
        let port = format!("gateway.publicHttpsPort={}", self.cluster.gateway_address().port());
        let apiserver = format!("apiserver={}", self.cluster.apiserver_values().await?);
        self.cluster
            .helm(&[
                "upgrade",
                "--install",
                "paddock-operator",
                &chart("paddock-operator"),
                "-n",
                OPERATOR_NAMESPACE,
                "--set",
                &image,
                "--set",
                &name,
                "--set",
                &namespace,
                "--set",
                &port,
                "--set",
                "domainCa.secretName=paddock-domain-ca",
                "--set-json",
                &apiserver,
                "--wait",
                "--timeout",
                "4m",
            ])
            .await?;
        Ok(())
    }

    /// One file of `examples/`, with what this machine made put into its placeholders.
    pub fn example(&self, file: &str) -> Result<String> {
        let path = self.root.join("examples").join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut text =
            text.replace(PLACEHOLDER, &self.platform_image).replace(NO_KEYS, &format!("'{}'", self.staff.jwks()));
        for release in RELEASES {
            text = text.replace(release, &self.release(release));
        }
        Ok(text)
    }

    /// Name of a Release of the examples on this machine. A Release never changes, so one with another image has another name.
    pub fn release(&self, example: &str) -> String {
        let digest = self.platform_image.rsplit(':').next().unwrap_or_default();
        format!("{example}-{}", digest.get(..8).unwrap_or(digest))
    }

    /// Applies classes, releases, tenants and markets, and waits until every Tenant is Ready.
    pub async fn examples(&self) -> Result<()> {
        for file in ["00-classes.yaml", "10-releases.yaml", "20-platform.yaml", "21-acme.yaml", "22-zenith.yaml"] {
            self.progress.step(&format!("apply examples/{file}"), self.apply_example(file)).await?;
        }
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        for namespace in ["acme-dev", "acme-prod", "zenith-prod"] {
            wait::until(&format!("namespace {namespace}"), Duration::from_mins(2), || async {
                match namespaces.get_opt(namespace).await {
                    Ok(Some(_)) => Ok(()),
                    Ok(None) => Err("the operator has not made it yet".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await?;
        }
        self.progress.step("apply examples/30-markets.yaml", self.apply_example("30-markets.yaml")).await?;
        for tenant in ["platform", "acme", "zenith"] {
            self.progress.step(&format!("tenant {tenant} is Ready"), self.tenant_ready(tenant)).await?;
        }
        Ok(())
    }

    async fn apply_example(&self, file: &str) -> Result<()> {
        Ok(self.cluster.apply(&self.example(file)?).await?)
    }

    /// Waits until a Tenant is Ready at its present generation.
    pub async fn tenant_ready(&self, name: &str) -> Result<()> {
        let tenants: Api<Tenant> = Api::all(self.client.clone());
        wait::until(&format!("tenant {name}"), Duration::from_mins(6), || async {
            let tenant = tenants.get(name).await.map_err(|error| error.to_string())?;
            let status = tenant.status.clone().unwrap_or_default();
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
            match ready {
                Some(ready) if ready.status == "True" && status.observed_generation == tenant.metadata.generation => {
                    Ok(())
                }
                Some(ready) => {
                    Err(format!("{}: {} ({})", ready.reason, ready.message, status.summary.unwrap_or_default()))
                }
                None => Err("the operator has not looked at it yet".to_owned()),
            }
        })
        .await
    }

    /// Sets the state of a Market by a merge patch, as `kubectl patch` does.
    pub async fn set_market_state(&self, namespace: &str, name: &str, state: &str) -> Result<()> {
        let markets: Api<paddock_crds::v1alpha1::Market> = Api::namespaced(self.client.clone(), namespace);
        let patch = json!({"spec": {"state": state}});
        markets.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }
}

fn staff_folder(cluster: &Access) -> Result<PathBuf> {
    Ok(cluster.ca_file()?.parent().context("the CA has a folder")?.to_owned())
}

/// The root of this repository: where the charts and examples are.
pub fn repository() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2).context("the demo is two folders below the repository's root")?;
    anyhow::ensure!(
        root.join("examples").is_dir(),
        "{} has no examples/: build the demo in the repository it is run from",
        root.display()
    );
    Ok(root.to_owned())
}
