//! Steps with times on standard error: a long step is never silent.

use std::{
    future::Future,
    io::Write as _,
    time::{Duration, Instant},
};

/// How often a step that is still running says so.
const REMINDER: Duration = Duration::from_secs(15);

/// Reports steps to the person who waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    quiet: bool,
}

impl Progress {
    /// Writes steps to standard error.
    pub const fn visible() -> Self {
        Self { quiet: false }
    }

    /// Says nothing.
    pub const fn quiet() -> Self {
        Self { quiet: true }
    }

    /// One line that is no step.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            // Standard error may be closed; progress is not worth failing for.
            let _ = writeln!(std::io::stderr().lock(), "  {line}");
        }
    }

    /// Runs a step: its name when it takes long, its time when it ends.
    pub async fn step<T, E>(&self, name: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let start = Instant::now();
        tokio::pin!(work);
        let result = loop {
            match tokio::time::timeout(REMINDER, &mut work).await {
                Ok(result) => break result,
                Err(_) => self.note(&format!("… {name} ({} s so far)", start.elapsed().as_secs())),
            }
        };
        let took = start.elapsed();
        match &result {
            Ok(_) => self.note(&format!("✓ {name} ({}.{} s)", took.as_secs(), took.subsec_millis() / 100)),
            Err(_) => self.note(&format!("✗ {name} (after {} s)", took.as_secs())),
        }
        result
    }
}
