//! What the machine must have, and the Debian packages that we install ourselves.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::Uid;

use crate::{
    command::Run,
    error::{Error, Result},
    kernel,
    progress::Progress,
};

/// What shows that a package is there.
enum Shown {
    Command(&'static str),
    File(&'static str),
    /// A module of the Python in PATH.
    Python(&'static str),
    /// A command that only kernels with modules need: those call it by themselves, too.
    OfModules(&'static str),
}

/// The Debian packages that the cluster needs, and what shows that they are there.
const PACKAGES: [(&str, Shown); 15] = [
    ("runc", Shown::Command("runc")),
    ("containernetworking-plugins", Shown::File("/usr/lib/cni/bridge")),
    ("nftables", Shown::Command("nft")),
    ("conntrack", Shown::Command("conntrack")),
    ("iproute2", Shown::Command("ip")),
    ("procps", Shown::Command("sysctl")),
    ("kmod", Shown::OfModules("modprobe")),
    ("util-linux", Shown::Command("nsenter")),
    ("socat", Shown::Command("socat")),
    ("ethtool", Shown::Command("ethtool")),
    ("mmdebstrap", Shown::Command("mmdebstrap")),
    ("ca-certificates", Shown::File("/etc/ssl/certs/ca-certificates.crt")),
    ("gcc", Shown::Command("gcc")),
    ("maven", Shown::Command("mvn")),
    ("python3-pip", Shown::Python("pip")),
];

/// A program that a person installs, and how.
const TOOLCHAINS: [(&str, &str); 3] = [
    ("go", "install Go 1.26 or newer and put its bin folder into PATH"),
    ("jlink", "install a JDK 17: `apt-get install openjdk-17-jdk-headless`"),
    ("python3", "`apt-get install python3`"),
];

/// Refuses machines on which a cluster cannot run, with what to do about it.
pub(crate) fn check() -> Result<()> {
    if env::consts::OS != "linux" || env::consts::ARCH != "x86_64" {
        return Err(Error::Machine(format!(
            "the local cluster needs Linux on x86_64, this is {} on {}; use your own cluster with CLUSTER=current",
            env::consts::OS,
            env::consts::ARCH
        )));
    }
    check_root()?;
    check_toolchains()
}

/// Refuses anybody but root. sudo's own PATH and HOME lead to other programs and clusters than the person's.
pub(crate) fn check_root() -> Result<()> {
    if Uid::effective().is_root() {
        return Ok(());
    }
    Err(Error::Machine(
        "the local cluster needs root (network namespace, containers): run `sudo env \"PATH=$PATH\" \"HOME=$HOME\" …`, \
         or use your own cluster with CLUSTER=current"
            .into(),
    ))
}

/// Refuses machines without the toolchains.
pub(crate) fn check_toolchains() -> Result<()> {
    for (program, remedy) in TOOLCHAINS {
        if find(program).is_none() {
            return Err(Error::Machine(format!("`{program}` is not in PATH: {remedy}")));
        }
    }
    Ok(())
}

/// Installs the packages that are missing; quick when none is.
pub(crate) async fn install_packages(progress: Progress) -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, shown)| !is_there(shown)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        return Err(Error::Machine(format!(
            "these packages are missing, and there is no apt-get: install {} by hand",
            missing.join(" ")
        )));
    }
    progress
        .step(&format!("Debian packages {}", missing.join(" ")), async {
            if install(&missing).await.is_ok() {
                return Ok(());
            }
            // The lists of a fresh machine are empty or old.
            apt().arg("update").output().await?;
            install(&missing).await.map(drop)
        })
        .await
}

async fn install(packages: &[&str]) -> Result<String> {
    apt().args(["install", "-y", "--no-install-recommends"]).args(packages).output().await
}

fn apt() -> Run {
    Run::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .deadline(Duration::from_mins(10))
}

fn is_there(shown: &Shown) -> bool {
    match shown {
        Shown::Command(name) => find(name).is_some(),
        Shown::File(path) => Path::new(path).exists(),
        Shown::Python(module) => {
            // Debian's package helps Debian's Python only; another one says itself what it lacks.
            find("python3")
                .and_then(|python| python.canonicalize().ok())
                .is_some_and(|python| !python.starts_with("/usr/bin"))
                || Path::new("/usr/lib/python3/dist-packages").join(module).exists()
        }
        Shown::OfModules(name) => !kernel::takes_modules() || find(name).is_some(),
    }
}

/// A program in PATH, or in the system folders that a user's PATH often lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|file| file.is_file())
}
