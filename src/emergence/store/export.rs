//! Exports objects as a binary cache, which Nix reads.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Mutex;

use super::{Meta, Store};
use crate::emergence::base::compress::{Compression, Compressor};
use crate::emergence::base::files::{Staging, random_name, remove_stale};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::limits::Limits;
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::base::stream::{Buffer, HashThread, Hashing};
use crate::emergence::base::work;
use crate::emergence::nix::cache::Cache;
use crate::emergence::nix::keys::SecretKey;
use crate::emergence::nix::nar::{DEEPEST_EVER, TreeReader};
use crate::emergence::nix::narinfo::NarInfo;
use crate::emergence::nix::object::{Object, Stored};
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::proof::terms::Terms;
use crate::error::Doing;

/// Options of an export.
pub struct Export<'a> {
    /// Directory of the cache, created if it does not exist.
    pub to: &'a Path,
    /// How NARs are compressed.
    pub compression: Compression,
    /// Key to sign the exported objects with.
    pub key: Option<&'a SecretKey>,
    /// Objects to export. `None`: the requested objects and all their references.
    pub only: Option<&'a Named>,
}

/// Objects, named by a party that lacks them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Digests in their store paths.
    pub digits: BTreeSet<String>,
    /// Digests of blobs that they were imported from.
    pub blobs: BTreeSet<Hash>,
}

/// The result of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Objects that the cache did not have.
    pub new: Vec<StorePath>,
    /// Objects that the cache had already.
    pub reused: Vec<StorePath>,
    /// Bytes written, after compression.
    pub bytes: u64,
}

impl Store {
    /// Writes objects and their references into a binary cache. The narinfo of an object is written
    /// only after those of all its references.
    ///
    /// Refused: an object that is not in the store (`closure.incomplete`) or has changed
    /// (`store.corrupt`); a blob that no object came from (`blob.missing`); a cache of another
    /// store (`cache.info`), or one with another object under the same path (`store.exists`).
    pub fn export(&self, objects: &[StorePath], how: &Export<'_>, terms: &Terms) -> Result<Exported> {
        let mut metas = self.closure_of(objects)?;
        if let Some(only) = how.only {
            metas.retain(|meta| only.has(meta));
            only.check_blobs(&metas)?;
        }
        let cache = self.cache(how.to)?;
        let mut exported = Exported::default();
        let mut missing = Vec::new();
        for meta in &metas {
            match cache.info(&meta.object.path.digits())? {
                Some(info) => {
                    self.add_signatures(&info, &meta.object, how)?;
                    exported.reused.push(meta.object.path.clone());
                }
                None => missing.push(meta),
            }
        }
        let tmp = how.to.join(".tmp");
        fs::create_dir_all(&tmp).doing(|| format!("create {}", tmp.display()))?;
        remove_stale(&tmp)?;
        terms.watch.expect("export", missing.iter().map(|meta| meta.object.nar_size).sum());
        let done = Staging::with(&tmp, |staging| {
            let written: Mutex<Vec<Option<NarInfo>>> = Mutex::new(vec![None; missing.len()]);
            work::each(terms.jobs, missing.len(), |at| {
                let Some(meta) = missing.get(at) else { return Ok(()) };
                let info = self.export_nar(meta, how, staging.path());
                let info = info.within(|| self.dir.path(&meta.object.path))?;
                terms.watch.advance(meta.object.nar_size);
                if let Ok(mut written) = written.lock()
                    && let Some(place) = written.get_mut(at)
                {
                    *place = Some(info);
                }
                Ok(())
            })?;
            for info in written.into_inner().unwrap_or_default().into_iter().flatten() {
                exported.bytes += info.stored.size.unwrap_or(0);
                self.describe(&info, how, staging.path())?;
                exported.new.push(info.object.path);
            }
            Ok(())
        });
        // Another process may still use it.
        let _ = fs::remove_dir(&tmp);
        done.map(|()| exported)
    }

    /// Opens the cache in a directory, which is created if necessary.
    fn cache(&self, to: &Path) -> Result<Cache> {
        let nars = to.join("nar");
        fs::create_dir_all(&nars).doing(|| format!("create {}", nars.display()))?;
        let info = to.join("nix-cache-info");
        if !info.exists() {
            let text = format!("StoreDir: {}\n", self.dir.as_str());
            let new = to.join(format!(".{}", random_name()?));
            fs::write(&new, text).doing(|| format!("write {}", new.display()))?;
            fs::rename(&new, &info).doing(|| format!("rename {}", new.display()))?;
        }
        Cache::open(to, &self.dir, &Limits::default())
    }

