//! What the caller asks of every artifact: whom he trusts, how much may come out, who watches.

use std::path::PathBuf;
use std::sync::Arc;

use super::trust::Trust;
use crate::emergence::base::files::check_space;
use crate::emergence::base::hash::Hash;
use crate::emergence::base::limits::Limits;
use crate::emergence::base::refusal::Result;
use crate::emergence::nix::nar::Visitor;
use crate::emergence::nix::object::{Object, bytes_of};
use crate::emergence::nix::store_path::{StoreDir, StorePath};

/// Told how far long work has come, from several threads.
pub trait Watch: Send + Sync {
    /// So many bytes more are to be done, of `what`.
    fn expect(&self, what: &str, bytes: u64);
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
}

/// Nobody looks.
pub struct Unwatched;

impl Watch for Unwatched {
    fn expect(&self, _what: &str, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
}

/// The demands of the caller on every artifact.
#[derive(Clone)]
pub struct Terms {
    /// Goes into the digests of store paths.
    pub dir: StoreDir,
    /// Whom and what to trust.
    pub trust: Trust,
    /// See [`Limits`].
    pub limits: Limits,
    /// Search objects for references that are not declared.
    pub scan: bool,
    /// Blobs that are worked on at once, at least 1.
    pub jobs: usize,
    /// See [`Watch`].
    pub watch: Arc<dyn Watch>,
    /// Where what is verified is going to be written, if it is.
    pub destination: Option<Destination>,
}

/// Where artifacts go once they are verified.
#[derive(Clone)]
pub struct Destination {
    /// A directory in the file system that needs space for them.
    pub folder: PathBuf,
    /// Objects that need not be read from a blob again.
    pub holdings: Option<Arc<dyn Holdings>>,
}

/// The objects that a destination has already.
pub trait Holdings: Send + Sync {
    /// Whether it has an object of this path.
    fn has(&self, object: &StorePath) -> Result<bool>;

    /// An object whose tree equals that of `object`: itself, or one under another path.
    fn twin(&self, object: &Object, evidence: Evidence<'_>) -> Result<Option<Twin>>;

    /// Feeds the tree of one of its objects to `visitor`.
    fn show(&self, object: &StorePath, visitor: &mut dyn Visitor) -> Result<()>;
}

/// An object of a destination whose tree equals that of another one.
#[derive(Clone, Debug)]
pub struct Twin {
    /// Its path.
    pub path: StorePath,
    /// The hash of its NAR, in which its own digest counts as zeros.
    pub content: Hash,
}

/// The evidence that is required of a twin besides the hash of its NAR and its content address.
#[derive(Clone, Copy, Debug)]
pub enum Evidence<'a> {
    /// None.
    None,
    /// It was read from a blob with this digest.
    Blob(&'a Hash),
}

impl Terms {
    /// The objects that the destination has already, if it is a store.
    pub fn holdings(&self) -> Option<&Arc<dyn Holdings>> {
        self.destination.as_ref()?.holdings.as_ref()
    }

    /// The twin of `object` in the destination, which makes it needless to read the blob for it.
    /// Where objects are scanned, all are read.
    pub fn known(&self, object: &Object, evidence: Evidence<'_>) -> Result<Option<Twin>> {
        match self.holdings().filter(|_| !self.scan) {
            Some(holdings) => holdings.twin(object, evidence),
            None => Ok(None),
        }
    }

    /// Whether the destination has this object.
    pub fn has(&self, object: &StorePath) -> Result<bool> {
        self.holdings().map_or(Ok(false), |holdings| holdings.has(object))
    }

    /// Refused with `space` when the destination has too little space for the objects that it
    /// lacks.
    pub fn check_space<'a>(&self, objects: impl Iterator<Item = &'a Object>) -> Result<()> {
        let Some(Destination { folder, holdings }) = &self.destination else { return Ok(()) };
        let mut lacking = Vec::new();
        for object in objects {
            let twin = holdings.as_ref().map(|holdings| holdings.twin(object, Evidence::None)).transpose()?;
            if twin.flatten().is_none() {
                lacking.push(object);
            }
        }
        check_space(folder, bytes_of(lacking.into_iter()))
    }
}
