//! Who the operator is to a database server: the cluster and the term of its leadership (rule O5).

use crate::controllers::{Category, Ctx, Fault};
use crate::database::Writer;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

/// The writer of this moment.
///
/// # Errors
/// `NotLeader`, or what the apiserver answered.
pub async fn writer(ctx: &Ctx) -> Result<Writer, Fault> {
    let epoch = ctx.leader.fence()?;
    let cluster = ctx.cluster.get_or_try_init(|| cluster(ctx)).await?.clone();
    Ok(Writer { cluster, epoch: i64::try_from(epoch).unwrap_or(i64::MAX) })
}

/// What becomes of a reconcile that met a later term than ours on a server. Whose term counts is for the lease to say: if it is still
/// ours its next renewal passes that term, and the work is done again; else the election ends this process.
pub fn superseded(ctx: &Ctx, found: i64) -> Fault {
    ctx.leader.exceed(u64::try_from(found).unwrap_or_default());
    Fault::new(Category::NotLeader, format!("a server knows term {found}, which this process does not lead"))
}

/// The uid of namespace `kube-system`, which lives as long as the cluster.
async fn cluster(ctx: &Ctx) -> Result<String, Fault> {
    let api: Api<Namespace> = Api::all(ctx.client.clone());
    let namespace =
        api.get("kube-system").await.map_err(|error| Fault::of_request("reading Namespace kube-system", error))?;
    namespace
        .metadata
        .uid
        .ok_or_else(|| Fault::new(Category::ServerError, "Namespace kube-system has no uid; it is tried again"))
}
