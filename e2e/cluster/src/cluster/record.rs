//! What a cluster remembers about itself.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::DEFAULT_NAME;
use crate::{
    error::{Doing as _, Error, Result},
    paths::Paths,
};

/// Ports on the host's loopback that lead into the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The apiserver.
    pub apiserver: u16,
    /// The Gateway's port 80.
    pub http: u16,
    /// The Gateway's port 443.
    pub https: u16,
}

/// What a cluster remembers about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClusterRecord {
    /// The boot of the machine in which it was made.
    pub(super) boot: String,
    /// Versions of the tools that it was made with.
    pub(super) versions: String,
    pub(crate) ports: Ports,
}

impl ClusterRecord {
    pub(super) fn file(paths: &Paths) -> PathBuf {
        paths.file("cluster.json")
    }

    pub(crate) fn read(paths: &Paths) -> Result<Option<Self>> {
        match fs::read(Self::file(paths)) {
            Ok(content) => Ok(serde_json::from_slice(&content).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| "read the cluster's record".into()),
        }
    }
}

/// The default cluster has ports that a person can remember; others take what is free.
pub(super) fn choose_ports(name: &str) -> Result<Ports> {
    if name == DEFAULT_NAME {
        let ports = Ports { apiserver: 6443, http: 8080, https: 8443 };
        for port in [ports.apiserver, ports.http, ports.https] {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
                Error::Machine(format!(
                    "port {port} of 127.0.0.1 cannot be used ({error}): stop the program that has it \
                     (`ss -ltnp sport = :{port}`), or choose another cluster name with --name"
                ))
            })?;
        }
        return Ok(ports);
    }
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "find a free port".into());
    // All are held until all are chosen, so that they differ.
    let held = [free()?, free()?, free()?];
    let [apiserver, http, https] = held.each_ref().map(|held| held.local_addr().map(|address| address.port()));
    let port = |found: std::io::Result<u16>| found.doing(|| "find a free port".into());
    Ok(Ports { apiserver: port(apiserver)?, http: port(http)?, https: port(https)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_cluster_gets_three_different_free_ports() {
        let ports = choose_ports("test").unwrap();
        let all = std::collections::BTreeSet::from([ports.apiserver, ports.http, ports.https]);
        assert_eq!(all.len(), 3);
        assert!(!all.contains(&0));
    }
}
