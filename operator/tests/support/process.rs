//! The operator's binary as a process of its own.

use super::PATIENCE;
use paddock_cluster::apiserver::Apiserver;
use serde_json::Value;
use std::{process::Stdio, time::Duration};

/// A running operator; it ends with the value.
pub struct Process {
    /// The process.
    pub child: tokio::process::Child,
    port: u16,
}

impl Process {
    /// Starts it against the server, with all rights; it listens when this returns.
    pub async fn start(server: &Apiserver, name: &str) -> Self {
        // A port is found free and taken a moment later; somebody else can come in between.
        for _ in 0..5 {
            let mut process = Self::spawn(server, name);
            let ended = async {
                loop {
                    if let Some(status) = process.child.try_wait().unwrap() {
                        return Some(status);
                    }
                    // Whoever else has the port may never answer.
                    let answer = tokio::time::timeout(Duration::from_secs(1), process.get("/livez")).await;
                    if answer.is_ok_and(|answer| answer.is_some()) {
                        return None;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            match tokio::time::timeout(PATIENCE, ended).await.expect("the operator listens") {
                None => return process,
                Some(status) => eprintln!("operator {name} ended at once with {status}; it is started again"),
            }
        }
        panic!("operator {name} ends at once");
    }

    fn spawn(server: &Apiserver, name: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_paddock-operator"))
            .args([
                "--http",
                &format!("127.0.0.1:{port}"),
                "--pod-name",
                name,
                "--operator-namespace",
                "paddock-system",
            ])
            .env("KUBECONFIG", server.kubeconfig())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, port }
    }

    /// What it answers, its body if that is JSON; `None` while it does not answer.
    pub async fn get(&self, path: &str) -> Option<(u16, Value)> {
        let response = reqwest::get(format!("http://127.0.0.1:{}{path}", self.port)).await.ok()?;
        let status = response.status().as_u16();
        Some((status, serde_json::from_str(&response.text().await.ok()?).unwrap_or_default()))
    }

    /// The epoch of its term; 0 while it does not lead.
    pub async fn epoch(&self) -> u64 {
        let state = self.get("/debug/state").await.map(|(_, state)| state).unwrap_or_default();
        state["leader"]["epoch"].as_u64().unwrap_or_default()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([format!("-{name}"), id]).status().unwrap().success());
    }
}
