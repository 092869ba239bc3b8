//! Writes a layout: first the blobs, under a temporary name; the layout's name or tag is set when
//! all is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, renameat_with};
use serde_json::{Value, json};

use super::documents::{Descriptor, media};
use super::layout::Layout;
use crate::emergence::base::bounded::read_document;
use crate::emergence::base::files::{Staging, remove_stale_beside};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::json;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::base::stream::{Buffer, HashThread};
use crate::error::{Doing, Error, Kind};

/// The content of `oci-layout`.
const MARK: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The layout to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutTarget {
    /// A directory. If it is a layout already, blobs and entries are added.
    Directory(PathBuf),
    /// A tar, which is rewritten.
    Archive(PathBuf),
}

/// A layout that is being written. It is removed unless it is finished.
pub struct LayoutWriter {
    target: LayoutTarget,
    /// The new directory or tar. It becomes the target, or its blobs are moved there.
    new: PathBuf,
    /// The temporary directory that contains it.
    _staging: Staging,
    /// The tar.
    archive: Option<File>,
    /// Each blob once, in the order written.
    blobs: Vec<Hash>,
    /// The existing layout, locked against other writers.
    lock: Option<File>,
}

fn beside(path: &Path) -> PathBuf {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// The path that an archive is renamed to: links are followed, and a file that is not regular
/// (`/dev/null`, a FIFO) is refused.
fn file_to_replace(path: PathBuf) -> Result<PathBuf> {
    let doing = || format!("check {}", path.display());
    let path = match fs::symlink_metadata(&path) {
        Ok(found) if found.is_symlink() => fs::canonicalize(&path).doing(doing)?,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).doing(doing)?,
        _ => path,
    };
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
        Ok(found) if found.is_file() => Ok(path),
        Ok(_) => {
            let words =
                format!("{} is not a regular file and would be replaced; name another", path.display());
            Err(Error::new(Kind::Usage, words).into())
        }
        Err(error) => Ok(Err(error).doing(|| format!("check {}", path.display()))?),
    }
}

