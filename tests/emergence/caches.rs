//! `verify` of NARs and binary caches, and `key`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{copy_cache, each, emergence, text, trusting, vector, vectors};

const DEMANDS: [&str; 2] = ["--trust", "none"];

/// `verify cache:DIRECTORY#BASE`.
fn verify(cache: &Path, object: &str, options: &[&str]) -> crate::support::Answer {
    let reference = format!("cache:{}#{object}", cache.display());
    emergence(&[&["verify", &reference], options].concat())
}

fn words(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

#[test]
fn caches_of_nix_are_what_they_say() {
    let keys = trusting();
    for cache in each(&vectors("caches")) {
        let signed = !each(&cache["keys"]).is_empty();
        for object in each(&cache["objects"]) {
            let path = text(&object["path"]);
            let directory = vector(text(&cache["dir"]));
            let checked = verify(&directory, path, &words(&keys));
            match (signed, object["ca"].is_null()) {
                (false, true) => checked.refused(6, "trust.unproved"),
                _ => {
                    let hash = emergence(&["hash", "--convert", text(&object["narHash"])]);
                    assert_eq!(checked.ok(), format!("ok {}", hash.ok()), "{object}");
                }
            }
            verify(&directory, path, &DEMANDS).ok();
            if cache["name"] != "ca" && object["ca"].is_null() {
                verify(&directory, path, &[]).refused(6, "trust.unproved");
            }
            let all = [&words(&keys)[..], &["--trust", "signed"]].concat();
            match signed {
                true => drop(verify(&directory, path, &all).ok()),
                false => verify(&directory, path, &all).refused(6, "trust.unproved"),
            }
        }
    }
}

#[test]
fn the_report_says_what_proved_what() {
    let keys = trusting();
    let caches = vectors("caches");
    let cache = each(&caches).iter().find(|cache| cache["name"] == "zstd").unwrap();
    let object =
        each(&cache["objects"]).iter().max_by_key(|object| each(&object["references"]).len()).unwrap();
    let options = [&words(&keys)[..], &["--json"]].concat();
    let directory = vector(text(&cache["dir"]));
    let report: Value =
        serde_json::from_str(verify(&directory, text(&object["path"]), &options).ok()).unwrap();
    assert_eq!((&report["ok"], &report["kind"]), (&true.into(), &"cache".into()));
    let objects = each(&report["objects"]);
    assert!(objects.len() > 1);
    assert!(objects.iter().all(|one| one["proof"] == "signature" || one["proof"] == "content"), "{report}");
    // References precede the object.
    assert_eq!(objects.last().unwrap()["path"], object["path"]);
    let unpacked: u64 = objects.iter().map(|one| one["narSize"].as_u64().unwrap()).sum();
    assert_eq!(report["bytes"]["unpacked"], unpacked);
    let refused = verify(&directory, text(&object["path"]), &["--json", "--expect", &"0".repeat(64)]);
    let error: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((&error["ok"], &error["error"]["code"]), (&false.into(), &"trust.expect".into()));
    assert_eq!(error["error"]["expected"], format!("sha256:{}", "0".repeat(64)));
}

#[test]
fn every_flipped_byte_is_seen() {
    let keys = trusting();
    let caches = vectors("caches");
    for name in ["xz", "none", "gzip"] {
        let cache = each(&caches).iter().find(|cache| cache["name"] == name).unwrap();
        let object =
            each(&cache["objects"]).iter().find(|object| each(&object["references"]).is_empty()).unwrap();
        let (_held, directory) = copy_cache(name);
        verify(&directory, text(&object["path"]), &words(&keys)).ok();
        let base = Path::new(text(&object["narinfo"])).file_name().unwrap();
        let narinfo = directory.join(base);
        let info = fs::read_to_string(&narinfo).unwrap();
        let nar = directory.join(info.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap());
        let good = fs::read(&nar).unwrap();
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            fs::write(&nar, bad).unwrap();
            let answer = verify(&directory, text(&object["path"]), &words(&keys));
            assert_eq!(answer.status, 3, "{name}, byte {at}: {}", answer.stderr);
        }
        fs::write(&nar, &good).unwrap();
        // A signature covers path, hash, size and references; the rest of the lines is checked by
        // the files.
        for (from, to) in [
            ("NarSize: 1", "NarSize: 2"),
            ("NarHash: sha256:0", "NarHash: sha256:1"),
            ("References: ", "References: 0hga1xgs6wrsy75659dfs2v65myy1cyr-multi-1.0-dev"),
        ] {
            if info.contains(from) {
                fs::write(&narinfo, info.replacen(from, to, 1)).unwrap();
                verify(&directory, text(&object["path"]), &words(&keys)).refused(6, "trust.signature");
            }
        }
    }
}

