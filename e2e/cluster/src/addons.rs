//! What the demo and the tests install beside Paddock: database servers and brokers, one per environment class.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;

use crate::{
    access::Access,
    error::{Error, Result},
    image::{Recipe, build},
};

/// The namespace of the servers.
pub const DATABASES_NAMESPACE: &str = "paddock-databases";
/// The PostgreSQL servers: production, non-production.
pub const POSTGRESQL_SERVERS: [DatabaseServer; 2] = [
    DatabaseServer { name: "pg-prod", port: 5432, class: "Production", template: POSTGRESQL },
    DatabaseServer { name: "pg-nonprod", port: 5432, class: "NonProduction", template: POSTGRESQL },
];
/// The Kafka brokers: production, non-production.
pub const KAFKA_SERVERS: [DatabaseServer; 2] = [
    DatabaseServer { name: "kafka-prod", port: 9092, class: "Production", template: KAFKA },
    DatabaseServer { name: "kafka-nonprod", port: 9092, class: "NonProduction", template: KAFKA },
];
/// Their namespace, closed both ways.
pub const DATABASES_NAMESPACE_MANIFEST: &str = include_str!("../addons/namespace.yaml");

/// The login of the administrator of every PostgreSQL server.
const ADMINISTRATOR: &str = "paddock_admin";

const POSTGRESQL: &str = include_str!("../addons/postgresql.yaml");
const KAFKA: &str = include_str!("../addons/kafka.yaml");

/// A server inside the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseServer {
    /// Name of its Service and StatefulSet.
    pub name: &'static str,
    /// The port of its Service.
    pub port: u16,
    /// The class of the environments that it serves.
    pub class: &'static str,
    template: &'static str,
}

impl DatabaseServer {
    /// Its DNS name inside the cluster.
    pub fn host(&self) -> String {
        format!("{}.{DATABASES_NAMESPACE}.svc.cluster.local", self.name)
    }

    /// Its objects, with this image. A broker keeps the cluster id that its data was made with, so the id derives from the name.
    pub fn manifest(&self, image: &str) -> String {
        let mut id = [0_u8; 16];
        for (place, byte) in id.iter_mut().zip(self.name.bytes()) {
            *place = byte;
        }
        self.template
            .replace("@name@", self.name)
            .replace("@class@", self.class)
            .replace("@image@", image)
            .replace("@cluster-id@", &BASE64URL_NOPAD.encode(&id))
    }

    /// The Secret with its administrator's `username` and `password`, and `ca.crt`.
    pub fn admin_secret(&self) -> String {
        format!("{}-admin", self.name)
    }
}

impl Access {
    /// Installs or updates the servers and waits until all are ready. Data, passwords and certificates are kept.
    pub async fn addon_databases(&self) -> Result<()> {
        let progress = self.progress();
        let postgresql = progress.step("image PostgreSQL", build(Recipe::Postgresql)).await?;
        let kafka = progress.step("image Kafka", build(Recipe::Kafka)).await?;
        let images = progress.step("load the database images", self.load(&[postgresql, kafka])).await?;
        let [postgresql, kafka] = images.as_slice() else {
            return Err(Error::State("two images were loaded, and not two came back".into()));
        };
        progress
            .step("databases and brokers", async {
                self.apply(DATABASES_NAMESPACE_MANIFEST).await?;
                for server in POSTGRESQL_SERVERS {
                    self.ensure_credentials(server).await?;
                    self.apply(&server.manifest(&postgresql.reference)).await?;
                }
                for server in KAFKA_SERVERS {
                    self.apply(&server.manifest(&kafka.reference)).await?;
                }
                for server in POSTGRESQL_SERVERS.iter().chain(&KAFKA_SERVERS) {
                    self.drop_broken_pod(*server).await?;
                    self.wait_for_server(*server).await?;
                }
                Ok(())
            })
            .await
    }

