//! Condition types and the reasons that every kind shares. Reasons are part of the API: tools match on them.

/// What is served is healthy.
pub const READY: &str = "Ready";
/// Present only when True: the operator is working towards the spec.
pub const RECONCILING: &str = "Reconciling";
/// Present only when True: no progress until someone changes something; its reason says what.
pub const STALLED: &str = "Stalled";
