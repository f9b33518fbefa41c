//! The books as the controllers' loop drives them: by namespace, each by one task at a time.

use super::book::{Books, tell};
use super::build::NAME;
use super::push::Pusher;
use crate::controllers::run::{Work, drive};
use crate::controllers::{Ctx, Fault, Outcome};
use crate::kube::{Cache, ChildKind};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use paddock_crds::labels;
use paddock_crds::v1alpha1::Market;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

type Key = ObjectRef<Namespace>;

/// Runs the controller until `stop`.
pub async fn start(ctx: Arc<Ctx>, stop: CancellationToken) {
    let books = match Pusher::new() {
        Ok(pusher) => Arc::new(Books::new(pusher)),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "no client for control ports: markets are not enforced"
            );
            return;
        }
    };
    let changes = changes(&ctx.cache, books.clone());
    drive(ctx, books, changes, stop).await;
}

/// A pass over a namespace.
pub struct Pass {
    namespace: String,
    superseded: CancellationToken,
}

impl Work for Books {
    const CONTROLLER: &'static str = "market";
    const DEADLINE: Duration = Duration::from_mins(1);
    type Unit = Namespace;
    type Item = Pass;

    fn all(&self, cache: &Cache) -> Vec<Key> {
        let namespaces = cache.children(ChildKind::Namespace, None, &[]);
        let namespaces = namespaces.iter().map(|namespace| Key::new(&namespace.name_any()));
        let markets = cache.list::<Market>();
        namespaces.chain(markets.iter().map(|market| of_market(market.namespace()))).collect()
    }

    fn find(&self, cache: &Cache, key: &Key) -> Option<Pass> {
        let namespace = key.name.clone();
        if cache.child(ChildKind::Namespace, None, &namespace).is_none()
            && cache.list_in::<Market>(&namespace).is_empty()
        {
            self.forget(&namespace);
            return None;
        }
        // From here on: a rule that changes before this is read by the pass.
        let superseded = self.begin(&namespace);
        Some(Pass { namespace, superseded })
    }

    async fn reconcile(&self, ctx: &Arc<Ctx>, pass: &Pass) -> Result<Outcome, Fault> {
        self.pass(ctx, &pass.namespace, &pass.superseded).await
    }

    async fn report(&self, ctx: &Ctx, pass: &Pass, fault: &Fault) -> Result<(), Fault> {
        tell(ctx, &pass.namespace, fault, &pass.superseded).await
    }

    /// Each Market has its own, with its status.
    async fn warn(&self, _: &Ctx, _: &Pass, _: &Fault) {}
}

fn of_market(namespace: Option<String>) -> Key {
    Key::new(&namespace.unwrap_or_default())
}

/// Namespaces that changed, or whose rules, book, pods that follow it, or token changed.
fn changes(cache: &Cache, books: Arc<Books>) -> impl Stream<Item = Key> + Send + 'static {
    let of = |namespace: Option<String>| namespace.map(|it| Key::new(&it)).into_iter().collect::<Vec<_>>();
    let rules = cache.own_changes::<Market>().map(move |market| {
        let key = of_market(market.namespace);
        books.supersede(&key.name);
        key
    });
    let namespaces = cache.on_child::<Namespace>(ChildKind::Namespace, |it| vec![Key::new(&it.name_any())]);
    let configs = cache.on_child::<Namespace>(ChildKind::ConfigMap, move |it| {
        of(it.namespace().filter(|_| it.metadata.name.as_deref() == Some(NAME)))
    });
    let pods = cache.on_child::<Namespace>(ChildKind::Pod, move |it| {
        of(it.namespace().filter(|_| it.labels().contains_key(labels::MARKET_BOOK)))
    });
    let tokens = cache.on_secret::<Namespace>(move |secret| of(secret.namespace()));
    futures::stream::select_all([rules.boxed(), namespaces.boxed(), configs.boxed(), pods.boxed(), tokens.boxed()])
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::market;
    use super::*;
    use serde_json::{Value, json};

    fn books() -> Arc<Books> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Arc::new(Books::new(Pusher::new().unwrap()))
    }

    #[tokio::test]
    async fn a_changed_rule_supersedes_the_pass_over_its_namespace() {
        let (cache, books) = (Cache::new(), books());
        let mut changes = changes(&cache, books.clone());
        let rule = market("a", 1, Value::Null);
        let namespace = rule.namespace().unwrap();
        let passes = [&namespace, "other"].map(|name| books.begin(name));
        cache.observe(rule);
        assert_eq!(changes.next().await, Some(Key::new(&namespace)));
        assert_eq!(passes.map(|superseded| superseded.is_cancelled()), [true, false]);
    }

    #[test]
    fn a_namespace_without_rules_that_has_gone_is_forgotten() {
        let (cache, books) = (Cache::new(), books());
        assert!(books.find(&cache, &Key::new("acme-prod")).is_none());
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme-prod", "resourceVersion": "1", "labels": {
                "app.kubernetes.io/managed-by": "paddock"
            }}
        });
        cache.observe_child(ChildKind::Namespace, serde_json::from_value(namespace).unwrap());
        assert_eq!(books.all(&cache), [Key::new("acme-prod")]);
        assert!(books.find(&cache, &Key::new("acme-prod")).is_some());
    }
}
