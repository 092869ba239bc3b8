//! Cases that cannot be produced from outside: files that change between two passes, full file
//! systems, many hard links.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Store, unpack_to_new_directory};
use crate::emergence::artifact::nar_file::{Declared, NarFile};
use crate::emergence::artifact::store_closure::StoreClosure;
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::limits::Limits;
use crate::emergence::base::refusal::{Code, Fault};
use crate::emergence::base::stream::{Buffer, Written};
use crate::emergence::nix::nar;
use crate::emergence::nix::store_path::{ContentAddress, Method, Name, References, StoreDir, StorePath};
use crate::emergence::proof::closure::Closure;
use crate::emergence::proof::terms::{Terms, Unwatched};
use crate::emergence::proof::trust::Trust;

fn terms() -> Terms {
    let (limits, trust) = (Limits::default(), Trust::default());
    Terms {
        dir: StoreDir::default(),
        trust,
        limits,
        scan: true,
        jobs: 2,
        watch: Arc::new(Unwatched),
        destination: None,
    }
}

fn opened(directory: &Path) -> Store {
    Store::open(directory, &StoreDir::default(), Duration::from_secs(10)).unwrap()
}

/// A NAR of the tree, and its declaration.
fn nar_of(tree: &Path, nar: &Path) -> Declared {
    let mut out = Buffer::new(Written(fs::File::create(nar).unwrap()));
    nar::dump(tree, nar::DEEPEST, &mut out).unwrap();
    out.finish().unwrap();
    let (hash, _) = nar::hash_tree(tree, nar::DEEPEST, Algorithm::Sha256).unwrap();
    let ca = ContentAddress::Fixed(Method::Nar, hash);
    let path = ca.path(&StoreDir::default(), Name::new("it").unwrap(), &References::default()).unwrap();
    Declared { path: Some(path), ca: Some(ca), ..Declared::default() }
}

fn names(directory: &Path) -> Vec<String> {
    super::directory::names(directory).unwrap()
}

#[test]
fn files_that_change_between_the_passes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (tree, file) = (directory.path().join("tree"), directory.path().join("nar"));
    let store = opened(&directory.path().join("store"));
    for size in [10, 300_000, 2_000_000] {
        fs::write(&tree, vec![b'a'; size]).unwrap();
        let declared = nar_of(&tree, &file);
        let good = fs::read(&file).unwrap();
        let before = || {
            (
                names(&store.trees()),
                names(&store.directory.join("links")),
                names(&store.directory.join("meta")),
            )
        };
        let empty = before();
        let mut other = good.clone();
        other[good.len() / 2] ^= 1;
        for bad in [&other[..], &good[..good.len() - 8], &[&good[..], b"x"].concat(), b""] {
            let closure = NarFile::open(&file, &declared, &terms()).unwrap();
            let report = closure.verify(&terms()).unwrap();
            // The same inode, which has been open since it was verified.
            fs::write(&file, bad).unwrap();
            let code = |fault: Fault| fault.code();
            let refused = store.add(&closure, &terms(), &report).map_err(code);
            assert_eq!(refused, Err(Some(Code::ChangedWhileReading)), "{size}");
            let to = directory.path().join("to");
            assert_eq!(
                unpack_to_new_directory(&closure, &terms(), &report, &to).map_err(code),
                Err(Some(Code::ChangedWhileReading))
            );
            assert!(!to.exists() && names(&store.directory.join("tmp")).is_empty());
            assert_eq!(names(directory.path()), ["nar", "store", "tree"]);
            assert_eq!(before(), empty);
            fs::write(&file, &good).unwrap();
        }
        // A new file of the same name is not the one that is read again.
        let closure = NarFile::open(&file, &declared, &terms()).unwrap();
        let report = closure.verify(&terms()).unwrap();
        fs::rename(&tree, directory.path().join("aside")).unwrap();
        fs::write(directory.path().join("new"), b"other").unwrap();
        fs::rename(directory.path().join("new"), &file).unwrap();
        assert_eq!(store.add(&closure, &terms(), &report).unwrap().new.len(), 1);
        fs::rename(directory.path().join("aside"), &tree).unwrap();
        drop(closure);
        assert!(store.check(&terms()).unwrap().faults.is_empty());
        store.collect(None, false).unwrap();
    }
}

#[test]
fn an_import_larger_than_the_free_space_is_not_started() {
    let directory = tempfile::tempdir().unwrap();
    let (tree, file) = (directory.path().join("tree"), directory.path().join("nar"));
    fs::write(&tree, b"x").unwrap();
    let declared = nar_of(&tree, &file);
    let closure = NarFile::open(&file, &declared, &terms()).unwrap();
    let mut report = closure.verify(&terms()).unwrap();
    report.objects[0].0.nar_size = u64::MAX / 2;
    let store = opened(&directory.path().join("store"));
    assert_eq!(store.add(&closure, &terms(), &report).unwrap_err().code(), Some(Code::Space));
    let to = directory.path().join("to");
    assert_eq!(
        unpack_to_new_directory(&closure, &terms(), &report, &to).unwrap_err().code(),
        Some(Code::Space)
    );
    assert!(
        !to.exists() && names(&store.trees()).is_empty() && names(&store.directory.join("tmp")).is_empty()
    );
}

