//! Objects whose NARs are in blobs, compressed or not: proved in one pass, read again in another, several at once.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::base::work;
use crate::emergence::nix::nar::{Both, Nothing, Visitor};
use crate::emergence::nix::object::{Object, Stored};
use crate::emergence::nix::scan::{Scanner, Searched, check_found};
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::proof::closure::{Kind, Receive};
use crate::emergence::proof::terms::{Evidence, Terms};
use crate::emergence::proof::verify::{Bytes, Seen, read_again, read_known, read_object};
use crate::emergence::proof::watched::{Counted, Told};

/// Gives the blobs of a closure, each from its first byte. The same blob is asked for twice: once to prove it, once to unpack it.
pub trait Source: Send + Sync {
    /// The blob that holds the NAR of the object at this place.
    fn open(&self, at: usize) -> Result<Box<dyn Read + Send + '_>>;
}

/// Objects and their blobs.
pub struct Blobs<S> {
    /// What carries them.
    pub kind: Kind,
    /// Each behind what it refers to, the root last.
    pub objects: Vec<Object>,
    /// How each is stored, in the same order.
    pub stored: Vec<Stored>,
    /// Gives the bytes.
    pub source: S,
    seen: Mutex<Vec<Option<Seen>>>,
}

impl<S: Source> Blobs<S> {
    /// `objects` and `stored` are of the same length.
    pub fn new(kind: Kind, objects: Vec<Object>, stored: Vec<Stored>, source: S) -> Self {
        let seen = Mutex::new(vec![None; objects.len()]);
        Self { kind, objects, stored, source, seen }
    }

    /// Of the last object's NAR.
    pub fn root(&self) -> Option<Hash> {
        self.objects.last().map(|object| object.nar_hash)
    }

    /// See [`crate::emergence::proof::closure::Closure::blobs`].
    pub fn digests(&self) -> BTreeMap<StorePath, Hash> {
        let seen = self.seen.lock().map(|seen| seen.clone()).unwrap_or_default();
        let all = self.objects.iter().zip(&self.stored).zip(seen).filter(|(_, seen)| seen.is_some());
        let digest =
            |((object, stored), _): ((&Object, &Stored), _)| Some((object.path.clone(), stored.hash?));
        all.filter_map(digest).filter(|(_, hash)| hash.algorithm() == Algorithm::Sha256).collect()
    }

    fn at(&self, at: usize) -> Result<(&Object, &Stored)> {
        let both = self.objects.get(at).zip(self.stored.get(at));
        both.ok_or_else(|| Fault::usage("an object has no blob"))
    }

    /// Reads every blob, `terms.jobs` at once, and holds it against what is declared. Also refused: more entries than may be
    /// (`limit.entries`), and with `terms.scan` what is referred to and not declared (`refs.undeclared`).
    pub fn prove(&self, terms: &Terms) -> Result<Bytes> {
        terms.check_space(self.objects.iter())?;
        let searched = terms.scan.then(|| Searched::new(self.objects.iter().map(|object| &object.path)));
        let entries = AtomicU64::new(0);
        terms.watch.expect("verify", self.objects.iter().map(|object| object.nar_size).sum());
        let total = Mutex::new(Bytes::default());
        work::each(terms.jobs, self.objects.len(), |at| {
            let (object, stored) = self.at(at)?;
            let blob = stored.hash.as_ref().map(Evidence::Blob);
            if blob.map(|blob| terms.known(object, blob)).transpose()?.flatten().is_some() {
                // It is hashed, but nothing has to come out of it; nor is it missed.
                return match self.source.open(at).and_then(|input| read_known(input, stored)) {
                    Err(fault) if fault.code() == Some(Code::BlobMissing) => Ok(()),
                    read => read.within(|| terms.dir.path(&object.path)).map(|bytes| add(&total, bytes)),
                };
            }
            let seen = match self.prove_one(at, object, stored, terms, searched.as_ref(), &entries) {
                Err(fault)
                    if fault.code() == Some(Code::BlobMissing)
                        && terms.known(object, Evidence::None)?.is_some() =>
                {
                    return Ok(());
                }
                seen => seen.within(|| terms.dir.path(&object.path))?,
            };
            if let Ok(mut all) = self.seen.lock()
                && let Some(place) = all.get_mut(at)
            {
                *place = Some(seen);
            }
            add(&total, seen.bytes);
            Ok(())
        })?;
        Ok(total.into_inner().unwrap_or_default())
    }

    fn prove_one(
        &self,
        at: usize,
        object: &Object,
        stored: &Stored,
        terms: &Terms,
        searched: Option<&Searched>,
        entries: &AtomicU64,
    ) -> Result<Seen> {
        let input = self.source.open(at)?;
        let counted = Counted::new(entries, terms);
        match searched {
            None => read_object(input, object, stored, &terms.limits, &mut Both(counted, Nothing)),
            Some(searched) => {
                let mut visitor = Both(counted, Scanner::new(searched));
                let seen = read_object(input, object, stored, &terms.limits, &mut visitor)?;
                check_found(object, &visitor.1.found(), &terms.dir)?;
                Ok(seen)
            }
        }
    }

    /// See [`crate::emergence::proof::closure::Closure::unpack`]. A usage error when nothing was proved before.
    pub fn unpack(
        &self,
        terms: &Terms,
        wanted: &(dyn Fn(&StorePath) -> bool + Sync),
        to: &(dyn Receive + Sync),
    ) -> Result<Bytes> {
        let places: Vec<usize> =
            self.objects.iter().enumerate().filter(|(_, one)| wanted(&one.path)).map(|(at, _)| at).collect();
        let sizes = places.iter().filter_map(|at| self.objects.get(*at)).map(|object| object.nar_size);
        terms.watch.expect("unpack", sizes.sum());
        let total = Mutex::new(Bytes::default());
        work::each(terms.jobs, places.len(), |place| {
            let at = places.get(place).copied().unwrap_or_default();
            let (object, stored) = self.at(at)?;
            let seen = self.seen.lock().ok().and_then(|all| all.get(at).copied().flatten());
            let seen = seen.ok_or_else(|| Fault::usage("what was not verified is not unpacked"))?;
            let mut feed = |visitor: &mut dyn Visitor| {
                let watched = Told(&*terms.watch);
                let memory = terms.limits.memory;
                read_again(self.source.open(at)?, stored, &seen, memory, &mut Both(visitor, watched))
            };
            let bytes = to.object(object, &mut feed).within(|| terms.dir.path(&object.path))?;
            add(&total, bytes);
            Ok(())
        })?;
        Ok(total.into_inner().unwrap_or_default())
    }
}

fn add(total: &Mutex<Bytes>, more: Bytes) {
    if let Ok(mut total) = total.lock() {
        total.read += more.read;
        total.unpacked += more.unpacked;
    }
}

/// Reads an open file from a place on, whoever else reads it.
pub struct From<F> {
    file: F,
    at: u64,
}

impl<F: std::ops::Deref<Target = std::fs::File>> From<F> {
    /// What stands in the file from the byte `at` on.
    pub fn new(file: F, at: u64) -> Self {
        Self { file, at }
    }
}

impl<F: std::ops::Deref<Target = std::fs::File>> Read for From<F> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = std::os::unix::fs::FileExt::read_at(&*self.file, room, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
