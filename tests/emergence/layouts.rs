//! Layouts that are made for tests, and trees as they can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use emergence_runc::emergence::hash::Hash;
use serde_json::{Value, json};
use tar::{EntryType, Header};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What a member of a tar is made of.
pub(crate) struct Made<'a> {
    pub kind: u8,
    pub path: &'a str,
    pub link: &'a str,
    pub bytes: &'a [u8],
    pub mode: u32,
    pub owner: (u64, u64),
    pub device: (u32, u32),
    pub records: Vec<(String, Vec<u8>)>,
}

/// A member of this type (`b'0'`, …) and name, of root, with the mode 0755.
pub(crate) fn made(kind: u8, path: &str) -> Made<'_> {
    Made { kind, path, link: "", bytes: b"", mode: 0o755, owner: (0, 0), device: (0, 0), records: Vec::new() }
}

pub(crate) fn file<'a>(path: &'a str, bytes: &'a [u8]) -> Made<'a> {
    Made { bytes, mode: 0o644, ..made(b'0', path) }
}

pub(crate) fn link<'a>(kind: u8, path: &'a str, link: &'a str) -> Made<'a> {
    Made { link, ..made(kind, path) }
}

/// A tar of these members. Names are written unchanged.
pub(crate) fn tar_of(members: &[Made<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for one in members {
        let mut records: Vec<(&str, &[u8])> =
            one.records.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        if one.path.len() > 100 {
            records.push(("path", one.path.as_bytes()));
        }
        if one.link.len() > 100 {
            records.push(("linkpath", one.link.as_bytes()));
        }
        if !records.is_empty() {
            builder.append_pax_extensions(records).unwrap();
        }
        let mut header = Header::new_ustar();
        let put = |field: &mut [u8], bytes: &[u8]| {
            let count = bytes.len().min(field.len());
            field[..count].copy_from_slice(&bytes[..count]);
        };
        put(&mut header.as_old_mut().name, one.path.as_bytes());
        put(&mut header.as_old_mut().linkname, one.link.as_bytes());
        header.set_entry_type(EntryType::new(one.kind));
        header.set_size(one.bytes.len() as u64);
        header.set_mode(one.mode);
        header.set_uid(one.owner.0);
        header.set_gid(one.owner.1);
        header.set_mtime(1_000_000_000);
        header.set_device_major(one.device.0).unwrap();
        header.set_device_minor(one.device.1).unwrap();
        header.set_cksum();
        builder.append(&header, one.bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A layout in a directory that goes away with it.
pub(crate) struct Layout {
    directory: tempfile::TempDir,
}

/// A layer as it goes into a manifest, and its diffID.
pub(crate) type Layer = (Value, String);

impl Layout {
    /// One without anything.
    pub(crate) fn new() -> Self {
        let layout = Self { directory: tempfile::tempdir().unwrap() };
        layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        fs::create_dir_all(layout.path("blobs/sha256")).unwrap();
        layout.index(&[]);
        layout
    }

    /// One with an image of these tars, gzip, tagged `t`.
    pub(crate) fn of(tars: &[Vec<u8>]) -> Self {
        let layout = Self::new();
        let layers: Vec<Layer> = tars.iter().map(|tar| layout.gzipped(tar)).collect();
        let manifest = layout.image(&layers);
        layout.index(&[tagged(manifest, "t")]);
        layout
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, inner: &str) -> PathBuf {
        self.directory.path().join(inner)
    }

    pub(crate) fn write(&self, inner: &str, bytes: &[u8]) {
        fs::write(self.path(inner), bytes).unwrap();
    }

    /// Adds a blob and describes it.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let hash = Hash::sha256(bytes);
        self.write(&format!("blobs/sha256/{}", hash.hex()), bytes);
        json!({ "mediaType": media_type, "digest": hash.to_string(), "size": bytes.len() })
    }

    pub(crate) fn gzipped(&self, tar: &[u8]) -> Layer {
        (self.blob(&format!("{LAYER}+gzip"), &gzip(tar)), Hash::sha256(tar).to_string())
    }

    pub(crate) fn plain(&self, tar: &[u8]) -> Layer {
        (self.blob(LAYER, tar), Hash::sha256(tar).to_string())
    }

    pub(crate) fn config(&self, ids: &[String]) -> Value {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        self.blob(CONFIG, config.to_string().as_bytes())
    }

    /// Adds configuration and manifest, and describes that.
    pub(crate) fn image(&self, layers: &[Layer]) -> Value {
        let ids: Vec<String> = layers.iter().map(|(_, id)| id.clone()).collect();
        let layers: Vec<&Value> = layers.iter().map(|(layer, _)| layer).collect();
        self.manifest(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": self.config(&ids), "layers": layers,
        }))
    }

    pub(crate) fn manifest(&self, manifest: &Value) -> Value {
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    pub(crate) fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        self.write("index.json", index.to_string().as_bytes());
    }

    /// An index as a blob.
    pub(crate) fn nested(&self, manifests: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// `oci:DIRECTORY:t`.
    pub(crate) fn reference(&self) -> String {
        format!("oci:{}:t", self.root().display())
    }
}

pub(crate) fn tagged(mut descriptor: Value, tag: &str) -> Value {
    descriptor["annotations"]["org.opencontainers.image.ref.name"] = tag.into();
    descriptor
}

/// A description of the tree at `root`, a line for each entry, sorted.
pub(crate) fn tree(root: &Path) -> Vec<String> {
    let (mut lines, mut names) = (Vec::new(), BTreeMap::new());
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let inner = path.strip_prefix(root).unwrap().to_owned();
        let stat = fs::symlink_metadata(&path).unwrap();
        let kind = stat.file_type();
        let content = if kind.is_dir() {
            let mut inside: Vec<PathBuf> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            inside.sort();
            left.extend(inside.into_iter().rev());
            String::new()
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if kind.is_file() {
            Hash::sha256(&fs::read(&path).unwrap()).hex()[..12].to_owned()
        } else {
            format!("{} {:#x} {}", kind.is_fifo(), stat.rdev(), kind.is_block_device())
        };
        let first = names.entry(stat.ino()).or_insert_with(|| inner.clone());
        let same = if *first == inner { String::new() } else { format!(" = {}", first.display()) };
        let (mode, owner) = (stat.mode(), (stat.uid(), stat.gid()));
        let time = (stat.mtime(), stat.mtime_nsec());
        let name = inner.display();
        lines.push(format!("{name} {mode:o} {owner:?} {time:?} {content}{same} {:?}", xattrs(&path)));
    }
    lines
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0u8; 65536];
    let count = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0u8; 65536];
        let name = std::ffi::OsStr::from_bytes(name);
        let count = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(count);
        (name.to_string_lossy().into_owned(), value)
    };
    names.map(value).collect()
}

/// Whether owners can be set and devices made; a test that needs it says why it does nothing.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: owners and devices are root's");
    }
    root
}
