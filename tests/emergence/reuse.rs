//! What a store has is neither read nor kept twice, under whatever path, out of any source; and
//! objects that are only declared to be the same is read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::stores::{Store, state};
use crate::support::{Answer, emergence, text};

/// A tree with two files and a link.
fn tree(directory: &Path) -> PathBuf {
    let tree = directory.join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/one"), "one").unwrap();
    fs::write(tree.join("two"), "x".repeat(200_000)).unwrap();
    std::os::unix::fs::symlink("two", tree.join("link")).unwrap();
    tree
}

fn string(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A binary cache with the tree under this name; and its store path.
fn cache(directory: &Path, tree: &Path, name: &str, compress: &str) -> (PathBuf, String) {
    let (nar, store) = (directory.join(format!("{name}.nar")), Store::new());
    emergence(&["nar", "dump", string(tree), "-o", string(&nar)]).ok();
    let path = emergence(&["store-path", "source", string(tree), "--name", name]).ok().to_owned();
    let hash = emergence(&["hash", string(tree)]).ok().to_owned();
    let ca = emergence(&["hash", "--convert", &hash, "--format", "nix32"]).ok().to_owned();
    let ca = format!("fixed:r:sha256:{ca}");
    let nar = format!("nar:{}", nar.display());
    store.run(&["import", &nar, "--store-path", &path, "--ca", &ca]).ok();
    let to = directory.join(format!("cache-{name}-{compress}"));
    store.run(&["export", &path, "--compress", compress, "--to", &format!("cache:{}", to.display())]).ok();
    (to, path)
}

fn import(store: &Store, cache: &Path, path: &str, options: &[&str]) -> Answer {
    let reference = format!("cache:{}#{path}", cache.display());
    store.run(&[options, &["--json", "import", &reference]].concat())
}

fn answer(answer: &Answer) -> Value {
    serde_json::from_str::<Value>(answer.ok()).unwrap()["imported"][0].take()
}

fn nar_file(cache: &Path) -> PathBuf {
    fs::read_dir(cache.join("nar")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn the_same_content_under_another_path_is_linked() {
    let directory = tempfile::tempdir().unwrap();
    let tree = tree(directory.path());
    let store = Store::new();
    let (one, one_path) = cache(directory.path(), &tree, "one", "zstd");
    let (two, two_path) = cache(directory.path(), &tree, "two", "zstd");
    let (gzip, three_path) = cache(directory.path(), &tree, "three", "gzip");
    assert_eq!(answer(&import(&store, &one, &one_path, &[]))["new"], json!([one_path]));
    // The blob is known: it is hashed, and nothing comes out of it.
    let got = answer(&import(&store, &two, &two_path, &[]));
    assert_eq!((&got["new"], &got["reused"]), (&json!([]), &json!([two_path])));
    assert_eq!(got["bytes"], json!({ "read": 0, "unpacked": 0 }));
    fs::write(nar_file(&two), "spoilt").unwrap();
    import(&store, &two, &two_path, &[]).refused(3, "blob.size");
    let at = |path: &str, inner: &str| store.directory().join(&path[1..]).join(inner);
    for inner in ["sub/one", "two"] {
        let inode = |path: &str| fs::metadata(at(path, inner)).unwrap().ino();
        assert_eq!(inode(&one_path), inode(&two_path));
    }
    let below = |path: &str| {
        let place = at(path, "");
        state(&place)
            .into_iter()
            .map(|(name, line)| (name.strip_prefix(&place).unwrap().to_owned(), line))
            .collect::<Vec<_>>()
    };
    assert_eq!(below(&one_path), below(&two_path));
    // Another blob is read, and then not kept: the first time, whatever is in the store.
    let good = fs::read(nar_file(&gzip)).unwrap();
    let before = state(&store.directory());
    fs::write(nar_file(&gzip), "spoilt").unwrap();
    import(&store, &gzip, &three_path, &[]).refused(3, "blob.compression");
    assert!(state(&store.directory()) == before);
    fs::write(nar_file(&gzip), good).unwrap();
    assert_eq!(answer(&import(&store, &gzip, &three_path, &[]))["reused"], json!([three_path]));
    // Where objects are searched, and where they are verified, they are read.
    import(&store, &two, &two_path, &["--scan"]).refused(3, "blob.compression");
    emergence(&["verify", &format!("cache:{}#{two_path}", two.display())]).refused(3, "blob.compression");
    // A blob that is not there is not missed either.
    fs::remove_file(nar_file(&gzip)).unwrap();
    assert_eq!(answer(&import(&store, &gzip, &three_path, &[]))["reused"], json!([three_path]));
    store.run(&["check"]).ok();
    // Neither goes with the other.
    store.run(&["root", "add", "keep", &format!("store:{two_path}")]).ok();
    store.run(&["gc"]).ok();
    assert_eq!(store.run(&["ls"]).ok(), two_path);
    store.run(&["check"]).ok();
}

#[test]
fn plain_answers_say_what_was_reused() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, path) = cache(directory.path(), &tree(directory.path()), "one", "none");
    let store = Store::new();
    let reference = format!("cache:{}#{path}", cache.display());
    assert_eq!(store.run(&["unpack", &reference]).ok(), path);
    let again = store.run(&["unpack", &reference]);
    assert_eq!((again.status, again.stderr.as_str()), (0, "reused 1 of 1 objects\n"));
    assert_eq!(String::from_utf8(again.stdout).unwrap(), format!("{path}\n"));
}

/// Who has a NAR proves nothing about an address that is not of it.
#[test]
fn addresses_are_compared_with_existing_ones() {
    let directory = tempfile::tempdir().unwrap();
    let tree = tree(directory.path());
    let store = Store::new();
    let (one, path) = cache(directory.path(), &tree, "one", "zstd");
    import(&store, &one, &path, &[]).ok();
    let mut info = fs::read_dir(&one).unwrap().flatten().map(|entry| entry.path());
    let info = info.find(|path| path.extension().is_some_and(|end| end == "narinfo")).unwrap();
    let text = fs::read_to_string(&info).unwrap();
    let hash = emergence(&["hash", "--convert", &format!("sha256:{}", "ab".repeat(32)), "--format", "nix32"]);
    for (kind, tag) in [("fixed:r:sha256", "source"), ("fixed:sha256", "flat")] {
        let ca = format!("{kind}:{}", hash.ok());
        let other = emergence(&["store-path", "ca", &ca, "--name", tag]).ok().to_owned();
        let digits = other.rsplit('/').next().unwrap().split('-').next().unwrap();
        let lines = text.lines().map(|line| match line.split_once(": ").unwrap().0 {
            "StorePath" => format!("StorePath: {other}\n"),
            "CA" => format!("CA: {ca}\n"),
            _ => format!("{line}\n"),
        });
        fs::write(one.join(format!("{digits}.narinfo")), lines.collect::<String>()).unwrap();
        let before = state(&store.directory());
        import(&store, &one, &other, &[]).refused(3, "ca.mismatch");
        assert!(state(&store.directory()) == before);
    }
}

/// Two trees, of which one refers to the other, as an automaton with an entry point.
fn automaton(directory: &Path, form: &str, name: &str) -> PathBuf {
    let (lib, app) = (directory.join("lib"), directory.join("app"));
    fs::write(&lib, "a library").unwrap();
    let lib_path = emergence(&["store-path", "source", string(&lib), "--name", "lib"]).ok().to_owned();
    fs::create_dir_all(app.join("bin")).unwrap();
    fs::write(app.join("bin/serve"), format!("cat {lib_path}")).unwrap();
    fs::set_permissions(app.join("bin/serve"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let spec = json!({ "schemaVersion": 1, "name": name, "declaration": { "kind": "opaque", "inputs": [] },
        "outputs": { "out": "@app" }, "init": { "entrypoint": ["@app/bin/serve"] } });
    fs::write(directory.join("spec.json"), spec.to_string()).unwrap();
    let to = directory.join(format!("{name}-{form}"));
    let (app, lib) = (format!("app={}", string(&app)), format!("lib={}", string(&lib)));
    let spec = directory.join("spec.json");
    let output = format!("oci:{}:1", to.display());
    let words = ["pack", "--spec", string(&spec), "--tree", &app, "--tree", &lib, "--form", form];
    emergence(&[&words[..], &["--output", &output]].concat()).ok();
    to
}

/// Takes the layers of the only manifest away.
fn without_layers(layout: &Path) {
    let document = |digest: &str| -> Value {
        let blob = layout.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
        serde_json::from_slice(&fs::read(blob).unwrap()).unwrap()
    };
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = document(text(&index["manifests"][0]["digest"]));
    for layer in manifest["layers"].as_array().unwrap() {
        fs::remove_file(layout.join("blobs/sha256").join(&text(&layer["digest"])[7..])).unwrap();
    }
}

/// What one machine lacks, another gives, and no more; only documents have come by other ways.
#[test]
fn stores_exchange_missing_objects() {
    for form in ["image", "artifact"] {
        let directory = tempfile::tempdir().unwrap();
        let layout = automaton(directory.path(), form, "greeter");
        let reference = format!("oci:{}:1", layout.display());
        let (has, lacks) = (Store::new(), Store::new());
        has.run(&["import", &reference]).ok();
        without_layers(&layout);
        lacks.run(&["import", &reference]).refused(4, "blob.missing");
        assert!(!lacks.directory().exists());
        let list = directory.path().join("list");
        let given = |needed: &str, to: &str| {
            fs::write(&list, needed).unwrap();
            let target = format!("cache:{}", directory.path().join(to).display());
            let words = ["export", "--only-from", string(&list), "--to", &target];
            let exported = has.run(&words);
            exported.ok().lines().map(|path| format!("{target}#{path}")).collect::<Vec<_>>()
        };
        let needed = lacks.run(&["need", &reference]).ok().to_owned();
        assert!(
            needed.lines().count() == 2 && needed.lines().all(|line| line.starts_with("sha256:")),
            "{needed}"
        );
        // One first, then the rest, of which it has what the other refers to.
        let all = has.run(&["ls"]).ok().to_owned();
        let lib = all.lines().find(|path| path.ends_with("-lib")).unwrap();
        let first = given(lib, "first");
        assert_eq!(first.len(), 1);
        lacks.run(&["import", &first[0]]).ok();
        lacks.run(&["import", &reference]).refused(4, "blob.missing");
        let needed = lacks.run(&["need", &reference]).ok().to_owned();
        assert_eq!(needed.lines().count(), 1);
        let second = given(&needed, "second");
        assert_eq!(second.len(), 1);
        lacks.run(&["import", &second[0]]).ok();
        assert_eq!(lacks.run(&["need", &reference]).ok(), "");
        // The objects are there: the automaton is taken without any of its blobs, and runs from the
        // store.
        let got = answer(&lacks.run(&["--json", "import", &reference]));
        assert_eq!(got["reused"].as_array().unwrap().len(), 2);
        assert_eq!(lacks.run(&["ls"]).ok(), all);
        let kept = fs::read_dir(lacks.directory().join("automatons")).unwrap().next().unwrap().unwrap();
        let kept = kept.file_name().into_string().unwrap();
        lacks.run(&["verify", &format!("store:sha256:{}", kept.strip_suffix(".json").unwrap())]).ok();
        lacks.run(&["check"]).ok();
        // Missing objects are reported.
        let unknown = format!("sha256:{}\n", "0".repeat(64));
        fs::write(&list, unknown).unwrap();
        let target = format!("cache:{}", directory.path().join("third").display());
        has.run(&["export", "--only-from", string(&list), "--to", &target]).refused(4, "blob.missing");
        assert!(!directory.path().join("third").exists());
    }
}

/// An entry point is looked for in what the store has, too.
#[test]
fn known_objects_must_match_the_declaration() {
    for form in ["image", "artifact"] {
        let directory = tempfile::tempdir().unwrap();
        let layout = automaton(directory.path(), form, "greeter");
        let store = Store::new();
        let reference = format!("oci:{}:1", layout.display());
        store.run(&["import", &reference]).ok();
        let before = state(&store.directory());
        store.run(&["import", &reference]).ok();
        assert!(state(&store.directory()) == before);
        // What is known must still be what is declared.
        for layer in fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten() {
            let bytes = fs::read(layer.path()).unwrap();
            if serde_json::from_slice::<Value>(&bytes).is_err() {
                fs::write(layer.path(), vec![0; bytes.len()]).unwrap();
            }
        }
        store.run(&["import", &reference]).refused(3, "blob.digest");
        assert!(state(&store.directory()) == before);
        emergence(&["verify", &reference]).refused(3, "blob.digest");
        // Without its objects they are not known.
        store.run(&["gc"]).ok();
        store.run(&["import", &reference]).refused(3, "blob.digest");
    }
}
