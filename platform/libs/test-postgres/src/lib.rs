//! A throw-away PostgreSQL server for tests: own folder, own loopback port, gone when dropped.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

/// How long the server may take to answer first.
const START: Duration = Duration::from_mins(1);

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Child,
    port: u16,
    // Dropped last: the server's folder.
    _folder: tempfile::TempDir,
}

impl Server {
    /// Makes a cluster in a temporary folder and waits until it answers. Root runs it as user `postgres`.
    pub async fn start() -> anyhow::Result<Self> {
        let bin = programs()?;
        let user = server_user()?;
        let folder = tempfile::Builder::new().prefix("paddock-pg-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid))?;
        }
        let data = folder.path().join("data");
        let made = as_user(&bin.join("initdb"), user, folder.path())
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "--locale=C", "-D"])
            .arg(&data)
            .output()
            .context("initdb does not start")?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        // A port is found free and taken a moment later; somebody else can come in between.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let mut process = as_user(&bin.join("postgres"), user, folder.path())
                .arg("-D")
                .arg(&data)
                .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"])
                .arg(folder.path())
                .args(["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"])
                .args(["-c", "max_connections=100", "-c", "shared_buffers=32MB", "-c", "log_min_messages=fatal"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("postgres does not start")?;
            if answers(&mut process, port, &data).await? {
                return Ok(Self { process, port, _folder: folder });
            }
        }
        bail!("postgres ends at once, whatever its port")
    }

    /// How to connect to a database as its administrator.
    pub fn options(&self, database: &str) -> PgConnectOptions {
        options(self.port, database)
    }

    /// The server's port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A new, empty database; its name.
    pub async fn create_database(&self) -> anyhow::Result<String> {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let mut connection = PgConnection::connect_with(&self.options("postgres")).await?;
        // The name is ours: letters and digits only.
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
        connection.close().await?;
        Ok(name)
    }

    /// A pool on a new database with migrations applied.
    pub async fn database(&self, migrations: &Migrator) -> anyhow::Result<PgPool> {
        let name = self.create_database().await?;
        let pool = PgPoolOptions::new().max_connections(10).connect_with(self.options(&name)).await?;
        migrations.run(&pool).await?;
        Ok(pool)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing in it is worth an orderly end; its children notice and end too.
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// Waits until the server of a folder answers; false when it ended, as it does when its port is taken.
async fn answers(process: &mut Child, port: u16, data: &Path) -> anyhow::Result<bool> {
    let started = Instant::now();
    loop {
        // Whoever else has the port may never answer.
        let found = tokio::time::timeout(Duration::from_secs(5), folder_of(port)).await;
        if process.try_wait()?.is_some() {
            return Ok(false);
        }
        match found {
            // It may be another's server, and ours is about to end.
            Ok(Ok(found)) if Path::new(&found) == data => return Ok(true),
            found => ensure!(started.elapsed() < START, "postgres does not answer: {found:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn folder_of(port: u16) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect_with(&options(port, "postgres")).await?;
    let folder = sqlx::query_scalar("SHOW data_directory").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(folder)
}

fn options(port: u16, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username("postgres")
        .database(database)
        .ssl_mode(sqlx::postgres::PgSslMode::Disable)
}

fn as_user(program: &Path, user: Option<(u32, u32)>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// The server refuses to run as root.
fn server_user() -> anyhow::Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let entry = users
        .lines()
        .find_map(|line| line.strip_prefix("postgres:"))
        .context("user postgres is missing; install PostgreSQL's server package or run tests without root")?;
    let mut fields = entry.split(':').skip(1);
    match (fields.next().map(str::parse), fields.next().map(str::parse)) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok(Some((uid, gid))),
        _ => bail!("/etc/passwd has an unreadable entry for postgres"),
    }
}

/// The folder of PostgreSQL's server programs: `PG_BIN`, else that of version 15, which the clusters run, else of the newest
/// that Debian's packages installed.
pub fn programs() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("PG_BIN").map(PathBuf::from).or_else(installed);
    folder.context("PostgreSQL's server programs are missing: install postgresql-15, or set PG_BIN to their folder")
}

fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        // The package of clients makes the folder too.
        .filter(|(_, folder)| folder.join("initdb").exists())
        .max_by_key(|(version, _)| (*version == 15, *version))
        .map(|(_, folder)| folder)
}
