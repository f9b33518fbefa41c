//! The images of the local cluster and of Paddock itself.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::{
    Archive, ImageConfig, Layer, LayerFile,
    archive::{recall, remember, write},
    libraries::{check_base, libraries_with},
};
use crate::{
    command::Run,
    error::{Doing as _, Error, Result},
    machine::find,
    paths,
    process::temporary_folder,
    progress::Progress,
    tools::{self, Set},
};

/// The services that the `platform` image links to its one binary.
const COMPONENTS: [&str; 6] = ["feed", "rates", "calculations", "settlement", "account", "gateway"];
/// What Kafka's server and storage tool use of the Java runtime.
/// `java.desktop` only for `java.beans`, which Log4j wants.
const JAVA_MODULES: &str = "java.base,java.desktop,java.logging,java.management,java.naming,java.security.jgss,java.security.sasl,\
     java.sql,java.xml,jdk.crypto.ec,jdk.management,jdk.net,jdk.unsupported,jdk.zipfs,jdk.security.auth";
/// Native libraries of `java.desktop`: no server draws, and they would bring a window system's libraries along.
const JAVA_DESKTOP_LIBRARIES: [&str; 11] = [
    "awt",
    "awt_headless",
    "awt_xawt",
    "jawt",
    "fontmanager",
    "freetype",
    "javajpeg",
    "jsound",
    "lcms",
    "mlib_image",
    "splashscreen",
];
/// How many archives of a name are kept in the cache.
const KEPT: usize = 3;
const DOWNLOAD_DEADLINE: Duration = Duration::from_mins(20);

/// An image that this tool can build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Recipe {
    /// The sandbox of every pod.
    Pause,
    /// Envoy, the Gateway's proxy.
    Envoy,
    /// Envoy Gateway, which configures the proxies.
    EnvoyGateway,
    /// PostgreSQL 15 from Debian.
    Postgresql,
    /// Kafka 4.1 from Maven Central on a Java runtime of its own.
    Kafka,
    /// The operator, from `target/debug/paddock-operator`.
    Operator,
    /// The betting services, from `target/debug/paddock`.
    Platform,
}

/// Builds an image, or finds the one that was built from the same things before.
pub async fn build(recipe: Recipe) -> Result<Archive> {
    match recipe {
        Recipe::Pause => pause().await,
        Recipe::Envoy => envoy().await,
        Recipe::EnvoyGateway => envoy_gateway().await,
        Recipe::Postgresql => postgresql().await,
        Recipe::Kafka => kafka().await,
        Recipe::Operator => {
            let binary = target("paddock-operator")?;
            check_base(&binary)?;
            program("operator", &binary, "/paddock-operator", Vec::new()).await
        }
        Recipe::Platform => {
            let links = COMPONENTS.iter().map(|name| (format!("/paddock-{name}"), "/paddock".to_owned())).collect();
            let binary = target("paddock")?;
            check_base(&binary)?;
            program("platform", &binary, "/paddock", links).await
        }
    }
}

/// An image of one program of this machine with the libraries that it needs, started as user 65532.
async fn program(name: &str, binary: &Path, inside: &str, links: Vec<(String, String)>) -> Result<Archive> {
    let (config, binary, inside) = (ImageConfig::new(name, &[inside]), binary.to_owned(), inside.to_owned());
    finish(config, None, None, move || {
        let mut layer = Layer::base()?;
        layer.program(&inside, &binary)?;
        for (link, to) in &links {
            layer.link(link, to);
        }
        Ok(layer)
    })
    .await
}

async fn pause() -> Result<Archive> {
    const SOURCE: &str = include_str!("../../images/pause/pause.c");
    cached("pause", &[SOURCE], async || {
        let work = work_folder()?;
        let (source, binary) = (work.path().join("pause.c"), work.path().join("pause"));
        paths::write(&source, SOURCE)?;
        Run::new("gcc").args(["-static", "-Os", "-s", "-o"]).arg(&binary).arg(&source).output().await?;
        let content = fs::read(&binary).doing(|| "read the sandbox program".into())?;
        let mut config = ImageConfig::new("pause", &["/pause"]);
        config.env.clear();
        finish(config, Some("1"), None, move || {
            let mut layer = Layer::new();
            layer.bytes("/pause", content, 0o755);
            Ok(layer)
        })
        .await
    })
    .await
}

