//! Generates what is committed: CRDs, RBAC, references, OpenAPI.

fn main() {}
