//! What the first pass looks for in a layer: that it can be unpacked, and what it takes away from
//! the layers below. Makes nothing.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::{InTree, Meaning, meaning};
use super::layer::See;
use super::tar::{Input, Member, MemberKind, Members};
use crate::emergence::base::refusal::{Code, Fault, Result, shown};

/// Bytes of the paths that one layer may take away.
const MOST_WHITEOUTS: usize = 64 << 20;

/// Paths, of which only a hash with a secret key is kept: whether one is there is all that is
/// asked.
#[derive(Default)]
pub(super) struct Paths {
    key: RandomState,
    seen: HashSet<u64>,
}

impl Paths {
    /// False: it is there already.
    fn insert(&mut self, path: &[u8]) -> bool {
        let hash = self.key.hash_one(path);
        self.seen.insert(hash)
    }

    pub(super) fn contains(&self, path: &[u8]) -> bool {
        self.seen.contains(&self.key.hash_one(path))
    }
}

/// What a layer takes away from the layers below. It is done before the layer is applied, whose own
/// entries it does not concern.
#[derive(Default)]
pub(super) struct Removals {
    /// What goes.
    pub(super) gone: Vec<InTree>,
    /// Folders of which all goes that is in them.
    pub(super) opaque: Vec<InTree>,
    /// Folders that the layer itself has. Kept only where something is taken away.
    pub(super) folders: Paths,
    bytes: usize,
}

impl Removals {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.opaque.is_empty()
    }
}

/// The sums of all layers of an image, which have bounds together.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) entries: AtomicU64,
    /// Bytes of all files.
    pub(super) size: AtomicU64,
}

/// See the head of this file.
pub(super) struct Check<'a> {
    pub(super) removals: Removals,
    totals: &'a Totals,
    most_entries: u64,
    /// Bytes that files of this layer may still have.
    size_left: u64,
    /// All paths, when none may be there twice.
    names: Option<Paths>,
}

impl<'a> Check<'a> {
    /// `strict`: no path may be there twice.
    pub(super) fn new(totals: &'a Totals, entries: u64, size: u64, strict: bool) -> Self {
        Self {
            removals: Removals::default(),
            totals,
            most_entries: entries,
            size_left: size,
            names: strict.then(Paths::default),
        }
    }

    /// What the layer takes away.
    pub(super) fn finish(mut self) -> Removals {
        if self.removals.is_empty() {
            self.removals.folders = Paths::default();
        }
        self.removals
    }

    fn whiteout(&mut self, path: &InTree) -> Result<()> {
        self.removals.bytes += path.bytes().len() + size_of::<InTree>();
        match self.removals.bytes > MOST_WHITEOUTS {
            true => Err(Fault::refused(Code::LimitEntries, "", "has too many whiteouts")),
            false => Ok(()),
        }
    }

    fn once(&mut self, path: &[u8]) -> Result<()> {
        match self.names.as_mut().is_none_or(|names| names.insert(path)) {
            true => Ok(()),
            false => Err(Fault::refused(Code::LayerDuplicate, shown(path), "is there twice")),
        }
    }
}

impl See for Check<'_> {
    fn member<R: Input>(&mut self, member: Member, _from: &mut Members<R>) -> Result<()> {
        if self.totals.entries.fetch_add(1, Ordering::Relaxed) >= self.most_entries {
            let words = format!("there are more than {} entries", self.most_entries);
            return Err(Fault::refused(Code::LimitEntries, "", words));
        }
        // A sparse file may be larger than the tar that it comes from.
        self.size_left = self.size_left.checked_sub(member.size).ok_or_else(|| {
            Fault::refused(
                Code::LimitSize,
                shown(&member.path),
                "the files have more bytes than may come out",
            )
        })?;
        self.totals.size.fetch_add(member.size, Ordering::Relaxed);
        let means = meaning(&member)?;
        match &means {
            Meaning::Root => self.once(b"")?,
            Meaning::Entry(path) => {
                self.once(path.bytes())?;
                if member.kind == MemberKind::Directory {
                    self.removals.folders.insert(path.bytes());
                }
                if member.kind == MemberKind::HardLink {
                    InTree::read(&member.link)?;
                }
                if member.kind == MemberKind::Symlink && member.link.is_empty() {
                    return Err(Fault::refused(
                        Code::LayerHeader,
                        shown(&member.path),
                        "is a link to nothing",
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
