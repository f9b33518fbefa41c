//! The `main` function of a service's process.

use std::future::Future;
use std::process::ExitCode;

use crate::Command;

/// Runs a service with the process's TLS provider and an asynchronous runtime, and turns its end into an exit code.
pub fn main<F>(run: impl FnOnce(Command) -> F, command: Command) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    // Several TLS users in one process need one provider; a second call finds it already there.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            crate::telemetry::last_words(&format!("no asynchronous runtime: {error}; check the pod's limits"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::telemetry::last_words(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
