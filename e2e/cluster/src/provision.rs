//! Volumes of the default StorageClass: a folder per claim on the one node, made when the claim asks, removed with it.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{
        LocalVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, PersistentVolume,
        PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, PostParams},
    runtime::{Controller, controller::Action, watcher},
};

use crate::{
    config::NODE_NAME,
    error::{Doing as _, Error, Result},
    forward::client_of,
    paths::{self, Paths},
};

/// The name that the StorageClass has for this program.
pub(crate) const PROVISIONER: &str = "paddock.bet/local-folder";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// What the control plane writes on a claim that waits for us.
const WANTED_FROM: &str = "volume.kubernetes.io/storage-provisioner";

struct Context {
    client: Client,
    folder: PathBuf,
}

/// Provisions until it is killed.
pub async fn run(paths: &Paths) -> Result<()> {
    let client = client_of(&paths::read(&paths.file("admin.kubeconfig"))?).await?;
    let context = Arc::new(Context { client: client.clone(), folder: paths.file("volumes") });
    fs::create_dir_all(&context.folder).doing(|| "create the folder of volumes".into())?;
    let claims = Controller::new(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default()).run(
        provision,
        retry,
        Arc::clone(&context),
    );
    let volumes =
        Controller::new(Api::<PersistentVolume>::all(client), watcher::Config::default()).run(reclaim, retry, context);
    tokio::join!(claims.for_each(|_| async {}), volumes.for_each(|_| async {}));
    Ok(())
}

fn retry<K>(_: Arc<K>, error: &Error, _: Arc<Context>) -> Action {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{error}");
    Action::requeue(Duration::from_secs(2))
}

/// Makes folder and volume for a claim that waits; the control plane binds them.
async fn provision(claim: Arc<PersistentVolumeClaim>, context: Arc<Context>) -> Result<Action> {
    let Some(volume) = volume_for(&claim, &context.folder) else { return Ok(Action::await_change()) };
    let folder = context.folder.join(volume.name_any());
    fs::create_dir_all(&folder).doing(|| format!("create {}", folder.display()))?;
    // Any user of the pod may write; `fsGroup` narrows it further.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).doing(|| format!("open {}", folder.display()))?;
    match Api::all(context.client.clone()).create(&PostParams::default(), &volume).await {
        Ok(_) => {}
        // Made by an earlier attempt.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Action::await_change())
}

/// The volume that a claim wants from us; none if it wants none, or has one.
fn volume_for(claim: &PersistentVolumeClaim, folder: &std::path::Path) -> Option<PersistentVolume> {
    let spec = claim.spec.as_ref()?;
    let wanted = claim.annotations().get(WANTED_FROM).is_some_and(|name| name == PROVISIONER);
    if !wanted
        || spec.volume_name.as_ref().is_some_and(|name| !name.is_empty())
        || claim.meta().deletion_timestamp.is_some()
    {
        return None;
    }
    let name = format!("pvc-{}", claim.uid()?);
    let capacity = spec.resources.as_ref().and_then(|resources| resources.requests.clone());
    let here = NodeSelectorRequirement {
        key: "kubernetes.io/hostname".into(),
        operator: "In".into(),
        values: Some(vec![NODE_NAME.into()]),
    };
    let terms = vec![NodeSelectorTerm { match_expressions: Some(vec![here]), match_fields: None }];
    Some(PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some(BTreeMap::from([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes.clone(),
            capacity: capacity.or_else(|| Some(BTreeMap::from([("storage".to_owned(), Quantity("1Gi".into()))]))),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("PersistentVolumeClaim".into()),
                namespace: claim.namespace(),
                name: Some(claim.name_any()),
                uid: claim.uid(),
                ..ObjectReference::default()
            }),
            local: Some(LocalVolumeSource { path: folder.join(&name).to_string_lossy().into_owned(), fs_type: None }),
            node_affinity: Some(VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: terms }) }),
            persistent_volume_reclaim_policy: Some("Delete".into()),
            storage_class_name: spec.storage_class_name.clone(),
            volume_mode: Some("Filesystem".into()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    })
}

/// Removes a volume of ours whose claim is gone, with its folder.
async fn reclaim(volume: Arc<PersistentVolume>, context: Arc<Context>) -> Result<Action> {
    let ours = volume.annotations().get(PROVISIONED_BY).is_some_and(|name| name == PROVISIONER);
    let released = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released");
    let delete =
        volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()) == Some("Delete");
    if !(ours && released && delete) || volume.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let folder = context.folder.join(volume.name_any());
    match fs::remove_dir_all(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).doing(|| format!("remove {}", folder.display())),
    }
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    match volumes.delete(&volume.name_any(), &DeleteParams::default()).await {
        Ok(_) => Ok(Action::await_change()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Action::await_change()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn claim(change: impl FnOnce(&mut PersistentVolumeClaim)) -> PersistentVolumeClaim {
        let mut claim: PersistentVolumeClaim = serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": "a", "uid": "u1", "annotations": {WANTED_FROM: PROVISIONER}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                     "resources": {"requests": {"storage": "2Gi"}}},
        }))
        .unwrap();
        change(&mut claim);
        claim
    }

    #[test]
    fn a_waiting_claim_gets_a_volume_that_only_it_can_bind() {
        let volume = volume_for(&claim(|_| {}), Path::new("/v")).unwrap();
        let spec = volume.spec.unwrap();
        assert_eq!(spec.local.unwrap().path, "/v/pvc-u1");
        assert_eq!(spec.claim_ref.unwrap().uid.as_deref(), Some("u1"));
        assert_eq!(spec.capacity.unwrap()["storage"].0, "2Gi");
    }

    #[test]
    fn other_claims_are_left_alone() {
        let bound = claim(|claim| claim.spec.as_mut().unwrap().volume_name = Some("pv".into()));
        let foreign = claim(|claim| {
            claim.annotations_mut().insert(WANTED_FROM.into(), "other".into());
        });
        let unannotated = claim(|claim| claim.metadata.annotations = None);
        for left in [bound, foreign, unannotated] {
            assert!(volume_for(&left, Path::new("/v")).is_none());
        }
    }
}
