//! Connections: of the administrator, of the term's login and of claims' logins. Always TLS with the chain and the host name checked.

use super::term::{self, Term, Terms};
use crate::database::{DatabaseError, Password, Writer};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions};
use std::time::Duration;

/// Longest time until a connection is ready for use.
const CONNECT: Duration = Duration::from_secs(5);
/// The database that always exists: terms begin and claims are looked for there.
pub(super) const MAINTENANCE: &str = "postgres";
/// Settings of every session of ours. The search path holds nothing that a tenant can write to.
const SETTINGS: [(&str, &str); 3] =
    [("search_path", "pg_catalog"), ("lock_timeout", "5s"), ("statement_timeout", "25s")];

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
    /// Who begins terms on it.
    pub administrator: Administrator,
    /// Epoch of the last term there as far as the class's status knows.
    pub known_epoch: i64,
    /// The terms of this process.
    pub terms: Terms,
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

    /// The administrator's session: only for beginning a term. One that stops half way, holding the lock of terms, is ended soon.
    pub(super) async fn root(&self) -> Result<PgConnection, DatabaseError> {
        let administrator = &self.administrator;
        let options = self
            .options(MAINTENANCE, &administrator.username, administrator.password.expose_secret())
            .options(SETTINGS)
            .options([("idle_in_transaction_session_timeout", "10s"), ("idle_session_timeout", "10s")]);
        tokio::time::timeout(CONNECT, options.connect())
            .await
            .map_err(|_| self.unreachable("no connection in time"))?
            .map_err(|error| self.fault("let the administrator in", &error))
    }

    /// A session of the writer's term in `database`.
    pub(super) async fn connect(&self, database: &str, writer: &Writer) -> Result<PgConnection, DatabaseError> {
        let term = term::held(self, writer).await?;
        self.enter(database, &term).await?.ok_or_else(|| self.unreachable("it no longer takes the login of this term"))
    }

    /// A session of the writer's term in the database that always exists. If the server no longer takes the term's login, the term
    /// begins anew, which finds out whether another one has begun since.
    pub(super) async fn maintenance(&self, writer: &Writer) -> Result<PgConnection, DatabaseError> {
        let term = term::held(self, writer).await?;
        if let Some(connection) = self.enter(MAINTENANCE, &term).await? {
            return Ok(connection);
        }
        term::lose(self, &term).await;
        let term = term::held(self, writer).await?;
        self.enter(MAINTENANCE, &term).await?.ok_or_else(|| DatabaseError::Refused {
            server: self.name.clone(),
            action: format!("let {} in, which was just opened; its pg_hba.conf must admit such logins", term.login),
            code: "28000".to_owned(),
        })
    }

    /// Logs in as the term, and becomes the role that does the work; `None` if the server refuses.
    async fn enter(&self, database: &str, term: &Term) -> Result<Option<PgConnection>, DatabaseError> {
        let options = self
            .options(database, &term.login, term.password.expose())
            .options(SETTINGS)
            .options([("idle_in_transaction_session_timeout", "40s"), ("role", term.role.as_str())]);
        let connection = tokio::time::timeout(CONNECT, options.connect())
            .await
            .map_err(|_| self.unreachable("no connection in time"))?;
        match connection {
            Ok(connection) => Ok(Some(connection)),
            Err(error) => match code(&error).as_deref() {
                Some("28P01" | "28000") => Ok(None),
                // There every term may connect: it is the role that it may not become.
                Some("42501") if database == MAINTENANCE => Ok(None),
                _ => Err(self.fault("let the login of this term in", &error)),
            },
        }
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

    pub(super) fn no_randomness(&self) -> DatabaseError {
        DatabaseError::Refused {
            server: self.name.clone(),
            action: "make a verifier: the operating system gave no random bytes".to_owned(),
            code: "none".to_owned(),
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
                    problem: format!("lacks the right to {action}; docs/database-servers.md says what it needs"),
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
