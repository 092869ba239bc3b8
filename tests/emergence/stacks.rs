//! Plain images in the store, layer over layer: what overlayfs shows of them, and what images
//! share.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags};
use serde_json::{Value, json};

use crate::layers::random;
use crate::layouts::*;
use crate::support::emergence;

/// A directory where overlays can be mounted, which those of a machine's own root file system may
/// forbid.
pub(crate) fn place() -> tempfile::TempDir {
    tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap()
}

/// The tree that the layers show together, the lowest first; mounted in a mount namespace of a
/// thread that ends here.
pub(crate) fn merged(layers: &[PathBuf]) -> Vec<String> {
    let [_, _, ..] = layers else { return tree(&layers[0]) };
    let text: Vec<&str> = layers.iter().rev().map(|layer| layer.to_str().unwrap()).collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", text.join(":"))).unwrap();
    let at = tempfile::tempdir().unwrap();
    let look = || {
        // SAFETY: no descriptor table is unshared; the thread ends with this closure.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        rustix::mount::mount("overlay", at.path(), "overlay", MountFlags::RDONLY, options.as_c_str())
            .unwrap();
        tree(at.path())
    };
    std::thread::scope(|scope| scope.spawn(look).join().unwrap())
}

/// Without inode numbers and link counts: an overlay copies a file that gets another name.
pub(crate) fn apart(lines: &[String]) -> Vec<String> {
    let one = |line: &String| match line.split_once(" = ") {
        Some((before, after)) => format!("{before} {}", after.split_once(' ').unwrap().1),
        None => line.clone(),
    };
    lines.iter().map(one).collect()
}

struct Kept(tempfile::TempDir);

