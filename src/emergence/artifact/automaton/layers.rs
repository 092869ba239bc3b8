//! The blobs of an automaton: proved in one pass and read again in another, several at a time.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::entry::EntryPoints;
use super::layer::LayerReader;
use crate::emergence::base::compress::Compression;
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::limits::Limits;
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::base::stream::{HashThread, Hashing};
use crate::emergence::base::work;
use crate::emergence::nix::nar::{self, Both, Nothing, Visitor};
use crate::emergence::nix::object::{Object, Stored};
use crate::emergence::nix::scan::Searched;
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::oci::{Descriptor, Layout};
use crate::emergence::proof::check::Check;
use crate::emergence::proof::closure::Receive;
use crate::emergence::proof::progress::{Counted, ReportProgress};
use crate::emergence::proof::terms::{Evidence, Holdings, Terms, Twin};
use crate::emergence::proof::verify::{Bytes, read_known};
use crate::error::Doing;

/// One blob and its objects.
pub(crate) struct ObjectLayer {
    pub descriptor: Descriptor,
    pub compression: Compression,
    /// Digest of the uncompressed tar. `None`: the blob is the NAR of its only object.
    pub diff_id: Option<Hash>,
    /// Sorted by path.
    pub objects: Vec<Object>,
}

/// All layers of an automaton.
pub(crate) struct Layers {
    layout: Layout,
    all: Vec<ObjectLayer>,
    /// The blobs that objects came from, once they are proved.
    read: Mutex<BTreeMap<StorePath, Hash>>,
}

/// The result of proving.
#[derive(Default)]
pub(crate) struct Proved {
    /// The content hash of each.
    pub contents: BTreeMap<StorePath, Hash>,
    pub bytes: Bytes,
}

/// Reads the tree of an object, once.
type ReadTree<'a> = dyn FnMut(&mut dyn Visitor) -> Result<()> + 'a;

/// Takes an object and the function that reads its tree.
type Give<'a> = dyn Fn(&Object, &mut ReadTree<'_>) -> Result<()> + 'a;

/// Takes the uncompressed contents of a blob.
type Unpacked<'a> = dyn FnMut(&mut dyn Read) -> Result<()> + 'a;

impl Layers {
    pub(crate) fn new(layout: Layout, all: Vec<ObjectLayer>) -> Self {
        Self { layout, all, read: Mutex::default() }
    }

    pub(crate) fn all(&self) -> &[ObjectLayer] {
        &self.all
    }

