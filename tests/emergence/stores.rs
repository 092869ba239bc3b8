//! The store: what comes in, what leaves, what is kept, and that nothing is there that should not
//! be.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Answer, each, emergence, text, trusting, vector, vectors};

/// A store in a directory of the test's own.
pub(crate) struct Store {
    pub held: tempfile::TempDir,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { held: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.held.path().join("store")
    }

    /// `emergence --store … WORDS…`.
    pub(crate) fn run(&self, words: &[&str]) -> Answer {
        let directory = self.directory();
        emergence(&[&["--store", directory.to_str().unwrap()], words].concat())
    }

    /// Imports an object of a cache, without checking signatures.
    pub(crate) fn import(&self, cache: &Path, object: &str) -> Answer {
        self.run(&["--trust", "none", "import", &format!("cache:{}#{object}", cache.display())])
    }

    pub(crate) fn objects(&self) -> Vec<String> {
        self.run(&["ls"]).ok().lines().map(str::to_owned).collect()
    }
}

/// All that is below a directory: what it is, its mode, time, owner, size, content.
pub(crate) fn state(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(kind) = fs::symlink_metadata(&path) else { continue };
        let content = match () {
            () if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
            () if kind.is_dir() => {
                left.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
                String::new()
            }
            () => format!("{} {:?}", kind.ino(), fs::read(&path).unwrap()),
        };
        let time = if kind.is_dir() && path.parent() != Some(&directory.join("nix/store")) {
            0
        } else {
            kind.mtime()
        };
        found.insert(path, format!("{:o} {time} {} {content}", kind.mode(), kind.uid()));
    }
    found
}

pub(crate) fn cache_named(name: &str) -> (PathBuf, Value) {
    let caches = vectors("caches");
    let cache = each(&caches).iter().find(|cache| cache["name"] == name).unwrap().clone();
    (vector(text(&cache["dir"])), cache)
}

/// The object of a cache that refers to most.
pub(crate) fn top(cache: &Value) -> String {
    let object = each(&cache["objects"]).iter().max_by_key(|object| each(&object["references"]).len());
    text(&object.unwrap()["path"]).to_owned()
}

#[test]
fn every_cache_of_nix_comes_in_and_stays_as_it_is() {
    let keys = trusting();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for cache in each(&vectors("caches")) {
        let store = Store::new();
        let directory = vector(text(&cache["dir"]));
        for object in each(&cache["objects"]) {
            let path = text(&object["path"]);
            let reference = format!("cache:{}#{path}", directory.display());
            let words = [&keys[..], &["import", &reference]].concat();
            let answer = store.run(&words);
            if each(&cache["keys"]).is_empty() && answer.status == 6 {
                answer.refused(6, "trust.unproved");
                assert_eq!(store.import(&directory, path).ok(), path);
            } else {
                assert_eq!(answer.ok(), path);
            }
            let tree = store.directory().join(path.trim_start_matches('/'));
            let hash = emergence(&["hash", tree.to_str().unwrap()]);
            let declared = emergence(&["hash", "--convert", text(&object["narHash"])]);
            assert_eq!(hash.ok(), declared.ok(), "{path}");
            let info: Value = serde_json::from_str(store.run(&["info", path]).ok()).unwrap();
            assert_eq!(info["narHash"], declared.ok());
            assert_eq!(info["tree"], tree.canonicalize().unwrap().to_str().unwrap());
        }
        assert_eq!(store.objects().len(), each(&cache["objects"]).len());
        store.run(&["check"]).ok();
        // Directories 0555, files 0444 or 0555, times 1; nothing is left in between.
        for (path, line) in state(&store.directory().join("nix/store")) {
            if path != store.directory().join("nix/store") {
                let mode = line.split(' ').next().unwrap();
                assert!(
                    ["40555", "100444", "100555", "120777"].contains(&mode),
                    "{}: {mode}",
                    path.display()
                );
                assert_eq!(fs::symlink_metadata(&path).unwrap().mtime(), 1, "{}", path.display());
            }
        }
        assert_eq!(fs::read_dir(store.directory().join("tmp")).unwrap().count(), 0);
        let before = state(&store.directory());
        for object in each(&cache["objects"]) {
            store.import(&directory, text(&object["path"])).ok();
        }
        assert!(state(&store.directory()) == before, "a second import changes nothing");
    }
}

