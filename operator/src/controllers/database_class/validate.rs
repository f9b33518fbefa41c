//! What of a class can be judged without asking its servers.

use kube::ResourceExt as _;
use paddock_crds::v1alpha1::DatabaseClass;
use std::sync::Arc;

/// Another class of the other environment class that names a server of this one: Production and NonProduction would meet on it.
pub fn shared_with<'a>(class: &DatabaseClass, all: &'a [Arc<DatabaseClass>]) -> Option<&'a Arc<DatabaseClass>> {
    all.iter().find(|other| share(class, other))
}

/// Whether two classes of different environment classes name the same server.
pub fn share(one: &DatabaseClass, other: &DatabaseClass) -> bool {
    let named = |endpoint: &str| other.spec.servers.iter().any(|server| server.endpoints.read_write == endpoint);
    one.name_any() != other.name_any()
        && one.spec.environment_class != other.spec.environment_class
        && one.spec.servers.iter().any(|server| named(&server.endpoints.read_write))
}
