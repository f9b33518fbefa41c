//! An OCI image layout in one tar: layers, configuration, manifest, index.

use std::{
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

use super::{Layer, REGISTRY};
use crate::{
    error::{Doing as _, Error, Result},
    paths,
};

/// How a container of the image starts.
#[derive(Debug, Clone)]
pub struct ImageConfig {
    /// The last part of the image's name.
    pub name: String,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// User id, and group id of the same number.
    pub user: u32,
    /// Environment, `KEY=value`.
    pub env: Vec<String>,
}

impl ImageConfig {
    /// An image of this name that starts `entrypoint` as user 65532.
    pub fn new(name: &str, entrypoint: &[&str]) -> Self {
        Self {
            name: name.into(),
            entrypoint: entrypoint.iter().map(|part| (*part).to_owned()).collect(),
            user: 65532,
            env: vec!["PATH=/usr/local/bin:/usr/bin:/bin".into()],
        }
    }
}

/// A written image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// The file.
    pub file: PathBuf,
    /// `paddock.local/<name>:<first 12 digits of the digest>`, or the fixed name of the sandbox image.
    pub reference: String,
    /// The manifest's digest, `sha256:…`.
    pub digest: String,
}

impl Archive {
    /// `paddock.local/<name>@sha256:…`: the reference that cannot come to mean another image.
    pub fn by_digest(&self) -> String {
        let name = self.reference.rsplit_once(':').map_or(self.reference.as_str(), |(name, _)| name);
        format!("{name}@{}", self.digest)
    }

    /// Reads the names out of an archive that this module or another tool wrote.
    pub fn open(file: &Path) -> Result<Self> {
        let invalid = || Error::Input(format!("{} is no OCI archive of one image", file.display()));
        let archive = fs::File::open(file).doing(|| format!("open {}", file.display()))?;
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries().map_err(|_| invalid())? {
            let mut entry = entry.map_err(|_| invalid())?;
            if entry.path().is_ok_and(|path| path == Path::new("index.json")) {
                let mut text = String::new();
                entry.read_to_string(&mut text).map_err(|_| invalid())?;
                let index: serde_json::Value = serde_json::from_str(&text).map_err(|_| invalid())?;
                let digest = index.pointer("/manifests/0/digest").and_then(serde_json::Value::as_str);
                return Ok(Self {
                    file: file.into(),
                    reference: reference(&index).ok_or_else(|| {
                        Error::Input(format!(
                            "{} does not say the image's full name: write it with one, as `docker buildx build --output \
                             type=oci,name=HOST/NAME:TAG` and `skopeo copy … oci-archive:FILE:HOST/NAME:TAG` do",
                            file.display()
                        ))
                    })?,
                    digest: digest.ok_or_else(invalid)?.to_owned(),
                });
            }
        }
        Err(invalid())
    }
}

/// The full name of an index's image: containerd's own annotation, or that of OCI, which may also be a tag alone.
fn reference(index: &serde_json::Value) -> Option<String> {
    let annotations = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
    let value = |name: &str| index.pointer("/manifests/0/annotations")?.get(name)?.as_str();
    let full = |name: &&str| {
        name.contains('/') && name.rsplit('/').next().is_some_and(|last| last.contains(':')) && !name.contains('@')
    };
    annotations.into_iter().filter_map(value).find(full).map(str::to_owned)
}

/// A layer as a file, with its digest.
#[derive(Debug)]
pub struct LayerFile {
    file: PathBuf,
    digest: String,
    size: u64,
}

impl LayerFile {
    /// Writes a layer to `file`.
    pub fn of(layer: &Layer, file: &Path) -> Result<Self> {
        let out = fs::File::create(file).doing(|| format!("create {}", file.display()))?;
        layer.write(io::BufWriter::with_capacity(1 << 20, out))?;
        Self::existing(file)
    }

    /// Takes a tar that is there already, such as a root filesystem.
    pub fn existing(file: &Path) -> Result<Self> {
        let mut hashed = Hashed { hasher: Sha256::new(), size: 0 };
        let mut source = fs::File::open(file).doing(|| format!("open {}", file.display()))?;
        io::copy(&mut source, &mut hashed).doing(|| format!("read {}", file.display()))?;
        Ok(Self { file: file.into(), digest: sha256(hashed.hasher), size: hashed.size })
    }
}

