//! What a Tenant refers to, as the cache has it.

use crate::controllers::database_claim::validate::placed;
use crate::kube::cache::Cache;
use kube::ResourceExt as _;
use paddock_crds::names;
use paddock_crds::v1alpha1::{DatabaseClaim, DatabaseClass, Environment, Release, Tenant};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Claims of an environment.
#[derive(Debug, Default)]
pub struct Claims {
    /// Those that have a server: they keep it, whatever class the Tenant names later.
    pub placed: Vec<Arc<DatabaseClaim>>,
    /// Whether there are some that cannot be decoded.
    pub unreadable: bool,
}

/// Objects that a Tenant or a claim of its environments names; what does not exist is absent.
#[derive(Debug, Default)]
pub struct References {
    /// Releases by name.
    pub releases: BTreeMap<String, Arc<Release>>,
    /// Database classes by name.
    pub classes: BTreeMap<String, Arc<DatabaseClass>>,
    /// Claims by environment.
    pub claims: BTreeMap<String, Claims>,
    /// Releases and classes that exist and cannot be decoded.
    pub unreadable: BTreeSet<String>,
}

impl References {
    /// What to say of a kind and name that is not among them.
    pub fn absent(&self, what: &str, advice: &str) -> String {
        if self.unreadable.contains(what) {
            format!("{what} cannot be read by this operator: correct it, or install the operator that knows its fields")
        } else {
            format!("{what} does not exist: {advice}")
        }
    }
}

/// Reads what the Tenant names, and where its claims are. No request is made (rule O1).
pub fn dereference(tenant: &Tenant, cache: &Cache) -> References {
    let environments = &tenant.spec.environments;
    let claims: BTreeMap<String, Claims> =
        environments.iter().map(|environment| (environment.name.clone(), claims(tenant, environment, cache))).collect();
    let named = environments.iter().flat_map(|e| &e.database_classes).map(|named| named.class_name.as_str());
    let held = claims.values().flat_map(|claims| &claims.placed).map(|claim| claim.spec.class_name.as_str());
    let classes: BTreeSet<&str> = named.chain(held).collect();
    let releases: BTreeSet<&str> = environments.iter().map(|e| e.release.as_str()).collect();
    let no_class = classes.iter().filter(|name| cache.is_unreadable::<DatabaseClass>(None, name));
    let no_release = releases.iter().filter(|name| cache.is_unreadable::<Release>(None, name));
    let unreadable = no_class.map(|name| format!("DatabaseClass {name}"));
    References {
        unreadable: unreadable.chain(no_release.map(|name| format!("Release {name}"))).collect(),
        releases: releases.iter().filter_map(|name| cache.get(None, name)).map(by_name).collect(),
        classes: classes.iter().filter_map(|name| cache.get(None, name)).map(by_name).collect(),
        claims,
    }
}

fn claims(tenant: &Tenant, environment: &Environment, cache: &Cache) -> Claims {
    let namespace = names::namespace(&tenant.name_any(), &environment.name);
    let all = cache.list_in::<DatabaseClaim>(&namespace);
    Claims {
        placed: all.into_iter().filter(|claim| placed(claim)).collect(),
        unreadable: cache.has_unreadable_in::<DatabaseClaim>(&namespace),
    }
}

fn by_name<K: kube::Resource>(object: Arc<K>) -> (String, Arc<K>) {
    (object.name_any(), object)
}
