//! Adds a closure to the store: objects are built in a staging directory and committed by renaming
//! once all are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use rustix::io::Errno;

use super::file_creation::{Directory, Ways};
use super::links::Links;
use super::meta::{self, Meta};
use super::tree::{Maker, needs_chmod};
use super::{Store, Sync};
use crate::emergence::base::files::{
    Crew, Staging, check_space, copy_tree, open_directory, random_name, remove_stale, rename_new, with_crew,
};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::nix::modulo::ModuloHasher;
use crate::emergence::nix::nar::{Both, Encoder, Visitor};
use crate::emergence::nix::object::{Object, bytes_of, dependencies_first};
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::proof::closure::{Closure, Receive, Report, complete_with};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::trust::Proof;
use crate::emergence::proof::verify::Bytes;
use crate::error::{Doing, Error};

/// NAR size in bytes from which several threads create the files of an object.
const MANY: u64 = 1 << 20;

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Objects that were added, dependencies first.
    pub new: Vec<StorePath>,
    /// Objects that existed already, or whose trees existed under another path.
    pub reused: Vec<StorePath>,
    /// Bytes that were read for the new objects.
    pub bytes: Bytes,
}

impl Store {
    /// Adds the objects of `closure` that the store lacks. `report` is the result of
    /// [`Closure::verify`] for it.
    ///
    /// Refused: a path that the store has with other content (`store.exists`), a reference to an
    /// object that is neither in the report nor in the store (`closure.incomplete`), too little
    /// space (`space`), stored bytes that differ from the verified ones (`changed-while-reading`).
    /// After any failure the store has the objects that it had before.
    pub fn add(&self, closure: &dyn Closure, terms: &Terms, report: &Report) -> Result<Added> {
        self.add_with(closure, terms, report, &|_| false)
    }

    /// As [`Store::add`], but objects for which `anew` returns true are rebuilt even if they exist.
    pub(super) fn add_with(
        &self,
        closure: &dyn Closure,
        terms: &Terms,
        report: &Report,
        anew: &dyn Fn(&StorePath) -> bool,
    ) -> Result<Added> {
        let tmp = self.directory.join("tmp");
        remove_stale(&tmp)?;
        let mut added = Added::default();
        let (mut lacking, mut twins) = (Vec::new(), Vec::new());
        let blobs = closure.blobs();
        for (object, proof) in &report.objects {
            let blob = blobs.get(&object.path);
            if !anew(&object.path) && self.has(object)? {
                self.learn(object, proof, blob)?;
                added.reused.push(object.path.clone());
                continue;
            }
            let blobs = blob.into_iter().copied().collect();
            let mut meta =
                Meta { object: object.clone(), content: object.nar_hash, proof: proof.clone(), blobs };
            match self.find_identical(object, &|twin| !anew(&twin.object.path))? {
                Some(twin) if !anew(&object.path) => {
                    meta.blobs.extend(&twin.blobs);
                    added.reused.push(object.path.clone());
                    twins.push((meta, twin));
                }
                _ => {
                    added.new.push(object.path.clone());
                    lacking.push(meta);
                }
            }
        }
        if lacking.is_empty() && twins.is_empty() {
            return Ok(added);
        }
        let objects = report.objects.iter().map(|(object, _)| object);
        complete_with(objects, &self.dir, &|path| Ok(self.meta(path)?.is_some()))?;
        check_space(&self.directory, bytes_of(lacking.iter().map(|meta| &meta.object)))?;
        added.bytes = Staging::with(&tmp, |staging| {
            let taking = Taking::new(self, staging, terms.jobs)?;
            let wanted: BTreeSet<&StorePath> = lacking.iter().map(|meta| &meta.object.path).collect();
            let bytes = if wanted.is_empty() {
                Bytes::default()
            } else {
                closure.unpack(terms, &|path| wanted.contains(path), &taking)?
            };
            for (meta, twin) in &twins {
                let to = taking.path.join(meta.object.path.to_string());
                copy_tree(&self.tree(&twin.object.path), &to, true)?;
            }
            taking.learnt(&mut lacking)?;
            lacking.extend(twins.into_iter().map(|(meta, _)| meta));
            let metas = dependencies_first(by_path(lacking), |meta| &meta.object.references);
            self.commit(staging, &metas, anew, &taking.links)?;
            Ok(bytes)
        })?;
        Ok(added)
    }