impl Kept {
    fn new() -> Self {
        Self(place())
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn call(&self, words: &[&str]) -> Value {
        let store = self.directory();
        let all = [&["--json", "--store", store.to_str().unwrap()], words].concat();
        serde_json::from_str(emergence(&all).ok()).unwrap()
    }

    fn refused(&self, words: &[&str], status: i32, code: &str) {
        let store = self.directory();
        emergence(&[&["--store", store.to_str().unwrap()], words].concat()).refused(status, code);
    }

    fn unpack(&self, layout: &Layout) -> (Vec<PathBuf>, Value) {
        let said = self.call(&["unpack", &layout.reference()]);
        let paths = said["paths"].as_array().unwrap().iter();
        (paths.map(|path| path.as_str().unwrap().into()).collect(), said)
    }

    fn layers(&self) -> usize {
        fs::read_dir(self.directory().join("layers")).unwrap().count()
    }
}

fn in_one_tree(layout: &Layout) -> Vec<String> {
    let outer = tempfile::tempdir().unwrap();
    let to = outer.path().join("root");
    // With --json, what is left out is not on standard error.
    emergence(&["--json", "unpack", &layout.reference(), "--to", &to.display().to_string()]).ok();
    tree(&to)
}

#[test]
fn layers_show_what_one_tree_has() {
    if !is_root() {
        return;
    }
    for seed in 20..=28 {
        let (layout, model) = random(seed);
        let kept = Kept::new();
        let (layers, _) = kept.unpack(&layout);
        assert_eq!(layers.len(), 4, "each has a directory of its own: {layers:?}");
        let shown = apart(&merged(&layers));
        assert_eq!(shown, apart(&in_one_tree(&layout)), "seed {seed}");
        assert_eq!(shown.len(), model.len() + 1, "seed {seed}");
        assert_eq!(fs::read_dir(kept.directory().join("tmp")).unwrap().count(), 0);
    }
}

/// What a layer does to directories that are below it, deep and wide, and what it says of the root
/// or leaves to what is below.
#[test]
fn directories_are_removed_and_recreated() {
    if !is_root() {
        return;
    }
    let deep: Vec<String> = (1..40).map(|depth| "d/".repeat(depth) + "x").collect();
    let directories: Vec<String> = (1..40).map(|depth| "d/".repeat(depth)).collect();
    let note = vec![("SCHILY.xattr.user.note".to_owned(), b"mine".to_vec())];
    let mut first = vec![
        Made { mode: 0o711, owner: (5, 6), records: note.clone(), ..made(b'5', "./") },
        made(b'5', "links"),
        link(b'2', "links/to", "/a"),
        made(b'5', "a"),
        made(b'5', "a/b"),
        file("a/b/c", b"1"),
        file("a/b/e", b"2"),
        made(b'5', "gone"),
        made(b'5', "gone/in"),
        file("gone/in/f", b"3"),
        made(b'5', "empty"),
        made(b'5', "empty/in"),
        file("empty/in/g", b"4"),
        file("linked", b"5"),
    ];
    for (directory, file_there) in directories.iter().zip(&deep) {
        first.push(made(b'5', directory));
        first.push(file(file_there, b"x"));
    }
    let second = [
        // Through a link of the layer below.
        file("links/to/b/.wh.c", b""),
        file("links/to/b/new", b"6"),
        file(".wh.gone", b""),
        file("empty/.wh..wh..opq", b""),
        file("empty/own", b"7"),
        // A directory becomes a file, and a file a directory.
        file("d", b"8"),
        link(b'1', "again", "linked"),
        made(b'5', "linked-too"),
    ];
    let third = [
        made(b'5', "gone"),
        file("gone/other", b"9"),
        link(b'2', "a", "gone"),
        Made { kind: b'3', ..made(b'3', "no-whiteout") },
    ];
    let top = [file(".wh..wh..opq", b""), file("alone", b"10")];
    let kept = Kept::new();
    let upto = |count: usize| {
        let all = [tar_of(&first), tar_of(&second), tar_of(&third), tar_of(&top)];
        Layout::of(&all[..count])
    };
    for count in [2, 4] {
        let layout = upto(count);
        let (layers, _) = kept.unpack(&layout);
        assert_eq!(layers.len(), count);
        assert_eq!(apart(&merged(&layers)), apart(&in_one_tree(&layout)), "{count} layers");
    }
    // The device that overlayfs takes for a whiteout is left out and reported, in the lowest layer
    // too.
    let layout = upto(3);
    kept.call(&["gc"]);
    let (layers, said) = kept.unpack(&layout);
    assert_eq!(said["skipped"]["devices"], json!(["no-whiteout"]));
    let mut whole = apart(&in_one_tree(&layout));
    whole.retain(|line| !line.starts_with("no-whiteout "));
    assert_eq!(apart(&merged(&layers)), whole);
    let only = Layout::of(&[tar_of(&third[3..])]);
    assert_eq!(kept.unpack(&only).1["skipped"]["devices"], json!(["no-whiteout"]));
    // The root is as the lowest layer made it, as long as no other says anything of it.
    let root = fs::metadata(layers.last().unwrap()).unwrap();
    assert_eq!((root.mode() & 0o7777, root.uid(), root.gid()), (0o711, 5, 6));
}

/// Two images with a common base: it is kept once, and neither unpacked nor needed again.
#[test]
fn shared_layers_are_stored_once() {
    if !is_root() {
        return;
    }
    let base = tar_of(&[made(b'5', "bin"), file("bin/sh", &vec![7; 100_000])]);
    let image = |own: &str| Layout::of(&[base.clone(), tar_of(&[file(own, own.as_bytes())])]);
    let (one, other) = (image("one"), image("other"));
    let kept = Kept::new();
    let (first, said) = kept.unpack(&one);
    assert_eq!((&said["reused"], first.len()), (&json!(false), 2));
    assert!(said["bytes"]["unpacked"].as_u64().unwrap() > 100_000);
    // The base of the other is no piece that must be brought.
    let inspected = kept.call(&["inspect", &other.reference()]);
    let digest = |at: usize| inspected["layers"][at]["digest"].as_str().unwrap().to_owned();
    let needed = kept.call(&["need", &other.reference()]);
    assert_eq!(needed["needed"], json!([inspected["configDigest"], digest(1)]));
    let blob = other.path(&format!("blobs/sha256/{}", digest(0).trim_start_matches("sha256:")));
    let good = fs::read(&blob).unwrap();
    // One that is there must be what it says; one that is not need not be, but to be verified for
    // its own sake.
    let mut bad = good.clone();
    bad[50] ^= 1;
    fs::write(&blob, &bad).unwrap();
    kept.refused(&["unpack", &other.reference()], 3, "blob.digest");
    fs::remove_file(&blob).unwrap();
    kept.refused(&["verify", &other.reference()], 4, "blob.missing");
    kept.refused(&["unpack", "--strict", &other.reference()], 4, "blob.missing");
    assert_eq!(kept.layers(), 2);
    let (second, said) = kept.unpack(&other);
    assert_eq!((&second[0], &said["reused"]), (&first[0], &json!(false)));
    assert!(said["bytes"]["unpacked"].as_u64().unwrap() < 10_000);
    assert_eq!(kept.layers(), 3);
    assert_eq!(kept.unpack(&one).1["reused"], true);
    fs::write(&blob, &good).unwrap();
    assert_eq!(apart(&merged(&second)), apart(&in_one_tree(&other)));
    assert_eq!(kept.call(&["need", &other.reference()])["needed"], json!([]));
    // A name keeps an image, and what it has in common with others.
    kept.call(&["root", "add", "mine", &other.reference()]);
    kept.call(&["gc"]);
    assert!(second.iter().all(|layer| layer.is_dir()) && kept.layers() == 2);
    // So it does in one tree, which a bundle binds.
    let bundle = kept.0.path().join("bundle").display().to_string();
    kept.call(&["bundle", "--rootfs", "bind", &other.reference(), &bundle, "--", "/bin/sh"]);
    kept.call(&["root", "add", "mine", &other.reference()]);
    kept.call(&["gc"]);
    assert_eq!(kept.layers(), 3);
    kept.refused(&["root", "add", "no", &one.reference()], 4, "closure.incomplete");
    kept.call(&["root", "rm", "mine"]);
    let would = kept.call(&["gc", "--dry-run"])["bytes"].clone();
    // What has come lately is kept by its age here, not by the times that images give.
    kept.call(&["gc", "--keep-for", "1h"]);
    assert_eq!(kept.layers(), 3);
    // The base, and each layer's own file, twice: in a layer, and in the one tree.
    assert_eq!(would, 2 * (100_000 + 5));
    assert_eq!(kept.call(&["gc"])["bytes"], would);
    assert_eq!(kept.layers(), 0);
}

/// A file system whose overlays cannot be written to: that of an overlay. There, an image is one
/// tree.
#[test]
fn without_overlay_mounts_an_image_is_one_tree() {
    if !is_root() {
        return;
    }
    let (layout, _) = random(30);
    let outer = place();
    for name in ["lower", "upper", "work", "at"] {
        fs::create_dir(outer.path().join(name)).unwrap();
    }
    let script = format!(
        "cd {} && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay at && \
         for round in 1 2; do {} emergence --json --store at/store unpack {}; done",
        outer.path().display(),
        Path::new(&crate::support::program()).display(),
        layout.reference(),
    );
    let output = std::process::Command::new("unshare").args(["-m", "sh", "-ec", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&said[0]["reused"], &said[1]["reused"]), (&json!(false), &json!(true)));
    let paths = said[0]["paths"].as_array().unwrap();
    let name = Path::new(paths[0].as_str().unwrap()).file_name().unwrap();
    assert!(paths.len() == 1 && name.to_str().unwrap().ends_with(".tree"), "{paths:?}");
    let kept = outer.path().join("upper/store/layers").join(name);
    assert_eq!(tree(&kept), in_one_tree(&layout));
    assert!(!tree(&kept).is_empty() && !fs::metadata(&kept).unwrap().file_type().is_char_device());
}

/// For overlayfs it would be a whiteout, which only a file named so is. What it replaces is gone
/// all the same.
#[test]
fn a_whiteout_device_removes_the_file_below() {
    if !is_root() {
        return;
    }
    let first = tar_of(&[file("a", b"1"), made(b'5', "b"), file("b/c", b"2"), file("d", b"3")]);
    let kept = Kept::new();
    let layout = Layout::of(&[first, tar_of(&[made(b'3', "a"), made(b'3', "b")])]);
    let (layers, said) = kept.unpack(&layout);
    assert_eq!(said["skipped"]["devices"], json!(["a", "b"]));
    let whole = apart(&in_one_tree(&layout));
    assert_eq!(apart(&merged(&layers)), whole);
    assert_eq!(whole.len(), 2, "{whole:?}");
}

/// Layers are not what an image is given from where this process could not mount them, or would see
/// what they hide.
#[test]
fn layers_that_cannot_be_mounted_are_not_taken() {
    if !is_root() {
        return;
    }
    let below = tar_of(&[made(b'5', "a"), file("a/hidden", b"1")]);
    let layout = Layout::of(&[below, tar_of(&[file("a/.wh..wh..opq", b""), file("a/seen", b"2")])]);
    let kept = Kept::new();
    assert_eq!(kept.unpack(&layout).0.len(), 2);
    let one_tree = |output: std::process::Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["paths"].as_array().unwrap().len(), 1, "{said}");
        assert!(said["path"].as_str().unwrap().ends_with(".tree"), "{said}");
    };
    // The attributes that say what is hidden are for the first user namespace alone.
    let unpack = |words: &[&str], store: &Path| {
        let mut command = std::process::Command::new(words[0]);
        command.args(&words[1..]).args(["emergence", "--json", "--store"]).arg(store);
        command.args(["unpack", &layout.reference()]).output().unwrap()
    };
    let program = crate::support::program().into_string().unwrap();
    one_tree(unpack(&["unshare", "--map-root-user", &program], &kept.directory()));
    // A name that no overlay takes, which the store had not when they were made.
    let moved = kept.0.path().join("x,y");
    fs::rename(kept.directory(), &moved).unwrap();
    for name in fs::read_dir(moved.join("layers")).unwrap().flatten().map(|entry| entry.path()) {
        if name.extension().is_some() {
            fs::remove_dir_all(name).unwrap();
        }
    }
    one_tree(unpack(&[&program], &moved));
    // What is there of another image is no part of a tree.
    let base = tar_of(&[file("base", b"3")]);
    let (base, both) =
        (Layout::of(std::slice::from_ref(&base)), Layout::of(&[base, tar_of(&[file("own", b"4")])]));
    let store = ["--store", moved.to_str().unwrap()];
    emergence(&[&store[..], &["unpack", &base.reference()]].concat()).ok();
    let needed = emergence(&[&store[..], &["need", &both.reference()]].concat());
    assert_eq!(needed.ok().lines().count(), 3);
}

/// An image may contain set-uid programs of root.
#[test]
fn other_users_cannot_access_image_layers() {
    let kept = Kept::new();
    let program = Made { mode: 0o4755, ..file("su", b"") };
    kept.unpack(&Layout::of(&[tar_of(&[program])]));
    let mode = fs::metadata(kept.directory().join("layers")).unwrap().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

/// That there is nothing for a hard link to name is seen when the layers below are made.
#[test]
fn a_failed_image_leaves_nothing() {
    let kept = Kept::new();
    let layout = Layout::of(&[tar_of(&[file("a", b"1")]), tar_of(&[link(b'1', "b", "nothing")])]);
    kept.refused(&["unpack", &layout.reference()], 3, "layer.link");
    assert_eq!(kept.layers(), 0);
    assert_eq!(fs::read_dir(kept.directory().join("tmp")).unwrap().count(), 0);
}