struct Hashed {
    hasher: Sha256,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sha256(hasher: Sha256) -> String {
    format!("sha256:{}", HEXLOWER.encode(&hasher.finalize()))
}

fn digest_of(bytes: &[u8]) -> String {
    sha256(Sha256::new_with_prefix(bytes))
}

/// Writes an image of these layers into `folder`. A `tag` overrides the one that comes from the digest.
pub fn write(config: &ImageConfig, layers: &[LayerFile], tag: Option<&str>, folder: &Path) -> Result<Archive> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.digest).collect();
    let configuration = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "config": {
            "Entrypoint": config.entrypoint,
            "Env": config.env,
            "User": format!("{0}:{0}", config.user),
            "WorkingDir": "/",
        },
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(&configuration),
            "size": configuration.len(),
        },
        "layers": layers.iter().map(|layer| json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer.digest,
            "size": layer.size,
        })).collect::<Vec<_>>(),
    }))?;
    let digest = digest_of(&manifest);
    let short: String = digest.chars().skip("sha256:".len()).take(12).collect();
    let tag = tag.unwrap_or(&short);
    let reference = format!("{REGISTRY}/{}:{tag}", config.name);
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": manifest.len(),
            "annotations": {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag},
        }],
    }))?;
    let file = folder.join(format!("{}-{short}.tar", config.name));
    let documents = [(digest_of(&configuration), configuration), (digest.clone(), manifest)];
    fs::create_dir_all(folder).doing(|| format!("create {}", folder.display()))?;
    let partial = tempfile::NamedTempFile::new_in(folder).doing(|| format!("create a file in {}", folder.display()))?;
    write_layout(&partial, &index, &documents, layers).doing(|| format!("write {}", file.display()))?;
    partial
        .persist(&file)
        .map_err(|error| Error::Io { action: format!("write {}", file.display()), source: error.error })?;
    Ok(Archive { file, reference, digest })
}

fn write_layout(
    out: &tempfile::NamedTempFile,
    index: &[u8],
    documents: &[(String, Vec<u8>)],
    layers: &[LayerFile],
) -> io::Result<()> {
    let mut tar = Builder::new(io::BufWriter::with_capacity(1 << 20, out.as_file()));
    let blob = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
    append(
        &mut tar,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#.len() as u64,
        &br#"{"imageLayoutVersion":"1.0.0"}"#[..],
    )?;
    append(&mut tar, "index.json", index.len() as u64, index)?;
    for (digest, content) in documents {
        append(&mut tar, &blob(digest), content.len() as u64, content.as_slice())?;
    }
    let mut written: Vec<&str> = Vec::new();
    for layer in layers {
        if !written.contains(&layer.digest.as_str()) {
            append(&mut tar, &blob(&layer.digest), layer.size, fs::File::open(&layer.file)?)?;
            written.push(&layer.digest);
        }
    }
    tar.into_inner()?.flush()
}

fn append(tar: &mut Builder<impl Write>, path: &str, size: u64, content: impl io::Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    tar.append_data(&mut header, path, content)
}

/// Remembers an archive under the key of what it was made from.
pub(super) fn remember(record: &Path, archive: &Archive) -> Result<()> {
    paths::write(record, serde_json::to_vec(archive)?)
}

/// The archive made earlier from the same things, if its file is still there.
pub(super) fn recall(record: &Path) -> Option<Archive> {
    let archive: Archive = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    archive.file.is_file().then_some(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(content: &str, tag: Option<&str>) -> (tempfile::TempDir, Archive) {
        let folder = tempfile::tempdir().unwrap();
        let mut layer = Layer::new();
        layer.bytes("/app", content, 0o755);
        let layer = LayerFile::of(&layer, &folder.path().join("layer")).unwrap();
        let archive = write(&ImageConfig::new("app", &["/app"]), &[layer], tag, folder.path()).unwrap();
        (folder, archive)
    }

    #[test]
    fn the_same_content_gives_the_same_bytes_and_another_content_another_digest() {
        let ((_a, one), (_b, two), (_c, other)) = (image("x", None), image("x", None), image("y", None));
        assert_eq!(one.digest, two.digest);
        assert_eq!(fs::read(&one.file).unwrap(), fs::read(&two.file).unwrap());
        assert_ne!(one.digest, other.digest);
    }

    #[test]
    fn the_names_carry_the_digest() {
        let (_folder, archive) = image("x", None);
        let digits = archive.digest.strip_prefix("sha256:").unwrap();
        assert_eq!(archive.reference, format!("paddock.local/app:{}", &digits[..12]));
        assert_eq!(archive.by_digest(), format!("paddock.local/app@{}", archive.digest));
    }

    #[test]
    fn the_tag_does_not_change_the_digest_and_names_are_read_back() {
        let ((_a, tagged), (_b, plain)) = (image("x", Some("1")), image("x", None));
        assert_eq!(tagged.digest, plain.digest);
        assert_eq!(Archive::open(&tagged.file).unwrap(), tagged);
    }

    #[test]
    fn the_name_is_found_where_another_tool_writes_it() {
        let named = |annotations: serde_json::Value| reference(&json!({"manifests": [{"annotations": annotations}]}));
        let (containerd, oci) = ("io.containerd.image.name", "org.opencontainers.image.ref.name");
        let full = "registry.example/paddock/app:1";
        assert_eq!(named(json!({containerd: full, oci: "1"})).as_deref(), Some(full));
        assert_eq!(named(json!({oci: full})).as_deref(), Some(full));
        for short in ["1", "app:1", "registry.example:5000/app", "registry.example/app@sha256:1"] {
            assert_eq!(named(json!({oci: short})), None, "{short}");
        }
        assert_eq!(reference(&json!({"manifests": [{}]})), None);
    }

    #[test]
    fn another_file_is_no_archive() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        fs::write(&file, "hello").unwrap();
        assert!(matches!(Archive::open(&file), Err(Error::Input(_))));
    }
}