async fn envoy() -> Result<Archive> {
    let binary = tools::program(Set::Envoy, "envoy")?;
    cached("envoy", &[&binary.to_string_lossy()], async || {
        program("envoy", &binary, "/usr/local/bin/envoy", Vec::new()).await
    })
    .await
}

async fn envoy_gateway() -> Result<Archive> {
    let binary = tools::program(Set::EnvoyGateway, "envoy-gateway")?;
    let version = binary.to_string_lossy().into_owned();
    cached("envoy-gateway", &[&version], async || {
        let config = ImageConfig::new("envoy-gateway", &["/usr/local/bin/envoy-gateway"]);
        finish(config, None, None, move || {
            let mut layer = Layer::base()?;
            layer.program("/usr/local/bin/envoy-gateway", &binary)?.folder("/var/lib/eg", 0o1777);
            Ok(layer)
        })
        .await
    })
    .await
}

async fn postgresql() -> Result<Archive> {
    const ENTRYPOINT: &str = include_str!("../../images/postgresql/entrypoint.sh");
    // Part of the key: a change here makes the root filesystem anew.
    // The just-in-time compiler is left out: it is a third of the image, and slows short queries down.
    const BOOTSTRAP: [&str; 11] = [
        "--variant=essential",
        "--include=postgresql-15",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/lib/*/libLLVM*",
        "--dpkgopt=path-exclude=/usr/lib/*/libz3*",
        "--dpkgopt=path-exclude=/usr/lib/postgresql/15/lib/llvmjit*",
        "--dpkgopt=path-exclude=/usr/lib/postgresql/15/lib/bitcode/*",
        "--customize-hook=echo 'nonroot:x:65532:65532:nonroot:/:/usr/sbin/nologin' >>\"$1/etc/passwd\"; \
         echo 'nonroot:x:65532:' >>\"$1/etc/group\"",
        "--customize-hook=rm -rf \"$1/var/lib/postgresql/15\" \"$1\"/var/cache/* \"$1\"/var/log/*",
    ];
    let key: Vec<&str> = BOOTSTRAP.iter().copied().chain([ENTRYPOINT]).collect();
    cached("postgresql", &key, async || {
        let work = work_folder()?;
        let rootfs = work.path().join("rootfs.tar");
        Run::new("mmdebstrap")
            .args(BOOTSTRAP)
            .arg("bookworm")
            .arg(&rootfs)
            .env("SOURCE_DATE_EPOCH", "0")
            .env("TMPDIR", work.path())
            .deadline(DOWNLOAD_DEADLINE)
            .output()
            .await?;
        let config = ImageConfig::new("postgresql", &["/entrypoint.sh"]);
        finish(config, None, Some(rootfs), || {
            let mut layer = Layer::new();
            layer.bytes("/entrypoint.sh", ENTRYPOINT, 0o755);
            Ok(layer)
        })
        .await
    })
    .await
}

async fn kafka() -> Result<Archive> {
    const POM: &str = include_str!("../../images/kafka/pom.xml");
    let java = Command::new("java").arg("-version").output().doing(|| "run java".into())?;
    let java_version = String::from_utf8_lossy(&java.stderr).into_owned();
    cached("kafka", &[POM, JAVA_MODULES, &java_version], async || {
        let work = work_folder()?;
        let (jars, runtime) = (work.path().join("libs"), work.path().join("java"));
        paths::write(&work.path().join("pom.xml"), POM)?;
        Run::new("mvn")
            .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", jars.display()))
            .dir(work.path())
            .deadline(DOWNLOAD_DEADLINE)
            .output()
            .await?;
        Run::new("jlink")
            .args(["--add-modules", JAVA_MODULES, "--strip-debug", "--no-man-pages", "--no-header-files", "--output"])
            .arg(&runtime)
            .deadline(DOWNLOAD_DEADLINE)
            .output()
            .await?;
        for library in JAVA_DESKTOP_LIBRARIES {
            // Not every build of the JDK has all of them.
            let _ = fs::remove_file(runtime.join(format!("lib/lib{library}.so")));
        }
        let mut config = ImageConfig::new("kafka", &["/opt/java/bin/java", "-cp", "/opt/kafka/libs/*"]);
        config.env.push("JAVA_HOME=/opt/java".into());
        let archive = finish(config, None, None, {
            let (jars, runtime) = (jars.clone(), runtime.clone());
            move || {
                let mut layer = Layer::base()?;
                layer.tree("/opt/kafka/libs", &jars)?.tree("/opt/java", &runtime)?;
                // Its real path: that is how the linker's answers are compared with it.
                let runtime = fs::canonicalize(&runtime).doing(|| "find the Java runtime".into())?;
                add_system_libraries(&mut layer, &runtime, &runtime)?;
                Ok(layer)
            }
        });
        archive.await
    })
    .await
}

