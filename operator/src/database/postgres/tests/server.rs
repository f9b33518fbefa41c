//! A real PostgreSQL server for tests: made by initdb in a temporary folder, TLS from an authority of its own, an administrator that
//! is not a superuser. It ends with the test process, however that ends.

use paddock_test_postgres::programs;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};
use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// Name of the administrator.
pub const ADMINISTRATOR: &str = "paddock";
/// Password of the administrator.
pub const PASSWORD: &str = "administrator's password";

/// A running server.
pub struct TestServer {
    folder: PathBuf,
    port: u16,
    ca: Vec<u8>,
    owner: Option<(u32, u32)>,
    /// Their standard inputs are the server's life lines.
    keepers: Vec<Child>,
}

static SHARED: OnceCell<TestServer> = OnceCell::const_new();

/// The server that tests share: each uses tenants of its own.
pub async fn shared() -> &'static TestServer {
    SHARED.get_or_init(TestServer::start).await
}

impl TestServer {
    /// Starts a server of its own.
    pub async fn start() -> Self {
        // A port is found free and taken a moment later; somebody else can come in between.
        for _ in 0..5 {
            if let Some(server) = Self::attempt().await {
                return server;
            }
        }
        panic!("the port of every server was taken before it");
    }

    /// `None` if its port was taken.
    async fn attempt() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("paddock-pg-").tempdir().unwrap().keep();
        let owner = postgres_user();
        own(&folder, owner);
        let (ca, certificate, key) = certificates();
        for (name, text) in [("tls.crt", &certificate), ("tls.key", &key)] {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            own(&path, owner);
        }
        let data = folder.join("data");
        let made = as_postgres(owner, programs().unwrap().join("initdb"))
            .args([
                "--username=postgres",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        fs::write(data.join("pg_hba.conf"), "local all all trust\nhostssl all all all scram-sha-256\n").unwrap();

        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { folder, port, ca: ca.into_bytes(), owner, keepers: Vec::new() };
        server.keep();
        let mut postgres = server.first_superuser().await?;
        run(
            &mut postgres,
            &format!(
                "CREATE ROLE {ADMINISTRATOR} LOGIN CREATEDB CREATEROLE PASSWORD '{}';
                 GRANT pg_signal_backend TO {ADMINISTRATOR} WITH ADMIN OPTION;
                 REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
                 GRANT CONNECT ON DATABASE postgres TO {ADMINISTRATOR} WITH GRANT OPTION",
                PASSWORD.replace('\'', "''")
            ),
        )
        .await;
        Some(server)
    }

    fn keep(&mut self) {
        // The shell outlives a killed test by the moment it takes to notice that its standard input closed.
        let script = r#""$0" -D "$1/data" -k "$1" -p "$2" -c listen_addresses=127.0.0.1,::1 -c ssl=on -c ssl_cert_file="$1/tls.crt" \
            -c ssl_key_file="$1/tls.key" -c fsync=off -c autovacuum=off -c max_connections=200 -c wal_level=minimal -c max_wal_senders=0 \
            </dev/null >>"$1/log" 2>&1 & server=$!; cat >/dev/null; kill -QUIT $server; wait $server; rm -rf "$1""#;
        let keeper = as_postgres(self.owner, "/bin/sh")
            .args(["-c", script])
            .arg(programs().unwrap().join("postgres"))
            .arg(&self.folder)
            .arg(self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.keepers.push(keeper);
    }

    /// Stops it as its administrator would: sessions end, data stays.
    #[allow(dead_code, reason = "for tests of the whole operator")]
    pub async fn stop(&self) {
        let file = self.folder.join("data/postmaster.pid");
        let process = fs::read_to_string(&file).unwrap().lines().next().unwrap().to_owned();
        assert!(Command::new("kill").args(["-INT", &process]).status().unwrap().success());
        let until = Instant::now() + Duration::from_mins(1);
        while file.exists() {
            assert!(Instant::now() < until, "it does not stop: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts it again where it was.
    #[allow(dead_code, reason = "for tests of the whole operator")]
    pub async fn start_again(&mut self) {
        self.keep();
        self.first_superuser().await.expect("its port is free again");
    }

    /// Whether somebody else listens on its port: then it ended, or listens on `::1` alone.
    fn port_is_taken(&self) -> bool {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.contains("could not bind IPv4 address \"127.0.0.1\": Address already in use")
    }

    /// `None` if its port is taken.
    async fn first_superuser(&self) -> Option<PgConnection> {
        let until = Instant::now() + Duration::from_mins(1);
        loop {
            let connected = self.superuser_options("postgres").connect().await;
            if self.port_is_taken() {
                return None;
            }
            match connected {
                Ok(connection) => return Some(connection),
                Err(error) if Instant::now() > until => {
                    panic!("{error}: {}", fs::read_to_string(self.folder.join("log")).unwrap_or_default())
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn superuser_options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.folder)
            .port(self.port)
            .username("postgres")
            .database(database)
    }

    /// A superuser's session, through the server's socket: what breaks things in tests.
    pub async fn superuser(&self, database: &str) -> PgConnection {
        self.superuser_options(database).connect().await.unwrap()
    }

    /// Its port on `localhost`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// PEM of the authority that signed its certificate.
    pub fn ca(&self) -> &[u8] {
        &self.ca
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

/// Runs statements, and fails the test if they fail.
pub async fn run(connection: &mut PgConnection, sql: &str) {
    attempt(connection, sql).await.unwrap_or_else(|code| panic!("{sql}: {code}"));
}

/// Runs statements; the SQLSTATE if they fail.
pub async fn attempt(connection: &mut PgConnection, sql: &str) -> Result<(), String> {
    match sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) => Err(code(&error)),
    }
}

/// SQLSTATE of an error, or its text.
pub fn code(error: &sqlx::Error) -> String {
    let sent = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    sent.map_or_else(|| error.to_string(), std::borrow::Cow::into_owned)
}

/// One value.
pub async fn value(connection: &mut PgConnection, sql: &str) -> String {
    let (value,): (String,) = sqlx::query_as(AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    value
}

pub fn certificates() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap().pem();
    (ca_certificate, certificate, key.serialize_pem())
}

/// PostgreSQL refuses to run as root: then user `postgres` of Debian's package does it.
fn postgres_user() -> Option<(u32, u32)> {
    let id = |flag: &str, name: &[&str]| -> u32 {
        let output = Command::new("id").arg(flag).args(name).output().unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .expect("user postgres: run `apt-get install postgresql-15`")
    };
    (id("-u", &[]) == 0).then(|| (id("-u", &["postgres"]), id("-g", &["postgres"])))
}

fn own(path: &Path, owner: Option<(u32, u32)>) {
    if let Some((user, group)) = owner {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

fn as_postgres(owner: Option<(u32, u32)>, program: impl AsRef<OsStr>) -> Command {
    let mut command = match owner {
        None => Command::new(program),
        Some((user, group)) => {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"]).arg(program);
            command
        }
    };
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    command
}
