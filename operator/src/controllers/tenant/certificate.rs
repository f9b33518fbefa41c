//! Certificates that the operator signs for domains that bring none: 90 days, renewed when two thirds have passed.

use super::build::{Identity, domains};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use std::collections::{BTreeMap, BTreeSet};

/// How long a certificate is valid.
const VALID: SignedDuration = SignedDuration::from_hours(90 * 24);
/// When a fresh one is replaced.
pub const RENEW_IN: std::time::Duration = std::time::Duration::from_hours(60 * 24);
/// Certificates are valid from a day before they are signed: clocks differ.
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);
/// Annotation: when the certificate is replaced, RFC 3339.
const RENEW_AT: &str = "paddock.bet/renew-at";
/// Annotation: host of the certificate.
const HOST: &str = "paddock.bet/host";
/// Keys of a TLS Secret of ours.
const CERTIFICATE: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";

/// Why a certificate cannot be signed. No message holds key material.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The authority's Secret lacks a key.
    #[error(
        "Secret {secret} has no key {key}: put the domain authority's certificate (tls.crt) and key (tls.key) there, as PEM"
    )]
    Incomplete {
        /// Name of the Secret in the operator's namespace.
        secret: String,
        /// Missing key.
        key: &'static str,
    },
    /// The authority's certificate or key cannot be used.
    #[error("the domain authority's tls.crt and tls.key must be one PEM certificate and its PKCS #8 key")]
    Authority(#[source] rcgen::Error),
    /// The host cannot be written into a certificate.
    #[error("the host name cannot stand in a certificate")]
    Host(#[source] rcgen::Error),
    /// A time is out of range.
    #[error("the clock is out of range: set the node's time")]
    Clock,
}

/// The authority that signs: certificate and key as PEM. Never printed.
pub struct Authority {
    certificate: String,
    key: String,
}

impl Authority {
    /// Reads the authority from its Secret.
    pub fn read(secret: &Secret) -> Result<Self, SigningError> {
        let text = |key: &'static str| {
            let value = secret.data.as_ref().and_then(|d| d.get(key)).and_then(|v| String::from_utf8(v.0.clone()).ok());
            let name = secret.metadata.name.clone().unwrap_or_default();
            value.ok_or(SigningError::Incomplete { secret: name, key })
        };
        Ok(Self { certificate: text(CERTIFICATE)?, key: text(PRIVATE_KEY)? })
    }

    /// Signs a certificate for a host with a new key: the Secret that holds both.
    pub fn sign(&self, identity: &Identity, host: &str, now: Timestamp) -> Result<Secret, SigningError> {
        let authority_key = KeyPair::from_pem(&self.key).map_err(SigningError::Authority)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, authority_key).map_err(SigningError::Authority)?;
        let key = KeyPair::generate().map_err(SigningError::Authority)?;
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(SigningError::Host)?;
        params.distinguished_name.remove(DnType::CommonName);
        // A common name has at most 64 characters; clients look at the alternative name only.
        params.distinguished_name.push(DnType::OrganizationName, "Paddock");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let (year, month, first) = day(now.checked_sub(BACKDATED).map_err(|_| SigningError::Clock)?)?;
        params.not_before = date_time_ymd(year, month, first);
        let (year, month, last) = day(now.checked_add(VALID).map_err(|_| SigningError::Clock)?)?;
        params.not_after = date_time_ymd(year, month, last);
        let signed = params.signed_by(&key, &issuer).map_err(SigningError::Authority)?;
        let renew_at = now.checked_add(RENEW_IN).map_err(|_| SigningError::Clock)?;
        let data = [
            (CERTIFICATE, signed.pem().into_bytes()),
            (PRIVATE_KEY, key.serialize_pem().into_bytes()),
            (AUTHORITY, self.certificate.clone().into_bytes()),
        ];
        Ok(secret(
            identity,
            host,
            &renew_at.to_string(),
            data.into_iter().map(|(k, v)| (k.to_owned(), ByteString(v))).collect(),
        ))
    }

    /// What a live Secret says: whether it can stay, and until when.
    pub fn judge(&self, live: &Secret, host: &str, now: Timestamp) -> Verdict {
        let annotation = |name: &str| live.metadata.annotations.as_ref().and_then(|a| a.get(name));
        let same_host = annotation(HOST).is_some_and(|h| h == host);
        let data = live.data.as_ref();
        let complete = data.is_some_and(|d| [CERTIFICATE, PRIVATE_KEY].iter().all(|k| d.contains_key(*k)));
        let same_authority = data.and_then(|d| d.get(AUTHORITY)).is_some_and(|ca| ca.0 == self.certificate.as_bytes());
        let renew_at = annotation(RENEW_AT).and_then(|at| at.parse::<Timestamp>().ok());
        match renew_at {
            Some(at) if same_host && complete && same_authority && now < at => {
                Verdict::Keep { renew_in: at.duration_since(now).unsigned_abs() }
            }
            _ => Verdict::Sign,
        }
    }
}

