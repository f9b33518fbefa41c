//! Whose site this is: what the Tenant says of it, fixed for the life of a pod.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use paddock_service::Environment;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;

/// Changes with a rollout, in which replicas of two revisions serve.
const SLOW: HeaderValue = HeaderValue::from_static("public, max-age=10");

/// A brand as its customers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Brand {
    /// Name as people write it.
    #[schema(example = "Acme Bet")]
    name: String,
    /// What it may offer bets by.
    licence: Licence,
    /// Currencies that customers may hold, ISO 4217.
    #[schema(example = json!(["EUR", "SEK"]))]
    currencies: Vec<String>,
    /// Languages, BCP 47; the first is the default.
    #[schema(example = json!(["en", "sv"]))]
    locales: Vec<String>,
}

/// A licence to offer bets.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Licence {
    /// Short name.
    #[schema(example = "mga-1")]
    name: String,
    /// Who gave it: ISO 3166.
    #[schema(example = "MT")]
    jurisdiction: String,
}

impl Brand {
    /// The brand that a pod runs for.
    pub fn of(environment: &Environment) -> Self {
        Self {
            name: environment.brand.clone(),
            licence: Licence { name: environment.licence.clone(), jurisdiction: environment.jurisdiction.clone() },
            currencies: environment.currencies.iter().map(ToString::to_string).collect(),
            locales: environment.locales.clone(),
        }
    }
}

/// The brand
#[utoipa::path(get, path = "/brand", tag = "brand", responses((status = 200, body = Brand)))]
pub(super) async fn brand(State(state): State<AppState>) -> Response {
    ([(header::CACHE_CONTROL, SLOW)], Json(&*state.brand)).into_response()
}
