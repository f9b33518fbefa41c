//! Ending only what the Tenant as it is now does not want.
//!
//! A process that has just begun to lead may have a watch of Tenants that is behind, or dead without knowing it, beside one of services that
//! is not: what the newest spec added would then look like something to end.

use crate::controllers::Ctx;
use crate::fault::{Category, Fault};
use crate::kube::{ChildKind, ObjectKey, prune, unwanted};
use kube::{Api, ResourceExt as _};
use paddock_crds::v1alpha1::Tenant;
use std::collections::BTreeSet;
use tokio::sync::OnceCell;

/// A Tenant that a pass is made for, asked about once before the first thing ends in it.
pub struct Confirmed<'a> {
    ctx: &'a Ctx,
    tenant: &'a Tenant,
    asked: OnceCell<()>,
}

impl<'a> Confirmed<'a> {
    /// Nothing was asked yet.
    pub fn new(ctx: &'a Ctx, tenant: &'a Tenant) -> Self {
        Self { ctx, tenant, asked: OnceCell::new() }
    }

    /// The spec that the pass is made for is the newest.
    ///
    /// # Errors
    /// `Conflict` if it is not: the watch will tell, or has to be begun anew; or what the apiserver answered.
    pub async fn sure(&self) -> Result<(), Fault> {
        let ask = async || {
            let name = self.tenant.name_any();
            let api: Api<Tenant> = Api::all(self.ctx.client.clone());
            let live = api.get_metadata_opt(&name).await;
            let live = live.map_err(|error| Fault::of_request(&format!("reading Tenant {name}"), error))?;
            let (seen, behind) = (&self.tenant.metadata, "has changed since it was read; nothing was ended by it");
            match live {
                Some(live) if live.metadata.uid == seen.uid && live.metadata.generation == seen.generation => Ok(()),
                _ => Err(Fault::new(Category::Conflict, format!("Tenant {name} {behind}"))),
            }
        };
        self.asked.get_or_try_init(ask).await?;
        Ok(())
    }

    /// Deletes what [`prune`] deletes, once sure.
    ///
    /// # Errors
    /// As [`Self::sure`] and [`prune`].
    pub async fn prune(
        &self,
        kinds: &[ChildKind],
        namespace: &str,
        labels: &[(&str, &str)],
        keep: &BTreeSet<ObjectKey>,
    ) -> Result<(), Fault> {
        if !unwanted(self.ctx, kinds, Some(namespace), labels, keep)?.is_empty() {
            self.sure().await?;
            prune(self.ctx, kinds, Some(namespace), labels, keep).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use http::{Method, Request, Response};
    use kube::Client;
    use kube::client::Body;
    use paddock_crds::labels;
    use serde_json::json;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    fn tenant(generation: i64) -> Tenant {
        serde_json::from_value(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant",
            "metadata": {"name": "acme", "uid": "1", "generation": generation},
            "spec": {"displayName": "Acme", "licences": [], "currencies": [], "environments": []},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_tenant_that_was_read_too_early_ends_nothing() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let asked: Arc<Mutex<Vec<Method>>> = Arc::default();
        let log = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            log.lock().unwrap().push(request.method().clone());
            let answer = serde_json::to_vec(&tenant(8)).unwrap();
            async move { Ok::<_, Infallible>(Response::new(Body::from(answer))) }
        });
        let ctx = Ctx::detached(Client::new(service, "default"), Settings::default()).unwrap();
        let stale = tenant(7);
        let kinds = [ChildKind::ConfigMap];
        let selector = [(labels::TENANT, "acme")];
        let (nothing, confirmed) = (BTreeSet::new(), Confirmed::new(&ctx, &stale));
        confirmed.prune(&kinds, "acme-prod", &selector, &nothing).await.unwrap();
        assert!(asked.lock().unwrap().is_empty(), "nothing is to end, so nothing is asked");

        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "name": "a", "namespace": "acme-prod", "resourceVersion": "1", "uid": "2",
                "labels": {"app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme"},
            },
        });
        ctx.cache.observe_child(ChildKind::ConfigMap, serde_json::from_value(object).unwrap());
        let refused = confirmed.prune(&kinds, "acme-prod", &selector, &nothing).await.unwrap_err();
        assert_eq!((refused.category, asked.lock().unwrap().as_slice()), (Category::Conflict, &[Method::GET][..]));

        asked.lock().unwrap().clear();
        let current = tenant(8);
        Confirmed::new(&ctx, &current).prune(&kinds, "acme-prod", &selector, &nothing).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), [Method::GET, Method::DELETE]);
    }
}
