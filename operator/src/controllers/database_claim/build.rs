//! The binding Secrets of a claim: one per role, of a stable name, with the keys of docs/service-contract.md. Pure.

use super::dereference::Live;
use super::validate::Wanted;
use crate::controllers::database_class::server::Address;
use crate::database::{Login, Password};
use crate::kube::owner::{self, Purpose};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use paddock_crds::names::binding_secret;
use paddock_crds::v1alpha1::{Access, DatabaseClaim, Engine};
use std::collections::BTreeMap;

/// Key whose value changes when, and only when, another does.
const VERSION: &str = "version";

/// The password that the live Secret of a role holds.
pub fn known_password(live: Option<&Live>) -> Option<Password> {
    let Some(Live::Ours(secret)) = live else { return None };
    let bytes = secret.data.as_ref()?.get("password")?;
    Password::known(std::str::from_utf8(&bytes.0).ok()?)
}

/// The Secrets, in order of role. `logins` are those of the plan; `fresh_version` is what a changed content is called.
pub fn secrets(
    claim: &DatabaseClaim,
    wanted: &Wanted,
    address: &Address,
    logins: &[Login],
    live: &BTreeMap<String, Live>,
    mut fresh_version: impl FnMut() -> String,
) -> Vec<Secret> {
    let mut all: Vec<Secret> = claim
        .spec
        .roles
        .iter()
        .map(|role| {
            let content = match claim.spec.engine {
                Engine::PostgreSQL => {
                    let login = logins.iter().find(|login| login.role == role.name);
                    login.map(|login| postgresql(wanted, address, login)).unwrap_or_default()
                }
                Engine::Kafka => kafka(wanted, address, &role.name),
            };
            secret(claim, wanted, &role.name, content, live.get(&role.name), &mut fresh_version)
        })
        .collect();
    all.sort_by_key(Secret::name_any);
    all
}

fn postgresql(wanted: &Wanted, address: &Address, login: &Login) -> BTreeMap<&'static str, String> {
    let database = wanted.identity.database();
    let username = wanted.identity.login(&login.role, login.access);
    let password = login.password.expose().to_owned();
    let Address { host, port, ca } = address;
    // Every part is of letters, digits, `-` and `_`: nothing to escape.
    let uri = format!("postgresql://{username}:{password}@{host}:{port}/{database}?sslmode=verify-full");
    BTreeMap::from([
        ("type", "postgresql".to_owned()),
        ("provider", "paddock".to_owned()),
        ("host", host.clone()),
        ("port", port.to_string()),
        ("database", database),
        ("username", username),
        ("password", password),
        ("uri", uri),
        ("sslmode", "verify-full".to_owned()),
        ("ca.crt", ca.clone()),
    ])
}

fn kafka(wanted: &Wanted, address: &Address, role: &str) -> BTreeMap<&'static str, String> {
    let topics = wanted.topic_names.get(role).cloned().unwrap_or_default();
    BTreeMap::from([
        ("type", "kafka".to_owned()),
        ("provider", "paddock".to_owned()),
        ("bootstrap-servers", format!("{}:{}", address.host, address.port)),
        ("security-protocol", "PLAINTEXT".to_owned()),
        ("group-prefix", format!("{}{role}.", wanted.identity.topic_prefix())),
        ("topics", serde_json::to_string(&topics).unwrap_or_default()),
    ])
}

fn secret(
    claim: &DatabaseClaim,
    wanted: &Wanted,
    role: &str,
    content: BTreeMap<&'static str, String>,
    live: Option<&Live>,
    fresh_version: &mut impl FnMut() -> String,
) -> Secret {
    let name = claim.name_any();
    let mut data: BTreeMap<String, ByteString> =
        content.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect();
    let version = kept_version(&data, live).unwrap_or_else(fresh_version);
    data.insert(VERSION.to_owned(), ByteString(version.into_bytes()));
    let purpose = Purpose {
        tenant: Some(&wanted.identity.tenant),
        environment: Some(&wanted.identity.environment),
        claim: Some(&name),
        ..Purpose::default()
    };
    Secret {
        metadata: ObjectMeta {
            name: Some(binding_secret(&name, role)),
            namespace: claim.namespace(),
            labels: Some(owner::labels(&purpose)),
            owner_references: owner::controller_reference(claim).map(|reference| vec![reference]),
            ..ObjectMeta::default()
        },
        type_: Some(
            match claim.spec.engine {
                Engine::PostgreSQL => "servicebinding.io/postgresql",
                Engine::Kafka => "servicebinding.io/kafka",
            }
            .to_owned(),
        ),
        data: Some(data),
        ..Secret::default()
    }
}

/// The live version, if all that we write is as it was. Keys that others added do not count: they go.
fn kept_version(data: &BTreeMap<String, ByteString>, live: Option<&Live>) -> Option<String> {
    let Some(Live::Ours(secret)) = live else { return None };
    let live = secret.data.as_ref()?;
    if data.iter().any(|(key, value)| live.get(key) != Some(value)) {
        return None;
    }
    String::from_utf8(live.get(VERSION)?.0.clone()).ok().filter(|version| !version.is_empty())
}

/// The logins of a PostgreSQL claim: with the password of the live Secret where there is one.
pub fn logins(
    claim: &DatabaseClaim,
    live: &BTreeMap<String, Live>,
) -> Result<Vec<Login>, crate::database::scram::NoRandomness> {
    let of_role = |role: &paddock_crds::v1alpha1::ClaimRole| {
        let password = match known_password(live.get(&role.name)) {
            Some(password) => password,
            None => Password::generate()?,
        };
        Ok(Login { role: role.name.clone(), access: role.access.unwrap_or(Access::ReadOnly), password })
    };
    match claim.spec.engine {
        Engine::PostgreSQL => claim.spec.roles.iter().map(of_role).collect(),
        Engine::Kafka => Ok(Vec::new()),
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // json!(…) as an argument
#[path = "build_tests.rs"]
mod tests;