/// What the programs and libraries of a Java runtime need from the system.
fn add_system_libraries(layer: &mut Layer, folder: &Path, runtime: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).doing(|| format!("list {}", folder.display()))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            add_system_libraries(layer, &path, runtime)?;
        } else if path.extension().is_some_and(|extension| extension == "so") || path.ends_with("bin/java") {
            // They link to each other, and find each other by themselves.
            for library in libraries_with(&path, &[runtime.join("lib/server"), runtime.join("lib")])? {
                let real = fs::canonicalize(&library).doing(|| format!("find {}", library.display()))?;
                if !real.starts_with(runtime) {
                    layer.file(&library.to_string_lossy(), &library)?;
                }
            }
        }
    }
    Ok(())
}

/// Writes layers and archive, away from the async threads: it hashes hundreds of megabytes.
async fn finish(
    config: ImageConfig,
    tag: Option<&str>,
    rootfs: Option<PathBuf>,
    layer: impl FnOnce() -> Result<Layer> + Send + 'static,
) -> Result<Archive> {
    let tag = tag.map(str::to_owned);
    let written = tokio::task::spawn_blocking(move || {
        let work = work_folder()?;
        let mut layers = Vec::new();
        if let Some(rootfs) = rootfs {
            layers.push(LayerFile::existing(&rootfs)?);
        }
        layers.push(LayerFile::of(&layer()?, &work.path().join("layer.tar"))?);
        let folder = images()?;
        let archive = write(&config, &layers, tag.as_deref(), &folder)?;
        forget_old(&folder, &config.name);
        Ok(archive)
    });
    written.await.unwrap_or_else(|error| Err(Error::State(format!("writing the image stopped: {error}"))))
}

/// Keeps the newest archives of a name: each rebuild of our own services leaves one.
fn forget_old(folder: &Path, name: &str) {
    let mut archives: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            file.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".tar"))
                .is_some_and(|digest| digest.len() == 12 && digest.bytes().all(|b| b.is_ascii_hexdigit()))
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    archives.sort();
    archives.reverse();
    for (_, old) in archives.into_iter().skip(KEPT) {
        let _ = fs::remove_file(old);
    }
}

/// An image that is made once per content of `key`.
async fn cached(name: &str, key: &[&str], make: impl AsyncFnOnce() -> Result<Archive>) -> Result<Archive> {
    let mut hasher = Sha256::new();
    for part in key {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    let version: String = HEXLOWER.encode(&hasher.finalize()).chars().take(12).collect();
    let folder = images()?;
    let record = folder.join(format!("{name}-{version}.json"));
    let _lock = tools::lock(folder.join(format!("{name}.lock")), name, Progress::visible()).await?;
    if let Some(archive) = recall(&record) {
        return Ok(archive);
    }
    let archive = make().await?;
    remember(&record, &archive)?;
    Ok(archive)
}

fn images() -> Result<PathBuf> {
    Ok(paths::cache()?.join("images"))
}

fn work_folder() -> Result<tempfile::TempDir> {
    let folder = images()?;
    fs::create_dir_all(&folder).doing(|| format!("create {}", folder.display()))?;
    temporary_folder(&folder, ".work-")
}

/// A binary of this workspace: beside the running one, or in `target/debug` of the working folder.
fn target(name: &str) -> Result<PathBuf> {
    crate::sibling(name).or_else(|| find(name)).ok_or_else(|| {
        Error::State(format!(
            "the binary {name} is not built (looked beside {}); run `cargo build --bin {name}`",
            env::current_exe().unwrap_or_default().display()
        ))
    })
}
