//! What a controller needs of Kubernetes: cached reads, server-side apply that is silent at rest, pruning, status, conditions, events.

pub mod apply;
pub mod cache;
pub mod child;
pub mod client;
pub mod compare;
pub mod conditions;
pub mod events;
pub mod fields;
pub mod finalizer;
pub mod owner;
pub mod prune;
mod quantity;
mod secret;
pub mod status;
pub mod store;
pub mod trigger;

pub use apply::apply;
pub use cache::Cache;
pub use child::{ChildKind, ObjectKey};
pub use conditions::Conditions;
pub use events::Events;
pub use prune::{end, prune, unwanted};
pub use secret::secret;
pub use status::write_status;
