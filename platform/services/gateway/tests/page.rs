//! What the page does: `tests/page/*.test.mjs`, which run in Node.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_page_behaves() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".test.mjs"));
    files.sort();
    assert!(!files.is_empty(), "{} holds no tests", folder.display());
    // Not the folder: what Node makes of one differs between its versions.
    let output = match Command::new("node").arg("--test").args(&files).env_remove("NODE_OPTIONS").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("node is missing, which the page's tests run in: apt-get install nodejs (18 or newer)")
        }
        output => output.unwrap(),
    };
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "node --test: {}\n{said}\n{wrong}", output.status);
}
