//! What the pods of an environment check each other's tokens with.

use super::{Identity, kinds};
use crate::issuer::{IssuerKeys, TOKEN_ISSUER};
use kube::api::DynamicObject;
use serde_json::json;

/// The ConfigMap with the issuer and its public keys, mounted by every pod that serves port `http`.
pub fn token_issuer(identity: &Identity, keys: &IssuerKeys) -> DynamicObject {
    let data = json!({"issuer": keys.issuer, "jwks.json": keys.jwks});
    identity.object(kinds::CONFIG_MAP, TOKEN_ISSUER, json!({"data": data}))
}
