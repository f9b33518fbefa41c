//! What a Tenant refers to, as the cache has it.

use crate::kube::cache::Cache;
use kube::ResourceExt as _;
use paddock_crds::v1alpha1::{DatabaseClass, Environment, Release, Tenant};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Objects that a Tenant names; what does not exist is absent.
#[derive(Debug, Default)]
pub struct References {
    /// Releases by name.
    pub releases: BTreeMap<String, Arc<Release>>,
    /// Database classes by name.
    pub classes: BTreeMap<String, Arc<DatabaseClass>>,
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

/// Reads what the Tenant names. No request is made (rule O1).
pub fn dereference(tenant: &Tenant, cache: &Cache) -> References {
    let environments = &tenant.spec.environments;
    let releases = environments.iter().filter_map(|e| cache.get::<Release>(None, &e.release));
    let classes = environments
        .iter()
        .flat_map(|e| &e.database_classes)
        .filter_map(|wanted| cache.get::<DatabaseClass>(None, &wanted.class_name));
    References {
        releases: releases.map(|r| (r.name_any(), r)).collect(),
        classes: classes.map(|c| (c.name_any(), c)).collect(),
        unreadable: environments.iter().flat_map(|e| unreadable(e, cache)).collect(),
    }
}

/// What of an environment's references cannot be decoded, by kind and name.
fn unreadable(environment: &Environment, cache: &Cache) -> Vec<String> {
    let classes = environment.database_classes.iter().map(|wanted| wanted.class_name.as_str());
    let classes = classes.filter(|name| cache.is_unreadable::<DatabaseClass>(None, name));
    let release = Some(environment.release.as_str()).filter(|name| cache.is_unreadable::<Release>(None, name));
    classes.map(|name| format!("DatabaseClass {name}")).chain(release.map(|name| format!("Release {name}"))).collect()
}
