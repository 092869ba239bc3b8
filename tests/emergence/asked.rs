//! How the program is asked: help, ways to name an artifact, and options that must not be passed
//! over.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::layouts::{Layout, file, tar_of};
use crate::support::{copy_cache, emergence, emergence_with, program, trusting, vector};

const DIGITS: &str = "7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42";
const NAR_HASH: &str = "sha256:f7c733ca3f15a40359b4ba4781ca66983145c16d32ed28a9eb3f01eb3f5e7243";
const NESTED: &str = "/nix/store/py243j0vcxs3xpxsxl7n936dn95avljh-nested";

fn nested() -> String {
    vector("nars/nested.nar").display().to_string()
}

/// A compressed copy of a file, of another name.
fn compressed(tool: &str, from: &Path, to: &Path) {
    let out = fs::File::create(to).unwrap();
    assert!(Command::new(tool).arg("-c").arg(from).stdout(out).status().unwrap().success());
}

#[test]
fn help_is_reported_once() {
    for words in
        [&["--version"][..], &["-v"], &["--help"], &["emergence", "--help"], &["emergence", "hash", "-h"]]
    {
        let output = Command::new(program()).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let first = text.lines().next().unwrap();
        assert_eq!(text.matches(&format!("{first}\n")).count(), 1, "{words:?}: {text}");
        // A closed descriptor gets no message.
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let untold = Command::new(program()).args(words).stdout(full).stderr(Stdio::null()).status().unwrap();
        assert_eq!(untold.code(), Some(1), "{words:?}");
    }
    emergence(&["hash", "--no-such-option", "--help"]).fails(2, "not defined: -no-such-option");
}

#[test]
fn an_object_of_a_cache_is_named_whole_or_by_its_digits() {
    let cache = vector("caches/none").display().to_string();
    let verify = |object: &str| emergence(&["verify", &format!("cache:{cache}#{object}")]);
    for object in [DIGITS.to_owned(), format!("{DIGITS}-app.conf"), format!("/nix/store/{DIGITS}-app.conf")] {
        verify(&object).ok();
    }
    // Of these digits there is an object, but not this one.
    verify(&format!("{DIGITS}-other.conf")).refused(3, "path.mismatch");
    verify(&format!("/nix/store/{DIGITS}-other.conf")).refused(3, "path.mismatch");
    verify("").fails(2, "must be cache:DIRECTORY#OBJECT");
    verify("short").refused(3, "path.name");
}

#[test]
fn an_archive_needs_no_prefix_for_its_tag() {
    let layout = Layout::of(&[tar_of(&[file("a", b"1")])]);
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar");
    let status = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(layout.root()).arg(".").status();
    assert!(status.unwrap().success());
    let archive = archive.display().to_string();
    let digest = emergence(&["verify", &archive]).ok().to_owned();
    assert_eq!(emergence(&["verify", &format!("{archive}:t")]).ok(), digest);
    emergence(&["verify", &format!("{archive}:none")]).refused(4, "oci.no-tag");
    let gzipped = directory.path().join("image.tar.gz");
    compressed("gzip", Path::new(&archive), &gzipped);
    emergence(&["verify", gzipped.to_str().unwrap()]).refused(3, "type.unknown");
}

#[test]
fn options_apply_in_addition_to_a_description() {
    let directory = tempfile::tempdir().unwrap();
    let nar = directory.path().join("n.nar").display().to_string();
    fs::copy(nested(), &nar).unwrap();
    let text = format!(
        "StorePath: {NESTED}\nURL: x\nCompression: none\nNarHash: {NAR_HASH}\nNarSize: 6760\nCA: fixed:r:{NAR_HASH}\n"
    );
    fs::write(format!("{nar}.narinfo"), text).unwrap();
    let zeros = format!("sha256:{}", "0".repeat(64));
    emergence(&["verify", &nar, "--nar-hash", NAR_HASH, "--nar-size", "6760"]).ok();
    emergence(&["verify", &nar, "--nar-hash", &zeros]).refused(3, "nar.hash");
    emergence(&["verify", &nar, "--nar-size", "1"]).refused(3, "nar.size");
}

#[test]
fn brotli_is_known_by_its_name_or_reported() {
    // An empty directory's NAR, as brotli stores it uncompressed: a header, its bytes, and the
    // empty last block.
    let raw = fs::read(vector("nars/empty-dir.nar")).unwrap();
    let length = u32::try_from(raw.len() - 1).unwrap();
    // WBITS 16, then ISLAST 0, MNIBBLES 4, MLEN - 1, ISUNCOMPRESSED 1.
    let bits = length << 4 | 1 << 20;
    let mut file = bits.to_le_bytes()[..3].to_vec();
    file.extend(&raw);
    file.push(3);
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name).display().to_string();
    fs::write(place("a.br"), &file).unwrap();
    fs::write(place("a"), &file).unwrap();
    let digest = emergence(&["verify", &place("a.br")]).ok().to_owned();
    assert_eq!(emergence(&["verify", &format!("nar:{}", place("a.br"))]).ok(), digest);
    fs::write(place("behind.br"), [&file[..], b"x"].concat()).unwrap();
    emergence(&["verify", &place("behind.br")]).refused(3, "blob.compression");
    let unnamed = format!("nar:{}", place("a"));
    emergence(&["verify", &unnamed]).refused(3, "nar.magic");
    for name in ["br", "brotli"] {
        assert_eq!(emergence(&["verify", &unnamed, "--compression", name]).ok(), digest);
    }
    emergence(&["unpack", &unnamed, "--compression", "br", "--to", &place("tree")]).ok();
    assert!(Path::new(&place("tree")).is_dir());
    emergence(&["verify", &unnamed, "--compression", "lzip"]).fails(2, "brotli");
}

