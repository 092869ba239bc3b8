//! Corrupt objects and caches, and refusals that leave the store unchanged.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::stores::{Store, cache_named, state, top};
use crate::support::{copy_cache, each, text, trusting};

#[test]
fn a_refusal_leaves_the_store_as_it_was() {
    let (_, described) = cache_named("xz");
    let path = top(&described);
    let keys = trusting();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let store = Store::new();
    // Nothing at all is made for what is not taken.
    let (_held, cache) = copy_cache("xz");
    let reference = format!("cache:{}#{path}", cache.display());
    store.run(&["import", &reference]).refused(6, "trust.unproved");
    assert!(!store.directory().exists());
    let first = each(&described["objects"]).iter().find(|object| each(&object["references"]).is_empty());
    store.import(&cache, text(&first.unwrap()["path"])).ok();
    let before = state(store.held.path());
    let narinfo = cache.join(format!("{}.narinfo", &path["/nix/store/".len()..][..32]));
    let good = fs::read_to_string(&narinfo).unwrap();
    let url = good.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
    let check = |from: &str, to: &str, status, code: &str| {
        assert!(good.contains(from), "{from}");
        fs::write(&narinfo, good.replacen(from, to, 1)).unwrap();
        store.run(&["--trust", "none", "import", &reference]).refused(status, code);
        store.run(&["--trust", "none", "unpack", &reference]).refused(status, code);
        let to = store.held.path().join("to");
        store
            .run(&["--trust", "none", "unpack", &reference, "--to", to.to_str().unwrap()])
            .refused(status, code);
        assert!(state(store.held.path()) == before, "{code}");
    };
    let other = |field: &str| {
        let from = [format!("{field}: sha256:0"), format!("{field}: sha256:1")];
        let (at, to) = if good.contains(&from[0]) { (0, 1) } else { (1, 0) };
        (from[at].clone(), from[to].clone())
    };
    let (from, to) = other("NarHash");
    check(&from, &to, 3, "nar.hash");
    let (from, to) = other("FileHash");
    check(&from, &to, 3, "blob.digest");
    check("NarSize: ", "NarSize: 1", 3, "nar.size");
    check("FileSize: ", "FileSize: 1", 3, "blob.size");
    check("Compression: xz", "Compression: zstd", 3, "blob.compression");
    check("Compression: xz", "Compression: lzip", 3, "cache.compression");
    check("URL: nar/", "URL: ../nar/", 3, "cache.url");
    check("URL: nar/", "URL: nar/x", 4, "blob.missing");
    check("StorePath", "Storepath", 3, "cache.narinfo");
    check("References: ", "References: 7fnzwr4fvvmdl8b3vkrfyjczwiwv6n43-app.conf ", 4, "closure.incomplete");
    check(
        "References: ",
        "CA: text:sha256:0l7ld9klw9k5l3zcfd8a4dsm9lmjvrym9nksqj3fpky72k7ndfnn\nReferences: ",
        3,
        "ca.syntax",
    );
    fs::write(&narinfo, &good).unwrap();
    store.run(&["--trust", "none", "--max-size", "100", "import", &reference]).refused(3, "limit.size");
    store
        .run(&[&keys[..], &["--expect", &"0".repeat(64), "import", &reference]].concat())
        .refused(6, "trust.expect");
    store
        .run(&["--trust", "none", "import", &format!("cache:{}#{}", cache.display(), "0".repeat(32))])
        .refused(4, "cache.missing");
    assert!(state(store.held.path()) == before);
    fs::write(cache.join(url), b"garbage").unwrap();
    store.run(&["--trust", "none", "import", &reference]).refused(3, "blob.compression");
    assert!(state(store.held.path()) == before);
}

