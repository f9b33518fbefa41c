//! Where things are on this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::error::{Doing as _, Error, Result};

/// The longest cluster name: it is part of Unix socket paths, which end at 108 bytes.
const LONGEST_NAME: usize = 20;

/// The folder for what can be made again: tools, images, downloads.
pub fn cache() -> Result<PathBuf> {
    base("XDG_CACHE_HOME", ".cache")
}

/// The folder that holds one folder per cluster.
pub fn clusters() -> Result<PathBuf> {
    Ok(base("XDG_STATE_HOME", ".local/state")?.join("clusters"))
}

/// The folder that holds one folder per cluster of one's own: what the demo makes once for it.
pub(crate) fn own_clusters() -> Result<PathBuf> {
    Ok(base("XDG_STATE_HOME", ".local/state")?.join("own"))
}

fn base(variable: &str, below_home: &str) -> Result<PathBuf> {
    let set = env::var_os(variable).filter(|value| Path::new(value).is_absolute());
    let folder = match set {
        Some(folder) => PathBuf::from(folder),
        None => env::var_os("HOME")
            .map(|home| PathBuf::from(home).join(below_home))
            .ok_or_else(|| Error::Machine(format!("HOME is not set; set it, or set {variable}")))?,
    };
    Ok(folder.join("paddock"))
}

/// The files of one cluster.
#[derive(Debug, Clone)]
pub struct Paths {
    name: String,
    root: PathBuf,
}

impl Paths {
    /// The files of the cluster of this name, in the user's state folder.
    pub fn new(name: &str) -> Result<Self> {
        Self::below(&clusters()?, name)
    }

    fn below(clusters: &Path, name: &str) -> Result<Self> {
        let simple = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !simple || name.len() > LONGEST_NAME {
            return Err(Error::Input(format!(
                "cluster name `{name}`: use 1 to {LONGEST_NAME} lower-case letters, digits and hyphens, a letter first"
            )));
        }
        Ok(Self { name: name.into(), root: clusters.join(name) })
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network namespace's name.
    pub fn namespace(&self) -> String {
        format!("paddock-{}", self.name)
    }

    /// The network namespace's file.
    pub fn namespace_file(&self) -> PathBuf {
        Path::new("/run/netns").join(self.namespace())
    }

    /// The folder of this cluster.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `XDG_STATE_HOME` must be for [`Paths::new`] to find this cluster.
    pub(crate) fn state_home(&self) -> &Path {
        // Above `paddock/clusters/<name>`.
        self.root.ancestors().nth(3).unwrap_or(Path::new("/"))
    }

    /// A file or folder of this cluster.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The kubeconfig for the host side.
    pub fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    /// The log of a component.
    pub fn log(&self, component: &str) -> PathBuf {
        self.root.join("log").join(format!("{component}.log"))
    }

    /// containerd's socket.
    pub fn containerd_socket(&self) -> PathBuf {
        self.file("containerd.sock")
    }

    /// Held while a cluster is started or stopped. It is never removed: a waiter would hold the lock of a file that is gone.
    pub fn lock_file(&self) -> Result<PathBuf> {
        Ok(cache()?.join("locks").join(format!("{}.lock", self.name)))
    }
}

/// Writes a whole file or nothing, making its folder.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).doing(|| format!("create {}", folder.display()))?;
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    fs::write(&partial, content).doing(|| format!("write {}", partial.display()))?;
    fs::rename(&partial, path).doing(|| format!("write {}", path.display()))
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).doing(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for bad in ["", "..", "a/b", "A", "1a", "a_b", "-a", "a23456789012345678901"] {
            assert!(Paths::below(Path::new("/s"), bad).is_err(), "{bad}");
        }
        for good in ["demo", "test", "t-2"] {
            assert_eq!(Paths::below(Path::new("/s"), good).unwrap().root(), Path::new("/s").join(good));
        }
    }

    #[test]
    fn the_state_home_leads_back_to_the_cluster() {
        let paths = Paths::below(Path::new("/s/paddock/clusters"), "demo").unwrap();
        assert_eq!(paths.state_home(), Path::new("/s"));
    }

    #[test]
    fn two_clusters_share_no_path() {
        let (a, b) = (Paths::below(Path::new("/s"), "a").unwrap(), Paths::below(Path::new("/s"), "b").unwrap());
        assert_ne!(a.root(), b.root());
        assert_ne!(a.namespace_file(), b.namespace_file());
        assert_ne!(a.lock_file().unwrap(), b.lock_file().unwrap());
    }

    #[test]
    fn a_written_file_is_whole_and_leaves_no_partial() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/er/file");
        write(&file, "one").unwrap();
        write(&file, "two").unwrap();
        assert_eq!(read(&file).unwrap(), "two");
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }
}
