//! `nar`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::support::{bytes, each, emergence, emergence_with, text, trees, vector, vectors};

fn path(of: &Path) -> &str {
    of.to_str().unwrap()
}

#[test]
fn trees_are_dumped_as_nix_dumps_them() {
    let directory = trees();
    for (name, tree) in vectors("trees").as_object().unwrap() {
        let dumped = emergence(&["nar", "dump", path(&directory.path().join(name))]);
        assert_eq!(dumped.status, 0, "{name}: {}", dumped.stderr);
        assert!(dumped.stdout == fs::read(vector(text(&tree["nar"]))).unwrap(), "{name}");
    }
}

#[test]
fn a_restored_tree_equals_the_original() {
    let directory = tempfile::tempdir().unwrap();
    for (name, tree) in vectors("trees").as_object().unwrap() {
        let nar = vector(text(&tree["nar"]));
        let to = directory.path().join(name);
        emergence(&["nar", "restore", path(&nar), path(&to)]).ok();
        for entry in each(&tree["entries"]) {
            use std::os::unix::ffi::OsStrExt;
            let inner = bytes(entry, "path");
            let place =
                if inner.is_empty() { to.clone() } else { to.join(std::ffi::OsStr::from_bytes(&inner)) };
            let meta = fs::symlink_metadata(&place).unwrap();
            match text(&entry["type"]) {
                "dir" => assert!(meta.is_dir()),
                "symlink" => {
                    assert_eq!(fs::read_link(&place).unwrap().as_os_str().as_bytes(), bytes(entry, "target"));
                }
                _ => {
                    assert_eq!(fs::read(&place).unwrap(), bytes(entry, "data"));
                    assert_eq!(meta.permissions().mode() & 0o100 != 0, entry["executable"] == true);
                }
            }
        }
        let again = directory.path().join(format!("{name}.nar"));
        emergence(&["nar", "dump", path(&to), "--output", path(&again)]).ok();
        assert!(fs::read(&again).unwrap() == fs::read(&nar).unwrap(), "{name}");
    }
}

#[test]
fn a_bad_nar_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for bad in each(&vectors("bad_nars")) {
        let file = vector(text(&bad["file"]));
        let code = text(&bad["error"]);
        let to = directory.path().join("to");
        emergence(&["nar", "check", path(&file)]).refused(3, code);
        emergence(&["nar", "restore", path(&file), path(&to)]).refused(3, code);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{bad}");
        assert_eq!(emergence(&["nar", "ls", path(&file)]).status, 3);
    }
}

#[test]
fn every_flipped_bit_of_the_grammar_is_seen() {
    // In a file's contents or a name it makes another NAR, which has another hash.
    let nar = fs::read(vector("nars/nested.nar")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flipped.nar");
    let good = emergence(&["nar", "check", path(&vector("nars/nested.nar"))]).ok().to_owned();
    for at in (0..nar.len()).step_by(3) {
        let mut flipped = nar.clone();
        flipped[at] ^= 1;
        fs::write(&file, &flipped).unwrap();
        let answer = emergence(&["nar", "check", path(&file)]);
        match answer.status {
            0 => assert_ne!(answer.ok(), good, "byte {at}"),
            status => assert_eq!(status, 3, "byte {at}: {}", answer.stderr),
        }
    }
}

#[test]
fn check_prints_hash_and_size() {
    let directory = trees();
    for (name, tree) in vectors("trees").as_object().unwrap() {
        let nar = vector(text(&tree["nar"]));
        let hash = emergence(&["hash", path(&directory.path().join(name))]);
        let want = format!("{} {}", hash.ok(), tree["narSize"]);
        assert_eq!(emergence(&["nar", "check", path(&nar)]).ok(), want);
        assert_eq!(emergence_with(&["nar", "check", "-"], fs::File::open(&nar).unwrap()).ok(), want);
        let json: Value =
            serde_json::from_str(emergence(&["nar", "check", "--json", path(&nar)]).ok()).unwrap();
        assert_eq!(json["narSize"], tree["narSize"]);
    }
}

#[test]
fn entries_are_listed_and_read() {
    let nested = vector("nars/nested.nar");
    let listed = emergence(&["nar", "ls", path(&nested)]);
    let lines: Vec<&str> = listed.ok().lines().collect();
    assert_eq!(lines[0], "d 0 .");
    assert!(lines.contains(&"l 3 bin/alias -> app"), "{lines:?}");
    let app = lines.iter().find(|line| line.ends_with(" bin/app")).unwrap();
    assert!(app.starts_with("x "), "{app}");
    let contents = emergence(&["nar", "cat", path(&nested), "bin/app"]);
    assert_eq!(format!("x {} bin/app", contents.stdout.len()), *app);
    assert_eq!(emergence(&["nar", "cat", path(&nested), "/bin/./app"]).stdout, contents.stdout);
    emergence(&["nar", "cat", path(&nested), "bin"]).fails(4, "is a directory");
    emergence(&["nar", "cat", path(&nested), "bin/alias"]).fails(4, "is a link");
    emergence(&["nar", "cat", path(&nested), "none"]).fails(4, "is not in the NAR");
    let json: Value = serde_json::from_str(emergence(&["nar", "ls", "--json", path(&nested)]).ok()).unwrap();
    assert_eq!(json["entries"].as_array().unwrap().len(), lines.len());
    let strange: Value =
        serde_json::from_str(emergence(&["--json", "nar", "ls", path(&vector("nars/non-utf8.nar"))]).ok())
            .unwrap();
    assert!(each(&strange["entries"]).iter().any(|entry| entry.get("pathBase64").is_some()), "{strange}");
    let hello = emergence(&["nar", "cat", path(&vector("nars/hello.txt.nar")), "."]);
    assert_eq!(hello.ok(), "hello");
}

#[test]
fn nothing_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let nar = vector("nars/hello.txt.nar");
    for made in ["directory", "file", "link"] {
        let to = directory.path().join(made);
        match made {
            "directory" => fs::create_dir(&to).unwrap(),
            "file" => fs::write(&to, "mine").unwrap(),
            _ => symlink("nowhere", &to).unwrap(),
        }
        emergence(&["nar", "restore", path(&nar), path(&to)]).fails(1, "already exists");
        emergence(&["nar", "restore", path(&vector("nars/nested.nar")), path(&to)])
            .fails(1, "already exists");
        assert!(fs::symlink_metadata(&to).is_ok());
    }
    assert_eq!(fs::read(directory.path().join("file")).unwrap(), b"mine");
    // A dump that fails leaves what was there before.
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let fifo = tree.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let out = directory.path().join("out.nar");
    emergence(&["nar", "dump", path(&tree), "-o", path(&out)]).refused(3, "type.unknown");
    assert!(!out.exists());
}