/// Whether a certificate stays.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays for this long.
    Keep {
        /// Time until it is replaced.
        renew_in: std::time::Duration,
    },
    /// A new one is signed.
    Sign,
}

/// The Secret as we want it, with the content of the live one: what is applied while a certificate stays, so that drift is mended.
pub fn as_wanted(identity: &Identity, host: &str, live: &Secret) -> Secret {
    let keys = BTreeSet::from([CERTIFICATE, PRIVATE_KEY, AUTHORITY]);
    let data = live.data.iter().flatten().filter(|(k, _)| keys.contains(k.as_str()));
    let renew_at = live.metadata.annotations.as_ref().and_then(|a| a.get(RENEW_AT)).cloned().unwrap_or_default();
    secret(identity, host, &renew_at, data.map(|(k, v)| (k.clone(), v.clone())).collect())
}

fn secret(identity: &Identity, host: &str, renew_at: &str, data: BTreeMap<String, ByteString>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(domains::certificate_secret(host)),
            namespace: Some(identity.namespace()),
            labels: Some(identity.labels()),
            annotations: Some(BTreeMap::from([(HOST.into(), host.into()), (RENEW_AT.into(), renew_at.into())])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".into()),
        data: Some(data),
        ..Secret::default()
    }
}

/// Year, month and day in UTC: what the certificate library takes.
fn day(time: Timestamp) -> Result<(i32, u8, u8), SigningError> {
    let day = time.to_zoned(TimeZone::UTC);
    let part = |n: i8| u8::try_from(n).map_err(|_| SigningError::Clock);
    Ok((day.year().into(), part(day.month())?, part(day.day())?))
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::identity;
    use super::*;
    use rcgen::{BasicConstraints, IsCa};

    fn authority_secret(name: &str) -> Secret {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("certificate").pem();
        let data = [("tls.crt", pem), ("tls.key", key.serialize_pem())];
        Secret {
            metadata: ObjectMeta { name: Some("domain-ca".into()), ..ObjectMeta::default() },
            data: Some(data.into_iter().map(|(k, v)| (k.to_owned(), ByteString(v.into_bytes()))).collect()),
            ..Secret::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    const NOW: i64 = 1_790_000_000;
    const DAY: i64 = 86_400;

    #[test]
    fn a_signed_certificate_stays_for_two_thirds_of_its_life() {
        let authority = Authority::read(&authority_secret("one")).expect("authority");
        let secret = authority.sign(&identity(), "bet.acme.example", at(NOW)).expect("signed");
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
        assert_eq!(secret.metadata.name, Some(domains::certificate_secret("bet.acme.example")));
        let keep = authority.judge(&secret, "bet.acme.example", at(NOW + 59 * DAY));
        assert_eq!(keep, Verdict::Keep { renew_in: std::time::Duration::from_hours(24) });
        assert_eq!(authority.judge(&secret, "bet.acme.example", at(NOW + 60 * DAY)), Verdict::Sign);
    }

    #[test]
    fn another_host_authority_or_content_is_signed_again() {
        let authority = Authority::read(&authority_secret("one")).expect("authority");
        let secret = authority.sign(&identity(), "a.example", at(NOW)).expect("signed");
        assert_eq!(authority.judge(&secret, "b.example", at(NOW)), Verdict::Sign);
        let other = Authority::read(&authority_secret("two")).expect("authority");
        assert_eq!(other.judge(&secret, "a.example", at(NOW)), Verdict::Sign);
        let mut torn = secret.clone();
        torn.data.as_mut().expect("data").remove("tls.key");
        assert_eq!(authority.judge(&torn, "a.example", at(NOW)), Verdict::Sign);
    }

    #[test]
    fn what_is_wanted_of_a_kept_secret_leaves_foreign_keys_out() {
        let authority = Authority::read(&authority_secret("one")).expect("authority");
        let secret = authority.sign(&identity(), "a.example", at(NOW)).expect("signed");
        assert_eq!(as_wanted(&identity(), "a.example", &secret), secret);
        let mut added = secret.clone();
        added.data.as_mut().expect("data").insert("extra".into(), ByteString(vec![1]));
        assert_eq!(as_wanted(&identity(), "a.example", &added), secret);
    }

    #[test]
    fn an_incomplete_authority_names_what_is_missing() {
        let mut secret = authority_secret("one");
        secret.data.as_mut().expect("data").remove("tls.key");
        let error = Authority::read(&secret).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("domain-ca") && error.contains("tls.key"), "{error}");
    }

    #[test]
    fn a_wrong_key_is_an_error_without_its_content() {
        let mut secret = authority_secret("one");
        secret.data.as_mut().expect("data").insert("tls.key".into(), ByteString(b"hush".to_vec()));
        let error = Authority::read(&secret).and_then(|a| a.sign(&identity(), "a.example", at(NOW))).err();
        assert!(matches!(error, Some(SigningError::Authority(_))));
        assert!(!format!("{error:?}").contains("hush"));
    }
}
