//! The operator as a process beside a bare API server: its metrics and its memory.

use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

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

    /// Requests to the API server so far: reads and writes. The lease is not counted: it is renewed by `update`, everything else is written by `patch`, `create` and `delete`.
    pub async fn requests(&self) -> Result<(u64, u64)> {
        let text = reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await?.text().await?;
        let (mut reads, mut writes) = (0, 0);
        for line in text.lines().filter(|line| line.starts_with("paddock_kube_requests_total{")) {
            let Some((labels, value)) = line.rsplit_once(' ') else { continue };
            let value = value.split('.').next().unwrap_or_default().parse::<u64>().unwrap_or(0);
            let lower = labels.to_ascii_lowercase();
            if ["\"put\"", "\"update\""].iter().any(|verb| lower.contains(verb)) {
            } else if ["\"get\"", "\"list\"", "\"watch\""].iter().any(|verb| lower.contains(verb)) {
                reads += value;
            } else {
                writes += value;
            }
        }
        Ok((reads, writes))
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> Result<u64> {
        let pid = self.child.id().context("the operator has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.split_whitespace().next().context("no number")?.parse()?)
    }
}