impl LayoutWriter {
    /// Begins a layout. Refused with `oci.layout`: the directory has other content.
    pub fn begin(target: LayoutTarget) -> Result<Self> {
        let target = match target {
            LayoutTarget::Archive(path) => LayoutTarget::Archive(file_to_replace(path)?),
            directory => directory,
        };
        let (LayoutTarget::Directory(path) | LayoutTarget::Archive(path)) = &target;
        let mut above = beside(path);
        let mut lock = None;
        if matches!(target, LayoutTarget::Directory(_)) && is_taken(path)? {
            // The temporary directory is below the layout, so blobs are moved within one file
            // system.
            let taken = File::open(path).doing(|| format!("open {}", path.display()))?;
            let locked = rustix::fs::flock(&taken, FlockOperation::LockExclusive);
            locked.doing(|| format!("lock {}", path.display()))?;
            Layout::open(path)?;
            lock = Some(taken);
            above = path.clone();
        }
        remove_stale_beside(&above)?;
        let staging = Staging::new(&above)?;
        let new = staging.path().join("new");
        let mut archive = None;
        match target {
            LayoutTarget::Archive(_) => {
                let created = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&new);
                archive = Some(created.doing(|| format!("create {}", new.display()))?);
            }
            LayoutTarget::Directory(_) => {
                let blobs = new.join("blobs/sha256");
                fs::create_dir_all(&blobs).doing(|| format!("create {}", blobs.display()))?;
            }
        }
        Ok(Self { target, new, _staging: staging, archive, blobs: Vec::new(), lock })
    }

    /// Writes a blob of this type; `write` writes its bytes.
    pub fn blob(
        &mut self,
        media_type: &str,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<Descriptor> {
        let (digest, size) = match self.archive.take() {
            Some(mut file) => {
                let written = self.to_archive(&mut file, write);
                self.archive = Some(file);
                written?
            }
            None => self.to_directory(write)?,
        };
        if !self.blobs.contains(&digest) {
            self.blobs.push(digest);
        }
        Ok(Descriptor { digest, size, ..Descriptor::of(media_type, b"") })
    }

    /// Writes a blob that is a document.
    pub fn document(&mut self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        self.blob(media_type, |to| Ok(to.write_all(bytes).doing(|| "write a document")?))
    }

    fn to_directory(&self, write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>) -> Result<(Hash, u64)> {
        let new = self.new.join("blob");
        let doing = || format!("write {}", new.display());
        let mut to = HashedWriter::new(File::create(&new).doing(doing)?)?;
        write(&mut to)?;
        let (digest, size) = to.finish().doing(doing)?;
        fs::rename(&new, self.blob_path(&self.new, &digest)).doing(doing)?;
        Ok((digest, size))
    }

    /// The header is written when digest and size are known. A duplicate blob is truncated away.
    fn to_archive(
        &self,
        file: &mut File,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<(Hash, u64)> {
        let doing = || format!("write {}", self.new.display());
        let start = file.stream_position().doing(doing)?;
        file.write_all(&[0; 512]).doing(doing)?;
        let mut to = HashedWriter::new(&*file)?;
        write(&mut to)?;
        let (digest, size) = to.finish().doing(doing)?;
        if self.blobs.contains(&digest) {
            file.set_len(start).doing(doing)?;
            file.seek(SeekFrom::Start(start)).doing(doing)?;
            return Ok((digest, size));
        }
        file.write_all(padding(size)).doing(doing)?;
        let end = file.stream_position().doing(doing)?;
        file.seek(SeekFrom::Start(start)).doing(doing)?;
        file.write_all(&header(&format!("blobs/sha256/{}", digest.hex()), size)?).doing(doing)?;
        file.seek(SeekFrom::Start(end)).doing(doing)?;
        Ok((digest, size))
    }

    fn blob_path(&self, layout: &Path, digest: &Hash) -> PathBuf {
        layout.join("blobs/sha256").join(digest.hex())
    }

    /// Publishes the layout: the tag, or an entry without a tag, now refers to `top`.
    pub fn finish(mut self, tag: Option<&str>, mut top: Descriptor) -> Result<()> {
        if let Some(tag) = tag {
            top.annotations.insert(media::REF_NAME.to_owned(), tag.to_owned());
        }
        let top = serde_json::to_value(&top)
            .map_err(|error| Fault::from(Error::from(io::Error::other(error)).within("write index.json")))?;
        match self.target.clone() {
            LayoutTarget::Archive(path) => self.finish_archive(&path, &index_of(vec![top])),
            LayoutTarget::Directory(path) if self.lock.is_some() => self.add_to(&path, tag, top),
            LayoutTarget::Directory(path) => {
                let index = index_of(vec![top]);
                for (name, bytes) in [("index.json", index.as_slice()), ("oci-layout", MARK)] {
                    let place = self.new.join(name);
                    fs::write(&place, bytes).doing(|| format!("write {}", place.display()))?;
                }
                // rename(2) replaces an empty directory.
                Ok(fs::rename(&self.new, &path).doing(|| format!("rename to {}", path.display()))?)
            }
        }
    }

    /// Publishes the layout: entries of `index.json` with digest `old`, and with the tag if given,
    /// now refer to `new`.
    pub fn replace(mut self, tag: Option<&str>, old: &Hash, new: &Descriptor) -> Result<()> {
        let (path, bytes) = match &self.target {
            LayoutTarget::Directory(path) => (path.clone(), None),
            LayoutTarget::Archive(path) => (path.clone(), Layout::open(path)?.blobs.named("index.json")?),
        };
        let subject = path.join("index.json").display().to_string();
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => read_document(
                File::open(path.join("index.json")).doing(|| format!("open {subject}"))?,
                &subject,
            )?,
        };
        let mut index = json::parse(&bytes, &subject)?;
        for entry in list_of(&mut index, &subject)? {
            let is_old = entry.get("digest").and_then(Value::as_str) == Some(&old.to_string());
            if is_old
                && (tag.is_none() || named(entry).as_deref() == tag)
                && let Some(members) = entry.as_object_mut()
            {
                members.insert("digest".to_owned(), json!(new.digest.to_string()));
                members.insert("size".to_owned(), json!(new.size));
            }
        }
        match self.target.clone() {
            LayoutTarget::Directory(path) => self.publish(&path, &index),
            LayoutTarget::Archive(path) => self.finish_archive(&path, &index.to_string().into_bytes()),
        }
    }

    fn finish_archive(&mut self, path: &Path, index: &[u8]) -> Result<()> {
        let doing = || format!("write {}", self.new.display());
        let mut all = Vec::new();
        for (name, bytes) in [("index.json", index), ("oci-layout", MARK)] {
            all.extend(header(name, bytes.len() as u64)?);
            all.extend(bytes);
            all.extend(padding(bytes.len() as u64));
        }
        all.extend([0; 1024]);
        if let Some(mut file) = self.archive.take() {
            file.write_all(&all).doing(doing)?;
        }
        Ok(fs::rename(&self.new, path).doing(|| format!("rename to {}", path.display()))?)
    }

    /// Adds an entry to an existing layout.
    fn add_to(&mut self, layout: &Path, tag: Option<&str>, top: Value) -> Result<()> {
        let index = layout.join("index.json");
        let subject = index.display().to_string();
        let bytes = read_document(File::open(&index).doing(|| format!("open {subject}"))?, &subject)?;
        let mut document = json::parse(&bytes, &subject)?;
        let list = list_of(&mut document, &subject)?;
        match tag {
            Some(tag) => list.retain(|entry| named(entry).as_deref() != Some(tag)),
            None => list.retain(|entry| named(entry).is_some() || entry.get("digest") != top.get("digest")),
        }
        list.push(top);
        self.publish(layout, &document)
    }

    /// Moves the blobs into the existing layout, then replaces `index.json`. If that fails, the
    /// blobs are removed again.
    fn publish(&self, layout: &Path, document: &Value) -> Result<()> {
        let index = layout.join("index.json");
        let doing = || format!("write {}", index.display());
        let new = self.new.join("index.json");
        fs::write(&new, document.to_string()).doing(doing)?;
        let mut moved = Vec::new();
        let placed = self.place(layout, &mut moved).and_then(|()| {
            fs::rename(&new, &index).doing(doing)?;
            Ok(())
        });
        if placed.is_err() {
            moved.iter().for_each(|blob| drop(fs::remove_file(blob)));
        }
        placed
    }

    fn place(&self, layout: &Path, moved: &mut Vec<PathBuf>) -> Result<()> {
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).doing(|| format!("create {}", blobs.display()))?;
        for digest in &self.blobs {
            let (from, to) = (self.blob_path(&self.new, digest), self.blob_path(layout, digest));
            match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
                Ok(()) => moved.push(to),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => {
                    return Err(Error::from(error).within(format!("rename to {}", to.display())).into());
                }
            }
        }
        Ok(())
    }
}

