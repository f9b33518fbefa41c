//! The cluster's control groups: `/paddock/<name>` in every hierarchy, of version 1 or 2.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::error::{Doing as _, Error, Result};

/// Where the kernel's hierarchies are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// The group of the cluster's own processes, beside the kubelet's `kubepods`.
const COMPONENTS: &str = "components";

/// The control groups of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    /// One root per hierarchy; exactly one under version 2.
    roots: Vec<PathBuf>,
    unified: bool,
    name: String,
}

impl Cgroups {
    pub(crate) fn of(name: &str) -> Result<Self> {
        let mount = Path::new(MOUNT);
        if mount.join("cgroup.controllers").exists() {
            return Ok(Self { roots: vec![mount.into()], unified: true, name: name.into() });
        }
        let entries = fs::read_dir(mount).doing(|| format!("list {MOUNT}"))?;
        // A link such as cpu -> cpu,cpuacct leads to a hierarchy that is listed by itself.
        let roots: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .filter(|path| path.join("cgroup.procs").exists())
            .collect();
        if roots.is_empty() {
            return Err(Error::Machine(format!("no control groups below {MOUNT}; mount cgroup2 there")));
        }
        Ok(Self { roots, unified: false, name: name.into() })
    }

    /// The kubelet's `cgroupRoot`.
    pub(crate) fn kubelet_root(&self) -> String {
        format!("/paddock/{}", self.name)
    }

    /// Makes the groups. Version 1 needs its cpuset filled, version 2 its controllers handed down.
    pub(crate) fn create(&self) -> Result<()> {
        for root in &self.roots {
            let (parent, own) = (root.join("paddock"), self.own(root));
            fs::create_dir_all(&own).doing(|| format!("create control group {}", own.display()))?;
            if self.unified {
                hand_down_controllers(&[root, &parent, &own]);
            } else if root.ends_with("cpuset") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = fs::read(root.join(file)).doing(|| format!("read {file}"))?;
                    for group in [&parent, &own] {
                        fs::write(group.join(file), &value).doing(|| format!("fill {file} of {}", group.display()))?;
                    }
                }
            }
        }
        let components = self.components();
        fs::create_dir_all(&components).doing(|| format!("create control group {}", components.display()))
    }

    /// The file that takes the pid of a component. Its children stay in the group with it.
    pub(crate) fn components_procs(&self) -> PathBuf {
        self.components().join("cgroup.procs")
    }

    fn components(&self) -> PathBuf {
        let tracking = self.roots.iter().find(|root| root.ends_with("pids")).or(self.roots.first());
        self.own(tracking.map_or(Path::new(MOUNT), PathBuf::as_path)).join(COMPONENTS)
    }

    fn own(&self, root: &Path) -> PathBuf {
        root.join("paddock").join(&self.name)
    }

    /// Whether any group is left.
    pub(crate) fn exist(&self) -> bool {
        self.roots.iter().any(|root| self.own(root).exists())
    }

    /// Whether any cluster of this machine has groups.
    pub(crate) fn of_any_cluster(&self) -> bool {
        self.roots.iter().any(|root| root.join("paddock").exists())
    }

    /// Kills everything in the groups, until nothing is there.
    pub(crate) async fn kill_all(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(20) {
                return Err(Error::State(format!("processes {left:?} of cluster {} do not end; see `ps`", self.name)));
            }
            for pid in left {
                // It may be gone by now.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn processes(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self
            .groups()
            .iter()
            .filter_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok())
            .flat_map(|procs| procs.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>())
            // 0 is a process of an outer pid namespace; it and zombies cannot be killed by us.
            .filter(|pid| *pid > 1 && !zombie(*pid))
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Removes the groups, and the common parent when no other cluster uses it.
    pub(crate) async fn remove(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            for group in self.groups() {
                // Deepest first; a group that is still busy for a moment is taken by the next round.
                let _ = fs::remove_dir(group);
            }
            if !self.exist() {
                break;
            }
            if start.elapsed() > Duration::from_secs(10) {
                return Err(Error::State(format!("control groups of cluster {} cannot be removed", self.name)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for root in &self.roots {
            // Refused by the kernel while another cluster has groups there: that is the check.
            let _ = fs::remove_dir(root.join("paddock"));
        }
        Ok(())
    }

    /// All groups of the cluster, children before parents.
    fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for root in &self.roots {
            collect(&self.own(root), &mut found);
        }
        found
    }
}

fn collect(group: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
    found.push(group.into());
}

fn hand_down_controllers(groups: &[&Path]) {
    for group in groups {
        let available = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
        for controller in available.split_whitespace() {
            // Some controllers cannot be handed down (cpu with real-time processes); the kubelet names those it misses.
            let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

fn zombie(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}