#[test]
fn objects_that_name_themselves_have_a_content_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let (tree, file) = (directory.path().join("tree"), directory.path().join("nar"));
    let store = Arc::new(opened(&directory.path().join("store")));
    let mut terms = terms();
    terms.trust.demand = crate::emergence::proof::trust::Demand::None;
    let mut contents = Vec::new();
    for digits in ["7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42", "90dxglj74s001104ich7q39a0vkxcd98"] {
        let path = StorePath::parse(&format!("{digits}-it")).unwrap();
        fs::write(&tree, format!("I am {digits}")).unwrap();
        nar_of(&tree, &file);
        let references = vec![path.clone()];
        let declared = Declared { path: Some(path.clone()), references, ..Declared::default() };
        let closure = NarFile::open(&file, &declared, &terms).unwrap();
        let report = closure.verify(&terms).unwrap();
        store.add(&closure, &terms, &report).unwrap();
        let meta = store.meta(&path).unwrap().unwrap();
        assert_ne!(meta.content, meta.object.nar_hash);
        contents.push(meta.content);
        StoreClosure::open(Arc::clone(&store), &path).unwrap().verify(&terms).unwrap();
    }
    assert_eq!(contents[0], contents[1]);
    assert_eq!(store.with_content(&contents[0]).unwrap().len(), 2);
    assert!(store.with_content(&Hash::sha256(b"")).unwrap().is_empty());
}

#[test]
fn a_lease_lasts_until_it_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let (tree, file) = (directory.path().join("tree"), directory.path().join("nar"));
    fs::write(&tree, b"x").unwrap();
    let declared = nar_of(&tree, &file);
    let path = declared.path.clone().unwrap();
    let closure = NarFile::open(&file, &declared, &terms()).unwrap();
    let report = closure.verify(&terms()).unwrap();
    let store = opened(&directory.path().join("store"));
    assert_eq!(
        store.lease("c1", std::slice::from_ref(&path)).unwrap_err().code(),
        Some(Code::ClosureIncomplete)
    );
    store.add(&closure, &terms(), &report).unwrap();
    let lease = store.lease("c1", std::slice::from_ref(&path)).unwrap();
    assert!(store.collect(None, false).unwrap().objects.is_empty());
    lease.release().unwrap();
    assert!(names(&store.directory.join("leases")).is_empty());
    store.lease("c1", std::slice::from_ref(&path)).unwrap().keep();
    assert!(store.collect(None, false).unwrap().objects.is_empty());
    drop(store.lease("c1", std::slice::from_ref(&path)).unwrap());
    assert_eq!(store.collect(None, false).unwrap().objects, [path]);
    // A lease for a process that has ended is already gone when it is released.
    let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let lease = store.lease_for("c1", pid, &super::Held::default()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    store.collect(None, false).unwrap();
    assert!(names(&store.directory.join("leases")).is_empty());
    lease.release().unwrap();
}

#[test]
fn documents_are_removed_with_their_objects() {
    let directory = tempfile::tempdir().unwrap();
    let (tree, file) = (directory.path().join("tree"), directory.path().join("nar"));
    fs::write(&tree, b"x").unwrap();
    let declared = nar_of(&tree, &file);
    let path = declared.path.clone().unwrap();
    let closure = NarFile::open(&file, &declared, &terms()).unwrap();
    let report = closure.verify(&terms()).unwrap();
    let store = opened(&directory.path().join("store"));
    store.add(&closure, &terms(), &report).unwrap();
    let (one, other) = (Hash::sha256(b"one"), Hash::sha256(b"other"));
    let document = format!("{{\"objects\":[\"{}\"]}}", store.dir().path(&path));
    store.put_automaton(&one, document.as_bytes()).unwrap();
    store.note_declaration(&one, &other).unwrap();
    store.note_declaration(&one, &other).unwrap();
    assert_eq!(store.declaration(&one).unwrap(), [other.to_string()]);
    assert!(store.declaration(&other).unwrap().is_empty());
    let lease = store.lease("c1", &[path]).unwrap();
    store.collect(None, false).unwrap();
    assert_eq!(store.automaton(&one).unwrap().unwrap(), document.as_bytes());
    assert_eq!(store.automaton(&other).unwrap(), None);
    drop(lease);
    store.collect(None, false).unwrap();
    assert_eq!(store.automaton(&one).unwrap(), None);
}