/// Whether the path is a directory that is not empty.
fn is_taken(path: &Path) -> Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::from(error).within(format!("read {}", path.display())).into()),
    }
}

/// The entries of an index.
fn list_of<'a>(index: &'a mut Value, subject: &str) -> Result<&'a mut Vec<Value>> {
    let list = index.get_mut("manifests").and_then(Value::as_array_mut);
    list.ok_or_else(|| Fault::refused(Code::OciLayout, subject, "has no list of manifests"))
}

/// The tag of an entry.
fn named(entry: &Value) -> Option<String> {
    let name = entry.get("annotations").and_then(|all| all.get(media::REF_NAME));
    name.and_then(Value::as_str).map(str::to_owned)
}

fn index_of(manifests: Vec<Value>) -> Vec<u8> {
    let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests });
    index.to_string().into_bytes()
}

/// The header of a tar member.
fn header(name: &str, size: u64) -> Result<[u8; 512]> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).doing(|| format!("write {name}"))?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(1);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(*header.as_bytes())
}

fn padding(size: u64) -> &'static [u8] {
    let count = size.next_multiple_of(512) - size;
    [0; 512].get(..count as usize).unwrap_or_default()
}

/// Writes to `W`, and hashes the bytes in another thread.
pub(crate) struct HashedWriter<W> {
    to: W,
    hash: Buffer<HashThread>,
}

impl<W: Write> HashedWriter<W> {
    /// A writer to `to`.
    pub(crate) fn new(to: W) -> Result<Self> {
        let thread = HashThread::start(Algorithm::Sha256).doing(|| "start a thread")?;
        Ok(Self { to, hash: Buffer::new(thread) })
    }

    /// The hash of the bytes written, and their number.
    pub(crate) fn finish(mut self) -> io::Result<(Hash, u64)> {
        self.to.flush()?;
        let size = self.hash.total();
        Ok((self.hash.finish()?.finish()?, size))
    }
}

impl<W: Write> Write for HashedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.put(bytes.get(..count).unwrap_or_default())?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_archive_replaces_regular_files_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "").unwrap();
        rustix::fs::mknodat(CWD, path("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::create_dir(path("directory")).unwrap();
        let links = [("to-file", "file"), ("to-fifo", "fifo"), ("to-null", "/dev/null"), ("dangling", "x")];
        links.into_iter().for_each(|(name, target)| symlink(target, path(name)).unwrap());
        for (name, want) in [("file", "file"), ("missing", "missing"), ("to-file", "file")] {
            let found = file_to_replace(path(name)).unwrap();
            assert_eq!(found.file_name(), path(want).file_name(), "{name}");
        }
        for name in ["fifo", "directory", "to-fifo", "to-null", "dangling"] {
            assert!(file_to_replace(path(name)).is_err(), "{name}");
        }
    }
}
