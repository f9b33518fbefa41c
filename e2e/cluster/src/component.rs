//! Starting the cluster's own processes so that they outlive this one, and looking at them.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::{
    cgroup::Cgroups,
    command::tail,
    error::{Doing as _, Error, Result},
    paths::Paths,
    process::{ProcessRecord, Records},
};

/// Enters the control group, then becomes the program in a session of its own: the pid stays the same all the way.
const ENTER: &str = r#"echo $$ >"$0" && exec setsid "$@""#;

/// Where a component runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Inside the cluster's network namespace.
    Inside,
    /// On the host: only what lets a person in.
    Host,
}

/// One process of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
}

/// Starts and watches the components of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    paths: Paths,
    records: Records,
    cgroups: Cgroups,
    /// PATH of the components: our programs first.
    path: OsString,
}

impl Supervisor {
    pub(crate) fn new(paths: &Paths, cgroups: Cgroups, path: OsString) -> Self {
        Self { paths: paths.clone(), records: Records::new(paths.file("pid")), cgroups, path }
    }

    pub(crate) fn alive(&self, name: &str) -> bool {
        self.records.alive(name)
    }

    /// Starts a component unless it is running. Says whether it was started.
    pub(crate) fn ensure(&self, component: &Component) -> Result<bool> {
        if self.alive(component.name) {
            return Ok(false);
        }
        let log = self.paths.log(component.name);
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).doing(|| format!("create {}", folder.display()))?;
        }
        let open =
            || fs::File::options().create(true).append(true).open(&log).doing(|| format!("open {}", log.display()));
        let mut command = Command::new("sh");
        command.arg("-c").arg(ENTER).arg(self.cgroups.components_procs());
        if component.place == Place::Inside {
            command.arg("nsenter").arg(format!("--net={}", self.paths.namespace_file().display()));
        }
        command
            .arg(&component.program)
            .args(&component.args)
            // Nothing of the caller's environment: a proxy setting there would catch the cluster's own traffic.
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.paths.root())
            // Our own subcommands find the cluster's folder by it.
            .env("XDG_STATE_HOME", self.paths.state_home())
            .current_dir(self.paths.root())
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?);
        let mut child = command.spawn().doing(|| format!("start {}", component.name))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let record = pid.and_then(ProcessRecord::of).ok_or_else(|| self.died(component.name))?;
        record.write(&self.records.file(component.name))?;
        // Collects its exit while this process lives; afterwards init does.
        tokio::spawn(async move { child.wait().await });
        Ok(true)
    }

    /// The error for a component that is not running, with the end of its log.
    pub(crate) fn died(&self, name: &str) -> Error {
        let log = self.paths.log(name);
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        let end = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
        Error::State(format!("{name} ended; the end of {}:\n{}", log.display(), tail(&end)))
    }
}

/// PATH for the components: these folders, then the system's.
pub(crate) fn search_path(folders: &[&Path]) -> OsString {
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let all = folders.iter().copied().chain(system.iter().map(Path::new));
    std::env::join_paths(all).unwrap_or_default()
}
