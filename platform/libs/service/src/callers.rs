//! Which components may call this one: their ServiceAccount tokens, checked offline, and a table of what each may ask.
//!
//! The network lets every pod of an environment in; this does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use moka::sync::Cache;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{CALLER_HEADER, Gate, Problem, ProblemDocument};

/// A call that is allowed: component that calls, method, route as the router has it.
pub type Allowed = (&'static str, &'static str, &'static str);

/// How often the files are looked at.
const POLL: Duration = Duration::from_millis(500);
/// Difference of clocks that is forgiven, in seconds.
const LEEWAY: u64 = 30;
/// A token has 1 to 2 kB; what is much longer is none.
const MAX_TOKEN: usize = 16 * 1024;
/// Tokens that are known to be good: some for each pod of the environment.
const REMEMBERED: u64 = 1024;
/// Start of the codes of all refusals of callers.
const CODES: &str = "caller-";

/// The issuer's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read.
    #[error(
        "{path} cannot be read: {source}; callers are checked in environments of a Tenant only, look at the Tenant"
    )]
    Unreadable {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// No key set.
    #[error("jwks.json is no key set: {0}; look at ConfigMap token-issuer")]
    Malformed(#[from] serde_json::Error),
    /// No key that we can use.
    #[error("jwks.json holds no RS256 or ES256 key with an id; look at ConfigMap token-issuer")]
    NoKey,
}

/// Why a call is refused. Causes are for the log.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("components only: send your token for {0} in the header paddock-caller")]
    Missing(&'static str),
    #[error("the caller's token is not valid for {0}: send the present content of its file")]
    Invalid(&'static str, #[source] anyhow::Error),
    #[error("the caller's token is of another environment")]
    OtherEnvironment,
    #[error("component {caller} may not call {method} {route}: add it to the table of callers if it should")]
    NotAllowed { caller: String, method: String, route: String },
    #[error("the keys of the token issuer are not there yet: try again")]
    NoKeys,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Missing(_) => Self::new(StatusCode::UNAUTHORIZED, "caller-token-missing", detail),
            Refusal::Invalid(_, cause) => {
                Self::new(StatusCode::UNAUTHORIZED, "caller-token-invalid", detail).caused_by(cause)
            }
            Refusal::OtherEnvironment => Self::forbidden("caller-of-other-environment", detail),
            Refusal::NotAllowed { .. } => Self::forbidden("caller-not-allowed", detail),
            Refusal::NoKeys => Self::unavailable("caller-keys-missing", detail),
        }
    }
}

/// Whether an answer refuses the calling component itself, and not what it asked for.
pub fn refuses_caller(status: StatusCode, body: &[u8]) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        && serde_json::from_slice::<ProblemDocument>(body).is_ok_and(|problem| problem.code.starts_with(CODES))
}

/// A component whose token was verified.
#[derive(Debug, Clone)]
struct Verified {
    caller: Arc<str>,
    expires_at: i64,
}

/// One version of the issuer's files.
struct Keys {
    issuer: String,
    document: String,
    by_id: BTreeMap<String, (Algorithm, DecodingKey)>,
    /// By digest of the token: signatures are slow, tokens few.
    verified: Cache<[u8; 32], Verified>,
}

impl Keys {
    fn read(issuer: String, document: String) -> Result<Self, KeysError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let Document { keys } = serde_json::from_str(&document)?;
        // A key of a sort that is not known yet does not spoil the others.
        let keys = keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let by_id: BTreeMap<_, _> = keys.filter_map(|key| usable(&key)).collect();
        if by_id.is_empty() {
            return Err(KeysError::NoKey);
        }
        Ok(Self { issuer, document, by_id, verified: Cache::new(REMEMBERED) })
    }
}

/// The key with the one algorithm that it is for: never the one that a token would like.
fn usable(key: &Jwk) -> Option<(String, (Algorithm, DecodingKey))> {
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let id = key.common.key_id.clone().filter(|id| !id.is_empty())?;
    Some((id, (algorithm, DecodingKey::from_jwk(key).ok()?)))
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: KubernetesClaims,
}

#[derive(Deserialize)]
struct KubernetesClaims {
    namespace: String,
    serviceaccount: ServiceAccountClaims,
}

#[derive(Deserialize)]
struct ServiceAccountClaims {
    name: String,
}

/// Checks the components that call this one. Clones share the keys.
#[derive(Clone)]
pub struct Callers {
    component: &'static str,
    namespace: Arc<str>,
    table: &'static [Allowed],
    keys: Arc<RwLock<Option<Arc<Keys>>>>,
}

