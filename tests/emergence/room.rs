//! Full file systems: an import that cannot fit is refused before its blobs are read, and a failed
//! one leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::layouts::{Layout, file, tagged, tar_of};
use crate::stores::Store;
use crate::support::{emergence, program};

/// Runs a script in a mount namespace of its own, in which a small file system is mounted on the
/// directory `small`. `$E` is the program with a store there. False: this user cannot mount.
fn with_small(directory: &Path, options: &str, script: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root mounts a file system");
        return None;
    }
    let small = directory.join("small");
    fs::create_dir_all(&small).unwrap();
    let begin = format!("set -eu; mount -t tmpfs -o {options} none {0}; cd {0};", small.display());
    // Every command prints its status and output on one line.
    let run = "e() { set +e; \"$P\" emergence --store store --trust none \"$@\" >/dev/null 2>../said; s=$?; set -e; echo \"$s $(cat ../said)\"; };";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("{begin} {run} {script}")]).env("P", program());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Bytes that nothing makes smaller.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn nar(directory: &Path, tree: &Path, name: &str) -> (PathBuf, String) {
    let nar = directory.join(format!("{name}.nar"));
    emergence(&["nar", "dump", tree.to_str().unwrap(), "-o", nar.to_str().unwrap()]).ok();
    let path = emergence(&["store-path", "source", tree.to_str().unwrap(), "--name", name]).ok().to_owned();
    (nar, path)
}

/// The REF of a cache with the object.
fn cache(directory: &Path, nar: &Path, path: &str) -> String {
    let store = Store::new();
    let to = format!("cache:{}", directory.join("cache").display());
    let nar = format!("nar:{}", nar.display());
    store.run(&["--trust", "none", "import", &nar, "--store-path", path]).ok();
    store.run(&["export", path, "--to", &to]).ok();
    format!("{to}#{path}")
}

#[test]
fn an_import_that_cannot_fit_is_not_started() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::write(&tree, noise(6 << 20)).unwrap();
    let (file_nar, path) = nar(directory.path(), &tree, "big");
    let cache = cache(directory.path(), &file_nar, &path);
    let layout = Layout::new();
    let layer = layout.plain(&tar_of(&[file("big", &noise(6 << 20))]));
    layout.index(&[tagged(layout.image(&[layer]), "t")]);
    let image = layout.reference();
    // The blobs are corrupt: the check for space comes before they are read.
    for entry in fs::read_dir(directory.path().join("cache/nar")).unwrap().flatten() {
        fs::write(entry.path(), "spoilt").unwrap();
    }
    let script = format!(
        "e import '{cache}'; e unpack '{cache}'; e unpack --to to '{cache}'; e unpack '{image}'; e unpack --to to '{image}';
        e bundle '{cache}' to -- /bin/none; ls -A"
    );
    let Some(told) = with_small(directory.path(), "size=4m", &script) else { return };
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 6, "nothing is left: {told}");
    for line in lines {
        assert!(line.starts_with("1 ") && line.ends_with(" are free [space]"), "{line}");
    }
}

/// Room is looked for once for all layers, not for each again when some have taken theirs.
#[test]
fn layers_that_fit_together_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let layers = ["a", "b", "c"].map(|name| tar_of(&[file(name, &noise(2 << 20))]));
    let image = Layout::of(&layers);
    let script = format!("e unpack {}; ls store/layers | wc -l", image.reference());
    let Some(told) = with_small(directory.path(), "size=7m", &script) else { return };
    assert_eq!(told, "0 \n3\n");
}

#[test]
fn existing_objects_need_no_space() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::write(&tree, noise(6 << 20)).unwrap();
    let (one, one_path) = nar(directory.path(), &tree, "one");
    let (two, two_path) = nar(directory.path(), &tree, "two");
    let script = format!(
        "e import nar:{0} --store-path {one_path}; e import nar:{0} --store-path {one_path};
        e import nar:{1} --store-path {two_path}; e check; ls store/nix/store | wc -l",
        one.display(),
        two.display()
    );
    let Some(told) = with_small(directory.path(), "size=8m", &script) else { return };
    assert_eq!(told, "0 \n0 \n0 \n0 \n2\n");
}

#[test]
fn a_file_system_that_becomes_full_keeps_a_valid_store() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..100 {
        fs::write(tree.join(number.to_string()), number.to_string()).unwrap();
    }
    let small = directory.path().join("little");
    fs::write(&small, "little").unwrap();
    let (many, many_path) = nar(directory.path(), &tree, "many");
    let (little, little_path) = nar(directory.path(), &small, "little");
    let files: Vec<String> = (0..100).map(|number| format!("file-{number}")).collect();
    let members: Vec<_> = files.iter().map(|name| file(name, b"x")).collect();
    let layout = Layout::of(&[tar_of(&members)]);
    let image = layout.reference();
    let script = format!(
        "e import nar:{} --store-path {little_path}; find . | sort >../before;
        e import nar:{1} --store-path {many_path}; e --jobs 1 import nar:{1} --store-path {many_path};
        e unpack --to to nar:{1}; e unpack --to to nar:{1} --store-path {many_path};
        e unpack --to to '{image}'; e unpack '{image}'; find . | sort | diff ../before - && echo same;
        e check; e gc; e import nar:{0} --store-path {little_path}; e check",
        little.display(),
        many.display()
    );
    let Some(told) = with_small(directory.path(), "size=16m,nr_inodes=70", &script) else { return };
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((lines[0], lines[7], lines.len()), ("0 ", "same", 12), "{told}");
    for (at, line) in lines[1..7].iter().enumerate() {
        let named = if at < 2 { many_path.as_str() } else { "" };
        assert!(line.starts_with("1 emergence ") && line.contains(named), "{line}");
        assert!(
            line.contains("No space left on device (os error 28)") || line.contains("no space left"),
            "{line}"
        );
        assert!(!line.contains("could not be removed"), "{line}");
    }
    assert_eq!(lines[8..], ["0 "; 4], "{told}");
}
