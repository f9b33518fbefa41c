//! Bindings: the credentials and addresses of a need, as files that may change at any moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

/// How often files are looked at; the contract allows a second.
const POLL: Duration = Duration::from_millis(500);
/// Greatest size of one file.
const MAX_BYTES: u64 = 1 << 20;

/// A binding cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// The folder or one of its files cannot be read.
    #[error(
        "binding {need:?}: {path} cannot be read: {source}; check that the need is declared and its claim is bound"
    )]
    Unreadable {
        /// Need.
        need: String,
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The files kept changing while they were read.
    #[error("binding {0:?} changes while it is read; it is read again in a moment")]
    Changing(String),
    /// A key is missing or unusable.
    #[error("binding {need:?}: key {key:?} {problem}; the operator writes it, look at the claim's conditions")]
    Key {
        /// Need.
        need: String,
        /// Key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// One version of a binding.
#[derive(Debug, Clone)]
pub struct Binding {
    need: String,
    files: BTreeMap<String, SecretString>,
}

impl PartialEq for Binding {
    fn eq(&self, other: &Self) -> bool {
        self.files.len() == other.files.len()
            && self.files.iter().zip(&other.files).all(|((key, value), (other_key, other_value))| {
                key == other_key && value.expose_secret() == other_value.expose_secret()
            })
    }
}

impl Binding {
    /// Reads a folder. Kubernetes replaces all files at once by moving a link, so the `version` must be the same before and
    /// after.
    pub fn read(root: &Path, need: &str) -> Result<Self, BindingError> {
        let folder = root.join(need);
        for _attempt in 0..3 {
            let before = read_all(need, &folder)?;
            let after = read_all(need, &folder)?;
            if before == after {
                return Ok(before);
            }
        }
        Err(BindingError::Changing(need.to_owned()))
    }

    /// Name of the need.
    pub fn need(&self) -> &str {
        &self.need
    }

    /// The operator's counter of this content; empty if absent.
    pub fn version(&self) -> &str {
        self.files.get("version").map_or("", |value| value.expose_secret())
    }

    /// A key that must be there.
    pub fn text(&self, key: &'static str) -> Result<&str, BindingError> {
        match self.optional(key) {
            Some(text) => Ok(text),
            None => Err(self.fail(key, "is missing")),
        }
    }

    /// A key that may be absent or empty.
    pub fn optional(&self, key: &str) -> Option<&str> {
        self.files.get(key).map(ExposeSecret::expose_secret).filter(|text| !text.is_empty())
    }

    /// An error about a key; `problem` must not hold the value.
    pub fn fail(&self, key: &'static str, problem: impl Into<String>) -> BindingError {
        BindingError::Key { need: self.need.clone(), key, problem: problem.into() }
    }
}

fn read_all(need: &str, folder: &Path) -> Result<Binding, BindingError> {
    let unreadable =
        |path: &Path, source| BindingError::Unreadable { need: need.to_owned(), path: path.to_owned(), source };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|source| unreadable(folder, source))? {
        let entry = entry.map_err(|source| unreadable(folder, source))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let size = std::fs::metadata(&path).map_err(|source| unreadable(&path, source))?;
        if !size.is_file() || size.len() > MAX_BYTES {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
        files.insert(name.to_owned(), SecretString::from(text.trim_end_matches('\n').to_owned()));
    }
    Ok(Binding { need: need.to_owned(), files })
}

/// The bindings of a pod.
#[derive(Debug)]
pub struct Bindings {
    root: PathBuf,
    loaded: Mutex<BTreeMap<String, watch::Sender<Arc<Binding>>>>,
}

impl Bindings {
    /// Bindings under a folder.
    pub fn new(root: PathBuf) -> Self {
        Self { root, loaded: Mutex::default() }
    }

    /// The binding of a need; the receiver sees every later version.
    pub fn watch(&self, need: &str) -> Result<watch::Receiver<Arc<Binding>>, BindingError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = loaded.get(need) {
            return Ok(sender.subscribe());
        }
        let (sender, receiver) = watch::channel(Arc::new(Binding::read(&self.root, need)?));
        loaded.insert(need.to_owned(), sender);
        Ok(receiver)
    }

    /// Need → version as loaded.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.iter().map(|(need, sender)| (need.clone(), sender.borrow().version().to_owned())).collect()
    }

    /// Reads every loaded binding again and tells receivers of those that changed. One that cannot be read stays as it is.
    pub fn reload(&self) {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        for (need, sender) in loaded.iter() {
            match Binding::read(&self.root, need) {
                Ok(binding) => {
                    let changed = sender.send_if_modified(|present| {
                        let differs = **present != binding;
                        if differs {
                            *present = Arc::new(binding);
                        }
                        differs
                    });
                    if changed {
                        tracing::info!(need, version = sender.borrow().version(), "binding read again");
                    }
                }
                Err(error) => tracing::warn!(need, %error, "binding kept as it was"),
            }
        }
    }

    /// Reloads for ever.
    pub(crate) async fn poll(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let bindings = Arc::clone(&self);
            let _done = tokio::task::spawn_blocking(move || bindings.reload()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reaches_receivers_and_a_vanished_binding_stays() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("db");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("version"), "1").unwrap();
        std::fs::write(folder.join("password"), "first\n").unwrap();
        let bindings = Bindings::new(root.path().to_owned());
        let mut receiver = bindings.watch("db").unwrap();
        assert_eq!(receiver.borrow_and_update().text("password").unwrap(), "first");
        bindings.reload();
        assert!(!receiver.has_changed().unwrap(), "the same content is no change");

        std::fs::write(folder.join("version"), "2").unwrap();
        std::fs::write(folder.join("password"), "second").unwrap();
        bindings.reload();
        assert!(receiver.has_changed().unwrap());
        assert_eq!(receiver.borrow_and_update().text("password").unwrap(), "second");
        assert_eq!(bindings.versions()["db"], "2");

        std::fs::remove_dir_all(&folder).unwrap();
        bindings.reload();
        assert_eq!(receiver.borrow().text("password").unwrap(), "second");
    }

    #[test]
    fn errors_and_debug_hold_no_secret() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("db")).unwrap();
        std::fs::write(root.path().join("db/password"), "hunter2").unwrap();
        let binding = Binding::read(root.path(), "db").unwrap();
        assert!(!format!("{binding:?}").contains("hunter2"));
        assert!(binding.text("host").unwrap_err().to_string().contains("\"host\" is missing"));
    }
}
