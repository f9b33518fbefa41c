//! End-to-end tests on the local cluster: the one installation that all of them share.
#![allow(clippy::expect_used, clippy::panic, reason = "test support: a failure here is the test's failure")]

use paddock_cluster::Progress;
use paddock_demo::Installation;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

static INSTALLATION: OnceCell<Installation> = OnceCell::const_new();
static RUNTIME: std::sync::OnceLock<Runtime> = std::sync::OnceLock::new();

/// Runs a test against the installation; the first one makes it. One runtime serves all tests, because the client's connections
/// belong to the runtime that made them.
///
/// # Panics
/// When the installation does not come up: every test fails then, and says why.
pub fn on_cluster<F: Future<Output = ()>>(test: impl FnOnce(&'static Installation) -> F) {
    let runtime = RUNTIME.get_or_init(|| {
        // A second call answers Err: the provider is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Runtime::new().expect("a runtime")
    });
    runtime.block_on(async {
        let name = std::env::var("PADDOCK_TEST_CLUSTER").unwrap_or_else(|_| "test".into());
        let installation = INSTALLATION
            .get_or_init(|| async move {
                let installation =
                    Installation::up(&name, Progress::visible()).await.expect("the installation comes up");
                installation.examples().await.expect("the examples become Ready");
                installation
            })
            .await;
        test(installation).await;
    });
}
