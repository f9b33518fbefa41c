//! The cluster's own certificate authority: brands' domains and database servers are signed by it.

use std::{fs, path::Path};

use jiff::{Zoned, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::{
    error::{Doing as _, Error, Result},
    paths,
};

/// How long every certificate is valid, in years. A local cluster is rebuilt long before that.
const YEARS: i16 = 10;

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub struct Certified {
    /// Certificate, PEM.
    pub certificate: String,
    /// Private key, PKCS #8 PEM.
    pub key: String,
}

impl std::fmt::Debug for Certified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certified").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Signs certificates.
pub struct CertificateAuthority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// A new authority.
    pub fn create(common_name: &str) -> Result<Self> {
        let mut params = params(common_name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let (certificate, key_pem) = (params.self_signed(&key)?.pem(), key.serialize_pem());
        Ok(Self { certificate, key: key_pem, issuer: Issuer::new(params, key) })
    }

    /// The authority kept in `ca.crt` and `ca.key` of this folder; made on first use.
    pub fn open_or_create(folder: &Path, common_name: &str) -> Result<Self> {
        let (certificate_file, key_file) = (folder.join("ca.crt"), folder.join("ca.key"));
        if certificate_file.exists() && key_file.exists() {
            let (certificate, key) = (paths::read(&certificate_file)?, paths::read(&key_file)?);
            let issuer = Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key)?)?;
            return Ok(Self { certificate, key, issuer });
        }
        let made = Self::create(common_name)?;
        write_secret(&key_file, &made.key)?;
        paths::write(&certificate_file, &made.certificate)?;
        Ok(made)
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The authority's private key, PEM: for what signs in its name (the control plane, the operator for domains).
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    /// A server certificate for these DNS names (a leading `*.` is allowed) and IP addresses.
    pub fn server(&self, names: &[&str]) -> Result<Certified> {
        let first = names.first().ok_or_else(|| Error::Input("a server certificate needs at least one name".into()))?;
        self.issue(first, &[], names)
    }

    /// A certificate for a server and for a client: common name = user, organizations = groups.
    pub(crate) fn issue(&self, common_name: &str, organizations: &[&str], names: &[&str]) -> Result<Certified> {
        let mut params = params(common_name, names)?;
        for organization in organizations {
            params.distinguished_name.push(DnType::OrganizationName, *organization);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Certified { certificate, key: key.serialize_pem() })
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, content: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    paths::write(path, "")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).doing(|| format!("protect {}", path.display()))?;
    fs::write(path, content).doing(|| format!("write {}", path.display()))
}

fn params(common_name: &str, names: &[&str]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let today = Zoned::now().with_time_zone(TimeZone::UTC);
    let date = |year: i16| {
        // Day 1 exists in every month, and lies far enough back for a wrong clock.
        rcgen::date_time_ymd(i32::from(year), today.month().unsigned_abs(), 1)
    };
    params.not_before = date(today.year());
    params.not_after = date(today.year() + YEARS);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_kept_authority_signs_what_its_certificate_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let first = CertificateAuthority::open_or_create(folder.path(), "paddock test").unwrap();
        let again = CertificateAuthority::open_or_create(folder.path(), "other").unwrap();
        assert_eq!(first.certificate_pem(), again.certificate_pem());
        let mode = fs::metadata(folder.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let server = again.server(&["acme.localhost", "127.0.0.1"]).unwrap();
        let file = folder.path().join("server.crt");
        fs::write(&file, &server.certificate).unwrap();
        let verify = |hostname: &str| {
            std::process::Command::new("openssl")
                .args(["verify", "-purpose", "sslserver", "-verify_hostname", hostname, "-CAfile"])
                .arg(folder.path().join("ca.crt"))
                .arg(&file)
                .output()
                .unwrap()
                .status
                .success()
        };
        assert!(verify("acme.localhost"));
        assert!(!verify("zenith.localhost"));
    }

    #[test]
    fn debug_output_hides_keys() {
        let authority = CertificateAuthority::create("x").unwrap();
        let shown = format!("{authority:?} {:?}", authority.server(&["a"]).unwrap());
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    }
}
