//! What refusals and failures look like outside.

use std::time::Duration;

use http::StatusCode;
use paddock_ledger::{Category, TransferError};
use paddock_service::Problem;

use crate::domain::customer::ApplicationError;
use crate::password::PasswordError;
use crate::staff::StaffError;
use crate::store::StoreError;
use crate::token::NoRandomness;

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::Transfer(error) => {
                let status = match (error, error.category()) {
                    (TransferError::HoldNotFound(_), _) => StatusCode::NOT_FOUND,
                    (TransferError::AlreadyPosted(_) | TransferError::AlreadyVoided(_), _) => StatusCode::CONFLICT,
                    (_, Category::Invalid | Category::Conflict | Category::Refused) => StatusCode::UNPROCESSABLE_ENTITY,
                };
                Self::new(status, error.code(), detail)
            }
            StoreError::CustomerNotAllowed(state) => {
                Self::unprocessable("customer-not-allowed", detail).with("state", state)
            }
            StoreError::CustomerNotFound(_) => Self::new(StatusCode::NOT_FOUND, "customer-not-found", detail),
            StoreError::EmailTaken => Self::conflict("email-taken", detail),
            StoreError::Money(_) => Self::unprocessable("amount-invalid", detail),
            StoreError::Unknown { .. } | StoreError::Json(_) => Self::internal(error),
            StoreError::Database(error) => error.into(),
        }
    }
}

/// Too many log-ins or registrations; may be tried again after a while.
pub(super) fn too_many(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    Problem::too_many("too-many-attempts", format!("too many attempts: try again in {seconds} s"), seconds)
}

impl From<ApplicationError> for Problem {
    fn from(error: ApplicationError) -> Self {
        Self::unprocessable(error.code(), error.to_string())
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::unavailable("busy", error.to_string()),
            PasswordError::Hashing(_) | PasswordError::Thread(_) => Self::internal(error),
        }
    }
}

impl From<NoRandomness> for Problem {
    fn from(error: NoRandomness) -> Self {
        Self::internal(error)
    }
}

impl From<StaffError> for Problem {
    fn from(error: StaffError) -> Self {
        let detail = error.to_string();
        match error {
            StaffError::Invalid(cause) => Self::unauthorized(detail).caused_by(cause),
            StaffError::OtherEnvironment => Self::forbidden("other-environment", detail),
            StaffError::RoleMissing(_) => Self::forbidden("role-missing", detail),
        }
    }
}