#[test]
fn missing_and_wrong_fields_of_a_cache() {
    let digits = "90dxglj74s001104ich7q39a0vkxcd98";
    let (_held, directory) = copy_cache("xz");
    let narinfo = directory.join(format!("{digits}.narinfo"));
    let good = fs::read_to_string(&narinfo).unwrap();
    let change = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        fs::write(&narinfo, good.replacen(from, to, 1)).unwrap();
    };
    let check = |options: &[&str]| verify(&directory, digits, &[&DEMANDS, options].concat());
    check(&[]).ok();
    change("NarSize: 120", "NarSize: 112");
    check(&[]).refused(3, "nar.size");
    change("NarSize: 120", "NarSize: 128");
    check(&[]).refused(3, "nar.size");
    change("NarHash: sha256:0", "NarHash: sha256:1");
    check(&[]).refused(3, "nar.hash");
    change("FileHash: sha256:1", "FileHash: sha256:0");
    check(&[]).refused(3, "blob.digest");
    change("FileSize: 128", "FileSize: 129");
    check(&[]).refused(3, "blob.size");
    change("Compression: xz", "Compression: zstd");
    check(&[]).refused(3, "blob.compression");
    change("Compression: xz", "Compression: lzip");
    check(&[]).refused(3, "cache.compression");
    change("URL: nar/", "URL: ../nar/");
    check(&[]).refused(3, "cache.url");
    change("URL: nar/1", "URL: nar/0");
    check(&[]).refused(4, "blob.missing");
    change("NarSize: ", "NarSizes: ");
    check(&[]).refused(3, "cache.narinfo");
    change(digits, "7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42");
    check(&[]).refused(3, "cache.narinfo");
    change("References: ", "References: 7fnzwr4fvvmdl8b3vkrfyjczwiwv6n43-app.conf");
    check(&[]).refused(4, "closure.incomplete");
    change(
        "References: ",
        "References: \nCA: fixed:r:sha256:0l7ld9klw9k5l3zcfd8a4dsm9lmjvrym9nksqj3fpky72k7ndfnn",
    );
    check(&[]).refused(3, "path.mismatch");
    fs::write(&narinfo, &good).unwrap();
    check(&["--max-size", "100"]).refused(3, "limit.size");
    check(&["--expect", &format!("sha256:{}", "0".repeat(64))]).refused(6, "trust.expect");
    verify(&directory, "7fnzwr4fvvmdl8b3vkrfyjczwiwv6n43", &DEMANDS).refused(4, "cache.missing");
    verify(&directory, "x", &DEMANDS).refused(3, "path.name");
    fs::write(&narinfo, vec![b'x'; (4 << 20) + 1]).unwrap();
    check(&[]).refused(3, "limit.document");
    fs::write(directory.join("nix-cache-info"), "StoreDir: /gnu/store\n").unwrap();
    check(&[]).refused(3, "cache.info");
    fs::write(directory.join("nix-cache-info"), "StoreDir: /nix/store\nStoreDir: /gnu/store\n").unwrap();
    check(&[]).refused(3, "cache.info");
    fs::remove_file(directory.join("nix-cache-info")).unwrap();
    check(&[]).refused(3, "cache.info");
}

