//! The sources of packed objects: trees of the file system, and existing closures.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::base::stream::{Buffer, Drain, HashThread};
use crate::emergence::nix::nar::{self, TreeReader, Visitor};
use crate::emergence::nix::object::Object;
use crate::emergence::nix::scan::{Scanner, Searched};
use crate::emergence::nix::store_path::{ContentAddress, Method, Name, References, StorePath};
use crate::emergence::proof::closure::{Closure, Receive};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::verify::Bytes;
use crate::error::Doing;

/// A tree that becomes an object.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The name of the object, and its `@NAME` in a document.
    pub name: Name,
    /// Path of the tree.
    pub path: PathBuf,
}

enum Origin {
    Tree(PathBuf),
    /// The closure at this index.
    Closure(usize),
}

/// Objects that can be packed.
pub(crate) struct Sources {
    closures: Vec<Box<dyn Closure>>,
    found: BTreeMap<StorePath, (Object, Origin)>,
    /// The paths of the trees, by name.
    pub named: BTreeMap<String, StorePath>,
}

impl Sources {
    /// Verifies these closures and computes the objects of these trees.
    ///
    /// Refused: as by verification; a name that two trees have; trees that refer to themselves, to
    /// each other in a cycle, or to a path of another tree that is not its final one
    /// (`path.mismatch`).
    pub(crate) fn new(closures: Vec<Box<dyn Closure>>, trees: &[Tree], terms: &Terms) -> Result<Self> {
        let mut found: BTreeMap<StorePath, (Object, Origin)> = BTreeMap::new();
        let scanning = Terms { scan: true, ..terms.clone() };
        for (at, closure) in closures.iter().enumerate() {
            closure.verify(&scanning)?;
            for object in closure.objects() {
                found.entry(object.path.clone()).or_insert_with(|| (object.clone(), Origin::Closure(at)));
            }
        }
        let mut sources = Self { closures, found, named: BTreeMap::new() };
        sources.add_trees(trees, terms)?;
        Ok(sources)
    }

    fn add_trees(&mut self, trees: &[Tree], terms: &Terms) -> Result<()> {
        let mut names = BTreeSet::new();
        if let Some(twice) = trees.iter().find(|tree| !names.insert(&tree.name)) {
            return Err(Fault::usage(format!("two trees are called {}", twice.name)));
        }
        let objects = Seeking::new(trees, self.found.keys().cloned().collect(), terms)?.resolve()?;
        for (tree, object) in trees.iter().zip(objects) {
            self.named.insert(tree.name.to_string(), object.path.clone());
            self.found.insert(object.path.clone(), (object, Origin::Tree(tree.path.clone())));
        }
        Ok(())
    }

    /// All objects, by path.
    pub(crate) fn objects(&self) -> BTreeMap<StorePath, Object> {
        self.found.iter().map(|(path, (object, _))| (path.clone(), object.clone())).collect()
    }

    /// Passes an object's tree to `visitor`.
    pub(crate) fn visit(
        &self,
        terms: &Terms,
        path: &StorePath,
        mut visitor: &mut (dyn Visitor + Send),
    ) -> Result<()> {
        match self.found.get(path) {
            Some((_, Origin::Tree(tree))) => nar::read(
                TreeReader::start(tree.clone(), terms.limits.depth)?,
                terms.limits.depth,
                &mut visitor,
            )
            .within(|| tree.display().to_string()),
            Some((_, Origin::Closure(at))) => {
                let closure = self.closures.get(*at).ok_or_else(|| Fault::usage("a closure is missing"))?;
                let feed = Feed(Mutex::new(visitor));
                let one = Terms { jobs: 1, ..terms.clone() };
                closure.unpack(&one, &|other| other == path, &feed).map(drop)
            }
            None => Err(Fault::usage(format!("{path} is not packed"))),
        }
    }
}

/// Passes on a tree while it is read.
struct Feed<'a>(Mutex<&'a mut (dyn Visitor + Send)>);

impl Receive for Feed<'_> {
    fn object(
        &self,
        _object: &Object,
        feed: &mut dyn FnMut(&mut dyn Visitor) -> Result<Bytes>,
    ) -> Result<Bytes> {
        let mut visitor = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        feed(&mut **visitor)
    }
}

/// Trees whose paths are being computed. A path depends on the tree's references, which are found
/// by searching it for the digests of paths.
struct Seeking<'a> {
    trees: &'a [Tree],
    terms: &'a Terms,
    /// Hash and size of each NAR.
    nars: Vec<(Hash, u64)>,
    /// Objects that are not among these trees.
    others: Vec<StorePath>,
    /// Paths found in each tree: objects, and all intermediate paths of the trees.
    mentioned: Vec<BTreeSet<StorePath>>,
    /// The tree with each intermediate path.
    owner: BTreeMap<StorePath, usize>,
}

