//! Idempotency of money-moving requests (rule B2): the key is stored with the effect, in its transaction.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Problem;

/// The `Idempotency-Key` header: 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub String);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let text = parts.headers.get("idempotency-key").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if text.is_empty() || text.len() > 128 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Problem::bad_request(
                "idempotency-key-missing",
                "send an Idempotency-Key header of 1 to 128 visible characters, the same when you repeat the request",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// SHA-256 of a body's canonical JSON (keys sorted): two requests with the same fingerprint ask for the same thing.
pub fn fingerprint(body: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    // serde_json's maps are ordered, so going through a value sorts the keys.
    let canonical = serde_json::to_vec(&serde_json::to_value(body)?)?;
    Ok(Sha256::digest(&canonical).to_vec())
}

/// What a stored fingerprint says about a request that comes with its key.
pub fn check_same(stored: &[u8], now: &[u8]) -> Result<(), Problem> {
    if stored == now { Ok(()) } else { Err(Problem::idempotency_key_reused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_does_not_matter_but_values_do() {
        let read = |text: &str| fingerprint(&serde_json::from_str::<serde_json::Value>(text).unwrap()).unwrap();
        let stored = read(r#"{"amount":"5.00","to":{"a":1,"b":2}}"#);
        assert!(check_same(&stored, &read(r#"{"to":{"b":2,"a":1},"amount":"5.00"}"#)).is_ok());
        let other = check_same(&stored, &read(r#"{"to":{"b":2,"a":1},"amount":"5.01"}"#)).unwrap_err();
        assert_eq!((other.status().as_u16(), other.code()), (422, "idempotency-key-reused"));
    }
}
