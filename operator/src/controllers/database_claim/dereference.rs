//! What a claim refers to, as last seen: its environment, its class, its Secrets, who needs it.

use crate::controllers::{Ctx, Fault};
use crate::kube::cache::is_ours;
use crate::kube::{ChildKind, secret};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use paddock_crds::labels;
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, DatabaseClass, EnvironmentClass, Tenant};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The environment that a namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Its Tenant.
    pub tenant: String,
    /// Its name within the Tenant.
    pub name: String,
    /// Its class.
    pub class: EnvironmentClass,
    /// The DatabaseClasses that its Tenant names for it; none if the Tenant is gone, cannot be read, or has dropped it.
    pub classes: Vec<String>,
}

/// A Secret of a binding's name.
#[derive(Clone, Debug)]
pub enum Live {
    /// It does not exist.
    Absent,
    /// It is the binding of this claim.
    Ours(Box<Secret>),
    /// It exists and is not: says what is there.
    Foreign(&'static str),
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// `None` if the namespace is no environment.
    pub environment: Option<Environment>,
    /// The class.
    pub class: Option<Arc<DatabaseClass>>,
    /// All classes, to see servers that two of them name.
    pub classes: Vec<Arc<DatabaseClass>>,
    /// Claims of all namespaces, to see how full servers are.
    pub claims: Vec<Arc<DatabaseClaim>>,
    /// Services of the namespace.
    pub services: Vec<Arc<BettingService>>,
    /// Secrets by role.
    pub secrets: BTreeMap<String, Live>,
}

/// Reads it all, from the cache but for Secrets that it does not hold.
///
/// # Errors
/// What the apiserver answered.
pub async fn dereference(ctx: &Ctx, claim: &DatabaseClaim) -> Result<Found, Fault> {
    let namespace = claim.namespace().unwrap_or_default();
    let classes = ctx.cache.list::<DatabaseClass>();
    let environment = environment(ctx, &namespace);
    let mut secrets = BTreeMap::new();
    if environment.is_some() {
        for role in &claim.spec.roles {
            let name = paddock_crds::names::binding_secret(&claim.name_any(), &role.name);
            secrets.insert(role.name.clone(), binding(ctx, &namespace, &name, &claim.name_any()).await?);
        }
    }
    Ok(Found {
        environment,
        class: classes.iter().find(|class| class.name_any() == claim.spec.class_name).cloned(),
        classes,
        claims: ctx.cache.list::<DatabaseClaim>(),
        services: ctx.cache.list_in::<BettingService>(&namespace),
        secrets,
    })
}

/// The environment that `namespace` is, by the labels that only the Tenant controller sets, and what its Tenant says of it.
pub fn environment(ctx: &Ctx, namespace: &str) -> Option<Environment> {
    let object = ctx.cache.child(ChildKind::Namespace, None, namespace)?;
    let label = |name: &str| object.labels().get(name);
    let (tenant, name) = (label(labels::TENANT)?, label(labels::ENVIRONMENT)?);
    let class = label(labels::CLASS)?.parse().ok()?;
    (paddock_crds::names::namespace(tenant, name) == namespace).then(|| Environment {
        tenant: tenant.clone(),
        name: name.clone(),
        class,
        classes: classes(ctx, tenant, name),
    })
}

fn classes(ctx: &Ctx, tenant: &str, environment: &str) -> Vec<String> {
    let tenant = ctx.cache.get::<Tenant>(None, tenant);
    let environments = tenant.iter().flat_map(|tenant| &tenant.spec.environments);
    let found = environments.filter(|found| found.name == environment).flat_map(|found| &found.database_classes);
    found.map(|named| named.class_name.clone()).collect()
}

async fn binding(ctx: &Ctx, namespace: &str, name: &str, claim: &str) -> Result<Live, Fault> {
    let found = secret(ctx, namespace, name).await?;
    Ok(match found {
        None => Live::Absent,
        Some(secret) if !is_ours(&secret.metadata) => Live::Foreign("was not made by the operator"),
        Some(secret) if secret.labels().get(labels::CLAIM).map(String::as_str) != Some(claim) => {
            Live::Foreign("is the binding of another claim")
        }
        Some(secret) => Live::Ours(Box::new(Arc::unwrap_or_clone(secret))),
    })
}