impl<'a> Seeking<'a> {
    fn new(trees: &'a [Tree], others: Vec<StorePath>, terms: &'a Terms) -> Result<Self> {
        let searched = Searched::new(&others);
        let mut nars = Vec::new();
        let mut mentioned = Vec::new();
        for tree in trees {
            let (hash, size, found) = survey(tree, terms, &searched)?;
            nars.push((hash, size));
            mentioned.push(found);
        }
        Ok(Self { trees, terms, nars, others, mentioned, owner: BTreeMap::new() })
    }

    /// Repeats until the paths are stable: trees without references get their path in the first
    /// round, trees that refer only to these in the next.
    fn resolve(mut self) -> Result<Vec<Object>> {
        let mut objects = self.with_paths(&[])?;
        for _ in 0..=self.trees.len() {
            let paths = |objects: &[Object]| -> Vec<StorePath> {
                objects.iter().map(|object| object.path.clone()).collect()
            };
            let current = paths(&objects);
            let new: Vec<&StorePath> =
                current.iter().filter(|path| !self.owner.contains_key(*path)).collect();
            let searched = Searched::new(new);
            for (tree, mentioned) in self.trees.iter().zip(&mut self.mentioned) {
                mentioned.extend(survey(tree, self.terms, &searched)?.2);
            }
            self.owner.extend(current.iter().cloned().enumerate().map(|(at, path)| (path, at)));
            objects = self.with_paths(&current)?;
            if paths(&objects) == current {
                return self.check(objects);
            }
        }
        let words = "refer to each other in a circle";
        Err(Fault::refused(Code::PathMismatch, self.names(), words))
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.trees.iter().map(|tree| tree.name.as_str()).collect();
        names.join(", ")
    }

    /// The objects if the trees have these paths.
    fn with_paths(&self, current: &[StorePath]) -> Result<Vec<Object>> {
        let each = self.trees.iter().zip(&self.nars).zip(&self.mentioned);
        each.map(|((tree, (hash, size)), mentioned)| {
            let real = |path: &&StorePath| current.contains(path) || self.others.contains(path);
            let others: BTreeSet<StorePath> = mentioned.iter().filter(real).cloned().collect();
            let ca = ContentAddress::Fixed(Method::Nar, *hash);
            let references = References { others: others.clone(), itself: false };
            Ok(Object {
                path: ca.path(&self.terms.dir, tree.name.clone(), &references)?,
                nar_hash: *hash,
                nar_size: *size,
                references: others,
                deriver: None,
                signatures: Vec::new(),
                ca: Some(ca),
            })
        })
        .collect()
    }

    /// Refuses trees with an intermediate path, which was computed without the tree's references.
    fn check(&self, objects: Vec<Object>) -> Result<Vec<Object>> {
        for (at, (mentioned, object)) in self.mentioned.iter().zip(&objects).enumerate() {
            let Some(path) = mentioned.difference(&object.references).next() else { continue };
            let owner = self.owner.get(path).copied().unwrap_or(at);
            let real = objects.get(owner).map_or(String::new(), |owner| self.terms.dir.path(&owner.path));
            let subject = &self.terms.dir.path(&object.path);
            if owner == at || self.leads_to(owner, at) {
                let words = "refers to itself, or in a circle, which the path of a tree cannot follow from";
                return Err(Fault::refused(Code::PathMismatch, subject, words));
            }
            let what = "a path that it refers to";
            return Err(Fault::differs(Code::PathMismatch, subject, what, &real, &self.terms.dir.path(path)));
        }
        Ok(objects)
    }

    /// Whether one tree refers to another, directly or not, by any of its paths.
    fn leads_to(&self, from: usize, to: usize) -> bool {
        let mut seen = BTreeSet::new();
        let mut left = vec![from];
        while let Some(at) = left.pop() {
            if at == to {
                return true;
            }
            if seen.insert(at) {
                let mentioned = self.mentioned.get(at).into_iter().flatten();
                left.extend(mentioned.filter_map(|path| self.owner.get(path)).copied());
            }
        }
        false
    }
}

/// Hashes and scans a NAR.
struct Survey<'a> {
    hash: HashThread,
    scanner: Scanner<'a>,
}

impl Drain for Survey<'_> {
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        self.scanner.feed(&full);
        self.hash.drain(full)
    }
}

/// Hash and size of a tree's NAR, and the paths whose digests it contains.
fn survey(tree: &Tree, terms: &Terms, searched: &Searched) -> Result<(Hash, u64, BTreeSet<StorePath>)> {
    let hash = HashThread::start(Algorithm::Sha256).doing(|| "start a thread")?;
    let mut out = Buffer::new(Survey { hash, scanner: Scanner::new(searched) });
    nar::dump(&tree.path, terms.limits.depth, &mut out)?;
    let size = out.total();
    let Survey { hash, scanner } = out.finish().doing(|| "hash")?;
    Ok((hash.finish().doing(|| "hash")?, size, scanner.into_references()))
}
