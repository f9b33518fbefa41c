//! Secrets of an environment that the operator makes itself: the token of the control ports.

use super::build::Identity;
use data_encoding::HEXLOWER;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::RngCore as _;
use std::collections::BTreeMap;

/// Name of the Secret with the bearer token of the control ports.
pub const CONTROL: &str = "paddock-control";
/// Its key.
pub const TOKEN: &str = "token";
/// Length of the token: 32 random bytes, in hexadecimal.
const TOKEN_LENGTH: usize = 64;

/// The control token's Secret: with the live token as long as there is one, else with a new one. The token is never changed
/// silently, because running pods hold it.
pub fn control(identity: &Identity, live: Option<&Secret>) -> Secret {
    let token = live.and_then(token).cloned().unwrap_or_else(new_token);
    Secret {
        metadata: ObjectMeta {
            name: Some(CONTROL.into()),
            namespace: Some(identity.namespace()),
            labels: Some(identity.labels()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(TOKEN.into(), token)])),
        ..Secret::default()
    }
}

/// The token of a live Secret, if it has a usable one.
pub fn token(live: &Secret) -> Option<&ByteString> {
    live.data.as_ref()?.get(TOKEN).filter(|t| t.0.len() >= TOKEN_LENGTH && t.0.iter().all(u8::is_ascii_graphic))
}

fn new_token() -> ByteString {
    let mut bytes = [0_u8; TOKEN_LENGTH / 2];
    rand::rng().fill_bytes(&mut bytes);
    ByteString(HEXLOWER.encode(&bytes).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::identity;
    use super::*;

    #[test]
    fn a_token_is_random_and_stays() {
        let first = control(&identity(), None);
        let token = |s: &Secret| s.data.as_ref().and_then(|d| d.get(TOKEN)).cloned();
        assert_eq!(token(&first).map(|t| t.0.len()), Some(64));
        assert_eq!(control(&identity(), Some(&first)), first);
        assert_ne!(token(&control(&identity(), None)), token(&first));
    }

    #[test]
    fn a_damaged_token_is_replaced_and_foreign_keys_are_left_out() {
        let mut live = control(&identity(), None);
        let kept = live.clone();
        live.data.as_mut().expect("data").insert("extra".into(), ByteString(vec![1]));
        assert_eq!(control(&identity(), Some(&live)), kept);
        live.data.as_mut().expect("data").insert(TOKEN.into(), ByteString(b"short".to_vec()));
        assert_ne!(control(&identity(), Some(&live)), kept);
    }
}
