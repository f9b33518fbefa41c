//! What a kubelet changes on the whole machine, and no setting keeps it from: remembered before the first cluster starts, put back when
//! the last one has ended.

use std::{collections::BTreeMap, fs, os::unix::net::UnixStream, path::Path};

use crate::{
    cgroup::Cgroups,
    error::{Doing as _, Result},
    paths,
    progress::Progress,
    tools,
};

/// Gone with the boot, as the settings are.
const RECORD: &str = "/run/paddock-tunables.json";
/// The settings, and what a kubelet makes of them.
const WRITTEN: [(&str, &str); 6] = [
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
    ("/proc/sys/kernel/keys/root_maxbytes", "25000000"),
    ("/proc/sys/kernel/keys/root_maxkeys", "1000000"),
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/vm/panic_on_oom", "0"),
];
/// Where a kubelet listens for device plugins, whatever its root is.
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";

type Settings = BTreeMap<String, String>;

/// Remembers the settings, unless an earlier cluster has. Called when the cluster's control groups are there: whoever ends meanwhile
/// sees them and leaves the record alone.
pub(crate) async fn remember() -> Result<()> {
    let _lock = lock().await?;
    let record = Path::new(RECORD);
    if record.exists() {
        return Ok(());
    }
    paths::write(record, serde_json::to_vec(&present())?)
}

/// Puts back what the last cluster's kubelet changed, and removes what it left. Nothing to do while another cluster is there.
pub(crate) async fn restore(cgroups: &Cgroups) -> Result<()> {
    let _lock = lock().await?;
    if cgroups.of_any_cluster() {
        return Ok(());
    }
    let record = Path::new(RECORD);
    if let Ok(content) = fs::read(record) {
        let remembered: Settings = serde_json::from_slice(&content).unwrap_or_default();
        for (file, value) in to_put_back(&remembered, &present()) {
            fs::write(&file, value).doing(|| format!("restore {file}"))?;
        }
        fs::remove_file(record).doing(|| format!("remove {RECORD}"))?;
    }
    remove_socket(Path::new(DEVICE_PLUGINS));
    Ok(())
}

async fn lock() -> Result<fs::File> {
    // No cluster has this name.
    tools::lock(paths::cache()?.join("locks/_tunables.lock"), "the kernel's settings", Progress::visible()).await
}

fn present() -> Settings {
    let read = |file: &str| Some((file.to_owned(), fs::read_to_string(file).ok()?.trim().to_owned()));
    WRITTEN.iter().filter_map(|(file, _)| read(file)).collect()
}

/// The settings that stand as a kubelet leaves them and stood otherwise before. What somebody else has set since stays.
fn to_put_back(remembered: &Settings, now: &Settings) -> Settings {
    let changed = |file: &str, kubelets: &str| {
        let before = remembered.get(file)?;
        (now.get(file)? == kubelets && before != kubelets).then(|| (file.to_owned(), before.clone()))
    };
    WRITTEN.iter().filter_map(|(file, kubelets)| changed(file, kubelets)).collect()
}

/// Removes the socket if nobody answers there (the machine may be a node of its own), and the folders if that leaves them empty.
fn remove_socket(folder: &Path) {
    let socket = folder.join("kubelet.sock");
    if UnixStream::connect(&socket).is_ok() {
        return;
    }
    let _ = fs::remove_file(socket);
    // Refused while something is in them: that is the check.
    let _ = fs::remove_dir(folder);
    if let Some(parent) = folder.parent() {
        let _ = fs::remove_dir(parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn settings(panic: &str, overcommit: &str) -> Settings {
        [("/proc/sys/kernel/panic", panic), ("/proc/sys/vm/overcommit_memory", overcommit)]
            .map(|(file, value)| (file.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn only_what_the_kubelet_changed_is_put_back() {
        let put_back = to_put_back(&settings("0", "1"), &settings("10", "1"));
        assert_eq!(put_back, Settings::from([("/proc/sys/kernel/panic".to_owned(), "0".to_owned())]));
        // 30 is neither: somebody else has set it meanwhile.
        assert_eq!(to_put_back(&settings("0", "1"), &settings("30", "1")), Settings::new());
        assert_eq!(to_put_back(&Settings::new(), &settings("10", "1")), Settings::new());
    }

    #[test]
    fn a_socket_that_answers_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (kubelet, plugins) = (folder.path().join("kubelet"), folder.path().join("kubelet/device-plugins"));
        fs::create_dir_all(&plugins).unwrap();
        let listener = UnixListener::bind(plugins.join("kubelet.sock")).unwrap();
        remove_socket(&plugins);
        assert!(plugins.join("kubelet.sock").exists());

        drop(listener);
        fs::write(kubelet.join("other"), "").unwrap();
        remove_socket(&plugins);
        assert!(!plugins.exists() && kubelet.exists());
    }
}