    /// Whether the store has this object. Refused with `store.exists` if it has a different one
    /// under this path.
    fn has(&self, object: &Object) -> Result<bool> {
        let Some(meta) = self.meta_by_digits(&object.path.digits())? else { return Ok(false) };
        let path = self.dir.path(&object.path);
        if meta.object.path != object.path {
            let words = format!("the store has {} with the same digest", meta.object.path);
            return Err(Fault::refused(Code::StoreExists, path, words));
        }
        if meta.object.nar_hash != object.nar_hash || meta.object.references != object.references {
            let (ours, theirs) = (meta.object.nar_hash.to_string(), object.nar_hash.to_string());
            let what =
                "the hash, or what it refers to, is not what the store has under this path; the NAR's hash";
            return Err(Fault::differs(Code::StoreExists, path, what, &ours, &theirs));
        }
        Ok(self.tree(&object.path).symlink_metadata().is_ok())
    }

    /// Adds signatures, a content address, a proof and the blob to the record of an existing
    /// object.
    fn learn(&self, object: &Object, proof: &Proof, blob: Option<&Hash>) -> Result<()> {
        let _commit = self.commit_lock()?;
        let Some(mut meta) = self.meta(&object.path)? else { return Ok(()) };
        let known = meta.clone();
        meta.blobs.extend(blob);
        for signature in &object.signatures {
            if !meta.object.signatures.contains(signature) {
                meta.object.signatures.push(signature.clone());
            }
        }
        if meta.object.ca.is_none() {
            meta.object.ca = object.ca;
        }
        let weak = |proof: &Proof| matches!(proof, Proof::Nothing);
        if weak(&meta.proof) && !weak(proof) {
            meta.proof = proof.clone();
        }
        if meta == known { Ok(()) } else { self.write_meta(&meta) }
    }

    /// Takes the lock that is held during a commit, so that a tree and its record come from the
    /// same process.
    pub(super) fn commit_lock(&self) -> Result<OwnedFd> {
        let directory = open_directory(&self.directory.join("meta"))?;
        super::lock::exclusive(&directory, &self.directory, self.wait)?;
        Ok(directory)
    }

    /// Writes the record of an object, replacing the old one.
    pub(super) fn write_meta(&self, meta: &Meta) -> Result<()> {
        let file = meta::place(&self.directory, &meta.object.path.digits());
        self.put(&file, meta.print(&self.dir)?.as_bytes())
    }

    /// Commits everything: renames the trees in the order of `metas` (dependencies first), then
    /// writes their records.
    fn commit(
        &self,
        staging: &Staging,
        metas: &[Meta],
        anew: &dyn Fn(&StorePath) -> bool,
        links: &Links,
    ) -> Result<()> {
        let written = staging.path().join("meta");
        for meta in metas {
            let file = written.join(meta.object.path.digits());
            fs::write(&file, meta.print(&self.dir)?).doing(|| format!("write {}", file.display()))?;
        }
        if self.sync == Sync::Data {
            rustix::fs::syncfs(staging.directory()).doing(|| "write everything to the disk")?;
        }
        let _commit = self.commit_lock()?;
        let mut ours = Vec::new();
        for meta in metas {
            // Another process may have committed it first.
            if anew(&meta.object.path) || !self.has(&meta.object)? {
                // A tree at this path does not match its record. Without the record it is not an
                // object until the new record is written.
                let known = meta::place(&self.directory, &meta.object.path.digits());
                if anew(&meta.object.path) && known.exists() {
                    fs::remove_file(&known).doing(|| format!("remove {}", known.display()))?;
                }
                self.place(staging, &meta.object.path)?;
                ours.push(meta);
            }
        }
        for meta in ours {
            let digits = meta.object.path.digits();
            let (from, to) = (written.join(&digits), meta::place(&self.directory, &digits));
            fs::rename(&from, &to).doing(|| format!("rename {}", from.display()))?;
            self.note_content(&meta.content, &meta.object.path)?;
        }
        links.publish()
    }

