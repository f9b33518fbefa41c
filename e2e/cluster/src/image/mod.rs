//! OCI images without a container engine: archives that are the same bytes for the same content.

mod archive;
mod layer;
mod libraries;
mod recipes;

pub use archive::{Archive, ImageConfig, LayerFile, write};
pub use layer::Layer;
pub use libraries::libraries_of;
pub use recipes::{Recipe, build};

/// The sandbox image, by the fixed name that containerd's configuration has.
pub(crate) const PAUSE: &str = "paddock.local/pause:1";

/// Every image is named `paddock.local/<name>:<first 12 digits of its digest>`.
pub const REGISTRY: &str = "paddock.local";
