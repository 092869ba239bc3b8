//! The first pass over a layer: checks that it can be unpacked, and collects its whiteouts. Creates
//! nothing.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::{InTree, Meaning, meaning};
use super::layer::See;
use super::tar::{Input, Member, MemberKind, Members};
use crate::emergence::base::refusal::{Code, Fault, Result, shown};

/// Maximum size of all whiteout paths of a layer, in bytes.
const MOST_WHITEOUTS: usize = 64 << 20;

/// A set of paths. Only a keyed hash of each is kept, because only membership is tested.
#[derive(Default)]
pub(super) struct Paths {
    key: RandomState,
    seen: HashSet<u64>,
}

impl Paths {
    /// False: the path is in the set already.
    fn insert(&mut self, path: &[u8]) -> bool {
        let hash = self.key.hash_one(path);
        self.seen.insert(hash)
    }

    pub(super) fn contains(&self, path: &[u8]) -> bool {
        self.seen.contains(&self.key.hash_one(path))
    }
}

/// The whiteouts of a layer. They apply to the layers below and not to the layer's own entries, and
/// are applied first.
#[derive(Default)]
pub(super) struct Whiteouts {
    /// Paths that are removed.
    pub(super) gone: Vec<InTree>,
    /// Directories whose content is removed.
    pub(super) opaque: Vec<InTree>,
    /// Directories that the layer itself has. Kept only if it has whiteouts.
    pub(super) directories: Paths,
    bytes: usize,
}

impl Whiteouts {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.opaque.is_empty()
    }
}

/// Sums over all layers of an image, for common limits.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) entries: AtomicU64,
    /// Total size of all files, in bytes.
    pub(super) size: AtomicU64,
}

/// Checks the members of one layer.
pub(super) struct Check<'a> {
    pub(super) removals: Whiteouts,
    totals: &'a Totals,
    most_entries: u64,
    /// Remaining size limit for the files of this layer, in bytes.
    size_left: u64,
    /// All paths, if duplicates are refused.
    names: Option<Paths>,
}

impl<'a> Check<'a> {
    /// A check of one layer. `strict`: duplicate paths are refused.
    pub(super) fn new(totals: &'a Totals, entries: u64, size: u64, strict: bool) -> Self {
        Self {
            removals: Whiteouts::default(),
            totals,
            most_entries: entries,
            size_left: size,
            names: strict.then(Paths::default),
        }
    }

    /// The whiteouts of the layer.
    pub(super) fn finish(mut self) -> Whiteouts {
        if self.removals.is_empty() {
            self.removals.directories = Paths::default();
        }
        self.removals
    }

    fn whiteout(&mut self, path: &InTree) -> Result<()> {
        self.removals.bytes += path.bytes().len() + size_of::<InTree>();
        if self.removals.bytes > MOST_WHITEOUTS {
            Err(Fault::refused(Code::LimitEntries, "", "has too many whiteouts"))
        } else {
            Ok(())
        }
    }

    fn once(&mut self, path: &[u8]) -> Result<()> {
        if self.names.as_mut().is_none_or(|names| names.insert(path)) {
            Ok(())
        } else {
            Err(Fault::refused(Code::LayerDuplicate, shown(path), "occurs twice"))
        }
    }
}

impl See for Check<'_> {
    fn member<R: Input>(&mut self, member: Member, _from: &mut Members<R>) -> Result<()> {
        if self.totals.entries.fetch_add(1, Ordering::Relaxed) >= self.most_entries {
            let words = format!("there are more than {} entries", self.most_entries);
            return Err(Fault::refused(Code::LimitEntries, "", words));
        }
        // A sparse file may be larger than the tar that contains it.
        self.size_left = self.size_left.checked_sub(member.size).ok_or_else(|| {
            Fault::refused(Code::LimitSize, shown(&member.path), "the files have more bytes than allowed")
        })?;
        self.totals.size.fetch_add(member.size, Ordering::Relaxed);
        let means = meaning(&member)?;
        match &means {
            Meaning::Root => self.once(b"")?,
            Meaning::Entry(path) => {
                self.once(path.bytes())?;
                if member.kind == MemberKind::Directory {
                    self.removals.directories.insert(path.bytes());
                }
                if member.kind == MemberKind::HardLink {
                    InTree::read(&member.link)?;
                }
                if member.kind == MemberKind::Symlink && member.link.is_empty() {
                    return Err(Fault::refused(
                        Code::LayerHeader,
                        shown(&member.path),
                        "is a link to a missing file",
                    ));
                }
            }
            Meaning::Gone(path) | Meaning::Opaque(path) => self.whiteout(path)?,
            Meaning::Nothing => {}
        }
        match means {
            Meaning::Gone(path) => self.removals.gone.push(path),
            Meaning::Opaque(path) => self.removals.opaque.push(path),
            Meaning::Root | Meaning::Entry(_) | Meaning::Nothing => {}
        }
        Ok(())
    }
}
