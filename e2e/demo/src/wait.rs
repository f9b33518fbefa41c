//! Waiting for a condition, with a message on what is waited for.

use anyhow::{Result, bail};
use std::future::Future;
use std::time::{Duration, Instant};

/// Asks until the answer is there. `check` says what is still missing as its `Err`.
pub async fn until<T, F>(what: &str, limit: Duration, mut check: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    let mut told = Instant::now();
    loop {
        let missing = match check().await {
            Ok(value) => return Ok(value),
            Err(missing) => missing,
        };
        if start.elapsed() > limit {
            bail!("waited {} s for {what}; still missing: {missing}", limit.as_secs());
        }
        if told.elapsed() > Duration::from_secs(10) {
            eprintln!("  … waiting for {what}: {missing}");
            told = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(250)).await; // the pace of asking, not a wait for something
    }
}