#[test]
fn corrupt_objects_are_detected_and_replaced() {
    let store = Store::new();
    let (directory, described) = cache_named("zstd");
    let path = top(&described);
    store.import(&directory, &path).ok();
    let before = state(&store.directory().join("nix"));
    let trees: Vec<PathBuf> = before.keys().filter(|path| path.is_file()).cloned().collect();
    assert!(trees.len() > 2);
    let spoil = |tree: &Path, bytes: &[u8]| {
        fs::set_permissions(tree, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(tree, bytes).unwrap();
        fs::set_permissions(tree, fs::Permissions::from_mode(0o444)).unwrap();
    };
    spoil(&trees[0], b"spoilt");
    spoil(&trees[1], b"");
    let refused = store.run(&["check"]);
    refused.refused(3, "store.corrupt");
    // Every fault is reported, one per line.
    let told = String::from_utf8(refused.stdout).unwrap();
    assert!(
        told.lines().all(|line| line.starts_with("/nix/store/") && line.ends_with(" [store.corrupt]")),
        "{told}"
    );
    let refused = store.run(&["--json", "check"]);
    refused.refused(3, "store.corrupt");
    let answer: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((&answer["ok"], &answer["error"]["code"]), (&Value::Bool(false), &"store.corrupt".into()));
    let faults = each(&answer["faults"]);
    assert_eq!(faults.len(), told.lines().count());
    for (fault, line) in faults.iter().zip(told.lines()) {
        assert_eq!((text(&fault["message"]), text(&fault["code"])), (line, "store.corrupt"));
        assert!(line.starts_with(text(&fault["path"])));
    }
    let to = format!("cache:{}", store.held.path().join("to").display());
    store.run(&["export", &path, "--to", &to]).refused(3, "store.corrupt");
    assert!(!store.held.path().join("to").join(format!("{}.narinfo", &path[11..43])).exists());
    let reference = format!("cache:{}#{path}", directory.display());
    store.run(&["check", "--repair", &reference]).refused(6, "trust.unproved");
    store.run(&["--trust", "none", "check", "--repair", &reference]).ok();
    store.run(&["check"]).ok();
    let content = |state: &BTreeMap<PathBuf, String>| {
        let strip = |line: &String| {
            line.split(' ')
                .enumerate()
                .filter(|(at, _)| *at != 3)
                .map(|(_, word)| word.to_owned())
                .collect::<Vec<_>>()
        };
        state.iter().map(|(path, line)| (path.clone(), strip(line))).collect::<Vec<_>>()
    };
    assert_eq!(content(&state(&store.directory().join("nix"))), content(&before));
}

#[test]
fn every_flipped_byte_of_a_cache_is_refused_and_leaves_nothing() {
    let keys = trusting();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (_held, cache) = copy_cache("none");
    let (_, described) = cache_named("none");
    let object =
        each(&described["objects"]).iter().find(|object| each(&object["references"]).is_empty()).unwrap();
    let reference = format!("cache:{}#{}", cache.display(), text(&object["path"]));
    let narinfo = cache.join(Path::new(text(&object["narinfo"])).file_name().unwrap());
    let info = fs::read_to_string(&narinfo).unwrap();
    let nar = cache.join(info.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap());
    let store = Store::new();
    let import = || store.run(&[&["--trust", "signed"], &keys[..], &["import", &reference]].concat());
    for file in [&nar, &narinfo] {
        let good = fs::read(file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x01;
            fs::write(file, &bad).unwrap();
            let answer = import();
            if answer.status == 0 {
                // Unknown members and hints are ignored: the builder, and the location of verified
                // files.
                let line = info.lines().nth(info[..at].matches('\n').count()).unwrap_or_default();
                let free = ["Deriver", "CA", "File", "Sig"].iter().any(|name| line.starts_with(name))
                    || line == "References: ";
                assert!(file == &narinfo && free, "byte {at} of {line}");
                store.run(&["gc"]).ok();
                fs::remove_dir_all(store.directory()).unwrap();
                continue;
            }
            assert!([3, 4, 6].contains(&answer.status), "byte {at}: {} {}", answer.status, answer.stderr);
            assert!(!store.directory().exists(), "byte {at}: {}", answer.stderr);
        }
        fs::write(file, &good).unwrap();
    }
    import().ok();
}
