//! Event envelope, topics and payload schemas.
