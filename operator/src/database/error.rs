//! What can go wrong on a database server, in stable categories.

use std::time::Duration;

/// A fault of a server or of what stands on it. Its messages hold no credentials and say what to do.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Nobody answers at the address, in time, or the connection broke.
    #[error(
        "server {server} does not answer at {address} ({cause}); check that it runs and that the operator may reach it"
    )]
    Unreachable {
        /// Name of the server in its class.
        server: String,
        /// `host:port`.
        address: String,
        /// What the operating system or the driver said.
        cause: String,
    },
    /// The certificate is not signed by the class's CA, has expired, or is for another host.
    #[error(
        "the certificate of server {server} is refused ({cause}); check the class's caSecret and the host name in its endpoint"
    )]
    CertificateRefused {
        /// Name of the server in its class.
        server: String,
        /// What the TLS library said.
        cause: String,
    },
    /// The administrator may not log in.
    #[error(
        "server {server} refuses the administrator's credentials; put the right username and password into Secret {secret}"
    )]
    CredentialsRefused {
        /// Name of the server in its class.
        server: String,
        /// Secret in the operator's namespace.
        secret: String,
    },
    /// A Secret that the class names is absent or lacks a key.
    #[error("Secret {secret} in the operator's namespace {problem}")]
    SecretUnusable {
        /// Name of the Secret.
        secret: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// The administrator lacks a right, or is more powerful than it may be.
    #[error("the administrator of server {server} {problem}")]
    AdministratorUnfit {
        /// Name of the server in its class.
        server: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The server is too old or of another kind.
    #[error("server {server} is {found}; {wanted} is needed")]
    Unsupported {
        /// Name of the server in its class.
        server: String,
        /// What the server says it is.
        found: String,
        /// What would do.
        wanted: &'static str,
    },
    /// Something of the derived name exists without our marker, or with that of another claim. Nothing was changed (rule D4).
    #[error(
        "{object} on server {server} {problem}; nothing was changed: find out whose it is, then rename or remove it by hand"
    )]
    OwnershipConflict {
        /// Name of the server in its class.
        server: String,
        /// The database or role.
        object: String,
        /// What stands there instead of our marker.
        problem: String,
    },
    /// What a claim had in use is gone: the server lost it, or another one answers at its address. Nothing was changed.
    #[error(
        "server {server} has no {object} any more, which the claim had in use; nothing was made in its place: bring the data back, or the \
         server that has it; to begin with nothing, delete the claim and make it again"
    )]
    DataMissing {
        /// Name of the server in its class.
        server: String,
        /// The database, or the topics.
        object: String,
    },
    /// A marker or login of a later term stands there: another operator leads. Nothing was changed (rule O5).
    #[error(
        "server {server} knows term {found}, this operator's is {ours}: another one leads unless the lease says otherwise"
    )]
    Superseded {
        /// Name of the server in its class.
        server: String,
        /// Epoch of that term.
        found: i64,
        /// Epoch of this operator.
        ours: i64,
    },
    /// Another session works on the same claim, or holds up the beginning of a term.
    #[error("another session is in the way on server {server}; the operator tries again")]
    Busy {
        /// Name of the server in its class.
        server: String,
    },
    /// The server refused a statement or call.
    #[error("server {server} refused to {action} (code {code}); its log says more")]
    Refused {
        /// Name of the server in its class.
        server: String,
        /// What the operator was doing.
        action: String,
        /// SQLSTATE or Kafka error name.
        code: String,
    },
}

impl DatabaseError {
    /// The condition reason and metric category: stable CamelCase.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "ServerUnreachable",
            Self::CertificateRefused { .. } => "CertificateRefused",
            Self::CredentialsRefused { .. } => "CredentialsRefused",
            Self::SecretUnusable { .. } => "SecretUnusable",
            Self::AdministratorUnfit { .. } => "AdministratorUnfit",
            Self::Unsupported { .. } => "ServerUnsupported",
            Self::OwnershipConflict { .. } => "OwnershipConflict",
            Self::DataMissing { .. } => "DataMissing",
            Self::Superseded { .. } => "Superseded",
            Self::Busy { .. } => "ServerBusy",
            Self::Refused { .. } => "ServerRefused",
        }
    }

    /// When to look again: a server sends no watch event.
    pub fn retry(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Busy { .. } => 2,
            Self::Unreachable { .. } => 5,
            Self::CredentialsRefused { .. }
            | Self::SecretUnusable { .. }
            | Self::DataMissing { .. }
            | Self::Refused { .. } => 15,
            Self::CertificateRefused { .. } | Self::AdministratorUnfit { .. } | Self::Unsupported { .. } => 30,
            Self::Superseded { .. } => 60,
            Self::OwnershipConflict { .. } => 300,
        })
    }

    /// Whether nothing gets better until a person does something.
    pub fn needs_a_person(&self) -> bool {
        !matches!(self, Self::Unreachable { .. } | Self::Busy { .. } | Self::Refused { .. } | Self::Superseded { .. })
    }
}
