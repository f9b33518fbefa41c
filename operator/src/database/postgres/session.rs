//! Connections of the administrator and of logins, always TLS with the chain and the host name checked.

use crate::database::{DatabaseError, Password};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions};
use std::time::Duration;

/// Longest time until a connection is ready for use.
const CONNECT: Duration = Duration::from_secs(5);
/// The database that the administrator works from.
const MAINTENANCE: &str = "postgres";

/// Credentials of the administrator, as read from a Secret of the operator's namespace.
#[derive(Clone, Debug)]
pub struct Administrator {
    /// Name of the Secret, for messages.
    pub secret: String,
    /// Role.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// A PostgreSQL server of a DatabaseClass.
#[derive(Clone, Debug)]
pub struct PostgresServer {
    /// Name in the class.
    pub name: String,
    /// Host name, which its certificate is for.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// PEM of the authority that signed its certificate.
    pub ca: Vec<u8>,
    /// Who administers it.
    pub administrator: Administrator,
}

/// Why a login could not be used.
pub(super) enum LoginFault {
    /// Wrong password.
    Password,
    /// Something else.
    Other(DatabaseError),
}

impl PostgresServer {
    fn options(&self, database: &str, username: &str, password: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(username)
            .password(password)
            .database(database)
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert_from_pem(self.ca.clone())
            .application_name("paddock-operator")
            .disable_statement_logging()
    }

    /// The administrator's session in `database`. Its search path holds nothing that a tenant can write to.
    pub(super) async fn connect(&self, database: &str) -> Result<PgConnection, DatabaseError> {
        let administrator = &self.administrator;
        let options =
            self.options(database, &administrator.username, administrator.password.expose_secret()).options([
                ("search_path", "pg_catalog"),
                ("lock_timeout", "5s"),
                ("statement_timeout", "25s"),
                ("idle_in_transaction_session_timeout", "40s"),
            ]);
        tokio::time::timeout(CONNECT, options.connect())
            .await
            .map_err(|_| self.unreachable("no connection in time"))?
            .map_err(|error| self.fault("let the administrator in", &error))
    }

    /// The administrator's session in the database that always exists.
    pub(super) async fn maintenance(&self) -> Result<PgConnection, DatabaseError> {
        self.connect(MAINTENANCE).await
    }

    /// Logs in the way a service does, and leaves.
    pub(super) async fn log_in(&self, database: &str, login: &str, password: &Password) -> Result<(), LoginFault> {
        let options = self.options(database, login, password.expose());
        match tokio::time::timeout(CONNECT, options.connect()).await {
            Err(_) => Err(LoginFault::Other(self.unreachable("no connection in time"))),
            Ok(Ok(connection)) => {
                // Polite; a broken connection is as good here.
                drop(tokio::time::timeout(CONNECT, sqlx::Connection::close(connection)).await);
                Ok(())
            }
            Ok(Err(error)) => match code(&error).as_deref() {
                Some("28P01") => Err(LoginFault::Password),
                // Counted after the password was right.
                Some("53300") => Ok(()),
                Some(code) => Err(LoginFault::Other(DatabaseError::Refused {
                    server: self.name.clone(),
                    action: format!("let login {login} in"),
                    code: code.to_owned(),
                })),
                None => Err(LoginFault::Other(self.fault("let a login in", &error))),
            },
        }
    }

    /// Runs one statement whose names were derived and quoted by this module.
    pub(super) async fn run(
        &self,
        connection: &mut PgConnection,
        action: &str,
        sql: impl Into<String>,
    ) -> Result<(), DatabaseError> {
        sqlx::raw_sql(AssertSqlSafe(sql.into()))
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(|error| self.fault(action, &error))
    }

    pub(super) fn unreachable(&self, cause: &str) -> DatabaseError {
        DatabaseError::Unreachable {
            server: self.name.clone(),
            address: format!("{}:{}", self.host, self.port),
            cause: cause.to_owned(),
        }
    }

    /// The category of a driver's error. Statements and values stay out of it.
    pub(super) fn fault(&self, action: &str, error: &sqlx::Error) -> DatabaseError {
        let server = self.name.clone();
        if let Some(code) = code(error) {
            return match code.as_str() {
                "28P01" | "28000" => {
                    DatabaseError::CredentialsRefused { server, secret: self.administrator.secret.clone() }
                }
                "55P03" | "40P01" | "40001" => DatabaseError::Busy { server },
                "42501" => DatabaseError::AdministratorUnfit {
                    server,
                    problem: format!("lacks the right to {action}; see what the class's page says it needs"),
                },
                _ if code.starts_with("08") || code.starts_with("57P") || code.starts_with("53") => {
                    self.unreachable(&format!("it refuses work, code {code}"))
                }
                _ => DatabaseError::Refused { server, action: action.to_owned(), code },
            };
        }
        match error {
            sqlx::Error::Tls(cause) => DatabaseError::CertificateRefused { server, cause: cause.to_string() },
            sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => {
                DatabaseError::CertificateRefused { server, cause: cause.to_string() }
            }
            sqlx::Error::Io(cause) => self.unreachable(&cause.kind().to_string()),
            _ => self.unreachable("the connection broke"),
        }
    }
}

/// SQLSTATE of an error that the server sent.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).map(std::borrow::Cow::into_owned)
}