#[test]
fn files_that_are_the_same_are_there_once() {
    let store = Store::new();
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("below")).unwrap();
    // Small ones are looked up before they are written, large ones after.
    for (name, size) in [("small", 1000), ("large", 300_000)] {
        for place in ["a", "b", "below/c"] {
            fs::write(tree.join(format!("{place}-{name}")), vec![b'x'; size]).unwrap();
        }
        let script = tree.join(format!("{name}.sh"));
        fs::write(&script, vec![b'x'; size]).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nar = directory.path().join("nar");
    emergence(&["nar", "dump", tree.to_str().unwrap(), "-o", nar.to_str().unwrap()]).ok();
    let hash = emergence(&["hash", tree.to_str().unwrap(), "--format", "nix32"]);
    let ca = format!("fixed:r:sha256:{}", hash.ok());
    let mut paths = Vec::new();
    for name in ["one", "two"] {
        let path = emergence(&["store-path", "ca", &ca, "--name", name]);
        let reference = format!("nar:{}", nar.display());
        let taken = store.run(&["import", &reference, "--store-path", path.ok(), "--ca", &ca]);
        assert_eq!(taken.ok(), path.ok());
        paths.push(store.directory().join(path.ok().trim_start_matches('/')));
    }
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    for size in ["small", "large"] {
        let one = inode(&paths[0].join(format!("a-{size}")));
        for path in &paths {
            for place in ["a", "b", "below/c"] {
                assert_eq!(inode(&path.join(format!("{place}-{size}"))), one, "{place} {size}");
            }
            assert_ne!(inode(&path.join(format!("{size}.sh"))), one);
        }
    }
    assert_eq!(fs::read_dir(store.directory().join("links")).unwrap().count(), 4);
    assert_eq!(fs::read_dir(store.directory().join("content")).unwrap().count(), 1);
    store.run(&["check"]).ok();
    // What has no other name any more is free.
    let freed: u64 = store.run(&["gc"]).ok().parse().unwrap();
    assert_eq!(freed, 2 * (1000 + 300_000));
    assert_eq!(fs::read_dir(store.directory().join("links")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(store.directory().join("content")).unwrap().count(), 0);
}

/// Puts a tree into a NAR, with what must be said of it. Not proved by anything.
pub(crate) fn nar_of(directory: &Path, name: &str, content: &[u8]) -> (String, String) {
    let (tree, nar) = (directory.join(name), directory.join(format!("{name}.nar")));
    fs::write(&tree, content).unwrap();
    emergence(&["nar", "dump", tree.to_str().unwrap(), "-o", nar.to_str().unwrap()]).ok();
    let path = emergence(&["store-path", "source", tree.to_str().unwrap(), "--name", name]);
    (format!("nar:{}", nar.display()), path.ok().to_owned())
}

#[test]
fn an_existing_object_is_not_replaced() {
    let store = Store::new();
    let directory = tempfile::tempdir().unwrap();
    let (one, path) = nar_of(directory.path(), "one", b"one");
    let (other, _) = nar_of(directory.path(), "other", b"other");
    store.run(&["--trust", "none", "import", &one, "--store-path", &path]).ok();
    let before = state(&store.directory());
    store.run(&["--trust", "none", "import", &other, "--store-path", &path]).refused(3, "store.exists");
    let renamed = format!("{}-renamed", &path[..path.rfind('-').unwrap()]);
    store.run(&["--trust", "none", "import", &one, "--store-path", &renamed]).refused(3, "store.exists");
    assert!(state(&store.directory()) == before);
    // Nor does anything come in that refers to what is not there.
    let absent = "/nix/store/7fnzwr4fvvmdl8b3vkrfyjczwiwv6n43-absent";
    let (third, third_path) = nar_of(directory.path(), "third", b"third");
    let declared = ["--trust", "none", "import", &third, "--store-path", &third_path];
    store.run(&[&declared[..], &["--ref", absent]].concat()).refused(4, "closure.incomplete");
    assert!(state(&store.directory()) == before);
    // Files without a record are leftovers of a killed process.
    let left = store.directory().join(third_path.trim_start_matches('/'));
    fs::create_dir(&left).unwrap();
    fs::write(left.join("x"), "x").unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(store.objects(), [path.as_str()]);
    store.run(&["--trust", "none", "import", &third, "--store-path", &third_path]).ok();
    assert_eq!(fs::read(&left).unwrap(), b"third");
    store.run(&["check"]).ok();
}

#[test]
fn references_that_are_not_declared_are_found() {
    let store = Store::new();
    let directory = tempfile::tempdir().unwrap();
    let (inner, inner_path) = nar_of(directory.path(), "inner", b"inner");
    store.run(&["--trust", "none", "import", &inner, "--store-path", &inner_path]).ok();
    // A cache of two, of which one names the other's digest.
    let (outer, outer_path) = nar_of(directory.path(), "outer", format!("see {inner_path}!").as_bytes());
    let declared = ["--store-path", &outer_path, "--ref", &inner_path];
    store.run(&[&["--trust", "none", "import", &outer][..], &declared].concat()).ok();
    let cache = directory.path().join("cache");
    let to = format!("cache:{}", cache.display());
    store.run(&["export", &outer_path, "--to", &to, "--compress", "none"]).ok();
    let reference = format!("{to}#{outer_path}");
    emergence(&["--trust", "none", "--scan", "verify", &reference]).ok();
    // A third object refers to both, and the second one no longer admits that it refers to the
    // first.
    let digits = |path: &str| path["/nix/store/".len()..][..32].to_owned();
    let narinfo = cache.join(format!("{}.narinfo", digits(&outer_path)));
    let text = fs::read_to_string(&narinfo).unwrap();
    let base = inner_path.rsplit('/').next().unwrap();
    let (third, third_path) = nar_of(directory.path(), "third", b"third");
    let declared = ["--store-path", &third_path, "--ref", &inner_path, "--ref", &outer_path];
    store.run(&[&["--trust", "none", "import", &third][..], &declared].concat()).ok();
    store.run(&["export", &third_path, "--to", &to]).ok();
    fs::write(&narinfo, text.replace(&format!("References: {base}"), "References: ")).unwrap();
    let reference = format!("{to}#{third_path}");
    emergence(&["--trust", "none", "verify", &reference]).ok();
    let other = Store::new();
    other.run(&["--trust", "none", "--scan", "import", &reference]).refused(3, "refs.undeclared");
    assert!(!other.directory().exists());
}

#[test]
fn only_the_files_of_a_store_make_a_store() {
    let store = Store::new();
    let (directory, described) = cache_named("none");
    let path = top(&described);
    store.run(&["ls"]).fails(4, "no such store");
    assert!(!store.directory().exists());
    fs::create_dir(store.directory()).unwrap();
    fs::write(store.directory().join("mine"), "").unwrap();
    store.import(&directory, &path).refused(3, "store.exists");
    assert_eq!(fs::read_dir(store.directory()).unwrap().count(), 1);
    fs::remove_file(store.directory().join("mine")).unwrap();
    store.import(&directory, &path).ok();
    fs::write(store.directory().join("version"), "2\n").unwrap();
    for words in [&["ls"][..], &["gc"], &["check"]] {
        store.run(words).refused(3, "store.corrupt");
    }
    store.import(&directory, &path).refused(3, "store.corrupt");
    fs::write(store.directory().join("version"), "1").unwrap();
    // Nix would remove unknown files.
    fs::create_dir_all(store.directory().join("nix/var/nix/db")).unwrap();
    store.run(&["ls"]).refused(3, "store.exists");
    store.import(&directory, &path).refused(3, "store.exists");
    fs::remove_dir_all(store.directory().join("nix/var")).unwrap();
    let meta = store.directory().join("meta").join(format!("{}.json", &path["/nix/store/".len()..][..32]));
    fs::write(&meta, "{}").unwrap();
    store.run(&["info", &path]).refused(3, "store.corrupt");
}

#[test]
fn roots_keep_objects_and_their_references() {
    let store = Store::new();
    let (directory, described) = cache_named("xz");
    let all = each(&described["objects"]);
    for object in all {
        store.import(&directory, text(&object["path"])).ok();
    }
    let path = top(&described);
    let closure: Vec<String> = {
        let report = emergence(&[
            "--json",
            "--trust",
            "none",
            "verify",
            &format!("cache:{}#{path}", directory.display()),
        ]);
        let report: Value = serde_json::from_str(report.ok()).unwrap();
        each(&report["objects"]).iter().map(|object| text(&object["path"]).to_owned()).collect()
    };
    store.run(&["root", "add", "web", &format!("store:{path}")]).ok();
    store.run(&["root", "add", "../x", &format!("store:{path}")]).fails(2, "name");
    store
        .run(&["root", "add", "none", "store:/nix/store/7fnzwr4fvvmdl8b3vkrfyjczwiwv6n43-a"])
        .refused(4, "closure.incomplete");
    assert_eq!(store.run(&["root", "ls"]).ok(), format!("web store:{path}"));
    let would = store.run(&["gc", "--dry-run"]).ok().to_owned();
    assert_eq!(store.objects().len(), all.len());
    store.run(&["gc", "--keep-for", "1h"]).ok();
    assert_eq!(store.objects().len(), all.len());
    assert_eq!(store.run(&["gc"]).ok(), would, "what others have too stays");
    let mut sorted = closure.clone();
    sorted.sort();
    assert_eq!(store.objects(), sorted);
    store.run(&["check"]).ok();
    // A process that lives keeps what it uses, one that has ended does not.
    store.run(&["root", "rm", "web"]).ok();
    store.run(&["root", "rm", "web"]).fails(4, "no such root");
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", sleeper.id())).unwrap();
    let began: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let lease = |began: u64| {
        let base = path.rsplit('/').next().unwrap();
        let held = serde_json::json!({ "objects": [base] });
        let text = serde_json::json!({ "pid": sleeper.id(), "startTime": began, "held": held });
        fs::write(store.directory().join("leases/c1.json"), text.to_string()).unwrap();
    };
    lease(began);
    store.run(&["gc"]).ok();
    assert_eq!(store.objects(), sorted);
    lease(began + 1);
    // With a tree that is no object, of which nothing is known.
    fs::create_dir_all(store.directory().join("nix/store/left/over")).unwrap();
    fs::write(store.directory().join("nix/store/left/over/file"), "12345").unwrap();
    let would = store.run(&["gc", "--dry-run"]).ok().to_owned();
    assert!(store.directory().join("leases/c1.json").exists());
    assert!(would.parse::<u64>().unwrap() > 5);
    assert_eq!(store.run(&["gc"]).ok(), would);
    assert!(store.objects().is_empty());
    assert!(!store.directory().join("leases/c1.json").exists());
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    for place in ["nix/store", "links", "content", "meta", "tmp"] {
        assert_eq!(fs::read_dir(store.directory().join(place)).unwrap().count(), 0, "{place}");
    }
}

#[test]
fn only_needed_objects_are_exported() {
    let (directory, described) = cache_named("zstd");
    let path = top(&described);
    let (one, other) = (Store::new(), Store::new());
    one.import(&directory, &path).ok();
    let reference = format!("cache:{}#{path}", directory.display());
    assert_eq!(one.run(&["need", &reference]).ok(), "");
    let all: Vec<String> = one.objects();
    let needed = other.run(&["need", &reference]);
    let mut bases: Vec<&str> = needed.ok().lines().collect();
    bases.sort_unstable();
    assert_eq!(bases, all.iter().map(|path| path.rsplit('/').next().unwrap()).collect::<Vec<_>>());
    assert!(!other.directory().exists());
    let leaf = all.iter().find(|one| **one != path).unwrap();
    other.import(&directory, leaf).ok();
    let needed = other.run(&["need", &reference]);
    assert!(needed.ok().lines().count() < all.len());
    // Just these travel; what already exists is not asked for again.
    let list = other.held.path().join("list");
    fs::write(&list, needed.ok()).unwrap();
    let to = other.held.path().join("cache");
    let target = format!("cache:{}", to.display());
    let words = ["export", &path, "--to", &target, "--only-from", list.to_str().unwrap()];
    assert_eq!(one.run(&words).ok().lines().count(), needed.ok().lines().count());
    let infos = fs::read_dir(&to)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "narinfo"));
    assert_eq!(infos.count(), needed.ok().lines().count());
    assert_eq!(one.run(&words).ok(), "");
}

