//! paddock-cluster: a real Kubernetes on one Linux machine.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::{Args, Parser, Subcommand};
use paddock_cluster::{
    Access, Cluster, DEFAULT_NAME, Error, Options, Paths, Progress, Result, forward,
    image::{Archive, Recipe, build},
    provision, tools,
    tools::Set,
};

/// A real Kubernetes on one Linux machine, in a network namespace of its own.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Args)]
struct Named {
    /// Which cluster; clusters of different names share nothing.
    #[arg(long, default_value = DEFAULT_NAME, env = "PADDOCK_CLUSTER")]
    name: String,
}

#[derive(Subcommand)]
enum Action {
    /// Start the cluster, or whatever of it does not run. Cleans up after a crash.
    Up {
        #[command(flatten)]
        cluster: Named,
        /// Also install two PostgreSQL and two Kafka servers into namespace paddock-databases.
        #[arg(long)]
        databases: bool,
    },
    /// Remove the cluster with everything in it.
    Down(Named),
    /// Show clusters, their components and ports.
    Status,
    /// Make OCI archives known to the node.
    Load {
        #[command(flatten)]
        cluster: Named,
        /// Files that `image build` made.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Run kubectl against the cluster.
    Kubectl {
        #[command(flatten)]
        cluster: Named,
        /// kubectl's arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run Helm against the cluster.
    Helm {
        #[command(flatten)]
        cluster: Named,
        /// Helm's arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Follow the log of a component, or name the components.
    Logs {
        #[command(flatten)]
        cluster: Named,
        /// etcd, apiserver, kubelet, …
        component: Option<String>,
    },
    /// Print KUBECONFIG and the rest as shell variables: `eval "$(paddock-cluster env)"`.
    Env(Named),
    /// Build the cluster's programs into the cache, and nothing else.
    Tools,
    /// Build images without a container engine.
    #[command(subcommand)]
    Image(ImageAction),
    #[command(hide = true)]
    Forward(Named),
    #[command(hide = true)]
    Provision(Named),
}

#[derive(Subcommand)]
enum ImageAction {
    /// Build images; prints file, name and digest of each.
    Build {
        /// What to build.
        #[arg(required = true)]
        what: Vec<Recipe>,
        /// Load them into this cluster too.
        #[arg(long)]
        load: Option<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(action: Action) -> Result<()> {
    let progress = Progress::visible();
    match action {
        Action::Up { cluster, databases } => up(&cluster.name, databases, progress).await,
        Action::Down(cluster) => down(&cluster.name, progress).await,
        Action::Status => only_local("status").and_then(|()| status()),
        Action::Load { cluster, archives } => {
            let archives: Vec<_> = archives.iter().map(|file| Archive::open(file)).collect::<Result<_>>()?;
            print_images(&existing(&cluster.name).await?.load(&archives).await?)
        }
        Action::Kubectl { cluster, args } => replace_by(&cluster.name, Set::Kubernetes, "kubectl", &args),
        Action::Helm { cluster, args } => replace_by(&cluster.name, Set::Etcd, "helm", &args),
        Action::Logs { cluster, component } => {
            only_local("logs")?;
            logs(&cluster.name, component.as_deref())
        }
        Action::Env(cluster) => {
            only_local("env")?;
            print(&environment(&Cluster::open(&cluster.name)?)?)
        }
        Action::Tools => tools::ensure(&Set::ALL, progress).await,
        Action::Image(ImageAction::Build { what, load }) => {
            let mut images = Vec::new();
            for recipe in what {
                images.push(progress.step(&format!("image {recipe:?}").to_lowercase(), build(recipe)).await?);
            }
            if let Some(name) = load {
                let access = existing(&name).await?;
                images = progress.step(&format!("load into {name}"), access.load(&images)).await?;
            }
            print_images(&images)
        }
        Action::Forward(cluster) => forward::run(&Paths::new(&cluster.name)?).await,
        Action::Provision(cluster) => provision::run(&Paths::new(&cluster.name)?).await,
    }
}

async fn up(name: &str, databases: bool, progress: Progress) -> Result<()> {
    let access = Access::from_env(name, &Options { progress }).await?;
    if databases {
        access.addon_databases().await?;
    }
    match access {
        Access::Local(cluster) => print(&environment(&cluster)?),
        Access::Own(_) => Ok(()),
    }
}

async fn down(name: &str, progress: Progress) -> Result<()> {
    if paddock_cluster::wants_current()? {
        progress.note("CLUSTER=current: your own cluster is left as it is");
    } else if !Cluster::down(name, progress).await? {
        progress.note(&format!("there is no cluster {name}"));
    }
    Ok(())
}

/// The named cluster, or that of `CLUSTER=current`.
async fn existing(name: &str) -> Result<Access> {
    if paddock_cluster::wants_current()? {
        return Access::from_env(name, &Options { progress: Progress::visible() }).await;
    }
    Cluster::open(name).map(Access::Local)
}

fn status() -> Result<()> {
    let names = Cluster::names()?;
    if names.is_empty() {
        return print("no cluster; run `paddock-cluster up`\n");
    }
    for name in names {
        let Ok(cluster) = Cluster::open(&name) else {
            print(&format!("{name}: not running; `up` starts it anew, `down` removes what is left of it\n"))?;
            continue;
        };
        let ports = cluster.ports();
        print(&format!(
            "{name}: apiserver https://127.0.0.1:{} · Gateway https://127.0.0.1:{} http://127.0.0.1:{}\n",
            ports.apiserver, ports.https, ports.http
        ))?;
        for component in cluster.components() {
            let state = component.pid.map_or("NOT RUNNING (`up` starts it)".into(), |pid| format!("pid {pid}"));
            print(&format!("  {:<20} {state}\n", component.name))?;
        }
    }
    Ok(())
}

/// Refuses what one's own cluster does not have here: processes, logs, ports.
fn only_local(command: &str) -> Result<()> {
    if paddock_cluster::wants_current()? {
        return Err(Error::Input(format!(
            "CLUSTER=current: `{command}` is about the local cluster alone; unset CLUSTER for it, and ask your own with kubectl"
        )));
    }
    Ok(())
}

/// Becomes kubectl or Helm, so that terminals, signals and exit codes are theirs. One's own cluster is asked by one's own.
fn replace_by(name: &str, set: Set, program: &str, args: &[String]) -> Result<()> {
    let mut command = if paddock_cluster::wants_current()? {
        Command::new(program)
    } else {
        let cluster = Cluster::open(name)?;
        let mut command = Command::new(tools::program(set, program)?);
        command.env("KUBECONFIG", cluster.kubeconfig());
        command
    };
    let error = command.args(args).exec();
    Err(Error::State(format!("start {program}: {error}")))
}

fn logs(name: &str, component: Option<&str>) -> Result<()> {
    let Some(component) = component else {
        return print(&format!("{}\n", paddock_cluster::COMPONENTS.join("\n")));
    };
    if !paddock_cluster::COMPONENTS.contains(&component) {
        let known = paddock_cluster::COMPONENTS.join(", ");
        return Err(Error::Input(format!("there is no component {component}; the components are {known}")));
    }
    let error = Command::new("tail").args(["-n", "100", "-F"]).arg(Paths::new(name)?.log(component)).exec();
    Err(Error::State(format!("start tail: {error}")))
}

fn environment(cluster: &Cluster) -> Result<String> {
    let ports = cluster.ports();
    let mut lines = Vec::new();
    for (name, value) in [
        ("KUBECONFIG", cluster.kubeconfig().display().to_string()),
        ("PADDOCK_CLUSTER", cluster.name().to_owned()),
        ("PADDOCK_GATEWAY_HTTPS_PORT", ports.https.to_string()),
        ("PADDOCK_GATEWAY_HTTP_PORT", ports.http.to_string()),
        ("PADDOCK_CA_FILE", cluster.ca_file().display().to_string()),
        ("PADDOCK_NETNS", cluster.network_namespace().display().to_string()),
    ] {
        lines.push(format!("export {name}={}\n", quoted(&value)));
    }
    // kubectl and Helm of the cluster's version, unless they are in it already.
    for (set, program) in [(Set::Kubernetes, "kubectl"), (Set::Etcd, "helm")] {
        if let Some(folder) = tools::program(set, program)?.parent() {
            let folder = quoted(&folder.display().to_string());
            lines.push(format!("case \":$PATH:\" in *:{folder}:*) ;; *) export PATH={folder}:\"$PATH\" ;; esac\n"));
        }
    }
    Ok(lines.concat())
}

/// A word of the shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn print_images(images: &[Archive]) -> Result<()> {
    for image in images {
        print(&format!("{}\n  {}\n  {}\n", image.reference, image.by_digest(), image.file.display()))?;
    }
    Ok(())
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|source| Error::Io { action: "write the output".into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_is_the_same_word_for_the_shell() {
        for value in ["/root/.kube", "/home/a b/$HOME", "it's; echo no"] {
            let script = format!("printf %s {}", quoted(value));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }
}
