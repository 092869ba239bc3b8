//! Plain images in the store: complete or absent, whatever happens while they are unpacked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use emergence_runc::emergence::{Code, Limits, StoreDir, Terms, Trust, Unwatched, oci};

use crate::layouts::*;
use crate::stacks::{apart, merged, place};
use crate::support::{emergence, program};

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Two layers with many files, of which the second takes some away.
fn many() -> [Vec<u8>; 2] {
    let files: Vec<String> = (0..1500).map(|number| format!("d/{number}")).collect();
    let mut first: Vec<Made> = files.iter().map(|path| file(path, path.as_bytes())).collect();
    first.insert(0, made(b'5', "d"));
    let gone: Vec<String> = (0..300).map(|number| format!("d/.wh.{number}")).collect();
    let mut second: Vec<Made> = gone.iter().map(|path| file(path, b"")).collect();
    second.push(file("d/new", b"new"));
    [tar_of(&first), tar_of(&second)]
}

#[test]
fn one_that_is_ended_leaves_a_valid_store() {
    let tars = many();
    let layout = Layout::of(&tars);
    let place = place();
    let (store, whole) = (place.path().join("store"), place.path().join("whole"));
    let (layers, tmp) = (store.join("layers"), store.join("tmp"));
    let store = store.to_str().unwrap();
    emergence(&["unpack", &layout.reference(), "--to", whole.to_str().unwrap()]).ok();
    let whole = apart(&tree(&whole));
    let words = ["--store", store, "unpack", &layout.reference()];
    let began = Instant::now();
    let directories: Vec<PathBuf> = emergence(&words).ok().lines().map(PathBuf::from).collect();
    let took = began.elapsed();
    // Of each of them, what is there shows with those below it.
    let shown: Vec<_> = (1..=directories.len()).map(|count| apart(&merged(&directories[..count]))).collect();
    assert!(*shown.last().unwrap() == whole);
    emergence(&["--store", store, "gc"]).ok();
    let (mut left, mut made) = (0, 0);
    for round in 0..24 {
        let mut command = Command::new(program());
        command.arg("emergence").args(words).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(took * round / 20);
        child.kill().unwrap();
        child.wait().unwrap();
        left += names(&tmp).len();
        // What has its name is whole, and has all below it.
        let there = directories.iter().take_while(|directory| directory.is_dir()).count();
        assert_eq!(names(&layers).len(), there, "round {round}");
        if there > 0 {
            assert!(apart(&merged(&directories[..there])) == shown[there - 1], "round {round}");
        }
        made += there;
        emergence(&["--store", store, "gc"]).ok();
        assert_eq!((names(&layers), names(&tmp)), (vec![], vec![]), "round {round}");
    }
    assert!(left > 0, "nothing was ended in the middle; {made} were unpacked");
    emergence(&words).ok();
    assert!(apart(&merged(&directories)) == whole);
    assert!(names(&tmp).is_empty());
}

/// The blob is another one when it is read again.
#[test]
fn a_layer_that_changes_between_the_passes_is_not_unpacked() {
    let layout = Layout::of(&[tar_of(&[file("a", b"1")]), tar_of(&[file("b", b"2")])]);
    let terms = Terms {
        dir: StoreDir::default(),
        trust: Trust::default(),
        limits: Limits::default(),
        scan: false,
        destination: None,
        jobs: 2,
        watch: std::sync::Arc::new(Unwatched),
    };
    let opened = oci::Layout::open(layout.root()).unwrap();
    let found = opened.resolve(Some("t"), None, &oci::Platform::here(), &|_| Ok(true)).unwrap();
    let image = oci::Image::open(opened, found, &terms).unwrap();
    let verified = image.verify(&terms, false).unwrap();
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("to");
    let blob: PathBuf = {
        let hex = verified.image().manifest().layers[1].digest.hex();
        layout.path(&format!("blobs/sha256/{hex}"))
    };
    let good = fs::read(&blob).unwrap();
    // The time in gzip's header, which changes nothing that comes out; a byte of the content; and
    // an end that is missing.
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    for changed in [flipped(4), flipped(good.len() / 2), good[..good.len() - 1].to_vec()] {
        fs::write(&blob, &changed).unwrap();
        let fault = verified.unpack(&terms, &to).unwrap_err();
        let shorter = changed.len() < good.len();
        assert_eq!(
            fault.code(),
            Some(if shorter { Code::BlobSize } else { Code::ChangedWhileReading }),
            "{fault}"
        );
        assert!(names(place.path()).is_empty(), "{fault}");
    }
    fs::write(&blob, &good).unwrap();
    verified.unpack(&terms, &to).unwrap();
    assert_eq!(names(&to), ["a", "b"]);
}

/// Everything works in a user's own directory: devices, and owners that the user cannot set, are
/// counted and left out.
#[test]
fn a_rootless_user_has_a_store_of_his_own() {
    const NOBODY: u32 = 65534;
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open(place.path());
    let home = place.path().join("home");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let copy = place.path().join("program");
    fs::copy(program(), &copy).unwrap();
    open(&copy);
    let first = [
        Made { mode: 0o555, ..made(b'5', "closed") },
        file("closed/a", b"a"),
        file("closed/b", b"b"),
        Made { owner: (5, 6), ..file("others", b"x") },
        Made { device: (1, 3), ..made(b'3', "null") },
    ];
    let second = [file("closed/.wh.a", b""), file("closed/c", b"c")];
    let layout = Layout::of(&[tar_of(&first), tar_of(&second)]);
    open(layout.root());
    let as_user = |words: &[&str]| {
        let mut command = Command::new(&copy);
        command.args(["emergence", "--json"]).args(words).uid(NOBODY).gid(NOBODY).env_clear();
        let output = command.env("XDG_DATA_HOME", &home).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let unpacked = as_user(&["unpack", &layout.reference()]);
    assert_eq!(unpacked["skipped"]["devices"], serde_json::json!(["null"]));
    // All that is in it is root's, but for one file that is another's: the owner is nowhere he who
    // unpacks.
    assert_eq!(unpacked["skipped"]["owners"], 1);
    let kept = Path::new(unpacked["path"].as_str().unwrap()).to_owned();
    assert!(kept.starts_with(home.join("emergence/layers")));
    assert_eq!(names(&kept), ["closed", "others"]);
    assert_eq!(names(&kept.join("closed")), ["b", "c"]);
    assert_eq!(fs::metadata(kept.join("closed")).unwrap().permissions().mode() & 0o7777, 0o555);
    assert_eq!(as_user(&["unpack", &layout.reference()])["reused"], true);
    assert_eq!(as_user(&["need", &layout.reference()])["needed"], serde_json::json!([]));
    as_user(&["gc"]);
    assert!(
        names(&home.join("emergence/layers")).is_empty() && names(&home.join("emergence/tmp")).is_empty()
    );
}