    /// Removes a pod that never became ready in an older shape: a StatefulSet would wait for it for ever.
    async fn drop_broken_pod(&self, server: DatabaseServer) -> Result<()> {
        let (set, pod) = (format!("statefulset/{}", server.name), format!("{}-0", server.name));
        let observed =
            ["wait", "-n", DATABASES_NAMESPACE, &set, "--for=jsonpath={.status.updateRevision}", "--timeout=30s"];
        self.kubectl(&observed).await?;
        let newest = ["get", "-n", DATABASES_NAMESPACE, &set, "-o", "jsonpath={.status.updateRevision}"];
        let newest = self.kubectl(&newest).await?;
        let other = format!("app.kubernetes.io/instance={},controller-revision-hash!={}", server.name, newest.trim());
        let ready = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
        let stuck = self.kubectl(&["get", "pods", "-n", DATABASES_NAMESPACE, "-l", &other, "-o", ready]).await?;
        if stuck.trim() == "False" {
            self.kubectl(&["delete", "pod", "-n", DATABASES_NAMESPACE, "--ignore-not-found", &pod]).await?;
        }
        Ok(())
    }

    /// Waits for a server; why it does not start is in its own log, so the error shows the end of that.
    async fn wait_for_server(&self, server: DatabaseServer) -> Result<()> {
        let set = format!("statefulset/{}", server.name);
        let args = ["rollout", "status", "-n", DATABASES_NAMESPACE, &set, "--timeout=150s"];
        let Err(error) = self.kubectl_with_deadline(&args, Duration::from_secs(160)).await else { return Ok(()) };
        let pod = format!("{}-0", server.name);
        let args = ["logs", "-n", DATABASES_NAMESPACE, &pod, "--all-containers", "--tail=15"];
        let log = self.kubectl(&args).await.unwrap_or_default();
        Err(Error::State(format!("{} does not become ready: {error}\nthe end of its log:\n{log}", server.name)))
    }

    /// The Secrets of a server, made once: the administrator's password, and a certificate for the server's names.
    async fn ensure_credentials(&self, server: DatabaseServer) -> Result<()> {
        let admin = server.admin_secret();
        let found = self
            .kubectl(&["get", "secret", "-n", DATABASES_NAMESPACE, "--ignore-not-found", "-o", "name", &admin])
            .await?;
        if !found.trim().is_empty() {
            return Ok(());
        }
        let (ca, name) = (self.ca()?, server.name);
        let names = [
            server.host(),
            format!("{name}.{DATABASES_NAMESPACE}.svc"),
            format!("{name}.{DATABASES_NAMESPACE}"),
            name.to_owned(),
            format!("{name}-0.{name}.{DATABASES_NAMESPACE}.svc.cluster.local"),
        ];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let certified = ca.server(&names)?;
        let password = BASE64URL_NOPAD.encode(&rand::random::<[u8; 24]>());
        let secret = |name: &str, kind: &str, data: serde_json::Value| {
            serde_json::json!({
                "apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": data,
                "metadata": {"name": name, "namespace": DATABASES_NAMESPACE},
            })
        };
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
            secret(&format!("{name}-tls"), "kubernetes.io/tls", serde_json::json!({
                "tls.crt": certified.certificate, "tls.key": certified.key, "ca.crt": ca.certificate_pem(),
            })),
            // Last: its presence says that both are there.
            secret(&admin, "Opaque", serde_json::json!({
                "username": ADMINISTRATOR, "password": password, "ca.crt": ca.certificate_pem(),
            })),
        ]});
        self.apply(&serde_json::to_string(&list)?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_template_has_no_open_places_and_brokers_differ() {
        let [prod, nonprod] = KAFKA_SERVERS.map(|server| server.manifest("paddock.local/kafka:1"));
        let [server, _] = POSTGRESQL_SERVERS;
        for text in [&prod, &nonprod, &server.manifest("paddock.local/postgresql:1")] {
            assert!(!text.contains('@'), "{text}");
        }
        assert_ne!(prod, nonprod);
    }

    #[test]
    fn names_that_claims_are_bound_to_are_stable() {
        let [server, _] = POSTGRESQL_SERVERS;
        assert_eq!(server.host(), "pg-prod.paddock-databases.svc.cluster.local");
        assert_eq!(server.admin_secret(), "pg-prod-admin");
    }
}
