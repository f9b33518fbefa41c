//! The operator as a process beside a bare API server: its metrics and its memory.

use anyhow::{Context as _, Result};
use paddock_demo::Metrics;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Requests to the API server, by what they are to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Of objects.
    pub writes: u64,
    /// Of the lease: it alone is renewed by `update`; everything else is written by `apply`, `patch`, `create` and `delete`.
    pub lease: u64,
    /// Gets and lists.
    pub reads: u64,
    /// Watches that began; each ends after some five minutes and begins again.
    pub watches: u64,
}

impl Requests {
    fn of(metrics: &Metrics) -> Result<Self> {
        let count = |verbs: &[&str]| {
            metrics.sum("paddock_kube_requests_total", |labels| {
                verbs.iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")))
            })
        };
        let (lease, reads, watches) = (count(&["update"])?, count(&["get", "list"])?, count(&["watch"])?);
        let all = metrics.sum("paddock_kube_requests_total", |_| true)?;
        Ok(Self { writes: all - lease - reads - watches, lease, reads, watches })
    }

    /// Those that were made after `before`.
    pub const fn since(self, before: Self) -> Self {
        Self {
            writes: self.writes.saturating_sub(before.writes),
            lease: self.lease.saturating_sub(before.lease),
            reads: self.reads.saturating_sub(before.reads),
            watches: self.watches.saturating_sub(before.watches),
        }
    }
}

/// A running operator. Dropping it kills the process.
pub struct OperatorProcess {
    child: Child,
    port: u16,
}

impl OperatorProcess {
    /// Starts the operator that was built into this program's folder, and waits until it is ready.
    pub async fn start(kubeconfig: &Path) -> Result<Self> {
        let binary =
            paddock_cluster::sibling("paddock-operator").context("build the workspace first: make bench does")?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(binary)
            .env("KUBECONFIG", kubeconfig)
            .args([format!("--http=127.0.0.1:{port}"), "--log=warn".into()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let operator = Self { child, port };
        paddock_demo::wait::until("the operator is ready", Duration::from_mins(1), || async {
            match reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(answer.text().await.unwrap_or_default()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        Ok(operator)
    }

    /// Requests to the API server so far.
    pub async fn requests(&self) -> Result<Requests> {
        let text = reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await?.text().await?;
        Requests::of(&Metrics::new(text))
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> Result<u64> {
        let pid = self.child.id().context("the operator has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.split_whitespace().next().context("no number")?.parse()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_their_verb() {
        let line = |code: &str, verb: &str, value: u64| {
            format!("paddock_kube_requests_total{{code=\"{code}\",verb=\"{verb}\"}} {value}\n")
        };
        let text = [
            "# TYPE paddock_kube_requests_total counter\n".to_owned(),
            line("200", "apply", 5),
            line("409", "apply", 1),
            line("200", "patch", 2),
            line("200", "update", 7),
            line("200", "list", 3),
            line("404", "get", 1),
            line("200", "watch", 9),
            "paddock_kube_request_duration_seconds_count{verb=\"get\"} 99\n".to_owned(),
        ]
        .concat();
        let requests = Requests::of(&Metrics::new(text)).unwrap();
        assert_eq!(requests, Requests { writes: 8, lease: 7, reads: 4, watches: 9 });
        assert_eq!(requests.since(Requests { writes: 3, lease: 7, reads: 5, watches: 0 }).reads, 0);
        assert_eq!(requests.since(Requests { writes: 3, ..Requests::default() }).writes, 5);
    }
}
