//! What a Tenant refers to, as the cache has it.

use crate::kube::cache::Cache;
use kube::ResourceExt as _;
use paddock_crds::v1alpha1::{DatabaseClass, Release, Tenant};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Objects that a Tenant names; what does not exist is absent.
#[derive(Debug, Default)]
pub struct References {
    /// Releases by name.
    pub releases: BTreeMap<String, Arc<Release>>,
    /// Database classes by name.
    pub classes: BTreeMap<String, Arc<DatabaseClass>>,
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
    }
}
