//! `make demo`: from nothing to a bet placed, settled and paid.
#![allow(clippy::print_stdout, reason = "this program talks to the person who runs it")]

use anyhow::{Context as _, Result};
use paddock_cluster::{Access, DEFAULT_NAME, Progress};
use paddock_demo::afternoon::afternoon;
use paddock_demo::bettor::Bettor;
use paddock_demo::{Installation, OPERATOR_NAMESPACE};
use std::time::Instant;

#[derive(clap::Parser)]
#[command(about = "Two brands on a real Kubernetes on this machine, and one bet")]
struct Arguments {
    /// Name of the cluster.
    #[arg(long, default_value = "demo")]
    name: String,
    /// Only install and wait until every tenant is Ready.
    #[arg(long)]
    no_play: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Arguments = clap::Parser::parse();
    rustls::crypto::ring::default_provider().install_default().ok().context("a TLS provider was installed twice")?;
    let start = Instant::now();
    let installation = Installation::up(&arguments.name, Progress::visible()).await?;
    installation.examples().await?;
    println!("\nEvery tenant is Ready after {} s.\n", start.elapsed().as_secs());
    let bettor = if arguments.no_play { None } else { Some(afternoon(&installation, say).await?.bettor) };
    farewell(&installation, bettor.as_ref(), start)
}

fn say(step: &str, text: &str) {
    println!("  {step:<22} {text}");
}

fn farewell(installation: &Installation, bettor: Option<&Bettor>, start: Instant) -> Result<()> {
    let cluster = &installation.cluster;
    println!("\nDone in {} s. The cluster stays up.", start.elapsed().as_secs());
    let port = cluster.gateway_address().port();
    println!("  page         https://acme.localhost:{port}  https://zenith.localhost:{port}");
    if let Some(Bettor { email, password, .. }) = bettor {
        println!("  log in       {email} / {password}");
    }
    println!("  CA file      {}", cluster.ca_file()?.display());
    let tool = paddock_cluster::sibling("paddock-cluster").unwrap_or_else(|| "paddock-cluster".into());
    let tool = tool.display();
    let end = match cluster {
        Access::Local(local) => {
            println!("  KUBECONFIG   {}", local.kubeconfig().display());
            println!("  logs         {}", local.logs().display());
            println!("Try:");
            println!("  eval \"$({tool} env --name {})\"", local.name());
            if local.name() == DEFAULT_NAME {
                "make demo-down".into()
            } else {
                format!("{tool} down --name {}", local.name())
            }
        }
        Access::Own(_) => {
            println!("Try:");
            // The operator ends its tenants, so it goes last.
            format!("kubectl delete tenants --all && helm uninstall -n {OPERATOR_NAMESPACE} paddock-operator")
        }
    };
    println!("  kubectl get tenants,bsvc,mkt,dbc -A");
    println!("  kubectl describe tenant acme");
    println!("  kubectl explain market.spec.margin");
    println!(
        "  kubectl -n acme-prod patch mkt soccer-match-result --type merge -p '{{\"spec\":{{\"state\":\"Suspended\"}}}}'"
    );
    println!("  {end}");
    Ok(())
}