#[test]
fn closures_are_unpacked_next_to_the_store() {
    let (directory, described) = cache_named("zstd");
    let path = top(&described);
    let store = Store::new();
    let to = store.held.path().join("to");
    let reference = format!("cache:{}#{path}", directory.display());
    let words = ["--trust", "none", "unpack", &reference, "--to", to.to_str().unwrap()];
    assert_eq!(store.run(&words).ok(), to.to_str().unwrap());
    assert!(!store.directory().exists());
    store.import(&directory, &path).ok();
    for object in store.objects() {
        let hash = |at: &Path| emergence(&["hash", at.join(&object[1..]).to_str().unwrap()]).ok().to_owned();
        assert_eq!(hash(&to), hash(&store.directory()));
        assert_eq!(fs::symlink_metadata(to.join(&object[1..])).unwrap().mtime(), 1);
    }
    store.run(&words).fails(3, "already exists [store.exists]");
    // From the store as from anywhere.
    let again = store.held.path().join("again");
    let reference = format!("store:{path}");
    store.run(&["--trust", "none", "verify", &reference]).ok();
    store.run(&["verify", &reference]).refused(6, "trust.unproved");
    store.run(&["--trust", "none", "unpack", &reference, "--to", again.to_str().unwrap()]).ok();
    assert_eq!(
        fs::read_dir(to.join("nix/store")).unwrap().count(),
        fs::read_dir(again.join("nix/store")).unwrap().count()
    );
    let nar = vector("nars/nested.nar");
    let tree = store.held.path().join("tree");
    store.run(&["unpack", &format!("nar:{}", nar.display()), "--to", tree.to_str().unwrap()]).ok();
    let (hash, checked) =
        (emergence(&["hash", tree.to_str().unwrap()]), emergence(&["nar", "check", nar.to_str().unwrap()]));
    assert_eq!(hash.ok(), checked.ok().split(' ').next().unwrap());
    let bad = vector("bad-nars/trailing.nar");
    let words = [
        "unpack",
        &format!("nar:{}", bad.display()),
        "--to",
        store.held.path().join("bad").to_str().unwrap(),
    ]
    .map(str::to_owned);
    store.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).refused(3, "nar.trailing");
    assert!(!store.held.path().join("bad").exists());
}

