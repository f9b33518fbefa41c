//! An issuer of ServiceAccount tokens for tests: what a cluster's apiserver is to pods, with a key of its own.

use std::path::Path;

use anyhow::Context as _;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// The issuer's name in its tokens.
pub const ISSUER: &str = "https://kubernetes.default.svc";

/// Signs tokens with a P-256 key that nobody else has.
pub struct Issuer {
    key_id: String,
    key: EncodingKey,
}

impl Issuer {
    /// An issuer with a new key of this id.
    pub fn new(key_id: &str) -> anyhow::Result<Self> {
        let key = EncodingKey::from_ec_der(&KeyPair::generate()?.serialize_der());
        Ok(Self { key_id: key_id.to_owned(), key })
    }

    /// The public half of the key.
    pub fn jwk(&self) -> anyhow::Result<Value> {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256)?;
        jwk.common.key_id = Some(self.key_id.clone());
        Ok(serde_json::to_value(jwk)?)
    }

    /// Writes the files that a pod finds in `/token-issuer`.
    pub fn publish(&self, folder: &Path) -> anyhow::Result<()> {
        publish(folder, &[self.jwk()?])
    }

    /// The claims of a token as the apiserver makes it for a pod.
    pub fn claims(namespace: &str, account: &str, audience: &str) -> Value {
        let now = jiff::Timestamp::now().as_second();
        json!({
            "iss": ISSUER, "aud": [audience], "iat": now, "nbf": now, "exp": now + 3600, "jti": "1",
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account, "uid": "u1"},
                "pod": {"name": format!("{account}-1"), "uid": "u2"},
            },
        })
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &self.key).context("claims cannot be signed")
    }

    /// A token of a ServiceAccount for an audience.
    pub fn token(&self, namespace: &str, account: &str, audience: &str) -> anyhow::Result<String> {
        self.sign(&Self::claims(namespace, account, audience))
    }
}

/// Writes the files that a pod finds in `/token-issuer`, with these keys.
pub fn publish(folder: &Path, keys: &[Value]) -> anyhow::Result<()> {
    std::fs::write(folder.join("issuer"), ISSUER)?;
    std::fs::write(folder.join("jwks.json"), json!({"keys": keys}).to_string())?;
    Ok(())
}
