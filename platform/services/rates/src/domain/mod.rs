//! What rates decides, without I/O: state of events and lines, the offer made from it, results.

mod event;
mod offer;
mod results;

pub use event::{Change, EventState, LineState};
pub use offer::{Conditions, differs, offer};
pub use results::{Fact, fold};
