//! Entry points: each must lead to an executable file of the closure, through any symbolic links.

use std::collections::{BTreeMap, BTreeSet};

use crate::emergence::base::refusal::{Code, Fault, Result, shown};
use crate::emergence::format::document::Document;
use crate::emergence::nix::nar::Visitor;
use crate::emergence::nix::store_path::{StoreDir, StorePath};

/// Maximum number of symbolic links to a file, as in the kernel.
const MOST_LINKS: usize = 40;

/// The type of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File { executable: bool },
    Link(Vec<u8>),
}

/// Nodes by path in an object, without a leading slash; the root is empty. `None`: no node is
/// known.
type Known = BTreeMap<Vec<u8>, Option<Node>>;

/// Records the nodes at some paths of a tree.
pub(crate) struct Watched {
    known: Known,
    path: Vec<u8>,
    /// Length of `path` at each open directory.
    ends: Vec<usize>,
}

impl Watched {
    /// Whether there are paths to record.
    pub(super) fn is_wanted(&self) -> bool {
        !self.known.is_empty()
    }

    fn node(&mut self, name: &[u8], node: impl FnOnce() -> Node) {
        let above = self.path.len();
        if above > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        if let Some(place) = self.known.get_mut(&self.path) {
            *place = Some(node());
        }
        self.path.truncate(above);
    }
}

impl Visitor for Watched {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        if self.known.is_empty() {
            return Ok(());
        }
        self.node(name, || Node::Directory);
        self.ends.push(self.path.len());
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.path.truncate(self.ends.pop().unwrap_or_default());
        Ok(())
    }

    fn file(&mut self, name: &[u8], executable: bool, _size: u64) -> Result<()> {
        if !self.known.is_empty() {
            self.node(name, || Node::File { executable });
        }
        Ok(())
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        if !self.known.is_empty() {
            self.node(name, || Node::Link(target.to_vec()));
        }
        Ok(())
    }
}

/// The entry points of a document, and the known nodes of their objects.
pub(crate) struct EntryPoints {
    /// The paths of the entry points as written, without duplicates.
    programs: BTreeSet<String>,
    /// The components of the store's path.
    store: Vec<Vec<u8>>,
    objects: BTreeSet<StorePath>,
    known: BTreeMap<StorePath, Known>,
}

/// Adds a path and its parent directories.
fn with_parents(path: &[u8], to: &mut Known) {
    to.entry(path.to_vec()).or_insert(None);
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    for (at, _) in slashes {
        to.entry(path.get(..at).unwrap_or_default().to_vec()).or_insert(None);
    }
    to.entry(Vec::new()).or_insert(None);
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

impl EntryPoints {
    /// The entry points of this document.
    pub(crate) fn new(document: &Document, dir: &StoreDir) -> Self {
        let mut programs = BTreeSet::new();
        if let Some(init) = &document.init {
            programs.extend(init.entrypoint.first().cloned());
            programs.extend(init.group.iter().filter_map(|member| member.entrypoint.first().cloned()));
        }
        let store: Vec<Vec<u8>> = parts(dir.as_str().as_bytes()).collect();
        let objects: BTreeSet<StorePath> =
            document.closure.iter().map(|object| object.path.clone()).collect();
        let mut points = Self { programs, store, objects, known: BTreeMap::new() };
        // Without symbolic links, these paths suffice.
        for program in points.programs.clone() {
            let path: Vec<Vec<u8>> = parts(program.as_bytes()).collect();
            if let Some((object, inner)) = points.split(&path) {
                with_parents(&inner, points.known.entry(object).or_default());
            }
        }
        points
    }

    /// The recorder for this object, to be used while it is read.
    pub(crate) fn watch(&self, object: &StorePath) -> Watched {
        let known = self.known.get(object).cloned().unwrap_or_default();
        Watched { known, path: Vec::new(), ends: Vec::new() }
    }

    /// Adds the recorded nodes.
    pub(crate) fn learn(&mut self, object: &StorePath, watched: Watched) {
        if !watched.known.is_empty() {
            self.known.entry(object.clone()).or_default().extend(watched.known);
        }
    }

    /// As [`EntryPoints::check`], before any object was recorded: `look` reads each object that has
    /// an entry point.
    pub(crate) fn look_and_check(
        &mut self,
        look: &mut dyn FnMut(&StorePath, &mut Watched) -> Result<()>,
    ) -> Result<()> {
        for object in self.known.keys().cloned().collect::<Vec<_>>() {
            let mut watched = self.watch(&object);
            look(&object, &mut watched)?;
            self.learn(&object, watched);
        }
        self.check(look)
    }

    /// Follows each entry point. `look` reads an object again if a symbolic link leads to a path
    /// that was not recorded.
    ///
    /// Refused with `doc.entrypoint`.
    pub(crate) fn check(
        &mut self,
        look: &mut dyn FnMut(&StorePath, &mut Watched) -> Result<()>,
    ) -> Result<()> {
        for program in self.programs.clone() {
            self.follow(&program, look)?;
        }
        Ok(())
    }

    /// The object that a path is in, and the path inside it.
    fn split(&self, path: &[Vec<u8>]) -> Option<(StorePath, Vec<u8>)> {
        let rest = path.strip_prefix(self.store.as_slice())?;
        let (base, inner) = rest.split_first()?;
        let object = StorePath::parse(std::str::from_utf8(base).ok()?).ok()?;
        self.objects.contains(&object).then(|| (object, inner.join(&b'/')))
    }

    fn node(
        &mut self,
        path: &[Vec<u8>],
        look: &mut dyn FnMut(&StorePath, &mut Watched) -> Result<()>,
    ) -> Result<Option<Node>> {
        if self.store.starts_with(path) {
            return Ok(Some(Node::Directory));
        }
        let Some((object, inner)) = self.split(path) else { return Ok(None) };
        if let Some(node) = self.known.get(&object).and_then(|known| known.get(&inner)) {
            return Ok(node.clone());
        }
        let mut known = Known::new();
        with_parents(&inner, &mut known);
        let mut watched = Watched { known, path: Vec::new(), ends: Vec::new() };
        look(&object, &mut watched)?;
        let node = watched.known.get(&inner).cloned().flatten();
        self.learn(&object, watched);
        Ok(node)
    }

    fn follow(
        &mut self,
        program: &str,
        look: &mut dyn FnMut(&StorePath, &mut Watched) -> Result<()>,
    ) -> Result<()> {
        let refuse = |words: String| Fault::refused(Code::DocEntrypoint, program, words);
        let mut left: Vec<Vec<u8>> = parts(program.as_bytes()).rev().collect();
        let mut path: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        let mut found = Node::Directory;
        while let Some(part) = left.pop() {
            if found != Node::Directory {
                return Err(refuse(format!("/{} is not a directory", shown(&path.join(&b'/')))));
            }
            if part == b".." {
                path.pop();
                continue;
            }
            path.push(part);
            let node = self.node(&path, look)?;
            let node =
                node.ok_or_else(|| refuse(format!("/{} is not in the closure", shown(&path.join(&b'/')))))?;
            if let Node::Link(target) = node {
                links += 1;
                if links > MOST_LINKS {
                    return Err(refuse(format!("leads over more than {MOST_LINKS} links")));
                }
                path.pop();
                if target.starts_with(b"/") {
                    path.clear();
                }
                left.extend(parts(&target).rev());
                found = Node::Directory;
            } else {
                found = node;
            }
        }
        match found {
            Node::File { executable: true } => Ok(()),
            Node::File { .. } => Err(refuse("is a file that cannot be executed".to_owned())),
            _ => Err(refuse("is a directory".to_owned())),
        }
    }
}
