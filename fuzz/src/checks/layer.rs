//! The layer of an image, which is unpacked: files are created below one directory only, or not at
//! all, whatever the tar contains.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use emergence_runc::emergence::hash::Hash;
use emergence_runc::emergence::oci::{Descriptor, Image, Layout, Platform, media};
use emergence_runc::emergence::{Limits, Result, StoreDir, Terms, Trust, Unwatched};
use serde_json::{Value, json};

use super::one_line;

pub fn check(bytes: &[u8]) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name =
        format!("emergence-runc-fuzz-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let root = std::env::temp_dir().join(name);
    let below = [tar_header(b"d", b'5', b""), tar_header(b"l", b'2', b"/d"), tar_header(b"d/f", b'0', b"")];
    layout(&root.join("layout"), &[below.concat(), with_checksums(bytes)]);
    let to = root.join("to");
    let made = unpack(&root.join("layout"), &to);
    assert_eq!(made.is_ok(), to.is_dir());
    if let Err(fault) = made {
        one_line(&fault.to_string());
    }
    let mut names: Vec<PathBuf> =
        fs::read_dir(&root).expect("the directory").map(|entry| entry.expect("an entry").path()).collect();
    names.retain(|path| *path != to && !path.ends_with("layout"));
    assert!(names.is_empty(), "left behind: {names:?}");
    remove(&root);
}

/// Directories may have any mode; only root can do without this.
fn remove(root: &Path) {
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&directory, mode).expect("a mode");
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(root).expect("the directory again");
}

fn unpack(layout: &Path, to: &Path) -> Result<()> {
    let terms = Terms {
        dir: StoreDir::default(),
        trust: Trust::default(),
        limits: Limits { size: 1 << 20, ..Limits::default() },
        scan: false,
        jobs: 1,
        watch: Arc::new(Unwatched),
        destination: None,
    };
    let layout = Layout::open(layout)?;
    let found = layout.resolve(None, None, &Platform::here(), &|_| Ok(true))?;
    let image = Image::open(layout, found, &terms)?;
    let verified = image.verify(&terms, false)?;
    verified.unpack(&terms, to).map(drop)
}

fn layout(directory: &Path, tars: &[Vec<u8>]) {
    fs::create_dir_all(directory.join("blobs/sha256")).expect("a directory");
    let blob = |media_type: &str, bytes: &[u8]| -> Value {
        let hex = Hash::sha256(bytes).hex();
        fs::write(directory.join("blobs/sha256").join(hex), bytes).expect("a blob");
        serde_json::to_value(Descriptor::of(media_type, bytes)).expect("a descriptor")
    };
    let layers: Vec<Value> = tars.iter().map(|tar| blob(media::LAYER, tar)).collect();
    let ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config =
        json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids } });
    let config = blob(media::CONFIG, config.to_string().as_bytes());
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let manifest = blob(media::MANIFEST, manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(directory.join("index.json"), index.to_string()).expect("an index");
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a version");
}

fn tar_header(name: &[u8], kind: u8, link: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000755");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    with_checksums(&block)
}

/// No fuzzer finds the checksum of a header: each gets its own.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + 512) {
        at += 512;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let digits = block[124..136].iter().take_while(|digit| digit.is_ascii_digit());
        let size =
            digits.fold(0usize, |size, digit| size.wrapping_mul(8).wrapping_add(usize::from(digit - b'0')));
        at = at.saturating_add(size.saturating_add(511) / 512 * 512);
        if at > bytes.len() {
            break;
        }
    }
    bytes
}
