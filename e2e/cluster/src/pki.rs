//! Certificates, keys and kubeconfigs of a control plane.

use std::{collections::BTreeMap, path::Path};

use data_encoding::BASE64;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::json;

use crate::{
    ca::{CertificateAuthority, Certified, write_secret},
    error::Result,
    paths,
};

/// Everything that a control plane and its clients prove themselves with.
pub(crate) struct Pki {
    ca: CertificateAuthority,
}

/// Who the components are: file name, common name (the user), organization (the group).
const CLIENTS: [(&str, &str, &[&str]); 5] = [
    ("admin", "paddock-admin", &["system:masters"]),
    ("controller-manager", "system:kube-controller-manager", &[]),
    ("scheduler", "system:kube-scheduler", &[]),
    ("proxy", "system:kube-proxy", &[]),
    ("kubelet-client", "kubelet-client", &["system:masters"]),
];

impl Pki {
    /// Writes all files into `folder`. `names` are what clients call the apiserver, `node` the node's name and address.
    pub(crate) fn create(folder: &Path, names: &[&str], node: Option<(&str, &str)>) -> Result<Self> {
        let ca = CertificateAuthority::create("paddock-kubernetes")?;
        let front = CertificateAuthority::create("paddock-front-proxy")?;
        paths::write(&folder.join("ca.crt"), ca.certificate_pem())?;
        write_secret(&folder.join("ca.key"), ca.key_pem())?;
        paths::write(&folder.join("front-ca.crt"), front.certificate_pem())?;

        let put = |name: &str, certified: &Certified| -> Result<()> {
            paths::write(&folder.join(format!("{name}.crt")), &certified.certificate)?;
            write_secret(&folder.join(format!("{name}.key")), &certified.key)
        };
        put("apiserver", &ca.issue("kube-apiserver", &[], names)?)?;
        put("front-proxy", &front.issue("front-proxy", &[], &[])?)?;
        for (file, user, groups) in CLIENTS {
            put(file, &ca.issue(user, groups, &[])?)?;
        }
        if let Some((name, address)) = node {
            put("kubelet", &ca.issue(&format!("system:node:{name}"), &["system:nodes"], &[name, address])?)?;
        }
        let service_accounts = KeyPair::generate()?;
        write_secret(&folder.join("sa.key"), &service_accounts.serialize_pem())?;
        paths::write(&folder.join("sa.pub"), pem_of(&service_accounts.subject_public_key_info()))?;
        Ok(Self { ca })
    }

    /// A kubeconfig for a client whose files `create` wrote.
    pub(crate) fn kubeconfig(&self, folder: &Path, client: &str, server: &str, context: &str) -> Result<String> {
        let embed = |file: String| Ok::<_, crate::Error>(BASE64.encode(paths::read(&folder.join(file))?.as_bytes()));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": context, "cluster": {
                "server": server,
                "certificate-authority-data": BASE64.encode(self.ca.certificate_pem().as_bytes()),
            }}],
            "users": [{"name": context, "user": {
                "client-certificate-data": embed(format!("{client}.crt"))?,
                "client-key-data": embed(format!("{client}.key"))?,
            }}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        });
        Ok(serde_json::to_string_pretty(&config)?)
    }
}

/// The apiserver's flags that name files of the folder.
pub(crate) fn apiserver_flags(folder: &Path) -> Vec<String> {
    let files: BTreeMap<&str, &str> = BTreeMap::from([
        ("tls-cert-file", "apiserver.crt"),
        ("tls-private-key-file", "apiserver.key"),
        ("client-ca-file", "ca.crt"),
        ("service-account-key-file", "sa.pub"),
        ("service-account-signing-key-file", "sa.key"),
        ("kubelet-client-certificate", "kubelet-client.crt"),
        ("kubelet-client-key", "kubelet-client.key"),
        ("requestheader-client-ca-file", "front-ca.crt"),
        ("proxy-client-cert-file", "front-proxy.crt"),
        ("proxy-client-key-file", "front-proxy.key"),
    ]);
    files.into_iter().map(|(flag, file)| format!("--{flag}={}", folder.join(file).display())).collect()
}

fn pem_of(public_key: &[u8]) -> String {
    let body = BASE64.encode(public_key);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_complete_and_names_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::create(folder.path(), &["127.0.0.1"], Some(("node1", "10.99.0.1"))).unwrap();
        let config = pki.kubeconfig(folder.path(), "admin", "https://127.0.0.1:6443", "paddock-demo").unwrap();
        let parsed = kube::config::Kubeconfig::from_yaml(&config).unwrap();
        assert_eq!(parsed.current_context.as_deref(), Some("paddock-demo"));
        let cluster = parsed.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
    }

    #[test]
    fn every_file_that_a_flag_names_exists() {
        let folder = tempfile::tempdir().unwrap();
        Pki::create(folder.path(), &["127.0.0.1"], None).unwrap();
        for flag in apiserver_flags(folder.path()) {
            let file = flag.split_once('=').unwrap().1;
            assert!(Path::new(file).exists(), "{flag}");
        }
    }

    #[test]
    fn the_public_key_is_pem_that_openssl_reads() {
        let folder = tempfile::tempdir().unwrap();
        Pki::create(folder.path(), &["127.0.0.1"], None).unwrap();
        let read = std::process::Command::new("openssl")
            .args(["pkey", "-pubin", "-noout", "-in"])
            .arg(folder.path().join("sa.pub"))
            .output()
            .unwrap();
        assert!(read.status.success(), "{read:?}");
    }
}