#[test]
fn a_cache_that_has_something_else_is_left_alone() {
    let store = Store::new();
    let directory = tempfile::tempdir().unwrap();
    let (one, path) = nar_of(directory.path(), "one", b"one");
    let (other, _) = nar_of(directory.path(), "other", b"other");
    // One job at a time, and nothing waited for, give the same.
    store
        .run(&["--trust", "none", "--jobs", "1", "--sync", "none", "import", &one, "--store-path", &path])
        .ok();
    let cache = directory.path().join("cache");
    let to = format!("cache:{}", cache.display());
    let export =
        |store: &Store, options: &[&str]| store.run(&[&["export", &path, "--to", &to], options].concat());
    assert_eq!(export(&store, &[]).ok(), path);
    assert_eq!(export(&store, &[]).ok(), "");
    let before = state(&cache);
    let second = Store::new();
    second.run(&["--trust", "none", "import", &other, "--store-path", &path]).ok();
    export(&second, &[]).refused(3, "store.exists");
    assert!(state(&cache) == before);
    // A signature that is lacking is added to what is there.
    let key = vector("keys/test-1.sk");
    export(&store, &["--sign", key.to_str().unwrap()]).ok();
    let keys = trusting();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let reference = format!("{to}#{path}");
    emergence(&[&["--trust", "signed"], &keys[..], &["verify", &reference]].concat()).ok();
    export(&store, &["--compress", "br"]).fails(2, "br");
    store.run(&["export", &path, "--to", "oci:x"]).fails(2, "cache:DIRECTORY");
    store
        .run(&["export", "/nix/store/7fnzwr4fvvmdl8b3vkrfyjczwiwv6n43-a", "--to", &to])
        .refused(4, "closure.incomplete");
    fs::write(cache.join("nix-cache-info"), "StoreDir: /gnu/store\n").unwrap();
    export(&store, &[]).refused(3, "cache.info");
}
