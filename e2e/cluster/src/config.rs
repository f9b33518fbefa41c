//! The components' configuration files and command lines: pure functions of where the cluster is.

use std::{ffi::OsString, path::Path};

use serde_json::json;

use crate::{
    error::Result,
    image::PAUSE,
    network::{KUBERNETES_SERVICE, NODE_ADDRESS, POD_RANGE, SERVICE_RANGE},
    paths::Paths,
    pki,
};

/// The only node.
pub(crate) const NODE_NAME: &str = "node1";
/// Where the apiserver is for everything inside.
pub(crate) const APISERVER: &str = "https://10.99.0.1:6443";

/// What clients call the apiserver: inside by the node's address, from the host through the forwarder.
pub(crate) const APISERVER_NAMES: [&str; 8] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    KUBERNETES_SERVICE,
    NODE_ADDRESS,
];

/// The files that are rendered before anything starts: name below the cluster's folder, content.
pub(crate) fn files(paths: &Paths, kubelet_cgroup: &str) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("containerd.toml", containerd(paths)),
        ("cni/10-bridge.conflist", serde_json::to_string_pretty(&cni(paths))?),
        ("kubelet.json", serde_json::to_string_pretty(&kubelet(paths, kubelet_cgroup))?),
        ("proxy.json", serde_json::to_string_pretty(&proxy(paths))?),
        ("Corefile", corefile(paths)),
        // Pods ask CoreDNS; what it does not know does not exist: nothing can leave the namespace anyway.
        ("resolv.conf", format!("nameserver {NODE_ADDRESS}\n")),
    ])
}

fn containerd(paths: &Paths) -> String {
    let root = paths.root().display();
    format!(
        r#"version = 3
root = "{root}/containerd/root"
state = "{root}/containerd/state"
[grpc]
address = "{socket}"
[cgroup]
path = ""
[plugins."io.containerd.cri.v1.images"]
max_concurrent_downloads = 1
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{root}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
Root = "{root}/containerd/runc"
"#,
        socket = paths.containerd_socket().display(),
    )
}

fn cni(paths: &Paths) -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": paths.file("ipam"),
                    "ranges": [[{"subnet": POD_RANGE}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(paths: &Paths, cgroup: &str) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "podLogsDir": paths.file("podlogs"),
        "volumePluginDir": paths.file("kubelet/volume-plugins"),
        "containerRuntimeEndpoint": format!("unix://{}", paths.containerd_socket().display()),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": paths.file("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": paths.file("pki/kubelet.crt"),
        "tlsPrivateKeyFile": paths.file("pki/kubelet.key"),
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": paths.file("resolv.conf"),
        "failSwapOn": false,
        // Mounted Secrets and ConfigMaps follow once per period.
        "syncFrequency": "5s",
        "maxPods": 250,
        "serializeImagePulls": false,
        // No registry: an image that is collected or evicted could not come back.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "imageMaximumGCAge": "0s",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "containerLogMaxSize": "10Mi",
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "eventRecordQPS": 0,
        "logging": {"verbosity": 1},
    })
}

fn proxy(paths: &Paths) -> serde_json::Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "nftables": {"minSyncPeriod": "200ms"},
        "clientConnection": {"kubeconfig": paths.file("proxy.kubeconfig")},
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": NODE_NAME,
        // The host's connection table is not ours to size.
        "conntrack": {"maxPerCore": 0},
    })
}

fn corefile(paths: &Paths) -> String {
    format!(
        r".:53 {{
  bind {NODE_ADDRESS}
  errors
  kubernetes cluster.local in-addr.arpa {{
    endpoint {APISERVER}
    kubeconfig {}
  }}
  cache 5
}}
",
        paths.file("admin.kubeconfig").display()
    )
}

fn flags<S: Into<OsString>>(all: impl IntoIterator<Item = S>) -> Vec<OsString> {
    all.into_iter().map(Into::into).collect()
}

fn flag(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}

