//! What can go wrong in a reconcile: a stable category and a message that tells the user what to do.

use std::error::Error as StdError;

/// Stable name of a kind of fault: event reason, condition reason and metric label. Part of the API: tools match on it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::Display, strum::IntoStaticStr, strum::EnumIter,
)]
pub enum Category {
    /// The spec cannot be carried out as it is; only an edit helps.
    InvalidSpec,
    /// Something that the spec names does not exist (yet).
    ReferenceNotFound,
    /// An object of the wanted name exists and does not carry our label (rule O9).
    NotOurs,
    /// An object that is wanted is being deleted; it is made again when it has gone.
    Terminating,
    /// A kind of an optional API is not installed.
    KindMissing,
    /// Two writers met; the loser reads again and repeats.
    Conflict,
    /// The apiserver refuses a request for want of rights.
    Forbidden,
    /// The apiserver, an admission policy or a quota refuses an object that we built.
    Rejected,
    /// The apiserver asks to slow down.
    Throttled,
    /// The apiserver failed.
    ServerError,
    /// The apiserver cannot be reached.
    Unreachable,
    /// A deadline passed.
    Timeout,
    /// A defect: the code panicked or met a state that it holds for impossible.
    Panic,
    /// This process does not hold the lease.
    NotLeader,
    /// A database server or broker cannot be reached.
    DatabaseUnreachable,
    /// A database server or broker refused what was asked.
    DatabaseRefused,
    /// A database, login or topic of the wanted name belongs to someone else (rule D4).
    OwnershipConflict,
    /// No server of the class has room.
    NoCapacity,
    /// A pod of ours does not answer on its control port.
    PodUnreachable,
    /// A migration ended with an error.
    MigrationFailed,
    /// A revision did not become available in its term.
    ProgressDeadlineExceeded,
}

impl Category {
    /// The name as it stands in conditions, events and metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Nothing changes until a person does something: the condition is `Stalled`, and no event is lost by not trying again soon.
    pub fn waits_for_a_person(self) -> bool {
        matches!(
            self,
            Self::InvalidSpec
                | Self::ReferenceNotFound
                | Self::NotOurs
                | Self::KindMissing
                | Self::Forbidden
                | Self::Rejected
                | Self::OwnershipConflict
                | Self::NoCapacity
                | Self::MigrationFailed
                | Self::ProgressDeadlineExceeded
        )
    }

    /// Part of normal life between optimistic writers: repeated soon, told to nobody.
    pub fn is_quiet(self) -> bool {
        matches!(self, Self::Conflict | Self::NotLeader | Self::Terminating)
    }
}

/// A fault of a reconcile.
#[derive(Debug, thiserror::Error)]
#[error("{category}: {message}")]
pub struct Fault {
    /// What kind of fault it is.
    pub category: Category,
    /// For users: what is wrong and what to do. Never holds a secret.
    pub message: String,
    /// For the log.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Fault {
    /// A fault with a message for users.
    pub fn new(category: Category, message: impl Into<String>) -> Self {
        Self { category, message: message.into(), source: None }
    }

    /// Adds the cause, which goes to the log only.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The spec cannot be carried out: see [`Category::InvalidSpec`].
    pub fn invalid_spec(message: impl Into<String>) -> Self {
        Self::new(Category::InvalidSpec, message)
    }

    /// A named object does not exist: see [`Category::ReferenceNotFound`].
    pub fn reference_not_found(message: impl Into<String>) -> Self {
        Self::new(Category::ReferenceNotFound, message)
    }

