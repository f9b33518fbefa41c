//! Running other programs to their end.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::error::{Doing as _, Error, Result};

/// How much of a failed program's output goes into the error.
const OUTPUT_KEPT: usize = 2000;

/// A program to run to its end, with a deadline.
#[derive(Debug)]
pub struct Run {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    deadline: Duration,
}

impl Run {
    /// A program without arguments and a deadline of two minutes.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            stdin: None,
            deadline: Duration::from_mins(2),
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Gives this on standard input.
    #[must_use]
    pub fn stdin(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(content.into());
        self
    }

    /// Kills the program after this long.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it; its standard output as text if it succeeded.
    pub async fn output(self) -> Result<String> {
        let shown = self.shown();
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn().doing(|| format!("start `{shown}`"))?;
        let input = child.stdin.take().zip(self.stdin);
        let feed = async move {
            if let Some((mut pipe, content)) = input {
                // A program that ends without reading its input reports why itself.
                let _ = pipe.write_all(&content).await;
            }
        };
        let run = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(self.deadline, run)
            .await
            .map_err(|_| Error::Timeout {
                what: format!("`{shown}`"),
                waited: self.deadline,
                hint: "it was stopped; run it by hand to see more".into(),
            })?
            .doing(|| format!("run `{shown}`"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let both = [output.stdout, output.stderr].concat();
        Err(Error::Command {
            command: shown,
            status: output.status.to_string(),
            output: tail(&String::from_utf8_lossy(&both)),
        })
    }

    fn shown(&self) -> String {
        let mut shown = Path::new(&self.program).file_name().unwrap_or(&self.program).to_string_lossy().into_owned();
        for arg in self.args.iter().take(8) {
            shown.push(' ');
            shown.push_str(&arg.to_string_lossy());
        }
        if self.args.len() > 8 {
            shown.push_str(" …");
        }
        shown
    }
}

/// The end of a text, cut at a character.
pub(crate) fn tail(text: &str) -> String {
    let text = text.trim();
    let mut start = text.len().saturating_sub(OUTPUT_KEPT);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_names_the_command_and_shows_its_output() {
        let error = Run::new("sh").args(["-c", "echo broken >&2; exit 3"]).output().await.unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("broken") && error.contains('3'), "{error}");
    }

    #[tokio::test]
    async fn input_reaches_the_program() {
        let big = "x".repeat(200_000);
        assert_eq!(Run::new("cat").stdin(big.clone()).output().await.unwrap(), big);
    }

    #[tokio::test]
    async fn a_program_over_its_deadline_is_an_error() {
        let error = Run::new("sleep").arg("60").deadline(Duration::from_millis(50)).output().await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
    }

    #[test]
    fn the_tail_is_cut_at_a_character() {
        let text = "é".repeat(OUTPUT_KEPT);
        assert!(tail(&text).len() <= OUTPUT_KEPT);
    }
}