/// etcd, for a machine that may lose its data with a power cut: it does not wait for the disk.
pub(crate) fn etcd(data: &Path, client_port: u16, peer_port: u16) -> Vec<OsString> {
    let (client, peer) = (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
    flags([
        flag("data-dir", data),
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ])
}

/// kube-apiserver with everything that is on by default; audit stays off.
pub(crate) fn apiserver(pki: &Path, address: &str, port: u16, etcd_port: u16) -> Vec<OsString> {
    let mut args = flags(pki::apiserver_flags(pki));
    args.extend(flags([
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        format!("--bind-address={address}"),
        format!("--secure-port={port}"),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--allow-privileged".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--enable-aggregator-routing".into(),
        "--requestheader-allowed-names=front-proxy".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
    ]));
    args
}

/// kube-controller-manager; its default request limits would brake every burst of objects.
pub(crate) fn controller_manager(kubeconfig: &Path, pki: &Path) -> Vec<OsString> {
    let mut args = identity(kubeconfig);
    args.extend(flags([
        flag("root-ca-file", &pki.join("ca.crt")),
        flag("service-account-private-key-file", &pki.join("sa.key")),
        flag("cluster-signing-cert-file", &pki.join("ca.crt")),
        flag("cluster-signing-key-file", &pki.join("ca.key")),
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]));
    args
}

/// What only a cluster with a node needs from kube-controller-manager.
pub(crate) fn node_addresses() -> Vec<OsString> {
    flags([
        "--allocate-node-cidrs".into(),
        format!("--cluster-cidr={POD_RANGE}"),
        "--node-cidr-mask-size-ipv4=22".into(),
        // HPA decides on metrics that are ten seconds old.
        "--horizontal-pod-autoscaler-sync-period=5s".to_owned(),
    ])
}

/// The three flags with which a component finds and trusts the apiserver.
pub(crate) fn identity(kubeconfig: &Path) -> Vec<OsString> {
    ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
        .map(|name| flag(name, kubeconfig).into())
        .into()
}

/// kube-scheduler.
pub(crate) fn scheduler(kubeconfig: &Path) -> Vec<OsString> {
    let mut args = identity(kubeconfig);
    args.extend(flags(["--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400"]));
    args
}

/// kubelet.
pub(crate) fn kubelet_args(paths: &Paths) -> Vec<OsString> {
    flags([
        flag("config", &paths.file("kubelet.json")),
        flag("kubeconfig", &paths.file("kubelet.kubeconfig")),
        flag("root-dir", &paths.file("kubelet")),
        format!("--hostname-override={NODE_NAME}"),
        format!("--node-ip={NODE_ADDRESS}"),
    ])
}

/// metrics-server. Its resolution must exceed its request timeout.
pub(crate) fn metrics_server(paths: &Paths) -> Vec<OsString> {
    let mut args = identity(&paths.file("admin.kubeconfig"));
    args.extend(flags([
        flag("cert-dir", &paths.file("metrics-cert")),
        "--secure-port=4443".into(),
        "--kubelet-insecure-tls".into(),
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--metric-resolution=10s".into(),
        "--kubelet-request-timeout=5s".into(),
    ]));
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(name: &str) -> Vec<(&'static str, String)> {
        files(&Paths::new(name).unwrap(), &format!("/paddock/{name}")).unwrap()
    }

    #[test]
    fn no_file_of_one_cluster_names_another() {
        for (file, content) in rendered("onyx") {
            assert!(!content.contains("/jade"), "{file}");
            assert!(!content.contains("/var/lib/kubelet"), "{file}");
        }
        let (onyx, jade) = (rendered("onyx"), rendered("jade"));
        for ((file, a), (_, b)) in onyx.iter().zip(&jade) {
            // Nothing else may differ than the name.
            assert_eq!(&a.replace("onyx", "jade"), b, "{file}");
        }
    }

    #[test]
    fn the_kubelet_keeps_images_and_has_its_own_control_group() {
        let kubelet = kubelet(&Paths::new("x").unwrap(), "/paddock/x");
        assert_eq!(kubelet["cgroupRoot"], "/paddock/x");
        assert_eq!(kubelet["imageGCHighThresholdPercent"], 100);
    }

    #[test]
    fn the_apiserver_listens_where_it_is_told() {
        let args = apiserver(Path::new("/pki"), "127.0.0.1", 1234, 99);
        for expected in ["--bind-address=127.0.0.1", "--secure-port=1234", "--etcd-servers=http://127.0.0.1:99"] {
            assert!(args.iter().any(|arg| arg == expected), "{expected} in {args:?}");
        }
    }
}
