//! The connections that may be opened, by the rows of section 5a of the architecture. Rows that are not here have nobody yet who would
//! open them: register, OIDC issuer, staff tools, webhooks and metrics adapters, PgBouncer, backups, object stores, egress proxies. The
//! row "the node → probes of its pods" no policy can shut. Gateway controller and proxies are isolated by their own installation.

use crate::policy::Port;
use std::collections::BTreeSet;

/// From, to, port.
pub type Connection = (String, String, Port);

const fn tcp(number: u16) -> Port {
    Port { protocol: "TCP", number }
}

const HTTP: Port = tcp(8080);
const METRICS: Port = tcp(9090);
const CONTROL: Port = tcp(9091);
const POSTGRESQL: Port = tcp(5432);
const KAFKA: Port = tcp(9092);
const DNS: [Port; 2] = [tcp(53), Port { protocol: "UDP", number: 53 }];

/// Every port that is tried: those of the table, and others that something listens on or could.
pub const PORTS: &[Port] = &[
    HTTP,
    METRICS,
    CONTROL,
    POSTGRESQL,
    KAFKA,
    DNS[0],
    DNS[1],
    tcp(22),
    tcp(80),
    tcp(443),
    tcp(2379),
    tcp(6443),
    tcp(8082), // internal
    tcp(9093), // Kafka's controller
    tcp(10250),
    Port { protocol: "UDP", number: 443 },
    Port { protocol: "UDP", number: 8080 },
    Port { protocol: "SCTP", number: 8080 },
];

/// Environments that run a brand, with the servers of their class.
const BRANDS: [(&str, [&str; 2]); 3] = [
    ("acme-dev", ["pg-nonprod", "kafka-nonprod"]),
    ("acme-prod", ["pg-prod", "kafka-prod"]),
    ("zenith-prod", ["pg-prod", "kafka-prod"]),
];
/// Environments of Tenant `platform`, with the broker of their class.
const PLATFORM: [(&str, &str); 2] = [("platform-dev", "kafka-nonprod"), ("platform-prod", "kafka-prod")];

pub fn table() -> BTreeSet<Connection> {
    let mut all = BTreeSet::new();
    let mut row = |from: &[String], to: &[String], ports: &[Port]| {
        for from in from {
            for to in to {
                all.extend(ports.iter().map(|port| (from.clone(), to.clone(), *port)));
            }
        }
    };
    let named = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let within = |environment: &str, names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{environment}/{name}")).collect()
    };
    let operator = named(&["operator"]);

    for (environment, [postgresql, kafka]) in BRANDS {
        let components = within(environment, &["rates", "calculations", "settlement", "account", "gateway"]);
        let services = [components.clone(), within(environment, &["own"])].concat();
        let jobs = within(environment, &["rates migration", "calculations migration", "account migration"]);
        let pods = [services.clone(), jobs.clone()].concat();
        // Gateway proxies → routed services: http
        row(&named(&["Gateway proxy"]), &within(environment, &["gateway"]), &[HTTP]);
        // pods of an environment → pods of the same environment: http
        row(&pods, &services, &[HTTP]);
        // operator → services of the Release: control
        row(&operator, &components, &[CONTROL]);
        // Prometheus → everything ours: metrics
        row(&named(&["Prometheus"]), &services, &[METRICS]);
        // all → cluster DNS
        row(&pods, &named(&["cluster DNS"]), &DNS);
        // environment pods, migration Jobs → servers that they have a need for
        let relational = within(environment, &["rates", "calculations", "settlement", "account"]);
        row(&[relational, jobs].concat(), &named(&[postgresql]), &[POSTGRESQL]);
        let bus = within(environment, &["rates", "calculations", "settlement", "account", "gateway"]);
        row(&bus, &named(&[kafka]), &[KAFKA]);
        // environment pods → network.allow targets
        if environment == "acme-prod" {
            row(&pods, &named(&["target"]), &[tcp(443)]);
        }
    }
    for (environment, kafka) in PLATFORM {
        let components = within(environment, &["feed"]);
        let services = [components.clone(), within(environment, &["own"])].concat();
        // pods of an environment → pods of the same environment: http
        row(&services, &services, &[HTTP]);
        // operator → services of the Release: control
        row(&operator, &components, &[CONTROL]);
        // Prometheus → everything ours: metrics
        row(&named(&["Prometheus"]), &services, &[METRICS]);
        // all → cluster DNS
        row(&services, &named(&["cluster DNS"]), &DNS);
        // environment pods (feed included) → servers that they have a need for
        row(&within(environment, &["feed"]), &named(&[kafka]), &[KAFKA]);
    }
    // Prometheus → everything ours: metrics
    row(&named(&["Prometheus"]), &operator, &[METRICS]);
    // all → cluster DNS
    row(&operator, &named(&["cluster DNS"]), &DNS);
    // operator → servers
    row(&operator, &named(&["pg-prod", "pg-nonprod"]), &[POSTGRESQL]);
    row(&operator, &named(&["kafka-prod", "kafka-nonprod"]), &[KAFKA]);
    // operator → API server, as a network plugin sees it before or after kube-proxy
    row(&operator, &named(&["Service kubernetes", "API server"]), &[tcp(443), tcp(6443)]);
    // A broker talks with itself by its Service's name.
    for kafka in ["kafka-prod", "kafka-nonprod"] {
        row(&named(&[kafka]), &named(&[kafka]), &[KAFKA]);
        row(&named(&[kafka]), &named(&["cluster DNS"]), &DNS);
    }
    all
}