impl std::fmt::Debug for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callers").field("component", &self.component).finish_non_exhaustive()
    }
}

impl Callers {
    /// Of a component in the namespace of its environment; without keys until [`Callers::load`].
    pub fn new(component: &'static str, namespace: &str, table: &'static [Allowed]) -> Self {
        Self { component, namespace: namespace.into(), table, keys: Arc::default() }
    }

    /// The router, for callers of the table only.
    pub fn guard<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        router.layer(middleware::from_fn_with_state(self.clone(), authenticate))
    }

    /// Reads the files `issuer` and `jwks.json`; keys that cannot be replaced stay.
    pub fn load(&self, folder: &Path) -> Result<(), KeysError> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|source| KeysError::Unreadable { path, source })
        };
        let (issuer, document) = (read("issuer")?.trim().to_owned(), read("jwks.json")?);
        if self.keys().is_some_and(|keys| keys.issuer == issuer && keys.document == document) {
            return Ok(());
        }
        let keys = Keys::read(issuer, document)?;
        tracing::info!(issuer = keys.issuer, keys = keys.by_id.len(), "keys of the token issuer read");
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
        Ok(())
    }

    /// Loads for ever; the gate opens with the first keys.
    pub(crate) async fn follow(self, folder: PathBuf, gate: Gate) {
        let folder: Arc<Path> = folder.into();
        let mut last = String::new();
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (callers, files) = (self.clone(), Arc::clone(&folder));
            let Ok(loaded) = tokio::task::spawn_blocking(move || callers.load(&files)).await else { continue };
            let trouble = loaded.err().map(|error| error.to_string()).unwrap_or_default();
            if self.keys().is_some() {
                gate.open();
            } else {
                gate.close(trouble.clone());
            }
            if trouble != last {
                if !trouble.is_empty() {
                    tracing::warn!(trouble, "keys of the token issuer stay as they were");
                }
                last = trouble;
            }
        }
    }

    fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn admit(&self, token: Option<&str>, method: &str, route: &str) -> Result<(), Refusal> {
        let keys = self.keys().ok_or(Refusal::NoKeys)?;
        let token = token.ok_or(Refusal::Missing(self.component))?;
        let caller = self.verify(&keys, token)?;
        if self.table.contains(&(&*caller, method, route)) {
            return Ok(());
        }
        let (caller, method, route) = (caller.to_string(), method.to_owned(), route.to_owned());
        Err(Refusal::NotAllowed { caller, method, route })
    }

    /// The component that a token stands for.
    fn verify(&self, keys: &Keys, token: &str) -> Result<Arc<str>, Refusal> {
        let invalid = |cause: anyhow::Error| Refusal::Invalid(self.component, cause);
        if token.len() > MAX_TOKEN {
            return Err(invalid(anyhow::anyhow!("{} bytes", token.len())));
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = jiff::Timestamp::now().as_second();
        let leeway = i64::try_from(LEEWAY).unwrap_or(0);
        if let Some(known) = keys.verified.get(&digest)
            && now <= known.expires_at.saturating_add(leeway)
        {
            return Ok(known.caller);
        }
        let header = decode_header(token).map_err(|error| invalid(error.into()))?;
        let found = header.kid.as_ref().and_then(|id| keys.by_id.get(id));
        let (algorithm, key) = found.ok_or_else(|| invalid(anyhow::anyhow!("no key {:?}", header.kid)))?;
        let mut validation = Validation::new(*algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&keys.issuer]);
        validation.set_audience(&[self.component]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = decode::<Claims>(token, key, &validation).map_err(|error| invalid(error.into()))?.claims;
        // The keys are the whole cluster's: other environments, and other tenants, have tokens signed with them too.
        if *claims.kubernetes.namespace != *self.namespace {
            return Err(Refusal::OtherEnvironment);
        }
        let verified = Verified { caller: claims.kubernetes.serviceaccount.name.into(), expires_at: claims.exp };
        keys.verified.insert(digest, verified.clone());
        Ok(verified.caller)
    }
}

async fn authenticate(State(callers): State<Callers>, request: Request, next: Next) -> Response {
    let token = request.headers().get(CALLER_HEADER).and_then(|value| value.to_str().ok());
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    match callers.admit(token, request.method().as_str(), route) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            if matches!(refusal, Refusal::NotAllowed { .. } | Refusal::OtherEnvironment) {
                tracing::warn!(%refusal, "call refused");
            }
            Problem::from(refusal).into_response()
        }
    }
}

#[cfg(test)]
#[path = "callers_tests.rs"]
mod tests;
