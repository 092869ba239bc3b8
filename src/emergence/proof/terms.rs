//! The caller's terms for every artifact: trust, limits, and progress reports.

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

/// Receives progress of long work, from several threads.
pub trait Watch: Send + Sync {
    /// Announces that `what` takes `bytes` more bytes of work.
    fn expect(&self, what: &str, bytes: u64);
    /// Reports that `bytes` more bytes are done.
    fn advance(&self, bytes: u64);
}

/// Ignores progress.
pub struct Unwatched;

impl Watch for Unwatched {
    fn expect(&self, _what: &str, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
}

/// The caller's terms for every artifact.
#[derive(Clone)]
pub struct Terms {
    /// The store directory that paths are computed for.
    pub dir: StoreDir,
    /// The trust policy.
    pub trust: Trust,
    /// Limits on sizes and counts.
    pub limits: Limits,
    /// Whether to search objects for undeclared references.
    pub scan: bool,
    /// Number of blobs processed at once, at least 1.
    pub jobs: usize,
    /// The receiver of progress reports.
    pub watch: Arc<dyn Watch>,
    /// The destination of verified artifacts, if they are written.
    pub destination: Option<Destination>,
}

/// The destination of verified artifacts.
#[derive(Clone)]
pub struct Destination {
    /// A directory in the file system that needs space for them.
    pub directory: PathBuf,
    /// Existing objects, which need not be read from a blob again.
    pub holdings: Option<Arc<dyn Holdings>>,
}

/// The existing objects of a destination.
pub trait Holdings: Send + Sync {
    /// Whether it has an object with this path.
    fn has(&self, object: &StorePath) -> Result<bool>;

    /// An object whose tree equals that of `object`: itself, or one under another path.
    fn twin(&self, object: &Object, evidence: Evidence<'_>) -> Result<Option<Twin>>;

    /// Feeds the tree of one of its objects to `visitor`.
    fn show(&self, object: &StorePath, visitor: &mut dyn Visitor) -> Result<()>;
}

/// An object of a destination whose tree equals that of another object.
#[derive(Clone, Debug)]
pub struct Twin {
    /// Its path.
    pub path: StorePath,
    /// The hash of its NAR, with its own digest replaced by zeros.
    pub content: Hash,
}

/// Evidence required of a twin in addition to its NAR hash and content address.
#[derive(Clone, Copy, Debug)]
pub enum Evidence<'a> {
    /// None.
    None,
    /// It was read from a blob with this digest.
    Blob(&'a Hash),
}

impl Terms {
    /// The existing objects of the destination, if it is a store.
    pub fn holdings(&self) -> Option<&Arc<dyn Holdings>> {
        self.destination.as_ref()?.holdings.as_ref()
    }

    /// The twin of `object` in the destination, which makes reading its blob unnecessary. `None` if
    /// objects are scanned, because then all are read.
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

    /// Refused with `space` if the destination has too little space for the objects that it lacks.
    pub fn check_space<'a>(&self, objects: impl Iterator<Item = &'a Object>) -> Result<()> {
        let Some(Destination { directory, holdings }) = &self.destination else { return Ok(()) };
        let mut lacking = Vec::new();
        for object in objects {
            let twin = holdings.as_ref().map(|holdings| holdings.twin(object, Evidence::None)).transpose()?;
            if twin.flatten().is_none() {
                lacking.push(object);
            }
        }
        check_space(directory, bytes_of(lacking.into_iter()))
    }
}
