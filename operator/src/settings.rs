//! The operator's configuration: typed, from the command line or the environment, validated once at start.

use clap::Args;
use std::{net::SocketAddr, time::Duration};

/// Configuration of the running operator.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Namespace that the operator runs in. Administrator logins of database servers and the domain CA are Secrets here.
    #[arg(long, env = "POD_NAMESPACE", default_value = "paddock-system")]
    pub operator_namespace: String,
    /// Name of this pod: reporter of events and part of the lease holder's identity.
    #[arg(long, env = "POD_NAME", default_value = "paddock-operator")]
    pub pod_name: String,
    /// Value of label app.kubernetes.io/name on the operator's pods: NetworkPolicies of environments let them in.
    #[arg(long, env = "PADDOCK_OPERATOR_NAME", default_value = "paddock-operator")]
    pub operator_name: String,
    /// ServiceAccount that the operator runs as: in each environment it is bound to its rights to Secrets.
    #[arg(long, env = "POD_SERVICE_ACCOUNT", default_value = "paddock-operator")]
    pub service_account: String,
    /// Name of the Lease that decides who leads.
    #[arg(long, env = "PADDOCK_LEASE", default_value = "paddock-operator")]
    pub lease: String,
    /// Address of livez, readyz, metrics and debug.
    #[arg(long, env = "PADDOCK_HTTP", default_value = "0.0.0.0:9090")]
    pub http: SocketAddr,
    /// Log filter: `info`, `debug,kube=info`, … Changed at run time by PUT /debug/log-level.
    #[arg(long, env = "PADDOCK_LOG", default_value = "info")]
    pub log: String,
    /// OTLP/HTTP endpoint for traces, for example `http://collector:4318`; no traces without it.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// How many objects of a kind are reconciled at once.
    #[arg(long, env = "PADDOCK_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// How long running reconciles may go on after SIGTERM.
    #[arg(long, env = "PADDOCK_DRAIN", default_value = "20s", value_parser = duration)]
    pub drain: Duration,
    /// Name of the platform's Gateway, which the ListenerSets of environments attach to.
    #[arg(long, env = "PADDOCK_GATEWAY", default_value = "paddock")]
    pub gateway: String,
    /// Namespace of the platform's Gateway.
    #[arg(long, env = "PADDOCK_GATEWAY_NAMESPACE", default_value = "paddock-gateway")]
    pub gateway_namespace: String,
    /// Namespace that the Gateway's proxies run in: NetworkPolicies let them reach routed services.
    #[arg(long, env = "PADDOCK_GATEWAY_PROXY_NAMESPACE", default_value = "envoy-gateway-system")]
    pub gateway_proxy_namespace: String,
    /// Label (key=value) that the Gateway's proxies have in that namespace; may be given several times. None given: any pod there.
    #[arg(long = "gateway-proxy-label", env = "PADDOCK_GATEWAY_PROXY_LABELS", value_delimiter = ',', value_parser = label)]
    pub gateway_proxy_labels: Vec<(String, String)>,
    /// Secret in the operator's namespace with `tls.crt` and `tls.key` of a CA. If given, domains without a TLS Secret of their own get certificates of it.
    #[arg(long, env = "PADDOCK_DOMAIN_CA_SECRET")]
    pub domain_ca_secret: Option<String>,
    /// Port of the HTTPS listeners of environments.
    #[arg(long, env = "PADDOCK_HTTPS_PORT", default_value_t = 443)]
    pub https_port: u16,
    /// Port under which the world reaches those listeners, where another one leads to them: there the redirect from HTTP goes.
    #[arg(long, env = "PADDOCK_PUBLIC_HTTPS_PORT", default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    pub public_https_port: u16,
    /// Port of the HTTP listeners of environments, which redirect to HTTPS.
    #[arg(long, env = "PADDOCK_HTTP_PORT", default_value_t = 80)]
    pub http_port: u16,
    /// Addresses of Services (CIDR): never a target that a tenant may open by address.
    #[arg(long, env = "PADDOCK_SERVICE_SUBNET", default_value = "10.96.0.0/16", value_parser = cidr)]
    pub service_subnet: String,
    /// Addresses of pods (CIDR): never a target that a tenant may open by address.
    #[arg(long, env = "PADDOCK_POD_SUBNET", default_value = "10.244.0.0/16", value_parser = cidr)]
    pub pod_subnet: String,
    /// Namespace of the cluster's DNS.
    #[arg(long, env = "PADDOCK_DNS_NAMESPACE", default_value = "kube-system")]
    pub dns_namespace: String,
    /// Namespace of Prometheus, which may read every metrics port.
    #[arg(long, env = "PADDOCK_PROMETHEUS_NAMESPACE", default_value = "monitoring")]
    pub prometheus_namespace: String,
    /// Label (key=value) that Prometheus' pods have in that namespace; may be given several times. None given: any pod there.
    #[arg(long = "prometheus-label", env = "PADDOCK_PROMETHEUS_LABELS", value_delimiter = ',', value_parser = label)]
    pub prometheus_labels: Vec<(String, String)>,
    /// Registries that images of Production environments may come from (prefix of the reference); none given: any.
    #[arg(long = "registry", env = "PADDOCK_REGISTRIES", value_delimiter = ',')]
    pub registries: Vec<String>,
}

impl Default for Settings {
    /// The defaults of the command line.
    fn default() -> Self {
        crate::cli::Cli::defaults().settings
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    paddock_crds::duration::parse(text).ok_or_else(|| format!("`{text}` is no duration: write 500ms, 20s, 1m30s"))
}

/// Reads `key=value`.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no label: write app.kubernetes.io/name=prometheus")),
    }
}

/// Checks `address/bits`.
fn cidr(text: &str) -> Result<String, String> {
    let complaint = || format!("`{text}` is no range of addresses: write 10.96.0.0/16");
    let (address, bits) = text.split_once('/').ok_or_else(complaint)?;
    let address: std::net::IpAddr = address.parse().map_err(|_| complaint())?;
    let bits: u8 = bits.parse().map_err(|_| complaint())?;
    if bits > if address.is_ipv4() { 32 } else { 128 } {
        return Err(complaint());
    }
    Ok(text.to_owned())
}