#[test]
fn a_content_address_must_be_the_contents() {
    let caches = vectors("caches");
    let cache = each(&caches).iter().find(|cache| cache["name"] == "xz").unwrap();
    let object =
        each(&cache["objects"]).iter().find(|object| text(&object["path"]).ends_with("-app.conf")).unwrap();
    let (_held, directory) = copy_cache("xz");
    verify(&directory, text(&object["path"]), &[]).ok();
    // Another text, with its own NAR hash, under the address and so the path of the first.
    let directory_of = directory.parent().unwrap();
    let other = directory_of.join("other");
    fs::write(&other, "port = 8081\n").unwrap();
    let nar = directory_of.join("other.nar");
    emergence(&["nar", "dump", other.to_str().unwrap(), "-o", nar.to_str().unwrap()]).ok();
    let check = |options: &[&str]| {
        let reference = format!("nar:{}", nar.display());
        let declared = ["--store-path", text(&object["path"]), "--ca", text(&object["ca"])];
        emergence(&[&["verify", &reference], &declared[..], options].concat())
    };
    check(&[]).refused(3, "ca.mismatch");
    fs::write(&other, "port = 8080\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let dump = || {
        fs::remove_file(&nar).unwrap();
        emergence(&["nar", "dump", other.to_str().unwrap(), "-o", nar.to_str().unwrap()]).ok();
    };
    dump();
    check(&[]).ok();
    fs::set_permissions(&other, executable).unwrap();
    dump();
    check(&[]).refused(3, "ca.mismatch");
    // The address shows it for texts only; a directory has no bytes to hash.
    let fixed = emergence(&["store-path", "fixed", other.to_str().unwrap(), "--name", "x"]);
    let ca = format!("fixed:{}", emergence(&["hash", "--flat", other.to_str().unwrap()]).ok());
    let declared = ["verify", nar.to_str().unwrap(), "--store-path", fixed.ok(), "--ca", &ca];
    emergence(&declared).ok();
    fs::remove_file(&other).unwrap();
    fs::create_dir(&other).unwrap();
    dump();
    emergence(&declared).refused(3, "ca.mismatch");
}

#[test]
fn one_nar_by_itself() {
    let nar = vector("nars/nested.nar");
    let reference = format!("nar:{}", nar.display());
    let checked = emergence(&["nar", "check", nar.to_str().unwrap()]);
    let (hash, size) = checked.ok().split_once(' ').unwrap();
    assert_eq!(emergence(&["verify", &reference]).ok(), format!("ok {hash}"));
    // Found by its first bytes.
    assert_eq!(emergence(&["verify", nar.to_str().unwrap()]).ok(), format!("ok {hash}"));
    emergence(&["verify", &reference, "--nar-hash", hash, "--nar-size", size]).ok();
    emergence(&["verify", &reference, "--nar-size", "1"]).refused(3, "nar.size");
    emergence(&["verify", &reference, "--nar-hash", &hash.replace(':', ":0").replacen("0", "", 0)])
        .refused(3, "hash.syntax");
    emergence(&["verify", &reference, "--nar-hash", &"0".repeat(64)]).refused(3, "nar.hash");
    emergence(&["verify", &reference, "--expect", &"0".repeat(64)]).refused(6, "trust.expect");
    emergence(&["verify", &reference, "--max-size", "100"]).refused(3, "limit.size");
    let path = "/nix/store/7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42-nested";
    emergence(&["verify", &reference, "--store-path", path]).refused(6, "trust.unproved");
    emergence(&["verify", &reference, "--store-path", path, "--expect", hash]).ok();
    emergence(&["verify", vector("keys/test-1.pk").to_str().unwrap()]).refused(3, "type.unknown");
    let exported = tempfile::NamedTempFile::new().unwrap();
    fs::write(exported.path(), [&1u64.to_le_bytes()[..], &fs::read(&nar).unwrap()].concat()).unwrap();
    emergence(&["verify", exported.path().to_str().unwrap()]).fails(3, "nix-store --export writes");
    emergence(&["verify", "/none/such"]).fails(4, "/none/such");
    emergence(&["verify", "/"]).refused(3, "type.unknown");
}

#[test]
fn keys_are_made_and_halved() {
    for name in ["test-1", "test-2"] {
        let file = vector(&format!("keys/{name}.sk"));
        assert_eq!(emergence(&["key", "public", file.to_str().unwrap()]).ok(), text(&vectors("keys")[name]));
    }
    let key = emergence(&["key", "generate", "mine-1"]);
    assert_ne!(key.ok(), emergence(&["key", "generate", "mine-1"]).ok());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    fs::write(&file, key.ok()).unwrap();
    assert!(emergence(&["key", "public", file.to_str().unwrap()]).ok().starts_with("mine-1:"));
    emergence(&["key", "public", vector("keys/test-1.pk").to_str().unwrap()]).fails(2, "secret key");
    emergence(&["key", "generate", "a b"]).fails(2, "name");
}
