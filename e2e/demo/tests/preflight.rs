//! What `preflight.sh` says to somebody whose machine lacks something. The programs in its PATH only tell their versions.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

/// What the script itself uses.
const SYSTEM: [&str; 11] = ["bash", "dirname", "sort", "head", "tail", "sed", "cut", "grep", "readlink", "echo", "env"];
/// Everything is there, and new enough.
const GOOD: [(&str, &str); 9] = [
    ("uname", r#"[ "$1" = -m ] && echo x86_64 || echo Linux"#),
    ("id", "echo 0"),
    ("cargo", "echo cargo 1.99.0"),
    ("go", "echo go1.99.1; echo local"),
    ("java", "true"),
    ("jlink", "echo 17.0.15"),
    ("python3", "true"),
    ("dpkg-query", "echo -n install ok installed"),
    ("apt-get", "echo apt-get is not wanted here >&2; exit 1"),
];

/// Runs the script with `GOOD`, of which these are replaced (or missing, if empty): whether it succeeded, what it said.
fn preflight(replaced: &[(&str, &str)], env: &[(&str, &str)], args: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    for program in SYSTEM {
        let real =
            ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(program)).into_iter().find(|file| file.exists());
        symlink(real.unwrap(), folder.path().join(program)).unwrap();
    }
    for (program, script) in GOOD {
        let script = replaced.iter().find(|(name, _)| *name == program).map_or(script, |(_, script)| script);
        if !script.is_empty() {
            let file = folder.path().join(program);
            fs::write(&file, format!("#!/bin/bash\n{script}\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("preflight.sh");
    let mut command = Command::new("/bin/bash");
    command.arg(script).args(args).env_clear().env("PATH", folder.path()).env("HOME", folder.path());
    let output = command.envs(env.iter().copied()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_complete_machine_passes_in_silence() {
    assert_eq!(preflight(&[], &[], &["tests"]), (true, String::new()));
    let fetches = ("go", "echo go1.24.1; echo auto");
    assert_eq!(preflight(&[fetches], &[], &[]), (true, String::new()), "an older Go that fetches the newer");
}

#[test]
fn what_is_missing_or_too_old_is_said_in_one_line_with_a_remedy() {
    for (replaced, remedy) in [
        (("uname", "echo Darwin"), "this needs Linux"),
        (("uname", r#"[ "$1" = -m ] && echo aarch64 || echo Linux"#), "x86_64"),
        (("id", "echo 1000"), "sudo env"),
        (("cargo", ""), "install Rust with rustup"),
        (("cargo", "echo cargo 1.63.0"), "rustup update stable"),
        (("cargo", "echo no toolchain >&2; exit 1"), "rustup toolchain install stable"),
        (("go", ""), "install Go 1."),
        (("go", "echo go1.19.8; echo"), "before the old one in PATH"),
        (("go", "echo go1.24.1; echo local"), "export GOTOOLCHAIN=auto"),
        (("jlink", ""), "openjdk-17-jdk-headless"),
        (("jlink", "echo 11.0.1"), "openjdk-17-jdk-headless"),
        (("python3", ""), "apt-get install python3"),
        (("python3", "exit 1"), "python3 -m ensurepip"),
    ] {
        let (passed, said) = preflight(&[replaced], &[], &[]);
        assert!(!passed && said.contains(remedy) && said.lines().count() == 1, "{replaced:?}: {said}");
    }
}

#[test]
fn whoever_lost_the_path_to_sudo_is_told_how_to_keep_it() {
    let (passed, said) = preflight(&[("cargo", "")], &[("SUDO_USER", "alex")], &[]);
    assert!(!passed && said.contains(r#"sudo env "PATH=$PATH" "HOME=$HOME" make"#), "{said}");
}

#[test]
fn only_tests_install_a_database_server() {
    let lacking = ("dpkg-query", r#"[ "${@: -1}" = postgresql-15 ] || echo -n install ok installed"#);
    assert_eq!(preflight(&[lacking], &[], &[]), (true, String::new()));
    let (passed, said) = preflight(&[lacking], &[], &["tests"]);
    assert!(!passed && said.contains("installing postgresql-15"), "{said}");
}
