//! Passwords of logins.

use super::scram::{NoRandomness, random};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;

/// A password of a login; prints as nothing.
#[derive(Clone)]
pub struct Password(SecretString);

impl Password {
    /// 32 random bytes, as text that needs no escaping in a URI.
    pub fn generate() -> Result<Self, NoRandomness> {
        Ok(Self(data_encoding::BASE64URL_NOPAD.encode(&random::<32>()?).into()))
    }

    /// A password that was generated earlier. `None` if it is too short, or holds what a generated one never does: then somebody
    /// else wrote it and a new one is due.
    pub fn known(text: &str) -> Option<Self> {
        let bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        (bytes.len() == 32).then(|| Self(text.to_owned().into()))
    }

    /// The text itself, for the binding Secret and the login.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_password_is_known_again_and_never_printed() {
        let password = Password::generate().unwrap();
        assert_eq!(Password::known(password.expose()).unwrap().expose(), password.expose());
        assert!(Password::known("hunter2").is_none());
        assert!(!format!("{password:?}").contains(password.expose()));
    }
}