    /// Reads every blob, `terms.jobs` at a time, and compares it with its declaration and those of
    /// its objects.
    pub(crate) fn prove(
        &self,
        terms: &Terms,
        objects: &[Object],
        points: &mut EntryPoints,
    ) -> Result<Proved> {
        terms.check_space(objects.iter())?;
        let searched = terms.scan.then(|| Searched::new(objects.iter().map(|object| &object.path)));
        let entries = AtomicU64::new(0);
        terms.watch.expect("verify", objects.iter().map(|object| object.nar_size).sum());
        let proved = Mutex::new(Proved::default());
        let learnt = Mutex::new(Vec::new());
        work::each(terms.jobs, self.all.len(), |at| {
            let layer = self.at(at)?;
            if let Some((holdings, twins)) = self.known(layer, terms)? {
                lock(&proved).bytes.read += self.read_known(layer)?;
                for (object, twin) in layer.objects.iter().zip(twins) {
                    let content = if twin.path == object.path { twin.content } else { object.nar_hash };
                    lock(&proved).contents.insert(object.path.clone(), content);
                    let mut watched = points.watch(&object.path);
                    if watched.is_wanted() {
                        holdings.show(&twin.path, &mut watched)?;
                        lock(&learnt).push((object.path.clone(), watched));
                    }
                }
                return Ok(());
            }
            let prove = |object: &Object, read: &mut ReadTree<'_>| {
                let check = Check::new(object, searched.as_ref())?;
                let counted = Counted::new(&entries, terms);
                let mut all = Both(counted, Both(check, points.watch(&object.path)));
                read(&mut all)?;
                let content = all.1.0.finish(&terms.dir)?;
                lock(&proved).contents.insert(object.path.clone(), content);
                lock(&learnt).push((object.path.clone(), all.1.1));
                Ok(())
            };
            let mut tar = None;
            let read = self.read_blob(layer, terms, &mut |unpacked| match layer.diff_id {
                Some(_) => {
                    let thread = HashThread::start(Algorithm::Sha256).doing(|| "start a thread")?;
                    let mut hashing = Hashing::new(unpacked, thread);
                    each_object(layer, &mut hashing, terms, &prove)?;
                    tar = Some(hashing.finish().doing(|| "hash")?.0);
                    Ok(())
                }
                None => each_object(layer, unpacked, terms, &prove),
            })?;
            if let (Some(declared), Some(found)) = (layer.diff_id, tar)
                && declared != found
            {
                let (declared, found) = (declared.to_string(), found.to_string());
                let subject = subject(layer);
                return Err(Fault::differs(Code::OciDiffId, subject, "the diff ID", &declared, &found));
            }
            if layer.descriptor.digest.algorithm() == Algorithm::Sha256 {
                let paths = layer.objects.iter().map(|object| object.path.clone());
                lock(&self.read).extend(paths.map(|path| (path, layer.descriptor.digest)));
            }
            let mut proved = lock(&proved);
            proved.bytes.read += read;
            proved.bytes.unpacked += layer.objects.iter().map(|object| object.nar_size).sum::<u64>();
            Ok(())
        })?;
        for (path, watched) in learnt.into_inner().unwrap_or_default() {
            points.learn(&path, watched);
        }
        Ok(proved.into_inner().unwrap_or_default())
    }

    /// The blobs of the proved objects, see [`crate::emergence::proof::closure::Closure::blobs`].
    pub(crate) fn read(&self) -> BTreeMap<StorePath, Hash> {
        lock(&self.read).clone()
    }

    /// Reads again the blobs with objects that are `wanted`. Each must be unchanged.
    pub(crate) fn unpack(
        &self,
        terms: &Terms,
        wanted: &(dyn Fn(&StorePath) -> bool + Sync),
        to: &(dyn Receive + Sync),
    ) -> Result<Bytes> {
        let is_wanted = |layer: &&ObjectLayer| layer.objects.iter().any(|object| wanted(&object.path));
        let layers: Vec<&ObjectLayer> = self.all.iter().filter(is_wanted).collect();
        let objects = layers.iter().flat_map(|layer| &layer.objects);
        terms.watch.expect("unpack", objects.map(|object| object.nar_size).sum());
        let total = Mutex::new(Bytes::default());
        work::each(terms.jobs, layers.len(), |at| {
            let Some(layer) = layers.get(at) else { return Ok(()) };
            let give = |object: &Object, read: &mut ReadTree<'_>| {
                if !wanted(&object.path) {
                    return read(&mut ReportProgress(&*terms.watch));
                }
                let bytes = Bytes { read: 0, unpacked: object.nar_size };
                let mut feed = |visitor: &mut dyn Visitor| {
                    read(&mut Both(visitor, ReportProgress(&*terms.watch))).map(|()| bytes)
                };
                let made = to.object(object, &mut feed)?;
                lock(&total).unpacked += made.unpacked;
                Ok(())
            };
            let read =
                self.read_blob(layer, terms, &mut |unpacked| each_object(layer, unpacked, terms, &give));
            let read = read.map_err(|fault| match fault.code() {
                // It was proved before, so it has changed.
                Some(_) => {
                    let words = format!("has changed since it was verified: {}", fault.words());
                    Fault::refused(Code::ChangedWhileReading, subject(layer), words)
                }
                None => fault,
            })?;
            lock(&total).read += read;
            Ok(())
        })?;
        Ok(total.into_inner().unwrap_or_default())
    }

    /// Reads one proved object again.
    pub(crate) fn look(
        &self,
        terms: &Terms,
        path: &StorePath,
        visitor: &mut (dyn Visitor + Send),
    ) -> Result<()> {
        let has = |layer: &&ObjectLayer| layer.objects.iter().any(|object| object.path == *path);
        let Some(layer) = self.all.iter().find(has) else { return Ok(()) };
        if let Some((holdings, twins)) = self.known(layer, terms)? {
            let twin = layer.objects.iter().zip(twins).find(|(object, _)| object.path == *path);
            return twin.map_or(Ok(()), |(_, twin)| holdings.show(&twin.path, visitor));
        }
        let cell = Mutex::new(visitor);
        let look = |object: &Object, read: &mut ReadTree<'_>| {
            if object.path == *path { read(&mut **lock(&cell)) } else { read(&mut Nothing) }
        };
        self.read_blob(layer, terms, &mut |unpacked| each_object(layer, unpacked, terms, &look)).map(drop)
    }

    /// Hashes a blob that need not be unpacked, if it exists. Returns its size in bytes.
    fn read_known(&self, layer: &ObjectLayer) -> Result<u64> {
        let Descriptor { digest, size, .. } = &layer.descriptor;
        if !self.layout.blobs.has(digest)? {
            return Ok(0);
        }
        let (hash, size) = (Some(*digest), Some(*size));
        let stored = Stored { name: subject(layer), compression: layer.compression, hash, size };
        let read = read_known(self.layout.blobs.open(&layer.descriptor)?, &stored);
        read.within(|| subject(layer)).map(|bytes| bytes.read)
    }

    /// Objects of the destination that replace those of a layer. `None`: the blob must be unpacked.
    fn known<'a>(
        &self,
        layer: &ObjectLayer,
        terms: &'a Terms,
    ) -> Result<Option<(&'a dyn Holdings, Vec<Twin>)>> {
        let Some(holdings) = terms.holdings() else { return Ok(None) };
        let digest = &layer.descriptor.digest;
        let twins = |evidence| -> Result<Option<Vec<Twin>>> {
            layer.objects.iter().map(|object| terms.known(object, evidence)).collect()
        };
        let mut found = twins(Evidence::Blob(digest))?;
        if found.is_none() && !self.layout.blobs.has(digest)? {
            found = twins(Evidence::None)?;
        }
        Ok(found.map(|twins| (&**holdings, twins)))
    }

    fn at(&self, at: usize) -> Result<&ObjectLayer> {
        self.all.get(at).ok_or_else(|| Fault::usage("a layer is missing"))
    }

    /// Reads a blob completely and passes its contents to `use_it`. Its digest must be the declared
    /// one. Returns its size in bytes.
    fn read_blob(&self, layer: &ObjectLayer, terms: &Terms, use_it: &mut Unpacked<'_>) -> Result<u64> {
        let blob = self.layout.blobs.open(&layer.descriptor)?;
        let declared = &layer.descriptor.digest;
        let thread = HashThread::start(declared.algorithm()).doing(|| "start a thread")?;
        let mut raw = Hashing::new(blob, thread);
        let mut exceeded = false;
        let used = unpacked(layer.compression, &mut raw, &terms.limits, &mut exceeded, use_it);
        if let Err(fault @ Fault::Failed(_)) = used {
            return Err(fault);
        }
        // A wrong digest is reported before any other error in the blob.
        io::copy(&mut raw, &mut io::sink()).doing(|| format!("read {}", subject(layer)))?;
        let (found, size) = raw.finish().doing(|| "hash")?;
        if found != *declared {
            let (declared, found) = (declared.to_string(), found.to_string());
            return Err(Fault::differs(Code::BlobDigest, subject(layer), "its digest", &declared, &found));
        }
        if exceeded {
            let words = format!("it unpacks to more than {} bytes", terms.limits.size);
            return Err(Fault::refused(Code::LimitSize, subject(layer), words));
        }
        used.within(|| subject(layer)).map(|()| size)
    }
}

