//! Attributes of layers that grant or limit rights: they are applied, or left out so that nobody gets
//! more rights.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::layouts::*;
use crate::support::{emergence, program};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// A list as the attribute's value: tag, permissions, id.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(rights.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// user::rw-,user:1000:rw-,group::---,mask::rw-
fn secret() -> Vec<u8> {
    list(&[(1, 6, !0), (2, 6, 1000), (4, 0, !0), (16, 6, !0), (32, 0, !0)])
}

/// user::rwx,user:1000:rwx,group::r-x,mask::rwx,other::---
fn inherited() -> Vec<u8> {
    list(&[(1, 7, !0), (2, 7, 1000), (4, 5, !0), (16, 7, !0), (32, 0, !0)])
}

fn record(name: &str, value: &[u8]) -> Vec<(String, Vec<u8>)> {
    vec![(format!("SCHILY.{name}"), value.to_vec())]
}

fn image() -> Layout {
    let text = b"user::rw-,user:somebody:rw-:1000,group::---,mask::rw-,other::---";
    let lower = [
        Made { mode: 0o660, records: record(&format!("xattr.{ACCESS}"), &secret()), ..file("binary", b"1") },
        Made { mode: 0o660, records: record("acl.access", text), ..file("text", b"2") },
        Made { records: record(&format!("xattr.{DEFAULT}"), &inherited()), ..made(b'5', "d") },
        Made { mode: 0o640, ..file("d/file", b"3") },
        Made { mode: 0o750, ..made(b'5', "d/below") },
        Made { mode: 0o640, ..made(b'6', "d/fifo") },
        Made { mode: 0o664, records: record("xattr.trusted.SGI_ACL_FILE", b"?"), ..file("foreign", b"4") },
        Made { mode: 0o6755, ..file("set-ids", b"5") },
        Made { mode: 0o4755, records: record("xattr.security.capability", b"bad"), ..file("caps", b"6") },
        made(b'3', "whiteout"),
    ];
    let upper =
        [Made { mode: 0o640, ..file("d/later", b"7") }, Made { mode: 0o750, ..file("d/new/x", b"8") }];
    Layout::of(&[tar_of(&lower), tar_of(&upper)])
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let count = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(count);
    Some(value)
}

/// What does not depend on the form and the user.
fn check_common(root: &Path) {
    for (name, want) in [("d/file", 0o640), ("d/below", 0o750), ("d/fifo", 0o640), ("foreign", 0o644)] {
        assert_eq!(mode(&root.join(name)), want, "{name}");
        assert_eq!(attribute(&root.join(name), ACCESS), None, "{name}");
        assert_eq!(attribute(&root.join(name), DEFAULT), None, "{name}");
    }
    assert_eq!(mode(&root.join("caps")), 0o755);
    assert!(!root.join("whiteout").exists());
}

fn check_lists(root: &Path) {
    for name in ["binary", "text"] {
        assert_eq!(attribute(&root.join(name), ACCESS), Some(secret()), "{name}");
        assert_eq!(mode(&root.join(name)), 0o660, "{name}");
    }
    assert_eq!(attribute(&root.join("d"), DEFAULT), Some(inherited()));
    assert_eq!(mode(&root.join("set-ids")), 0o6755);
}

#[test]
fn access_lists_in_all_forms() {
    if !is_root() {
        return;
    }
    let (layout, place) = (image(), tempfile::tempdir().unwrap());
    // What is around the tree does not matter.
    rustix::fs::setxattr(place.path(), DEFAULT, &inherited(), rustix::fs::XattrFlags::empty()).unwrap();
    let to = place.path().join("root");
    emergence(&["--json", "unpack", &layout.reference(), "--to", &to.display().to_string()]).ok();
    check_common(&to);
    check_lists(&to);
    for name in ["d/later", "d/new", "d/new/x"] {
        assert_eq!(attribute(&to.join(name), ACCESS), None, "{name}");
        assert_eq!(attribute(&to.join(name), DEFAULT), None, "{name}");
    }
    let store = place.path().join("store").display().to_string();
    let answer = emergence(&["--json", "unpack", "--store", &store, &layout.reference()]);
    let answer: serde_json::Value = serde_json::from_str(answer.ok()).unwrap();
    let paths: Vec<&str> =
        answer["paths"].as_array().unwrap().iter().filter_map(|path| path.as_str()).collect();
    check_common(Path::new(paths[0]));
    check_lists(Path::new(paths[0]));
    if let [_, upper] = paths[..] {
        assert_eq!(attribute(&Path::new(upper).join("d/later"), ACCESS), None);
        assert_eq!(attribute(&Path::new(upper).join("d/new"), DEFAULT), None);
        assert_eq!(attribute(&Path::new(upper).join("d"), DEFAULT), Some(inherited()));
    }
}

#[test]
fn an_ordinary_user_gives_nobody_more() {
    if !is_root() {
        return;
    }
    let (layout, place) = (image(), tempfile::tempdir().unwrap());
    for path in [place.path(), layout.root()] {
        std::os::unix::fs::chown(path, Some(4711), Some(4711)).unwrap();
    }
    let to = place.path().join("root");
    let output = Command::new(program())
        .args(["emergence", "unpack", &layout.reference(), "--to", &to.display().to_string(), "--json"])
        .uid(4711)
        .gid(4711)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    check_common(&to);
    for name in ["binary", "text"] {
        assert_eq!((mode(&to.join(name)), attribute(&to.join(name), ACCESS)), (0o600, None), "{name}");
    }
    assert_eq!(mode(&to.join("set-ids")), 0o755);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["skipped"]["xattrs"][ACCESS], 2);
    assert_eq!(answer["skipped"]["setIds"], 2);
}

/// Other users could reach set-uid programs of the image.
#[test]
fn other_users_cannot_access_a_bundle() {
    let (layout, place) = (Layout::of(&[tar_of(&[made(b'5', "bin")])]), tempfile::tempdir().unwrap());
    let store = place.path().join("store").display().to_string();
    for form in ["copy", "bind"] {
        let bundle = place.path().join(form);
        let words = ["--store", &store, "bundle", "--rootfs", form, &layout.reference()];
        emergence(&[&words[..], &[&bundle.display().to_string(), "--", "/bin/true"]].concat());
        assert_eq!(mode(&bundle), 0o700, "{form}");
    }
}
