//! An id in a path.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use paddock_service::Problem;
use uuid::Uuid;

/// The one id of a path; refuses with `malformed-id`.
pub(super) struct Id(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<Uuid>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(rejection) => {
                Err(Problem::bad_request("malformed-id", "the id in the path is no UUID: send it as it was given")
                    .caused_by(anyhow::anyhow!(rejection.body_text())))
            }
        }
    }
}