    /// A request to the apiserver failed; `doing` completes "while …", for example `applying Deployment acme-prod/rates`.
    pub fn of_request(doing: &str, error: kube::Error) -> Self {
        let category = category_of(&error);
        let message = match category {
            Category::Conflict => format!("another writer was faster while {doing}; it is tried again"),
            Category::Forbidden => format!(
                "the apiserver forbids {doing}: install the operator's chart again so that its roles match its version"
            ),
            Category::Rejected => format!("the apiserver refuses {doing}: {}", refusal(&error)),
            Category::Throttled => format!("the apiserver asks to slow down while {doing}; it is tried again"),
            Category::Timeout => format!("the apiserver did not answer in time while {doing}; it is tried again"),
            Category::Unreachable => format!("the apiserver cannot be reached while {doing}; it is tried again"),
            Category::ReferenceNotFound => {
                format!("not found while {doing}: check that its namespace and kind exist; it is tried again")
            }
            _ => format!("the apiserver failed while {doing}; it is tried again"),
        };
        Self::new(category, message).with_source(error)
    }

    /// The message and all its causes, for the log.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next: Option<&(dyn StdError + 'static)> = self.source.as_deref().map(|source| source as _);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }
}

/// The apiserver's own words; they name fields, not values of Secrets.
fn refusal(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            let mut message = status.message.clone();
            truncate(&mut message, 512);
            message
        }
        other => other.to_string(),
    }
}

/// Cuts a text to at most `limit` bytes, on a character's edge.
pub fn truncate(text: &mut String, limit: usize) {
    if text.len() > limit {
        let mut end = limit.saturating_sub('…'.len_utf8());
        while end > 0 && !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}

/// The category of a failed request.
pub fn category_of(error: &kube::Error) -> Category {
    match error {
        kube::Error::Api(status) => match status.code {
            409 => Category::Conflict,
            401 => Category::Forbidden,
            403 => category_of_forbidden(&status.message),
            404 => Category::ReferenceNotFound,
            400 | 405 | 413 | 415 | 422 => Category::Rejected,
            408 | 504 => Category::Timeout,
            429 => Category::Throttled,
            _ => Category::ServerError,
        },
        kube::Error::Service(source) if source.is::<tower::timeout::error::Elapsed>() => Category::Timeout,
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => Category::Unreachable,
        _ => Category::ServerError,
    }
}

/// A 403 has many authors. Kubernetes tells them apart in its text only: the authorizer names the user who "cannot" do it (or who grants more
/// than it holds); all else is an admission plugin's, a policy's or a quota's, in whose words the user finds what to mend.
fn category_of_forbidden(message: &str) -> Category {
    if message.contains("being terminated") {
        Category::Terminating
    } else if message.contains("status unknown for quota") {
        Category::Throttled // The quota is new and not counted yet.
    } else if message.contains("User \"") && message.contains("\" cannot ")
        || message.contains("attempting to grant RBAC permissions")
    {
        Category::Forbidden
    } else {
        Category::Rejected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator as _;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(kube::core::Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn every_category_is_a_valid_condition_reason() {
        for category in Category::iter() {
            let reason = category.as_str();
            assert!(reason.chars().all(char::is_alphanumeric) && reason.starts_with(char::is_uppercase), "{reason}");
        }
    }

    #[test]
    fn refusals_of_policies_and_quotas_are_not_missing_rights() {
        for (error, category) in [
            (api(409, ""), Category::Conflict),
            (api(429, ""), Category::Throttled),
            (api(500, ""), Category::ServerError),
            (api(403, "pods \"x\" is forbidden: exceeded quota: q"), Category::Rejected),
            (api(403, "ValidatingAdmissionPolicy 'p' denied request"), Category::Rejected),
            (api(403, "unable to create: namespace x because it is being terminated"), Category::Terminating),
            (api(403, "pods \"x\" is forbidden: status unknown for quota: q, resources: pods"), Category::Throttled),
            (api(403, "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\""), Category::Rejected),
            (api(403, "pods is forbidden: User \"u\" cannot list resource \"pods\""), Category::Forbidden),
            (api(403, "roles is forbidden: user \"u\" is attempting to grant RBAC permissions"), Category::Forbidden),
            (api(401, "Unauthorized"), Category::Forbidden),
            (api(422, "spec.x: Invalid value"), Category::Rejected),
        ] {
            assert_eq!(category_of(&error), category, "{error}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut text = "å".repeat(20);
        truncate(&mut text, 10);
        assert_eq!(text, "ååå…");
    }
}
