//! Processes that outlive this one, known by pid, start time and boot, so that a recycled pid is never touched.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Doing as _, Result},
    paths,
};

/// One process of one boot of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessRecord {
    /// Process id.
    pub pid: i32,
    /// Clock ticks from boot to the start of the process.
    pub start_time: u64,
    /// The kernel's id of the boot.
    pub boot: String,
}

impl ProcessRecord {
    /// The record of a running process; none if there is no such process.
    pub fn of(pid: i32) -> Option<Self> {
        let (start_time, _) = stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Some(Self { pid, start_time, boot: boot_id()? })
    }

    /// Reads a record; none if there is none or it is damaged.
    pub fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    /// Writes the record.
    pub fn write(&self, file: &Path) -> Result<()> {
        paths::write(file, serde_json::to_vec(self)?)
    }

    /// Whether exactly this process is still running. A zombie is not.
    pub fn alive(&self) -> bool {
        if boot_id().as_ref() != Some(&self.boot) {
            return false;
        }
        let now = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok();
        now.as_deref()
            .and_then(stat)
            .is_some_and(|(start, state)| start == self.start_time && !matches!(state, 'Z' | 'X'))
    }

    /// Sends a signal if exactly this process is still running.
    pub fn signal(&self, signal: Signal) {
        if self.alive() {
            // It may end between the look and the signal: that is what was wanted.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Start time and state out of `/proc/<pid>/stat`. The name in parentheses may itself hold spaces and parentheses.
fn stat(content: &str) -> Option<(u64, char)> {
    let (_, after_name) = content.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // `starttime` is field 22; the state was field 3.
    let start = fields.nth(18)?.parse().ok()?;
    Some((start, state))
}

/// The kernel's id of this boot.
pub(crate) fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// Removes the folders `<prefix><pid>-…` of processes that were killed before they could.
pub(crate) fn remove_folders_of_the_dead(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner: Option<i32> = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()?.parse().ok());
        if owner.is_some_and(|pid| ProcessRecord::of(pid).is_none()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A folder of this process's own, removed when dropped, or by the next process that makes one here.
pub(crate) fn temporary_folder(folder: &Path, prefix: &str) -> Result<tempfile::TempDir> {
    remove_folders_of_the_dead(folder, prefix);
    tempfile::Builder::new()
        .prefix(&format!("{prefix}{}-", std::process::id()))
        .tempdir_in(folder)
        .doing(|| format!("create a folder in {}", folder.display()))
}

/// The recorded processes of a cluster, by component name.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn file(&self, component: &str) -> PathBuf {
        self.folder.join(format!("{component}.json"))
    }

    pub(crate) fn get(&self, component: &str) -> Option<ProcessRecord> {
        ProcessRecord::read(&self.file(component))
    }

    pub(crate) fn alive(&self, component: &str) -> bool {
        self.get(component).is_some_and(|record| record.alive())
    }

    pub(crate) fn all(&self) -> Result<Vec<ProcessRecord>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing(|| format!("list {}", self.folder.display())),
        };
        Ok(entries.flatten().filter_map(|entry| ProcessRecord::read(&entry.path())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_start_time_is_found_behind_an_odd_name() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(stat(line), Some((987_654, 'S')));
        assert_eq!(stat("42 (cut"), None);
    }

    #[test]
    fn a_recycled_pid_is_not_our_process() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let record = ProcessRecord::of(pid).unwrap();
        assert!(record.alive());

        let other_start = ProcessRecord { start_time: record.start_time + 1, ..record.clone() };
        let other_boot = ProcessRecord { boot: "earlier".into(), ..record.clone() };
        for stranger in [other_start, other_boot] {
            assert!(!stranger.alive());
            stranger.signal(Signal::SIGKILL);
        }
        assert!(record.alive(), "a signal for another process reached this one");

        record.signal(Signal::SIGKILL);
        child.wait().unwrap();
        assert!(!record.alive());
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // It stays in the table, with its start time, until somebody waits for it.
        let record = ProcessRecord::of(pid).unwrap();
        // The state turns to Z when it exits, as nobody has waited for it yet.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while record.alive() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(!record.alive());
        child.wait().unwrap();
    }

    #[test]
    fn folders_of_the_dead_are_removed_and_those_of_the_living_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        let dead = folder.path().join(format!(".work-{}-x", child.id()));
        child.wait().unwrap();
        let others = [".work-x".into(), format!("work-{}-x", child.id())].map(|name: String| folder.path().join(name));
        for path in others.iter().chain([&dead]) {
            fs::create_dir(path).unwrap();
        }
        let one = temporary_folder(folder.path(), ".work-").unwrap();
        let other = temporary_folder(folder.path(), ".work-").unwrap();
        assert!(!dead.exists());
        assert!(one.path().exists() && other.path().exists() && others.iter().all(|path| path.exists()));
    }

    #[test]
    fn records_survive_and_damaged_ones_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().join("pid"));
        assert!(records.all().unwrap().is_empty());
        let me = ProcessRecord::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        me.write(&records.file("etcd")).unwrap();
        paths::write(&records.file("kubelet"), "{").unwrap();
        assert_eq!(records.all().unwrap(), vec![me]);
        assert!(records.alive("etcd") && !records.alive("kubelet") && !records.alive("absent"));
    }
}
