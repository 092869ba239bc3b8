//! A closure whose NARs are in blobs, compressed or not: proved in one pass and read again in
//! another, several at a time.

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
use crate::emergence::proof::closure::{self, ArtifactKind, Closure, Proofs, Receive, Report};
use crate::emergence::proof::progress::{Counted, ReportProgress};
use crate::emergence::proof::terms::{Evidence, Terms};
use crate::emergence::proof::verify::{Bytes, Seen, read_known, read_object, read_verified};

/// Opens the blobs of a closure from their beginning, and decides what proves its objects. A blob
/// is opened once to prove it, and once to unpack it.
pub trait BlobSource: Send + Sync {
    /// Opens the blob with the NAR of the object at this index.
    fn open(&self, at: usize) -> Result<Box<dyn Read + Send + '_>>;

    /// The proof of each object's path, and whether the caller expects `digest`, which is that of
    /// the closure.
    fn proofs(&self, objects: &[Object], digest: &Hash, terms: &Terms) -> Result<Proofs> {
        closure::proofs(objects, digest, terms)
    }

    /// Whether the content of all objects was proved before.
    fn is_proved(&self) -> bool {
        false
    }

    /// Bytes that were read when a tree without a store path was opened.
    fn bytes_of_tree(&self) -> Bytes {
        Bytes::default()
    }
}

/// Objects and their blobs: a NAR in a file, or an object of a binary cache or of a store with its
/// references.
pub struct BlobClosure<S> {
    kind: ArtifactKind,
    /// Hash of the root's NAR.
    digest: Hash,
    /// Dependencies first; the last one is the root.
    objects: Vec<Object>,
    /// The stored form of each, in the same order.
    stored: Vec<Stored>,
    pub(super) source: S,
    seen: Mutex<Vec<Option<Seen>>>,
}

/// What the proofs of one closure's blobs share.
struct ProofRun<'a> {
    terms: &'a Terms,
    /// The paths to search for, if references are scanned.
    searched: Option<Searched>,
    /// Entries read so far.
    entries: AtomicU64,
}

impl<S: BlobSource> BlobClosure<S> {
    /// A closure with the last of `objects` as its root. A usage error if there are none.
    pub fn new(kind: ArtifactKind, objects: Vec<(Object, Stored)>, source: S) -> Result<Self> {
        let root = objects.last().ok_or_else(|| Fault::usage("the closure has no root"))?;
        let digest = root.0.nar_hash;
        let (objects, stored): (Vec<_>, Vec<_>) = objects.into_iter().unzip();
        let seen = Mutex::new(vec![None; objects.len()]);
        Ok(Self { kind, digest, objects, stored, source, seen })
    }

    /// A tree without a store path, whose NAR has this hash.
    pub(super) fn of_tree(kind: ArtifactKind, digest: Hash, source: S) -> Self {
        Self { kind, digest, objects: Vec::new(), stored: Vec::new(), source, seen: Mutex::default() }
    }

    /// The report before any blob is read.
    fn report(&self, terms: &Terms) -> Result<Report> {
        let proofs = self.source.proofs(&self.objects, &self.digest, terms)?;
        Ok(Report::of_objects(self.kind, self.digest, proofs, self.source.bytes_of_tree()))
    }

    fn at(&self, at: usize) -> Result<(&Object, &Stored)> {
        let both = self.objects.get(at).zip(self.stored.get(at));
        both.ok_or_else(|| Fault::usage("an object has no blob"))
    }

    /// Reads every blob, `terms.jobs` at a time, and compares it with its declaration. Also
    /// refused: too many entries (`limit.entries`), and with `terms.scan` undeclared references
    /// (`refs.undeclared`).
    fn prove(&self, terms: &Terms) -> Result<Bytes> {
        terms.check_space(self.objects.iter())?;
        let searched = terms.scan.then(|| Searched::new(self.objects.iter().map(|object| &object.path)));
        let run = ProofRun { terms, searched, entries: AtomicU64::new(0) };
        terms.watch.expect("verify", self.objects.iter().map(|object| object.nar_size).sum());
        let total = Mutex::new(Bytes::default());
        work::each(terms.jobs, self.objects.len(), |at| {
            let (object, stored) = self.at(at)?;
            let blob = stored.hash.as_ref().map(Evidence::Blob);
            if blob.map(|blob| terms.known(object, blob)).transpose()?.flatten().is_some() {
                // Hashed, but not unpacked. It may be missing.
                return match self.source.open(at).and_then(|input| read_known(input, stored)) {
                    Err(fault) if fault.code() == Some(Code::BlobMissing) => Ok(()),
                    read => read.within(|| terms.dir.path(&object.path)).map(|bytes| add(&total, bytes)),
                };
            }
            let seen = match self.prove_one(at, object, stored, &run) {
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

    fn prove_one(&self, at: usize, object: &Object, stored: &Stored, run: &ProofRun<'_>) -> Result<Seen> {
        let terms = run.terms;
        let input = self.source.open(at)?;
        let counted = Counted::new(&run.entries, terms);
        match &run.searched {
            None => read_object(input, object, stored, &terms.limits, &mut Both(counted, Nothing)),
            Some(searched) => {
                let mut visitor = Both(counted, Scanner::new(searched));
                let seen = read_object(input, object, stored, &terms.limits, &mut visitor)?;
                check_found(object, &visitor.1.into_references(), &terms.dir)?;
                Ok(seen)
            }
        }
    }
}

impl<S: BlobSource> Closure for BlobClosure<S> {
    fn kind(&self) -> ArtifactKind {
        self.kind
    }

    fn digest(&self) -> Hash {
        self.digest
    }

    fn objects(&self) -> &[Object] {
        &self.objects
    }

    fn blobs(&self) -> BTreeMap<StorePath, Hash> {
        let seen = self.seen.lock().map(|seen| seen.clone()).unwrap_or_default();
        let all = self.objects.iter().zip(&self.stored).zip(seen).filter(|(_, seen)| seen.is_some());
        let digest =
            |((object, stored), _): ((&Object, &Stored), _)| Some((object.path.clone(), stored.hash?));
        all.filter_map(digest).filter(|(_, hash)| hash.algorithm() == Algorithm::Sha256).collect()
    }

    fn verify(&self, terms: &Terms) -> Result<Report> {
        let report = self.report(terms)?;
        if self.objects.is_empty() { Ok(report) } else { Ok(Report { bytes: self.prove(terms)?, ..report }) }
    }

    fn recall(&self, terms: &Terms) -> Result<Option<Report>> {
        self.source.is_proved().then(|| self.report(terms)).transpose()
    }

    // A usage error if nothing was proved before.
    fn unpack(
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
            let seen = seen.ok_or_else(|| Fault::usage("internal error: unpacked before it was verified"))?;
            let mut feed = |visitor: &mut dyn Visitor| {
                let watched = ReportProgress(&*terms.watch);
                let memory = terms.limits.memory;
                read_verified(self.source.open(at)?, stored, &seen, memory, &mut Both(visitor, watched))
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

/// Reads an open file from an offset, independently of other readers.
pub struct FileReader<F> {
    file: F,
    at: u64,
}

impl<F: std::ops::Deref<Target = std::fs::File>> FileReader<F> {
    /// The contents of the file from the byte `at` on.
    pub fn new(file: F, at: u64) -> Self {
        Self { file, at }
    }
}

impl<F: std::ops::Deref<Target = std::fs::File>> Read for FileReader<F> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = std::os::unix::fs::FileExt::read_at(&*self.file, room, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