#[test]
fn directories_as_deep_as_a_nar_may_be() {
    let directory = tempfile::tempdir().unwrap();
    for (depth, fits) in [(64, true), (65, false)] {
        let root = directory.path().join(depth.to_string());
        let below: std::path::PathBuf = (1..depth).map(|_| "d").collect();
        fs::create_dir_all(root.join(below)).unwrap();
        let file = directory.path().join(format!("{depth}.nar"));
        let dumped = emergence(&["nar", "dump", path(&root), "-o", path(&file)]);
        if fits {
            dumped.ok();
            emergence(&["nar", "check", path(&file)]).ok();
        } else {
            dumped.refused(3, "nar.depth");
        }
    }
}

/// As deep as the caller allows, up to what can be made at all; in threads as well.
#[test]
fn the_depth_is_the_callers() {
    let directory = tempfile::tempdir().unwrap();
    let (root, file) = (directory.path().join("tree"), directory.path().join("deep.nar"));
    let below: std::path::PathBuf = (1..256).map(|_| "d").collect();
    fs::create_dir_all(root.join(below)).unwrap();
    let run = |depth: &str, words: &[&str]| emergence(&[&["--max-depth", depth], words].concat());
    let (tree, nar, to) = (path(&root), path(&file), directory.path().join("to"));
    run("255", &["nar", "dump", tree, "-o", nar]).refused(3, "nar.depth");
    run("255", &["hash", tree]).refused(3, "nar.depth");
    run("256", &["nar", "dump", tree, "-o", nar]).ok();
    let hash = run("256", &["hash", tree]).ok().to_owned();
    for words in [&["nar", "check", nar][..], &["nar", "ls", nar], &["verify", nar]] {
        run("255", words).refused(3, "nar.depth");
        run("256", words).ok();
    }
    run("255", &["nar", "restore", nar, path(&to)]).refused(3, "nar.depth");
    assert!(!to.exists());
    run("256", &["nar", "restore", nar, path(&to)]).ok();
    assert_eq!(run("256", &["hash", path(&to)]).ok(), hash);
    let store = directory.path().join("store");
    let own = run("256", &["store-path", "source", tree]).ok().to_owned();
    let import = ["--store", path(&store), "--trust", "none", "import", nar, "--store-path", &own];
    run("64", &import).refused(3, "nar.depth");
    assert!(!store.exists());
    run("256", &import).ok();
    // Objects of the store need no proof, whatever is demanded of others.
    emergence(&["--store", path(&store), "check"]).ok();
    let cache = format!("cache:{}", directory.path().join("cache").display());
    emergence(&["--store", path(&store), "export", &own, "--to", &cache]).ok();
    for bad in ["0", "257", "x"] {
        assert_eq!(run(bad, &["nar", "check", nar]).status, 2, "{bad}");
    }
    let policy = directory.path().join("policy.json");
    fs::write(&policy, r#"{"limits":{"depth":100}}"#).unwrap();
    run("256", &["--policy", path(&policy), "nar", "check", nar]).refused(3, "nar.depth");
}

#[test]
fn a_long_stream_is_bounded_and_ends_with_its_reader() {
    let directory = tempfile::tempdir().unwrap();
    let big = directory.path().join("big");
    let mut file = fs::File::create(&big).unwrap();
    file.write_all(b"x").unwrap();
    file.set_len(300 << 20).unwrap();
    // It does not fit into 64 MiB of address space besides the program.
    let script = format!("ulimit -v 131072; \"$0\" emergence nar dump {} | head -c 100 | wc -c", path(&big));
    let program =
        std::env::var("EMERGENCE_RUNC_BIN").unwrap_or(env!("CARGO_BIN_EXE_emergence-runc").to_owned());
    let output = std::process::Command::new("sh").args(["-c", &script, &program]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "100", "{output:?}");
    let script = format!("ulimit -v 131072; \"$0\" emergence hash {}", path(&big));
    let output = std::process::Command::new("sh").args(["-c", &script, &program]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
