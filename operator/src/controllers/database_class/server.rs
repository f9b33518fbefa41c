//! From a server of a class to its administrator's handle: reads the Secrets that the class names, in the operator's namespace only.

use crate::controllers::{Ctx, Fault};
use crate::database::kafka::KafkaBroker;
use crate::database::postgres::{Administrator, PostgresServer, Terms};
use crate::database::{DatabaseError, Provisioner};
use crate::kube::secret;
use k8s_openapi::api::core::v1::Secret;
use paddock_crds::v1alpha1::{DatabaseClass, Engine, Server};
use std::sync::Arc;

/// How clients reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// PEM of the authority that signed the server's certificate; empty for plain connections.
    pub ca: String,
}

/// A server as its administrator and as services reach it.
pub struct Handle {
    /// For the administrator.
    pub provisioner: Box<dyn Provisioner>,
    /// For binding Secrets.
    pub address: Address,
}

/// The handle of `server`.
///
/// # Errors
/// The outer error: the apiserver could not be asked. The inner one: what is wrong with the class or the Secrets that it names.
pub async fn handle(ctx: &Ctx, class: &DatabaseClass, server: &Server) -> Result<Result<Handle, DatabaseError>, Fault> {
    let administrator = named(ctx, server.admin_secret.as_deref()).await?;
    let authority = named(ctx, server.tls.as_ref().map(|tls| tls.ca_secret.as_str())).await?;
    let known = class.status.iter().flat_map(|status| &status.servers).find(|status| status.name == server.name);
    let term = (known.and_then(|status| status.epoch).unwrap_or_default(), ctx.terms.clone());
    Ok(build(class.spec.engine, server, administrator.as_deref(), authority.as_deref(), term))
}

/// A Secret of the operator's namespace, if the class names one.
async fn named(ctx: &Ctx, name: Option<&str>) -> Result<Option<Arc<Secret>>, Fault> {
    let Some(name) = name else { return Ok(None) };
    secret(ctx, &ctx.settings.operator_namespace, name).await
}

fn build(
    engine: Engine,
    server: &Server,
    administrator: Option<&Secret>,
    authority: Option<&Secret>,
    (known_epoch, terms): (i64, Terms),
) -> Result<Handle, DatabaseError> {
    let (host, port) = split(server)?;
    match engine {
        Engine::PostgreSQL => {
            let secret = server.admin_secret.clone().unwrap_or_default();
            let Some(tls) = &server.tls else {
                return Err(DatabaseError::Unsupported {
                    server: server.name.clone(),
                    found: "without tls in its class".to_owned(),
                    wanted: "tls with mode VerifyFull and a caSecret",
                });
            };
            let ca = value(authority, &tls.ca_secret, "ca.crt")?;
            let provisioner = PostgresServer {
                name: server.name.clone(),
                host: host.clone(),
                port,
                ca: ca.clone().into_bytes(),
                administrator: Administrator {
                    username: value(administrator, &secret, "username")?,
                    password: value(administrator, &secret, "password")?.into(),
                    secret,
                },
                known_epoch,
                terms,
            };
            Ok(Handle { provisioner: Box::new(provisioner), address: Address { host, port, ca } })
        }
        Engine::Kafka => {
            if server.tls.is_some() {
                return Err(DatabaseError::Unsupported {
                    server: server.name.clone(),
                    found: "behind TLS".to_owned(),
                    wanted: "a plain listener: take tls out of the class until bus logins exist",
                });
            }
            let provisioner = KafkaBroker { name: server.name.clone(), bootstrap: server.endpoints.read_write.clone() };
            Ok(Handle { provisioner: Box::new(provisioner), address: Address { host, port, ca: String::new() } })
        }
    }
}

fn split(server: &Server) -> Result<(String, u16), DatabaseError> {
    server
        .endpoints
        .read_write
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)))
        .ok_or_else(|| DatabaseError::Unsupported {
            server: server.name.clone(),
            found: format!("at {}, which is no host:port", server.endpoints.read_write),
            wanted: "an endpoint with a port up to 65535",
        })
}

fn value(secret: Option<&Secret>, name: &str, key: &str) -> Result<String, DatabaseError> {
    let unusable = |problem: String| DatabaseError::SecretUnusable { secret: name.to_owned(), problem };
    let secret = secret.ok_or_else(|| unusable("does not exist; create it".to_owned()))?;
    let bytes = secret.data.as_ref().and_then(|data| data.get(key)).filter(|value| !value.0.is_empty());
    let bytes = bytes.ok_or_else(|| unusable(format!("has no key {key}; add it")))?;
    String::from_utf8(bytes.0.clone()).map_err(|_| unusable(format!("has a key {key} that is not text; replace it")))
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // json!(…) as an argument
mod tests {
    use super::*;
    use serde_json::json;

    fn server(endpoint: &str, tls: bool) -> Server {
        let mut server = json!({"name": "pg-a", "adminSecret": "admin", "endpoints": {"readWrite": endpoint},
            "network": {"namespace": "db", "podLabels": {}, "ports": [5432]}});
        if tls {
            server["tls"] = json!({"mode": "VerifyFull", "caSecret": "ca"});
        }
        serde_json::from_value(server).unwrap()
    }

    fn secret(data: serde_json::Value) -> Secret {
        serde_json::from_value(json!({"metadata": {}, "data": data})).unwrap()
    }

    fn refusal(engine: Engine, server: &Server, administrator: Option<&Secret>, authority: Option<&Secret>) -> String {
        build(engine, server, administrator, authority, (0, Terms::default())).err().unwrap().to_string()
    }

    #[test]
    fn each_fault_of_a_class_names_what_to_mend() {
        let admin = secret(json!({"username": "cGc=", "password": "cGc="}));
        let ca = secret(json!({"ca.crt": "Y2E="}));
        let good = server("pg.db.svc:5432", true);
        let fine = build(Engine::PostgreSQL, &good, Some(&admin), Some(&ca), (0, Terms::default()));
        assert_eq!(fine.ok().unwrap().address.port, 5432);
        assert!(refusal(Engine::PostgreSQL, &good, None, Some(&ca)).contains("Secret admin"));
        assert!(
            refusal(Engine::PostgreSQL, &good, Some(&secret(json!({"username": "cGc="}))), Some(&ca))
                .contains("key password")
        );
        assert!(refusal(Engine::PostgreSQL, &good, Some(&admin), None).contains("Secret ca"));
        assert!(refusal(Engine::PostgreSQL, &server("pg:5432", false), Some(&admin), None).contains("VerifyFull"));
        assert!(refusal(Engine::PostgreSQL, &server("pg:99999", true), Some(&admin), Some(&ca)).contains("host:port"));
        assert!(refusal(Engine::Kafka, &server("bus:9092", true), None, None).contains("take tls out"));
        assert!(build(Engine::Kafka, &server("bus:9092", false), None, None, (0, Terms::default())).is_ok());
    }
}
