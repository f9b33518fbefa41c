//! What wakes the controller beside the services themselves.

use super::build::migration::{MIGRATES, service_of};
use crate::kube::{Cache, ChildKind};
use futures::{Stream, StreamExt as _};
use kube::api::DynamicObject;
use kube::runtime::reflector::ObjectRef;
use paddock_crds::labels;
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, Tenant};

type Key = ObjectRef<BettingService>;

/// Services whose own objects, claims, bindings, environment or listeners changed.
pub fn triggers(cache: &Cache) -> impl Stream<Item = Key> + Send + 'static {
    let claims = cache.on::<DatabaseClaim, BettingService>(of_claim);
    let reader = cache.clone();
    let bindings = cache.on_secret::<BettingService>(move |secret| {
        let namespace = secret.metadata.namespace.as_deref();
        let claim = secret.metadata.labels.as_ref().and_then(|labels| labels.get(labels::CLAIM));
        let claim = claim.and_then(|name| reader.get::<DatabaseClaim>(namespace, name));
        claim.map(|claim| of_claim(&claim)).unwrap_or_default()
    });
    let reader = cache.clone();
    let tenants = cache.on_intent::<Tenant, BettingService>(move |tenant| {
        let name = tenant.metadata.name.as_deref().unwrap_or_default();
        let environments = tenant.spec.environments.iter();
        environments.flat_map(|it| of_namespace(&reader, &paddock_crds::names::namespace(name, &it.name))).collect()
    });
    let reader = cache.clone();
    let namespaces = cache.on_child::<BettingService>(ChildKind::Namespace, move |namespace| {
        of_namespace(&reader, namespace.metadata.name.as_deref().unwrap_or_default())
    });
    let reader = cache.clone();
    let listeners = cache.on_child::<BettingService>(ChildKind::ListenerSet, move |listeners: &DynamicObject| {
        of_namespace(&reader, listeners.metadata.namespace.as_deref().unwrap_or_default())
    });
    let migrations = cache.on_child::<BettingService>(ChildKind::Pod, |pod| of_migration(pod).into_iter().collect());
    futures::stream::select_all([
        cache.subscribe::<BettingService>().boxed(),
        claims.boxed(),
        bindings.boxed(),
        tenants.boxed(),
        namespaces.boxed(),
        listeners.boxed(),
        migrations.boxed(),
    ])
}

/// A role is called like the service that uses it. The `migrate` role belongs to one of them; all look.
fn of_claim(claim: &DatabaseClaim) -> Vec<Key> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    claim.spec.roles.iter().map(|role| Key::new(&role.name).within(namespace)).collect()
}

/// The service of a migration Job's pod.
fn of_migration(pod: &DynamicObject) -> Option<Key> {
    let labels = pod.metadata.labels.as_ref().filter(|labels| labels.contains_key(MIGRATES))?;
    let service = service_of(labels.get(labels::INSTANCE)?)?;
    Some(Key::new(service).within(pod.metadata.namespace.as_deref()?))
}

fn of_namespace(cache: &Cache, namespace: &str) -> Vec<Key> {
    cache.list_in::<BettingService>(namespace).iter().map(|it| Key::from_obj(it.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::{betting_service, tenant};
    use super::*;
    use futures::FutureExt as _;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn a_claim_and_a_tenant_wake_the_services_that_depend_on_them() {
        let cache = Cache::new();
        cache.observe(betting_service(Value::Null));
        let mut stream = Box::pin(triggers(&cache));
        let odds = Key::new("odds").within("acme-prod");
        let claim: DatabaseClaim = serde_json::from_value(json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim",
            "metadata": {"name": "bus", "namespace": "acme-prod", "uid": "1", "resourceVersion": "1"},
            "spec": {"engine": "Kafka", "className": "bus", "roles": [{"name": "odds", "topics": {}}]}
        }))
        .unwrap();
        cache.observe(claim);
        assert_eq!(stream.next().now_or_never().flatten(), Some(odds.clone()));
        assert!(stream.next().now_or_never().is_none());
        cache.observe(tenant());
        assert_eq!(stream.next().now_or_never().flatten(), Some(odds));
    }

    #[test]
    fn a_pod_of_a_migration_wakes_its_service() {
        let pod = |labels: Value| {
            serde_json::from_value::<DynamicObject>(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "acme-prod", "labels": labels}
            }))
            .unwrap()
        };
        let labels = json!({"paddock.bet/migrates": "rates", "app.kubernetes.io/instance": "odds-migrate"});
        assert_eq!(of_migration(&pod(labels)), Some(Key::new("odds").within("acme-prod")));
        assert_eq!(of_migration(&pod(json!({"app.kubernetes.io/instance": "odds-migrate"}))), None);
    }
}