    /// Writes one NAR.
    fn export_nar(&self, meta: &Meta, how: &Export<'_>, staging: &Path) -> Result<NarInfo> {
        let new = staging.join(format!("{}.nar", meta.object.path.digits()));
        let doing = || format!("write {}", new.display());
        let file = File::create(&new).doing(doing)?;
        let thread = || HashThread::start(Algorithm::Sha256).doing(|| "start a thread");
        let mut nar = Hashing::new(TreeReader::start(self.tree(&meta.object.path), DEEPEST_EVER)?, thread()?);
        let out = Tee { out: file, hash: Buffer::new(thread()?) };
        let mut out = Compressor::new(how.compression, out).doing(|| "compress")?;
        copy(&mut nar, &mut out).doing(doing)?;
        let (hash, size) = nar.finish().doing(|| "hash")?;
        let out = out.finish().doing(doing)?;
        self.unchanged(meta, &hash, size)?;
        let size = out.hash.total();
        let file_hash = out.hash.finish().and_then(HashThread::finish).doing(|| "hash")?;
        let name = format!("nar/{}.nar{}", file_hash.nix32(), how.compression.suffix());
        fs::rename(&new, how.to.join(&name)).doing(|| format!("rename {}", new.display()))?;
        let mut object = meta.object.clone();
        sign(&mut object, how.key, self);
        let (hash, size) = (Some(file_hash), Some(size));
        Ok(NarInfo { object, stored: Stored { name, compression: how.compression, hash, size } })
    }

    pub(super) fn unchanged(&self, meta: &Meta, hash: &Hash, size: u64) -> Result<()> {
        if meta.object.nar_hash == *hash && meta.object.nar_size == size {
            return Ok(());
        }
        let (declared, found) = (meta.object.nar_hash.to_string(), hash.to_string());
        let path = self.dir.path(&meta.object.path);
        Err(Fault::differs(Code::StoreCorrupt, path, "the NAR's hash", &declared, &found))
    }

    fn describe(&self, info: &NarInfo, how: &Export<'_>, staging: &Path) -> Result<()> {
        let name = format!("{}.narinfo", info.object.path.digits());
        let new = staging.join(&name);
        fs::write(&new, info.print(&self.dir)).doing(|| format!("write {}", new.display()))?;
        Ok(fs::rename(&new, how.to.join(&name)).doing(|| format!("rename {}", new.display()))?)
    }

    /// Checks that the object in the cache is the same, and adds missing signatures.
    fn add_signatures(&self, info: &NarInfo, object: &Object, how: &Export<'_>) -> Result<()> {
        if info.object.path != object.path || info.object.nar_hash != object.nar_hash {
            let (ours, theirs) = (object.nar_hash.to_string(), info.object.nar_hash.to_string());
            let path = self.dir.path(&object.path);
            return Err(Fault::differs(
                Code::StoreExists,
                path,
                "the NAR's hash in the cache",
                &ours,
                &theirs,
            ));
        }
        let mut signed = info.clone();
        if info.object.references == object.references {
            sign(&mut signed.object, how.key, self);
        }
        if signed == *info {
            return Ok(());
        }
        let new = how.to.join(format!(".{}", random_name()?));
        fs::write(&new, signed.print(&self.dir)).doing(|| format!("write {}", new.display()))?;
        let name = format!("{}.narinfo", object.path.digits());
        Ok(fs::rename(&new, how.to.join(name)).doing(|| format!("rename {}", new.display()))?)
    }
}

impl Named {
    fn has(&self, meta: &Meta) -> bool {
        self.digits.contains(&meta.object.path.digits()) || !self.blobs.is_disjoint(&meta.blobs)
    }

    fn check_blobs(&self, metas: &[Meta]) -> Result<()> {
        match self.blobs.iter().find(|blob| !metas.iter().any(|meta| meta.blobs.contains(blob))) {
            None => Ok(()),
            Some(blob) => {
                let words = "none of the objects is known to have come out of it";
                Err(Fault::refused(Code::BlobMissing, format!("blob {blob}"), words))
            }
        }
    }
}

fn sign(object: &mut Object, key: Option<&SecretKey>, store: &Store) {
    if let Some(key) = key {
        let signature = key.sign(object.fingerprint(&store.dir).as_bytes());
        if !object.signatures.contains(&signature) {
            object.signatures.push(signature);
        }
    }
}

/// Writes to a file and hashes the bytes written.
struct Tee {
    out: File,
    hash: Buffer<HashThread>,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.put(bytes.get(..count).unwrap_or_default())?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As `io::copy`, with a larger buffer.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut room = vec![0; 128 * 1024];
    loop {
        match from.read(&mut room) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(room.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