/// Passes the decompressed contents to `use_it`, within limits.
fn unpacked(
    compression: Compression,
    raw: &mut dyn Read,
    limits: &Limits,
    exceeded: &mut bool,
    use_it: &mut Unpacked<'_>,
) -> Result<()> {
    let decoder = compression.reader(raw, limits.memory);
    let decoder = decoder.map_err(|error| Fault::refused(Code::BlobCompression, "", error.to_string()))?;
    use_it(&mut Bounded { input: decoder, left: limits.size, exceeded })
}

/// Ends the input at the size limit, and sets `exceeded`.
struct Bounded<'a, R> {
    input: R,
    left: u64,
    exceeded: &'a mut bool,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(room)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                *self.exceeded = true;
                return Ok(0);
            }
        }
        Ok(count)
    }
}

fn subject(layer: &ObjectLayer) -> String {
    format!("blob {}", layer.descriptor.digest)
}

/// Locks the mutex, even if it is poisoned: no code panics while it holds one.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Passes each object of a layer to `give`, with a function that reads its tree.
fn each_object(
    layer: &ObjectLayer,
    mut unpacked: &mut dyn Read,
    terms: &Terms,
    give: &Give<'_>,
) -> Result<()> {
    if layer.diff_id.is_none() {
        let object = layer.objects.first().ok_or_else(|| Fault::usage("a layer has no object"))?;
        let mut read =
            |mut visitor: &mut dyn Visitor| nar::read(&mut unpacked, terms.limits.depth, &mut visitor);
        return give(object, &mut read).within(|| terms.dir.path(&object.path));
    }
    let mut reader = LayerReader::new(unpacked, &terms.dir, terms.limits.depth)?;
    for object in &layer.objects {
        let mut read = |visitor: &mut dyn Visitor| reader.object(&object.path, visitor);
        give(object, &mut read).within(|| terms.dir.path(&object.path))?;
    }
    reader.finish()
}
