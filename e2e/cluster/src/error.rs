//! What can go wrong, by what a person has to do about it.

use std::{io, time::Duration};

/// Every error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something; the text says what to do.
    #[error("{0}")]
    Machine(String),
    /// A name, reference or file that the caller gave is not usable.
    #[error("{0}")]
    Input(String),
    /// A file or socket operation failed.
    #[error("{action}: {source}")]
    Io {
        /// What was being done, with the path.
        action: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A program that we started ended with an error.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The command line, shortened.
        command: String,
        /// Exit status or signal.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// Something did not become true in time.
    #[error("waited {} s for {what}: {hint}", .waited.as_secs())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// Where to look.
        hint: String,
    },
    /// The cluster is not in the state that the call needs; the text says what to do.
    #[error("{0}")]
    State(String),
    /// The Kubernetes API refused or could not be reached.
    #[error("Kubernetes API: {0}")]
    Kube(#[from] Box<kube::Error>),
    /// A certificate could not be made or read.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A record or manifest could not be read or written as JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was being done when an I/O error happened.
pub(crate) trait Doing<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { action: action(), source })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Io { action: action(), source: errno.into() })
    }
}