#[test]
fn artifacts_without_store_paths_need_a_pin() {
    let trust = |options: &[&str]| {
        let answer = emergence(&[&["--json", "verify", &nested()], options].concat());
        serde_json::from_str::<Value>(answer.ok()).unwrap()["trust"].clone()
    };
    assert_eq!(trust(&[]), "none");
    assert_eq!(trust(&["--expect", NAR_HASH]), "pinned");
    emergence(&["--trust", "signed", "verify", &nested()]).refused(6, "trust.unproved");
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.json").display().to_string();
    let verify = |text: &str, options: &[&str]| {
        fs::write(&policy, text).unwrap();
        emergence(&[&["--policy", &policy, "verify", &nested()], options].concat())
    };
    verify(r#"{"trust":"proved"}"#, &[]).refused(6, "trust.policy");
    verify(r#"{"trust":"proved"}"#, &["--expect", NAR_HASH]).ok();
    verify(r#"{"trust":"signed"}"#, &["--expect", NAR_HASH]).refused(6, "trust.policy");
}

#[test]
fn no_word_for_compression_is_bzip2() {
    let (_directory, cache) = copy_cache("bzip2");
    let info = cache.join(format!("{DIGITS}.narinfo"));
    let text = fs::read_to_string(&info).unwrap();
    fs::write(&info, text.replace("Compression: bzip2", "Compression: ")).unwrap();
    emergence(&["verify", &format!("cache:{}#{DIGITS}", cache.display())]).ok();
}

#[test]
fn declarations_of_a_closure_are_shown() {
    let cache = format!("cache:{}#zps6jszac6cj06i1id3jhr3jfl2n4gk7", vector("caches/xz").display());
    let shown: Value = serde_json::from_str(emergence(&["inspect", &cache]).ok()).unwrap();
    let report = emergence(&[&trusting()[..], &["--json".into(), "verify".into(), cache]].concat());
    let report: Value = serde_json::from_str(report.ok()).unwrap();
    assert_eq!(shown["kind"], "cache");
    let members = |document: &Value| -> Vec<Value> {
        let objects = document["objects"].as_array().unwrap();
        objects
            .iter()
            .map(|one| serde_json::json!([one["path"], one["narHash"], one["references"], one["ca"]]))
            .collect()
    };
    assert_eq!(members(&shown), members(&report));
    assert_eq!(shown["document"], Value::Null);
}

#[test]
fn a_dash_is_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), "x").unwrap();
    let dump = |options: &[&str]| {
        let output = Command::new(program())
            .args(["emergence", "nar", "dump", "f"])
            .args(options)
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success());
        output.stdout
    };
    assert_eq!(dump(&["-o", "-"]), dump(&[]));
    assert!(!directory.path().join("-").exists());
}

#[test]
fn a_listing_is_one_object_or_none() {
    let good = fs::File::open(nested()).unwrap();
    let listing: Value =
        serde_json::from_str(emergence_with(&["--json", "nar", "ls", "-"], good).ok()).unwrap();
    assert_eq!(listing["entries"].as_array().unwrap().len(), 10);
    let bad = emergence(&["--json", "nar", "ls", vector("bad-nars/trailing.nar").to_str().unwrap()]);
    bad.refused(3, "nar.trailing");
    let told: Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(told["error"]["code"], "nar.trailing");
}

#[test]
fn every_limit_of_a_policy_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.json").display().to_string();
    let verify = |limit: &str, reference: &str| {
        fs::write(&policy, format!(r#"{{"trust":"none","limits":{{{limit}}}}}"#)).unwrap();
        emergence(&["--policy", &policy, "verify", reference])
    };
    let cache = |name: &str| {
        format!("cache:{}#zps6jszac6cj06i1id3jhr3jfl2n4gk7", vector("caches").join(name).display())
    };
    let layout = Layout::of(&[tar_of(&[file("a", b"1"), file("b", b"2")])]);
    let table = [
        (r#""size":8"#, cache("none"), "limit.size"),
        (r#""entries":1"#, layout.reference(), "limit.entries"),
        (r#""objects":1"#, cache("none"), "limit.entries"),
        (r#""layers":0"#, layout.reference(), "limit.entries"),
        (r#""document":8"#, layout.reference(), "limit.document"),
        (r#""narinfo":8"#, cache("none"), "limit.document"),
        (r#""xzMemory":1"#, cache("xz"), "blob.compression"),
    ];
    for (limit, reference, code) in table {
        verify("", &reference).ok();
        verify(limit, &reference).refused(3, code);
    }
    // A window that the frame asks for in so many words.
    let big = directory.path().join("big");
    fs::write(&big, vec![7; 3 << 20]).unwrap();
    let nar = directory.path().join("big.nar");
    emergence(&["nar", "dump", big.to_str().unwrap(), "-o", nar.to_str().unwrap()]).ok();
    let zstd = Command::new("zstd")
        .args(["-q", "--single-thread", "--no-content-size", "--long=22"])
        .arg(&nar)
        .status();
    assert!(zstd.unwrap().success());
    let compressed = format!("nar:{}.zst", nar.display());
    verify("", &compressed).ok();
    verify(r#""zstdWindow":1048576"#, &compressed).refused(3, "blob.compression");
}
