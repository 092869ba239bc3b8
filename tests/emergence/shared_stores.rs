//! Stores that several processes and users use, also at the same time.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use crate::stores::{Store, cache_named, nar_of, top};
use crate::support::{each, emergence, program};

#[test]
fn a_store_that_is_locked_is_waited_for_but_not_for_ever() {
    let store = Store::new();
    let (directory, described) = cache_named("none");
    store.import(&directory, &top(&described)).ok();
    let lock = fs::File::open(store.directory().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    store.run(&["--lock-timeout", "0s", "ls"]).ok();
    store.run(&["--lock-timeout", "50ms", "gc"]).refused(7, "store.locked");
    assert_eq!(store.objects().len(), each(&described["objects"]).len());
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    store.run(&["--lock-timeout", "50ms", "ls"]).refused(7, "store.locked");
    drop(lock);
    store.run(&["--lock-timeout", "0s", "gc"]).ok();
    assert!(store.objects().is_empty());
}

#[test]
fn two_that_import_at_once_both_succeed() {
    let (directory, described) = cache_named("zstd");
    let path = top(&described);
    for _ in 0..5 {
        let store = Store::new();
        let spawn = || {
            let reference = format!("cache:{}#{path}", directory.display());
            let mut command = Command::new(program());
            command.args([
                "emergence",
                "--store",
                store.directory().to_str().unwrap(),
                "--trust",
                "none",
                "import",
                &reference,
            ]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let all: Vec<_> = (0..4).map(|_| spawn()).collect();
        for one in all {
            let ended = one.wait_with_output().unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
        store.run(&["check"]).ok();
        assert_eq!(fs::read_dir(store.directory().join("tmp")).unwrap().count(), 0);
    }
}

#[test]
fn one_that_is_ended_leaves_a_valid_store() {
    let store = Store::new();
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..2000 {
        fs::write(tree.join(number.to_string()), number.to_string()).unwrap();
    }
    let nar = directory.path().join("nar");
    emergence(&["nar", "dump", tree.to_str().unwrap(), "-o", nar.to_str().unwrap()]).ok();
    let path = emergence(&["store-path", "source", tree.to_str().unwrap()]);
    let reference = format!("nar:{}", nar.display());
    let words = ["--trust", "none", "import", &reference, "--store-path", path.ok()];
    let (small, small_path) = nar_of(directory.path(), "small", b"small");
    store.run(&["--trust", "none", "import", &small, "--store-path", &small_path]).ok();
    let mut left = 0;
    for round in 0..40 {
        let mut command = Command::new(program());
        command.args(["emergence", "--store", store.directory().to_str().unwrap()]).args(words);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(5000 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        left += fs::read_dir(store.directory().join("tmp")).unwrap().count();
        store.run(&["check"]).ok();
        assert!(store.objects().contains(&small_path));
        if round % 2 == 1 {
            store.run(&["root", "add", "small", &format!("store:{small_path}")]).ok();
            store.run(&["gc"]).ok();
            assert_eq!(store.objects(), [small_path.as_str()]);
            assert_eq!(fs::read_dir(store.directory().join("nix/store")).unwrap().count(), 1);
            assert_eq!(fs::read_dir(store.directory().join("links")).unwrap().count(), 1);
            assert_eq!(fs::read_dir(store.directory().join("tmp")).unwrap().count(), 0);
        }
    }
    assert!(left > 0, "nothing was ended in the middle");
    store.run(&words).ok();
    store.run(&["check"]).ok();
    assert_eq!(fs::read_dir(store.directory().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_user_has_a_store_too() {
    if !rustix::process::geteuid().is_root() {
        return; // then every other test has shown it
    }
    let (directory, described) = cache_named("zstd");
    let path = top(&described);
    let held = tempfile::tempdir().unwrap();
    let home = held.path().join("home");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(held.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copied = held.path().join("cache");
    assert!(Command::new("cp").arg("-r").arg(&directory).arg(&copied).status().unwrap().success());
    // The program must be where that user can reach it.
    let program_copy = held.path().join("emergence-runc");
    fs::copy(program(), &program_copy).unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program_copy)
            .arg("emergence");
        command.args(words).env_remove("XDG_DATA_HOME").env("HOME", &home).current_dir(&home);
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    };
    run(&["--trust", "none", "import", &format!("cache:{}#{path}", copied.display())]);
    run(&["check"]);
    let store = home.join(".local/share/emergence");
    let tree = store.join(&path[1..]);
    let kind = fs::symlink_metadata(&tree).unwrap();
    assert_eq!((kind.uid(), kind.mtime(), kind.mode() & 0o222), (65534, 1, 0));
    run(&["--trust", "none", "unpack", &format!("store:{path}"), "--to", home.join("to").to_str().unwrap()]);
    run(&["gc"]);
    assert_eq!(run(&["ls"]), "");
    assert_eq!(fs::read_dir(store.join("nix/store")).unwrap().count(), 0);
}