    /// Renames a tree to its final path. Leftovers of a killed process at that path are moved to
    /// the staging directory.
    fn place(&self, staging: &Staging, object: &StorePath) -> Result<()> {
        let (from, to) = (staging.path().join("trees").join(object.to_string()), self.tree(object));
        loop {
            match rename_new(&from, &to) {
                Err(Errno::EXIST | Errno::NOTEMPTY) => {
                    let away = staging.path().join(random_name()?);
                    rename_new(&to, &away).doing(|| format!("rename {}", to.display()))?;
                }
                other => return Ok(other.doing(|| format!("rename {}", from.display()))?),
            }
        }
    }
}

fn by_path(metas: Vec<Meta>) -> BTreeMap<StorePath, Meta> {
    metas.into_iter().map(|meta| (meta.object.path.clone(), meta)).collect()
}

/// Objects that are being unpacked into a staging directory.
struct Taking {
    trees: OwnedFd,
    path: std::path::PathBuf,
    links: Links,
    chmod: bool,
    /// Threads that create the files of one object.
    hands: usize,
    /// Content hash of each object that refers to itself; `None` for others, whose content hash is
    /// the NAR hash.
    contents: Mutex<BTreeMap<StorePath, Option<Hash>>>,
}

impl Taking {
    fn new(store: &Store, staging: &Staging, hands: usize) -> Result<Self> {
        for name in ["trees", "links", "meta"] {
            let path = staging.path().join(name);
            fs::create_dir(&path).doing(|| format!("create {}", path.display()))?;
        }
        let path = staging.path().join("trees");
        let trees = open_directory(&path)?;
        let links = Links::open(&store.directory.join("links"), &staging.path().join("links"))?;
        Ok(Self { trees, path, links, chmod: needs_chmod(), hands, contents: Mutex::default() })
    }

    /// Fills in the content hashes of all unpacked objects. An error if one was not unpacked.
    fn learnt(&self, metas: &mut [Meta]) -> Result<()> {
        let contents = self.contents.lock().map(|contents| contents.clone()).unwrap_or_default();
        for meta in metas {
            let content = contents.get(&meta.object.path).ok_or_else(|| {
                let words = format!("{} was verified, but not unpacked", meta.object.path);
                Fault::from(Error::from(std::io::Error::other(words)))
            })?;
            meta.content = content.unwrap_or(meta.content);
        }
        Ok(())
    }
}

impl Taking {
    /// Creates the tree. Also returns the content hash of an object that refers to itself.
    fn make<'a>(
        &'a self,
        object: &Object,
        ways: Ways<'a>,
        crew: Option<Crew<'a, Directory>>,
        feed: &mut dyn FnMut(&mut dyn Visitor) -> Result<Bytes>,
    ) -> Result<(Bytes, Option<Hash>)> {
        let name = CString::new(object.path.to_string()).unwrap_or_default();
        let mut maker = Maker::new(self.trees.as_fd(), name, ways, crew);
        if !object.references.contains(&object.path) {
            return Ok((feed(&mut maker)?, None));
        }
        let hasher = ModuloHasher::new(Algorithm::Sha256, object.path.digits().as_bytes());
        let mut both = Both(maker, Encoder::new(hasher));
        let bytes = feed(&mut both)?;
        Ok((bytes, Some(both.1.finish()?.finish())))
    }
}

impl Receive for Taking {
    fn object(
        &self,
        object: &Object,
        feed: &mut dyn FnMut(&mut dyn Visitor) -> Result<Bytes>,
    ) -> Result<Bytes> {
        let ways = Ways { links: Some(&self.links), chmod: self.chmod };
        let (bytes, content) = if self.hands > 1 && object.nar_size >= MANY {
            with_crew(self.hands, |task| ways.task(task), |crew| self.make(object, ways, Some(crew), feed))?
        } else {
            self.make(object, ways, None, feed)?
        };
        if let Ok(mut contents) = self.contents.lock()
            && contents.insert(object.path.clone(), content).is_some()
        {
            return Err(Fault::usage(format!("{} comes twice", object.path)))
                .within(|| self.path.display().to_string());
        }
        Ok(bytes)
    }
}
