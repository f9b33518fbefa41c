//! The staff issuer of the demo: a key pair, its JWKS document, and tokens. Services know the public half only.

use anyhow::{Context as _, Result};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Issuer claim of the demo's tokens, as in `examples/21-acme.yaml`.
pub const ISSUER: &str = "https://staff.localhost";
/// Audience claim.
pub const AUDIENCE: &str = "paddock";

/// Signs tokens for staff.
pub struct StaffIssuer {
    key: KeyPair,
}

impl StaffIssuer {
    /// The issuer whose key is in `folder`, made on first use.
    pub fn open_or_create(folder: &Path) -> Result<Self> {
        let file = folder.join("staff.key");
        if let Ok(pem) = fs::read_to_string(&file) {
            return Ok(Self { key: KeyPair::from_pem(&pem).context("staff.key is damaged: delete it")? });
        }
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        fs::create_dir_all(folder)?;
        let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file)?;
        std::io::Write::write_all(&mut out, key.serialize_pem().as_bytes())?;
        Ok(Self { key })
    }

    /// The public half as a JWKS document (RFC 7517, RFC 8037).
    pub fn jwks(&self) -> String {
        let x = BASE64URL_NOPAD.encode(self.key.der_bytes());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "demo", "x": x}]})
            .to_string()
    }

    /// A token of ten minutes for a member of staff.
    pub fn token(&self, name: &str, role: &str, tenant: &str, environment: &str) -> Result<String> {
        let now = jiff::Timestamp::now().as_second();
        let claims: Value = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": name, "iat": now, "nbf": now - 5, "exp": now + 600,
            "roles": [role], "tenant": tenant, "environment": environment,
        });
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("demo".into());
        Ok(encode(&header, &claims, &EncodingKey::from_ed_der(&self.key.serialize_der()))?)
    }
}
