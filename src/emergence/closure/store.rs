//! An object that a store has already, and all that it refers to.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::blobs::{Blobs, Source};
use super::{Closure, Kind, Receive, Report};
use crate::emergence::compress::Compression;
use crate::emergence::hash::Hash;
use crate::emergence::nar::{self, DEEPEST_EVER};
use crate::emergence::object::{Object, Stored};
use crate::emergence::refusal::{Code, Fault, Result};
use crate::emergence::store::{Meta, Store};
use crate::emergence::store_path::StorePath;
use crate::emergence::stream::{Buffer, Drain};
use crate::emergence::terms::Terms;
use crate::emergence::trust::{Demand, Proof};
use crate::emergence::verify::Bytes;
use crate::error::Doing;

/// See above. It keeps the store open.
pub struct StoreClosure {
    blobs: Blobs<Trees>,
    digest: Hash,
    /// What proved each when it was imported.
    proofs: Vec<Proof>,
}

impl StoreClosure {
    /// Refused with `closure.incomplete` when the store lacks the object, or one that it refers to.
    pub fn open(store: Arc<Store>, object: &StorePath) -> Result<Self> {
        let mut metas = store.closure_of(std::slice::from_ref(object))?;
        // In a circle of references the root may not be last by itself.
        if let Some(at) = metas.iter().position(|meta| meta.object.path == *object) {
            let root = metas.remove(at);
            metas.push(root);
        }
        Self::of(store, metas)
    }

    /// Of several objects, with all that they refer to, each behind that.
    pub(in crate::emergence) fn of(store: Arc<Store>, metas: Vec<Meta>) -> Result<Self> {
        let trees = Trees(metas.iter().map(|meta| store.tree(&meta.object.path)).collect(), store);
        let stored = metas.iter().map(|meta| Stored {
            name: meta.object.path.to_string(),
            compression: Compression::None,
            hash: None,
            size: None,
        });
        let stored = stored.collect();
        let (objects, proofs): (Vec<_>, Vec<_>) =
            metas.into_iter().map(|meta| (meta.object, meta.proof)).unzip();
        let blobs = Blobs::new(Kind::Store, objects, stored, trees);
        let digest = blobs.root().ok_or_else(|| Fault::usage("the closure has no root"))?;
        Ok(Self { blobs, digest, proofs })
    }

    /// What proves each: as for any artifact, and otherwise what proved it when it was imported, unless a signature is demanded of all.
    fn proofs(&self, terms: &Terms) -> Result<(Vec<(Object, Proof)>, bool)> {
        let root = self.blobs.objects.last().map(|object| terms.dir.path(&object.path)).unwrap_or_default();
        let pinned = terms.trust.pinned(&root, &self.digest)?;
        let last = self.proofs.len().saturating_sub(1);
        let mut all = Vec::with_capacity(self.proofs.len());
        for (at, (object, known)) in self.blobs.objects.iter().zip(&self.proofs).enumerate() {
            let proof = match terms.trust.proof(object, &terms.dir, pinned && at == last) {
                Err(fault) if fault.code() == Some(Code::TrustUnproved) => match known {
                    Proof::Nothing => return Err(fault),
                    _ if terms.trust.demand == Demand::Signed => return Err(fault),
                    known => known.clone(),
                },
                proof => proof?,
            };
            all.push((object.clone(), proof));
        }
        Ok((all, pinned))
    }
}

impl StoreClosure {
    /// What is known without a look at the trees.
    fn noted(&self, terms: &Terms) -> Result<Report> {
        Ok(Report::of_objects(Kind::Store, self.digest, self.proofs(terms)?, Bytes::default()))
    }
}

impl Closure for StoreClosure {
    fn kind(&self) -> Kind {
        Kind::Store
    }

    fn digest(&self) -> Hash {
        self.digest
    }

    fn objects(&self) -> &[Object] {
        &self.blobs.objects
    }

    fn verify(&self, terms: &Terms) -> Result<Report> {
        let report = self.noted(terms)?;
        Ok(Report { bytes: self.blobs.prove(terms)?, ..report })
    }

    fn recall(&self, terms: &Terms) -> Result<Option<Report>> {
        self.noted(terms).map(Some)
    }

    fn unpack(
        &self,
        terms: &Terms,
        wanted: &(dyn Fn(&StorePath) -> bool + Sync),
        to: &(dyn Receive + Sync),
    ) -> Result<Bytes> {
        self.blobs.unpack(terms, wanted, to)
    }
}

/// Trees as blobs: each is the NAR that a thread makes of it.
struct Trees(Vec<PathBuf>, #[allow(dead_code)] Arc<Store>);

impl Source for Trees {
    fn open(&self, at: usize) -> Result<Box<dyn Read + Send + '_>> {
        let path = self.0.get(at).cloned().ok_or_else(|| Fault::usage("an object has no tree"))?;
        Ok(Box::new(TreeReader::start(path, DEEPEST_EVER)?))
    }
}

/// Buffers on their way at most.
const AHEAD: usize = 2;

/// Reads the NAR of a tree, which a thread makes meanwhile.
pub(in crate::emergence) struct TreeReader {
    from: Receiver<Vec<u8>>,
    back: SyncSender<Vec<u8>>,
    thread: Option<JoinHandle<Result<()>>>,
    buffer: Vec<u8>,
    used: usize,
}

struct Sender {
    to: SyncSender<Vec<u8>>,
    back: Receiver<Vec<u8>>,
}

impl Drain for Sender {
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        self.to.send(full).map_err(|_| io::Error::other("nobody reads the NAR any more"))?;
        Ok(self.back.try_recv().unwrap_or_default())
    }
}

impl TreeReader {
    /// Of the tree at `path`, of `deepest` nodes below each other at most.
    pub(in crate::emergence) fn start(path: PathBuf, deepest: usize) -> Result<Self> {
        let (to, from) = sync_channel(AHEAD);
        let (back, used) = sync_channel(AHEAD + 2);
        let dump = move || {
            let mut out = Buffer::new(Sender { to, back: used });
            nar::dump(&path, deepest, &mut out)?;
            out.finish().doing(|| "make a NAR")?;
            Ok(())
        };
        let thread =
            std::thread::Builder::new().name("dump".into()).spawn(dump).doing(|| "start a thread")?;
        Ok(Self { from, back, thread: Some(thread), buffer: Vec::new(), used: 0 })
    }
}

impl Read for TreeReader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.used == self.buffer.len() {
            match self.from.recv() {
                Ok(next) => {
                    // Nobody may want the old one any more.
                    let _ = self.back.try_send(std::mem::replace(&mut self.buffer, next));
                    self.used = 0;
                }
                Err(_) => {
                    return match self.thread.take().map(JoinHandle::join) {
                        None | Some(Ok(Ok(()))) => Ok(0),
                        Some(Ok(Err(fault))) => Err(io::Error::other(fault.to_string())),
                        Some(Err(_)) => Err(io::Error::other("the thread that makes the NAR has ended")),
                    };
                }
            }
        }
        let count = room.len().min(self.buffer.len() - self.used);
        let from = self.buffer.get(self.used..self.used + count).unwrap_or_default();
        room.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        self.used += count;
        Ok(count)
    }
}
