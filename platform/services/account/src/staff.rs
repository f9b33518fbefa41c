//! Who of the staff calls: bearer tokens of the configured issuer.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

/// Verifies staff tokens.
#[derive(Clone)]
pub struct StaffTokens {
    keys: JwkSet,
    issuer: String,
    audience: String,
    tenant: String,
    environment: String,
}

/// A member of staff whose token was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staff {
    /// Subject of the token.
    pub subject: String,
    roles: Vec<String>,
}

/// Why a token is refused. The cause is for the log.
#[derive(Debug, thiserror::Error)]
pub enum StaffError {
    /// Not signed by a key of the issuer, expired, or for somebody else.
    #[error("the staff token is not valid here: log in again at the staff issuer")]
    Invalid(#[source] anyhow::Error),
    /// Of another tenant or environment.
    #[error("the staff token is for another environment: use one of this environment")]
    OtherEnvironment,
    /// The role is missing.
    #[error("this call needs the role {0}: ask an administrator for it")]
    RoleMissing(&'static str),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    roles: Vec<String>,
    tenant: String,
    environment: String,
}

impl StaffTokens {
    /// Tokens signed by `jwks` (a JWKS document), of an issuer, for an audience, tenant and environment.
    pub fn new(
        jwks: &str,
        issuer: String,
        audience: String,
        tenant: String,
        environment: String,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self { keys: serde_json::from_str(jwks)?, issuer, audience, tenant, environment })
    }

    /// Verifies the value of a bearer token.
    pub fn verify(&self, token: &str) -> Result<Staff, StaffError> {
        let invalid = |error: anyhow::Error| StaffError::Invalid(error);
        let header = decode_header(token).map_err(|error| invalid(error.into()))?;
        // Only signatures whose private key never leaves the issuer; never what the token itself would like.
        let family = match header.alg {
            Algorithm::EdDSA | Algorithm::ES256 => header.alg,
            other => return Err(invalid(anyhow::anyhow!("algorithm {other:?}"))),
        };
        let key = match &header.kid {
            Some(kid) => self.keys.find(kid),
            None => self.keys.keys.first().filter(|_| self.keys.keys.len() == 1),
        };
        let key = key.ok_or_else(|| invalid(anyhow::anyhow!("no key {:?} in STAFF_JWKS", header.kid)))?;
        let key = DecodingKey::from_jwk(key).map_err(|error| invalid(error.into()))?;
        let mut validation = Validation::new(family);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = decode::<Claims>(token, &key, &validation).map_err(|error| invalid(error.into()))?.claims;
        if claims.tenant != self.tenant || claims.environment != self.environment {
            return Err(StaffError::OtherEnvironment);
        }
        Ok(Staff { subject: claims.sub, roles: claims.roles })
    }
}

impl Staff {
    /// Refuses a member of staff without a role.
    pub fn require(&self, role: &'static str) -> Result<(), StaffError> {
        if self.roles.iter().any(|own| own == role) { Ok(()) } else { Err(StaffError::RoleMissing(role)) }
    }
}
