//! Releases that could not be made when their claims went: the server was away. A claim's end never waits for a server; what is left
//! to do stands in a ConfigMap `release-…` of the operator's namespace and is done by the class's controller once the server answers.

use super::{server, writer::superseded};
use crate::controllers::{Ctx, Fault};
use crate::database::{DatabaseError, Identity, Writer};
use crate::kube::owner::{self, Purpose};
use crate::kube::{ChildKind, ObjectKey, apply, prune};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use paddock_crds::v1alpha1::DatabaseClass;
use std::collections::{BTreeMap, BTreeSet};

/// Label with the name of the class whose controller makes the release.
const PENDING: &str = "paddock.bet/pending-release";
/// Field manager concern.
const CONCERN: &str = "release";

/// A release to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Class of the claim.
    pub class: String,
    /// Server in the class.
    pub server: String,
    /// Whose it was.
    pub identity: Identity,
    /// uid of the claim that went.
    pub uid: String,
}

impl Pending {
    fn config_map(&self, namespace: &str) -> ConfigMap {
        let mut labels = owner::labels(&Purpose::default());
        labels.insert(PENDING.to_owned(), self.class.clone());
        let data = [
            ("server", &self.server),
            ("tenant", &self.identity.tenant),
            ("environment", &self.identity.environment),
            ("claim", &self.identity.claim),
            ("uid", &self.uid),
        ];
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(format!("release-{}", self.uid)),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect()),
            ..ConfigMap::default()
        }
    }

    fn read(class: &str, data: &BTreeMap<String, String>) -> Option<Self> {
        let get = |key: &str| data.get(key).cloned();
        Some(Self {
            class: class.to_owned(),
            server: get("server")?,
            identity: Identity { tenant: get("tenant")?, environment: get("environment")?, claim: get("claim")? },
            uid: get("uid")?,
        })
    }
}

/// The class whose controller makes the release that an object stands for.
pub(super) fn class_of(meta: &ObjectMeta) -> Option<&str> {
    meta.labels.as_ref()?.get(PENDING).map(String::as_str)
}

/// Writes down a release to be made later.
///
/// # Errors
/// What the apiserver answered.
pub async fn record(ctx: &Ctx, pending: &Pending) -> Result<(), Fault> {
    apply(ctx, CONCERN, &pending.config_map(&ctx.settings.operator_namespace)).await.map(|_| ())
}

/// Makes the releases that are pending for a class, and forgets those that are made. Answers with the first server's fault.
///
/// # Errors
/// What the apiserver answered.
pub async fn work_off(ctx: &Ctx, class: &DatabaseClass, writer: &Writer) -> Result<Option<DatabaseError>, Fault> {
    let namespace = ctx.settings.operator_namespace.as_str();
    let name = class.name_any();
    let labels = [(PENDING, name.as_str())];
    let mut keep = BTreeSet::new();
    let mut fault = None;
    let all = ctx.cache.children(ChildKind::ConfigMap, Some(namespace), &labels);
    if all.is_empty() {
        return Ok(None);
    }
    for object in &all {
        let data: BTreeMap<String, String> =
            object.data.get("data").and_then(|data| serde_json::from_value(data.clone()).ok()).unwrap_or_default();
        let Some(pending) = Pending::read(&name, &data) else { continue };
        let Some(server) = class.spec.servers.iter().find(|server| server.name == pending.server) else {
            // The server left the class: its logins are shut when it comes back.
            keep.insert(ObjectKey::new(ChildKind::ConfigMap, Some(namespace), &object.name_any()));
            continue;
        };
        ctx.leader.fence()?;
        let done = match server::handle(ctx, class, server).await? {
            Ok(handle) => handle.provisioner.release(&pending.identity, &pending.uid, writer).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) | Err(DatabaseError::OwnershipConflict { .. }) => {}
            Err(DatabaseError::Superseded { found, .. }) => return Err(superseded(ctx, found)),
            Err(error) => {
                keep.insert(ObjectKey::new(ChildKind::ConfigMap, Some(namespace), &object.name_any()));
                fault = fault.or(Some(error));
            }
        }
    }
    prune(ctx, &[ChildKind::ConfigMap], Some(namespace), &labels, &keep).await?;
    Ok(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_back() {
        let pending = Pending {
            class: "pg".into(),
            server: "a".into(),
            identity: Identity::new("acme", "prod", "db"),
            uid: "1".into(),
        };
        let object = pending.config_map("paddock-system");
        assert_eq!(Pending::read("pg", &object.data.unwrap()), Some(pending));
        assert_eq!(Pending::read("pg", &BTreeMap::new()), None);
    }
}
