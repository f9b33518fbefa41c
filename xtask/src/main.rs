//! `cargo xtask generate`: writes every generated file; `--check` fails when one differs. The test of this crate does the same.

mod crds;
mod rbac;
mod reference;

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// One generated file.
struct Generated {
    /// Path below the repository's root.
    path: PathBuf,
    content: String,
}

#[derive(clap::Parser)]
#[command(about = "Paddock's own tasks")]
enum Task {
    /// Writes CRDs, chart templates, RBAC, references, the schemas of events and the description of the public API.
    Generate {
        /// Writes nothing; fails if a file differs from what would be written.
        #[arg(long)]
        check: bool,
    },
}

fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask has no parent folder")?.to_owned())
}

fn generated() -> Result<Vec<Generated>> {
    let mut files = crds::generate()?;
    files.extend(rbac::generate()?);
    files.push(reference::generate()?);
    files.extend(events()?);
    files.push(openapi()?);
    Ok(files)
}

/// The schema of each topic's records.
fn events() -> Result<Vec<Generated>> {
    let file = |(topic, schema)| {
        let content = serde_json::to_string_pretty(&schema)? + "\n";
        Ok(Generated { path: format!("platform/libs/events/schemas/{topic}.json").into(), content })
    };
    paddock_events::schemas().into_iter().map(file).collect()
}

/// The description of the public API, as the gateway serves it.
fn openapi() -> Result<Generated> {
    let content = paddock_gateway::api::openapi().to_pretty_json()? + "\n";
    Ok(Generated { path: "platform/services/gateway/openapi.json".into(), content })
}

fn stale(root: &Path) -> Result<Vec<PathBuf>> {
    Ok(generated()?
        .into_iter()
        .filter(|file| fs::read_to_string(root.join(&file.path)).ok().as_ref() != Some(&file.content))
        .map(|file| file.path)
        .collect())
}

fn main() -> Result<()> {
    let Task::Generate { check } = clap::Parser::parse();
    let root = root()?;
    if check {
        let stale = stale(&root)?;
        if !stale.is_empty() {
            bail!("these files are out of date, run `cargo xtask generate`: {stale:?}");
        }
        return Ok(());
    }
    for file in generated()? {
        let path = root.join(&file.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, &file.content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn generated_files_are_current() {
        let stale = stale(&root().unwrap()).unwrap();
        assert!(stale.is_empty(), "out of date, run `cargo xtask generate`: {stale:?}");
    }

    /// The crates of others in a manifest's section.
    fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
        let text = fs::read_to_string(root().unwrap().join(manifest)).unwrap();
        let lines = text.lines().skip_while(|line| *line != section).skip(1).take_while(|line| !line.starts_with('['));
        let names = lines.filter(|line| !line.contains("path = ")).filter_map(|line| line.split([' ', '.']).next());
        names.filter(|name| !["", "#"].contains(name)).map(str::to_owned).collect()
    }

    /// What ADR 0003 rests on.
    #[test]
    fn workspace_features_depends_on_every_crate_of_others() {
        let ours = dependencies("xtask/features/Cargo.toml", "[dependencies]");
        assert!(ours.contains("tokio"));
        assert_eq!(ours, dependencies("Cargo.toml", "[workspace.dependencies]"));
    }
}
