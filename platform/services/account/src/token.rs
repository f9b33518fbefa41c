//! Session tokens: 256 random bits, opaque; only their digest is ever stored.

use data_encoding::BASE64URL_NOPAD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

const BYTES: usize = 32;

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes: check /dev/urandom")]
pub struct NoRandomness;

/// A new token.
pub fn create() -> Result<SecretString, NoRandomness> {
    let mut bytes = [0; BYTES];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(BASE64URL_NOPAD.encode(&bytes).into())
}

/// The digest of a token; `None` for text that is no token.
pub fn digest(token: &SecretString) -> Option<[u8; 32]> {
    let bytes = BASE64URL_NOPAD.decode(token.expose_secret().as_bytes()).ok()?;
    (bytes.len() == BYTES).then(|| Sha256::digest(&bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_have_a_digest() {
        let (one, other) = (create().unwrap(), create().unwrap());
        assert_ne!(one.expose_secret(), other.expose_secret());
        assert_ne!(digest(&one), digest(&other));
        assert_eq!(digest(&one), digest(&one));
        for text in ["", "short", "not base64 !", "AAAA"] {
            assert_eq!(digest(&text.into()), None, "{text}");
        }
    }
}
