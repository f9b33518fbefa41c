//! Taking a cluster away, whatever state it is in: after a kill, a crash or a reboot of the machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;

use crate::{
    cgroup::Cgroups,
    error::{Doing as _, Result},
    mounts, network,
    paths::Paths,
    process::{ProcessRecord, Records},
    tunables,
};

/// Removes everything that belongs to a cluster: processes, mounts, namespace, control groups, files.
pub(crate) async fn clean(paths: &Paths) -> Result<()> {
    let cgroups = Cgroups::of(paths.name())?;
    // Recorded processes first, so that nothing starts containers again.
    for record in Records::new(paths.file("pid")).all()? {
        record.signal(Signal::SIGKILL);
    }
    // Then whatever they started: shims beside them, containers below the kubelet's group.
    cgroups.kill_all().await?;
    // Then what a person started inside, such as a load generator.
    for pid in network::processes(paths).await {
        if let Some(record) = ProcessRecord::of(pid) {
            record.signal(Signal::SIGKILL);
        }
    }
    remove_files_elsewhere(paths);
    mounts::unmount_below(paths.root())?;
    network::remove(paths).await?;
    cgroups.remove().await?;
    tunables::restore(&cgroups).await?;
    if paths.root().exists() {
        fs::remove_dir_all(paths.root()).doing(|| format!("remove {}", paths.root().display()))?;
    }
    Ok(())
}

/// Whether anything of the cluster is left on the machine.
pub(crate) fn anything_left(paths: &Paths) -> Result<bool> {
    Ok(paths.root().exists()
        || paths.namespace_file().exists()
        || Cgroups::of(paths.name())?.exist()
        || !mounts::below(paths.root())?.is_empty())
}

/// containerd, the kubelet and the CNI library keep these at fixed places, whatever their configuration says.
fn remove_files_elsewhere(paths: &Paths) {
    // The shims' sockets; which are ours stands in containerd's state.
    let tasks = paths.file("containerd/state/io.containerd.runtime.v2.task/k8s.io");
    for task in list(&tasks) {
        for file in ["address", "bootstrap.json"] {
            let text = fs::read_to_string(task.join(file)).unwrap_or_default();
            if let Some(socket) = socket_in(&text) {
                let _ = fs::remove_file(socket);
            }
        }
    }
    // Links to the logs of our containers, and results of the CNI plugins for our pods.
    for link in list(Path::new("/var/log/containers")) {
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(paths.root())) {
            let _ = fs::remove_file(link);
        }
    }
    let namespaces = paths.file("containerd/state");
    for result in list(Path::new("/var/lib/cni/results")) {
        let ours = fs::read_to_string(&result).is_ok_and(|text| text.contains(&*namespaces.to_string_lossy()));
        if ours {
            let _ = fs::remove_file(result);
        }
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The path in `unix:///run/containerd/s/<hash>`, alone or inside JSON.
fn socket_in(text: &str) -> Option<PathBuf> {
    let (_, rest) = text.split_once("unix://")?;
    let path = rest.split(['"', '\n']).next()?;
    path.starts_with("/run/containerd/s/").then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shims_socket_is_found_in_both_forms_and_nothing_else() {
        let socket = Some(PathBuf::from("/run/containerd/s/ab12"));
        assert_eq!(socket_in("unix:///run/containerd/s/ab12"), socket);
        assert_eq!(socket_in(r#"{"version":3,"address":"unix:///run/containerd/s/ab12","protocol":"ttrpc"}"#), socket);
        assert_eq!(socket_in("unix:///etc/passwd"), None);
    }
}
