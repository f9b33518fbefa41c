//! Which cluster a test or a demo talks to: the local one, or the person's own.

use std::{env, path::PathBuf, time::Duration};

use crate::{
    cluster::{Cluster, Options},
    command::Run,
    error::{Error, Result},
    image::Archive,
    machine::find,
};

/// The environment variable that chooses: unset or `local`, or `current`.
const VARIABLE: &str = "CLUSTER";

/// A cluster to work with.
#[derive(Debug, Clone)]
pub enum Access {
    /// The local cluster.
    Local(Cluster),
    /// `CLUSTER=current`: what the person's kubectl talks to. It is neither started nor stopped.
    Current,
}

impl Access {
    /// The cluster that `CLUSTER` asks for; the local one is brought up.
    pub async fn from_env(name: &str, options: &Options) -> Result<Self> {
        if !wants_current()? {
            return Cluster::up(name, options).await.map(Self::Local);
        }
        options.progress.note("CLUSTER=current: using kubectl's current context; it is neither started nor stopped");
        let access = Self::Current;
        access.kubectl(&["version"]).await?;
        Ok(access)
    }

    /// Runs kubectl against the cluster; what it printed.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        match self {
            Self::Local(cluster) => cluster.kubectl(args).await,
            Self::Current => own("kubectl")?.args(args).output().await,
        }
    }

    /// Runs Helm against the cluster; what it printed.
    pub async fn helm(&self, args: &[&str]) -> Result<String> {
        match self {
            Self::Local(cluster) => cluster.helm(args).await,
            Self::Current => own("helm")?.args(args).deadline(Duration::from_mins(5)).output().await,
        }
    }

    /// Makes images known to the cluster. One's own cluster pulls from a registry, which only its owner can fill.
    pub async fn load(&self, images: &[Archive]) -> Result<()> {
        match self {
            Self::Local(cluster) => cluster.load(images).await,
            Self::Current => Err(Error::State(push_instead(images))),
        }
    }

    /// The kubeconfig; none means kubectl's own default.
    pub fn kubeconfig(&self) -> Option<PathBuf> {
        match self {
            Self::Local(cluster) => Some(cluster.kubeconfig()),
            Self::Current => None,
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

/// How to bring images to a cluster that is not ours.
pub fn push_instead(images: &[Archive]) -> String {
    let copies: Vec<_> = images
        .iter()
        .map(|image| {
            let name = image.reference.trim_start_matches("paddock.local/");
            format!("\n  skopeo copy oci-archive:{} docker://REGISTRY/{name}", image.file.display())
        })
        .collect();
    format!(
        "CLUSTER=current pulls images from a registry: push them there and name them in the chart's values, for example\
         {}\n(kind: `kind load image-archive FILE`; minikube: `minikube image load FILE`)",
        copies.concat()
    )
}

fn own(program: &str) -> Result<Run> {
    find(program).map(Run::new).ok_or_else(|| {
        Error::Machine(format!("CLUSTER=current needs `{program}` in PATH: install it and choose a context"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_values_mean_something() {
        assert!(!parse(None).unwrap() && !parse(Some("local")).unwrap() && parse(Some("current")).unwrap());
        assert!(parse(Some("mine")).unwrap_err().to_string().contains("CLUSTER=current"));
    }

    #[test]
    fn the_way_to_push_names_every_image() {
        let image = Archive {
            file: "/x/app.tar".into(),
            reference: "paddock.local/app:123".into(),
            digest: "sha256:123".into(),
        };
        assert!(push_instead(&[image]).contains("oci-archive:/x/app.tar docker://REGISTRY/app:123"));
    }
}
