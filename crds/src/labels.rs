//! Labels, annotations and the finalizer that users see.

use crate::v1alpha1::Engine;

/// Label: name of the application, here the component.
pub const NAME: &str = "app.kubernetes.io/name";
/// Label: the instance, here the object that asked for this one.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label: component of a Release (`rates`, `account`, …).
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Label: version of the Release.
pub const VERSION: &str = "app.kubernetes.io/version";
/// Label: the larger application, always [`PART_OF_PADDOCK`].
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Label: who manages the object, [`MANAGED_BY_PADDOCK`] on everything that is ours. Without it nothing is ever taken over (rule O9).
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`PART_OF`].
pub const PART_OF_PADDOCK: &str = "paddock";
/// Value of [`MANAGED_BY`].
pub const MANAGED_BY_PADDOCK: &str = "paddock";
/// Label: the Tenant's name.
pub const TENANT: &str = "paddock.bet/tenant";
/// Label: the environment's name within its Tenant.
pub const ENVIRONMENT: &str = "paddock.bet/environment";
/// Label: class of the environment, `Production` or `NonProduction`.
pub const CLASS: &str = "paddock.bet/class";
/// Label: the component that the object serves.
pub const COMPONENT: &str = "paddock.bet/component";
/// Label: the revision's hash; also in every selector of a revision's Deployment.
pub const REVISION: &str = "paddock.bet/revision";
/// Label: the DatabaseClaim that an object belongs to.
pub const CLAIM: &str = "paddock.bet/claim";
/// Label on claims: who asked for it first, [`ORIGIN_RELEASE`] or [`ORIGIN_HAND`]. Services of the one never get a login of the other's.
pub const ORIGIN: &str = "paddock.bet/origin";
/// Value of [`ORIGIN`]: components of the environment's Release.
pub const ORIGIN_RELEASE: &str = "release";
/// Value of [`ORIGIN`]: services that people of the tenant made by hand.
pub const ORIGIN_HAND: &str = "hand";
/// Label on pods that follow the market book.
pub const MARKET_BOOK: &str = "paddock.bet/market-book";
/// Label on namespaces and pods that may be reached by Gateway proxies (pods of a component with a route).
pub const ROUTED: &str = "paddock.bet/routed";
/// Finalizer of every kind that has something to clean up.
pub const FINALIZER: &str = "paddock.bet/cleanup";

/// Label on pods that have a binding of an engine: NetworkPolicies let them, and no others, out to its servers.
pub const fn needs(engine: Engine) -> &'static str {
    match engine {
        Engine::PostgreSQL => "paddock.bet/needs-postgresql",
        Engine::Kafka => "paddock.bet/needs-kafka",
    }
}
