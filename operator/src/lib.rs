//! The Paddock operator.
