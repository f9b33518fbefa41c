//! `make bench`: figures, each beside a yardstick that ran in the same run. Nothing here asserts a time.
#![allow(clippy::print_stdout, reason = "this program's output is its purpose")]

mod betting;
mod operator_process;
mod report;
mod tenants;
mod versions;

use anyhow::{Context as _, Result};
use report::Report;

#[derive(clap::Parser)]
#[command(about = "Paddock's figures beside their yardsticks")]
struct Arguments {
    /// Which part: tenants (operator on a real API server with fake nodes) or betting (a real cluster with the examples).
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Tenants of the scale figure.
    #[arg(long, default_value_t = 50)]
    tenants: usize,
    /// Seconds of each load.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Bettors that bet at the same time.
    #[arg(long, default_value_t = 16)]
    bettors: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Apply to Ready, requests, memory, rest.
    Tenants,
    /// Bets per second, price latency, suspension latency.
    Betting,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Arguments = clap::Parser::parse();
    rustls::crypto::ring::default_provider().install_default().ok().context("a TLS provider was installed twice")?;
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let mut report = Report::new();
    if wanted(Part::Tenants) {
        tenants::run(&mut report, arguments.tenants).await?;
    }
    if wanted(Part::Betting) {
        betting::run(&mut report, arguments.bettors, arguments.seconds).await?;
    }
    println!("{report}");
    Ok(())
}
