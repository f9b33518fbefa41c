//! One layer: a set of files, written sorted and with fixed times and owners.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tar::{Builder, EntryType, Header};

use crate::error::{Doing as _, Error, Result};

/// What is at a path of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder { mode: u32 },
    Bytes { content: Vec<u8>, mode: u32 },
    Copy { from: PathBuf, mode: u32 },
    Link { target: String },
}

/// The files of one layer. All belong to root; who runs in the image only reads them.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    entries: BTreeMap<String, Entry>,
}

impl Layer {
    /// A layer without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// What every process expects: user 65532 `nonroot`, `/tmp`, name lookup, certificate authorities.
    pub fn base() -> Result<Self> {
        let mut layer = Self::new();
        layer
            .bytes("/etc/passwd", "root:x:0:0:root:/:/none\nnonroot:x:65532:65532:nonroot:/:/none\n", 0o644)
            .bytes("/etc/group", "root:x:0:\nnonroot:x:65532:\n", 0o644)
            .bytes("/etc/nsswitch.conf", "hosts: files dns\n", 0o644)
            .folder("/tmp", 0o1777)
            .file("/etc/ssl/certs/ca-certificates.crt", Path::new("/etc/ssl/certs/ca-certificates.crt"))?;
        Ok(layer)
    }

    /// A folder.
    pub fn folder(&mut self, path: &str, mode: u32) -> &mut Self {
        self.put(path, Entry::Folder { mode })
    }

    /// A file with this content.
    pub fn bytes(&mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> &mut Self {
        self.put(path, Entry::Bytes { content: content.into(), mode })
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.put(path, Entry::Link { target: target.into() })
    }

    /// A copy of a file of this machine, runnable if it is runnable here. Links are followed.
    pub fn file(&mut self, path: &str, from: &Path) -> Result<&mut Self> {
        let meta = fs::metadata(from).doing(|| format!("read {}", from.display()))?;
        if !meta.is_file() {
            return Err(Error::Input(format!("{} is no file", from.display())));
        }
        let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        Ok(self.put(path, Entry::Copy { from: from.into(), mode }))
    }

    /// A copy of a folder of this machine with everything in it. Links inside stay links.
    pub fn tree(&mut self, path: &str, from: &Path) -> Result<&mut Self> {
        self.folder(path, 0o755);
        for entry in fs::read_dir(from).doing(|| format!("list {}", from.display()))? {
            let entry = entry.doing(|| format!("list {}", from.display()))?;
            let inside = format!("{path}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().doing(|| format!("look at {}", entry.path().display()))?;
            if kind.is_dir() {
                self.tree(&inside, &entry.path())?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path()).doing(|| format!("read {}", entry.path().display()))?;
                self.link(&inside, &target.to_string_lossy());
            } else {
                self.file(&inside, &entry.path())?;
            }
        }
        Ok(self)
    }

    /// A program of this machine with the shared libraries that it needs, at the paths where it looks for them.
    pub fn program(&mut self, path: &str, from: &Path) -> Result<&mut Self> {
        self.file(path, from)?;
        self.libraries(from)
    }

    /// The shared libraries that a program or library needs.
    pub fn libraries(&mut self, of: &Path) -> Result<&mut Self> {
        for library in super::libraries_of(of)? {
            self.file(&library.to_string_lossy(), &library)?;
        }
        Ok(self)
    }

    fn put(&mut self, path: &str, entry: Entry) -> &mut Self {
        self.entries.insert(path.trim_start_matches('/').to_owned(), entry);
        self
    }

    /// Writes the layer as a tar.
    pub fn write(&self, out: impl Write) -> Result<()> {
        let mut tar = Builder::new(out);
        for (path, entry) in self.with_parents() {
            let mut header = Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            let wrote = match entry {
                Entry::Folder { mode } => {
                    header.set_entry_type(EntryType::Directory);
                    append(&mut tar, header, &format!("{path}/"), mode, 0, io::empty())
                }
                Entry::Bytes { content, mode } => {
                    append(&mut tar, header, &path, mode, content.len() as u64, content.as_slice())
                }
                Entry::Copy { from, mode } => fs::File::open(&from).and_then(|file| {
                    let size = file.metadata()?.len();
                    append(&mut tar, header, &path, mode, size, file)
                }),
                Entry::Link { target } => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    tar.append_link(&mut header, &path, &target)
                }
            };
            wrote.doing(|| format!("write /{path} into a layer"))?;
        }
        tar.into_inner().and_then(|mut out| out.flush()).doing(|| "write a layer".into())
    }

    /// All entries, with the folders that lead to them, parents first.
    fn with_parents(&self) -> BTreeMap<String, Entry> {
        let mut all = self.entries.clone();
        for path in self.entries.keys() {
            for (end, _) in path.match_indices('/') {
                if let Some(parent) = path.get(..end) {
                    all.entry(parent.to_owned()).or_insert(Entry::Folder { mode: 0o755 });
                }
            }
        }
        all
    }
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    mut header: Header,
    path: &str,
    mode: u32,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    header.set_mode(mode);
    header.set_size(size);
    tar.append_data(&mut header, path, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(layer: &Layer) -> Vec<u8> {
        let mut out = Vec::new();
        layer.write(&mut out).unwrap();
        out
    }

    #[test]
    fn order_and_age_of_the_files_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        fs::write(&file, "content").unwrap();
        let mut one = Layer::new();
        one.file("/bin/f", &file).unwrap().bytes("/etc/a", "a", 0o644).link("/g", "/bin/f");
        let first = written(&one);

        let touched = fs::File::options().write(true).open(&file).unwrap();
        touched.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1)).unwrap();
        let mut other = Layer::new();
        other.link("/g", "/bin/f").bytes("/etc/a", "a", 0o644).file("/bin/f", &file).unwrap();
        assert_eq!(first, written(&other));
    }

    #[test]
    fn parents_come_first_and_a_named_folder_keeps_its_mode() {
        let mut layer = Layer::new();
        layer.bytes("/a/b/c", "x", 0o600).folder("/a", 0o700);
        let mut archive = tar::Archive::new(io::Cursor::new(written(&layer)));
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().to_string_lossy().into_owned(), entry.header().mode().unwrap())
            })
            .collect();
        assert_eq!(seen, [("a/".into(), 0o700), ("a/b/".into(), 0o755), ("a/b/c".into(), 0o600)]);
    }

    #[test]
    fn a_long_path_survives() {
        let long = format!("/{}/file", "deep/".repeat(60));
        let mut layer = Layer::new();
        layer.bytes(&long.replace("//", "/"), "x", 0o644);
        let mut archive = tar::Archive::new(io::Cursor::new(written(&layer)));
        let last = archive.entries().unwrap().last().unwrap().unwrap().path().unwrap().into_owned();
        assert!(last.ends_with("file") && last.to_string_lossy().len() > 300);
    }
}
