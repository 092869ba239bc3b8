//! Layouts that are not what they say: each fault has its code, and after it everything is as
//! before.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use emergence_runc::emergence::hash::Hash;
use emergence_runc::emergence::{Limits, Result, StoreDir, Terms, Trust, Unwatched, oci};
use serde_json::{Value, json};

use crate::layouts::*;
use crate::support::{emergence, program};

/// `verify` and `unpack` refuse `reference` so, and change nothing.
fn refused(layout: &Layout, reference: &str, options: &[&str], status: i32, code: &str) {
    let before = tree(layout.root());
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("root").display().to_string();
    emergence(&[&["verify", reference][..], options].concat()).refused(status, code);
    emergence(&[&["unpack", reference, "--to", &to][..], options].concat()).refused(status, code);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{code}");
    assert_eq!(before, tree(layout.root()), "{code}");
}

fn small() -> Vec<u8> {
    tar_of(&[made(b'5', "etc"), file("etc/motd", b"hello\n")])
}

#[test]
fn a_good_one() {
    let layout = Layout::of(&[small(), tar_of(&[file("b", b"2")])]);
    let digest = emergence(&["verify", &layout.reference()]).ok().strip_prefix("ok ").unwrap().to_owned();
    let path = layout.root().display().to_string();
    for reference in [
        path.clone(),
        format!("oci:{path}"),
        format!("{path}:t"),
        format!("oci:{path}@{digest}"),
        format!("oci:{path}:t@{digest}"),
    ] {
        assert_eq!(emergence(&["verify", &reference]).ok(), format!("ok {digest}"), "{reference}");
    }
    let json = |words: &[&str]| -> Value { serde_json::from_str(emergence(words).ok()).unwrap() };
    let report = json(&["verify", "--json", &layout.reference()]);
    assert_eq!(
        (&report["ok"], &report["kind"], &report["trust"]),
        (&json!(true), &json!("oci-image"), &json!("none"))
    );
    assert_eq!(report["layers"].as_array().unwrap().len(), 2);
    assert_eq!(report["layers"][0]["diffId"], Hash::sha256(&small()).to_string());
    let pinned = json(&["verify", "--json", "--expect", &digest, &layout.reference()]);
    assert_eq!(pinned["trust"], "pinned");
    assert_eq!(json(&["verify", "--json", &format!("oci:{path}@{digest}")])["trust"], "pinned");
    let other = format!("sha256:{}", "0".repeat(64));
    refused(&layout, &layout.reference(), &["--expect", &other], 6, "trust.expect");
    refused(&layout, &layout.reference(), &["--trust", "signed"], 6, "trust.unproved");
}

#[test]
fn references_without_a_target() {
    let layout = Layout::of(&[small()]);
    let path = layout.root().display().to_string();
    refused(&layout, &format!("oci:{path}:other"), &[], 4, "oci.no-tag");
    refused(&layout, &format!("oci:{path}@sha256:{}", "0".repeat(64)), &[], 4, "oci.no-tag");
    let one = layout.image(&[layout.gzipped(&small())]);
    let two = layout.image(&[layout.plain(&small())]);
    layout.index(&[tagged(one.clone(), "one"), tagged(two.clone(), "two")]);
    refused(&layout, &format!("oci:{path}"), &[], 4, "oci.no-tag");
    emergence(&["verify", &format!("oci:{path}:two")]).ok();
    layout.index(&[tagged(one.clone(), "t"), tagged(two, "t")]);
    refused(&layout, &layout.reference(), &[], 3, "oci.layout");
    layout.index(&[]);
    refused(&layout, &format!("oci:{path}"), &[], 4, "oci.no-tag");
    let nowhere = tempfile::tempdir().unwrap();
    let none = nowhere.path().join("none").display().to_string();
    emergence(&["verify", &format!("oci:{none}")]).fails(4, "no such file or directory");
    emergence(&["verify", &format!("oci:{}", nowhere.path().display())]).refused(3, "oci.layout");
}

/// Libraries write an index as index.json itself; the entries of one image for several platforms
/// then have no names, or one.
#[test]
fn platforms_in_index_json() {
    let layout = Layout::new();
    let path = format!("oci:{}", layout.root().display());
    let image = |text: &[u8]| layout.image(&[layout.plain(&tar_of(&[file("which", text)]))]);
    let arm = on(image(b"arm"), "arm64", "linux");
    let amd = on(image(b"amd"), "amd64", "linux");
    let statement = on(image(b"statement"), "unknown", "unknown");
    let verified =
        |reference: &str, platform: &str| emergence(&["verify", reference, "--platform", platform]);
    let ok = |manifest: &Value| format!("ok {}", manifest["digest"].as_str().unwrap());
    layout.index(&[statement.clone(), arm.clone(), amd.clone()]);
    assert_eq!(verified(&path, "linux/amd64").ok(), ok(&amd));
    assert_eq!(verified(&path, "linux/arm64").ok(), ok(&arm));
    verified(&path, "linux/s390x").refused(4, "oci.no-platform");
    layout.index(&[tagged(arm.clone(), "t"), tagged(amd.clone(), "t")]);
    assert_eq!(verified(&layout.reference(), "linux/amd64").ok(), ok(&amd));
    assert_eq!(verified(&path, "linux/amd64").ok(), ok(&amd));
    // Different images are stored separately, whatever their content.
    layout.index(&[tagged(arm.clone(), "one"), tagged(amd.clone(), "two")]);
    verified(&path, "linux/amd64").refused(4, "oci.no-tag");
    layout.index(&[amd.clone(), on(image(b"other"), "amd64", "linux")]);
    verified(&path, "linux/amd64").refused(4, "oci.no-tag");
    layout.index(&[arm, image(b"unnamed")]);
    verified(&path, "linux/arm64").refused(4, "oci.no-tag");
}

/// podman save tags with the whole name; skopeo copies with any.
#[test]
fn tags_that_are_full_references() {
    let layout = Layout::new();
    let (one, two) = (layout.image(&[layout.plain(&small())]), layout.image(&[layout.gzipped(&small())]));
    layout.index(&[tagged(one.clone(), "localhost/app:latest"), tagged(two.clone(), "reg:5000/a/b:1.0")]);
    let held = tempfile::tempdir().unwrap();
    let tar = held.path().join("a:b.tar").display().to_string();
    let root = layout.root().display().to_string();
    assert!(Command::new("tar").args(["-cf", &tar, "-C", &root, "."]).status().unwrap().success());
    for path in [&root, &format!("oci:{root}"), &tar, &format!("oci-archive:{tar}")] {
        for (tag, manifest) in [("localhost/app:latest", &one), ("reg:5000/a/b:1.0", &two)] {
            let digest = manifest["digest"].as_str().unwrap();
            let want = format!("ok {digest}");
            assert_eq!(emergence(&["verify", &format!("{path}:{tag}")]).ok(), want);
            assert_eq!(emergence(&["verify", &format!("{path}:{tag}@{digest}")]).ok(), want);
        }
        emergence(&["verify", &format!("{path}:localhost/other:latest")]).refused(4, "oci.no-tag");
    }
    emergence(&["verify", &format!("oci:{root}-none:localhost/app:latest")])
        .fails(4, "no such file or directory");
}

/// skopeo writes them into layouts still; the digest is that of a part of what is stored.
#[test]
fn dockers_older_manifests() {
    let layout = Layout::new();
    let mut old =
        layout.blob("application/vnd.docker.distribution.manifest.v1+prettyjws", br#"{"schemaVersion":1}"#);
    layout.write(
        &format!("blobs/sha256/{}", &old["digest"].as_str().unwrap()[7..]),
        br#"{"schemaVersion":1}     "#,
    );
    old["size"] = json!(24);
    layout.index(&[tagged(old, "t")]);
    refused(&layout, &layout.reference(), &[], 3, "oci.media-type");
}

fn on(mut descriptor: Value, architecture: &str, os: &str) -> Value {
    descriptor["platform"] = json!({ "architecture": architecture, "os": os });
    descriptor
}

#[test]
fn platforms_and_indexes_in_indexes() {
    let layout = Layout::new();
    let image = |text: &[u8]| layout.image(&[layout.plain(&tar_of(&[file("which", text)]))]);
    let index = layout.nested(&[
        on(image(b"windows"), "amd64", "windows"),
        on(image(b"arm"), "arm64", "linux"),
        on(image(b"first"), "amd64", "linux"),
        on(image(b"second"), "amd64", "linux"),
        image(b"unnamed"),
    ]);
    layout.index(&[tagged(index.clone(), "t")]);
    let which = |platform: &str| {
        let to = layout.path("out");
        let words =
            ["unpack", &layout.reference(), "--platform", platform, "--to", &to.display().to_string()];
        emergence(&words).ok();
        let found = fs::read_to_string(to.join("which")).unwrap();
        fs::remove_dir_all(to).unwrap();
        found
    };
    assert_eq!(which("linux/amd64"), "first");
    assert_eq!(which("linux/arm64"), "arm");
    assert_eq!(which("linux/riscv64"), "unnamed");
    let only = layout.nested(&[on(image(b"a"), "s390x", "linux"), on(image(b"b"), "ppc64le", "aix")]);
    layout.index(&[tagged(only.clone(), "t")]);
    refused(&layout, &layout.reference(), &["--platform", "linux/amd64"], 4, "oci.no-platform");
    let answer = emergence(&["verify", &layout.reference(), "--platform", "linux/amd64"]);
    answer.fails(4, "it has linux/s390x, aix/ppc64le");
    // The digest of a manifest in an index names it, whatever its platform.
    let digest = image(b"a")["digest"].as_str().unwrap().to_owned();
    let named = format!("oci:{}@{digest}", layout.root().display());
    assert_eq!(emergence(&["verify", &named]).ok(), format!("ok {digest}"));
    let mut deep = on(image(b"deep"), "amd64", "linux");
    for depth in 1..=5 {
        deep = layout.nested(&[deep]);
        layout.index(&[tagged(deep.clone(), "t")]);
        let words = ["--platform", "linux/amd64"];
        match depth {
            5 => refused(&layout, &layout.reference(), &words, 3, "oci.layout"),
            _ => drop(emergence(&[&["verify", &layout.reference()][..], &words].concat()).ok().to_owned()),
        }
    }
}

/// Changes the manifest of a small image.
fn changed(change: impl FnOnce(&mut Value)) -> Layout {
    let layout = Layout::of(&[small()]);
    let index: Value = serde_json::from_slice(&fs::read(layout.path("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let mut manifest = serde_json::from_slice(&fs::read(layout.path("blobs").join(digest)).unwrap()).unwrap();
    change(&mut manifest);
    let manifest = layout.manifest(&manifest);
    layout.index(&[tagged(manifest, "t")]);
    layout
}

#[test]
fn documents_that_are_wrong() {
    type Change = fn(&mut Value);
    let table: [(Change, i32, &str); 16] = [
        (|m| m["schemaVersion"] = 1.into(), 3, "oci.media-type"),
        (|m| m["mediaType"] = INDEX.into(), 3, "oci.media-type"),
        (|m| m["manifests"] = json!([]), 3, "oci.media-type"),
        (|m| m["config"]["mediaType"] = "text/plain".into(), 3, "oci.media-type"),
        (
            |m| m["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+xz".into(),
            3,
            "oci.media-type",
        ),
        (|m| m["layers"] = json!([]), 3, "oci.diff-id"),
        (|m| m["layers"][0]["size"] = 7.into(), 3, "blob.size"),
        (|m| m["config"]["size"] = 7.into(), 3, "blob.size"),
        (|m| m["layers"][0]["digest"] = format!("sha256:{}", "1".repeat(64)).into(), 4, "blob.missing"),
        (|m| m["config"]["digest"] = format!("sha256:{}", "1".repeat(64)).into(), 4, "blob.missing"),
        (|m| m["layers"][0]["digest"] = "sha256:1".into(), 3, "json.syntax"),
        (|m| m["layers"][0]["data"] = "aGk=".into(), 3, "blob.size"),
        (|m| m["config"]["data"] = "!".into(), 3, "json.syntax"),
        (|m| m["config"] = Value::Null, 3, "json.syntax"),
        (|m| m["layers"][0]["mediaType"] = LAYER.into(), 3, "oci.media-type"),
        (|m| m["layers"][0]["mediaType"] = format!("{LAYER}+zstd").into(), 3, "oci.media-type"),
    ];
    for (at, (change, status, code)) in table.into_iter().enumerate() {
        println!("{at}");
        let layout = changed(change);
        refused(&layout, &layout.reference(), &[], status, code);
    }
    let wrong_data = changed(|m| {
        let size = m["config"]["size"].as_u64().unwrap() as usize;
        m["config"]["data"] = data_encoding::BASE64.encode(&vec![b'x'; size]).into();
    });
    refused(&wrong_data, &wrong_data.reference(), &[], 3, "blob.digest");
}

#[test]
fn files_of_a_layout_that_are_wrong() {
    let table: [(&str, &[u8], &str); 8] = [
        ("oci-layout", b"{\"imageLayoutVersion\":\"2.0.0\"}", "oci.layout"),
        ("oci-layout", b"{}", "oci.layout"),
        ("oci-layout", b"{", "json.syntax"),
        ("index.json", b"{\"schemaVersion\":2,\"manifests\":[]", "json.syntax"),
        ("index.json", b"{\"schemaVersion\":2,\"schemaVersion\":2,\"manifests\":[]}", "json.duplicate-key"),
        ("index.json", b"{\"schemaVersion\":2,\"manifests\":{}}", "json.syntax"),
        ("index.json", b"{\"schemaVersion\":3,\"manifests\":[]}", "oci.media-type"),
        ("index.json", b"{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}", "oci.media-type"),
    ];
    for (name, bytes, code) in table {
        let layout = Layout::of(&[small()]);
        layout.write(name, bytes);
        refused(&layout, &layout.reference(), &[], 3, code);
    }
    let layout = Layout::of(&[small()]);
    layout.write("index.json", &[b"[".repeat(200), b"]".repeat(200)].concat());
    refused(&layout, &layout.reference(), &[], 3, "json.syntax");
    layout.write("index.json", &[b"{\"a\":\"".to_vec(), vec![b'x'; 4 << 20], b"\"}".to_vec()].concat());
    refused(&layout, &layout.reference(), &[], 3, "limit.document");
    fs::remove_file(layout.path("index.json")).unwrap();
    refused(&layout, &layout.reference(), &[], 3, "oci.layout");
    fs::remove_file(layout.path("oci-layout")).unwrap();
    layout.write("manifest.json", b"[]");
    refused(&layout, &format!("oci:{}", layout.root().display()), &[], 3, "oci.docker-v1");
}

#[test]
fn layers_that_differ_from_their_declaration() {
    let layout = Layout::new();
    let with = |layers: &[Layer]| layout.index(&[tagged(layout.image(layers), "t")]);
    let (blob, id) = layout.gzipped(&small());
    with(&[(blob.clone(), Hash::sha256(b"x").to_string())]);
    refused(&layout, &layout.reference(), &[], 3, "oci.diff-id");
    with(&[(layout.plain(&small()).0, Hash::sha256(b"x").to_string())]);
    refused(&layout, &layout.reference(), &[], 3, "oci.diff-id");
    let (plain, plain_id) = layout.plain(&small());
    let mut other = small();
    other[0] = b'f';
    layout.write(&format!("blobs/sha256/{}", &plain["digest"].as_str().unwrap()[7..]), &other);
    with(&[(plain, plain_id)]);
    refused(&layout, &layout.reference(), &[], 3, "blob.digest");
    // Several members of gzip are one layer.
    let tar = small();
    let two = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    with(&[(layout.blob(&format!("{LAYER}+gzip"), &two), id.clone())]);
    emergence(&["verify", &layout.reference()]).ok();
    let mut cut = gzip(&tar);
    cut.truncate(cut.len() - 9);
    with(&[(layout.blob(&format!("{LAYER}+gzip"), &cut), id.clone())]);
    refused(&layout, &layout.reference(), &[], 3, "blob.compression");
    let garbage = [gzip(&tar), b"garbage".to_vec()].concat();
    with(&[(layout.blob(&format!("{LAYER}+gzip"), &garbage), id.clone())]);
    refused(&layout, &layout.reference(), &[], 3, "blob.compression");
    // Docker's names for the same things, and layers that may not be passed on.
    for (media_type, bytes) in [
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip(&tar)),
        ("application/vnd.docker.image.rootfs.diff.tar", tar.clone()),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", gzip(&tar)),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            zstd::encode_all(&tar[..], 1).unwrap(),
        ),
    ] {
        with(&[(layout.blob(media_type, &bytes), id.clone())]);
        emergence(&["verify", &layout.reference()]).ok();
    }
    with(&vec![(blob, id); 1001]);
    refused(&layout, &layout.reference(), &[], 3, "limit.entries");
}

/// Ten GiB of zeros, which gzip makes small: refused at the bound, in little memory.
#[test]
fn a_bomb() {
    let layout = Layout::new();
    let mut zeros = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    zeros.write_all(&vec![0u8; 64 << 20]).unwrap();
    let members = zeros.finish().unwrap().repeat(160);
    let blob = layout.blob(&format!("{LAYER}+gzip"), &members);
    layout.index(&[tagged(layout.image(&[(blob, Hash::sha256(b"").to_string())]), "t")]);
    let program =
        std::env::var_os("EMERGENCE_RUNC_BIN").unwrap_or(env!("CARGO_BIN_EXE_emergence-runc").into());
    let program = program.to_str().unwrap();
    let limited = format!(
        "ulimit -v 600000; exec {program} emergence verify --max-size 1000000 {}",
        layout.reference()
    );
    let output = std::process::Command::new("sh").args(["-c", &limited]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{words}");
    assert!(words.ends_with("[limit.size]\n"), "{words}");
    refused(&layout, &layout.reference(), &["--max-size", "1000000"], 3, "limit.size");
}

/// What `verify` does, without a process for each byte.
fn verify(path: &Path, digest: &str) -> Result<String> {
    let digest = Hash::parse(digest, None)?;
    let terms = Terms {
        dir: StoreDir::default(),
        trust: Trust::default(),
        limits: Limits::default(),
        scan: false,
        jobs: 1,
        watch: std::sync::Arc::new(Unwatched),
        destination: None,
    };
    let layout = oci::Layout::open(path)?;
    let found = layout.resolve(Some("t"), Some(&digest), &oci::Platform::here(), &|_| Ok(true))?;
    let image = oci::Image::open(layout, found, &terms)?;
    Ok(image.verify(&terms, false)?.report.digest.to_string())
}

/// Each byte of a small layout flipped in turn: refused, or one of those that prove nothing.
#[test]
fn every_byte_counts() {
    let layout = Layout::of(&[small()]);
    let reference = layout.reference();
    let digest = emergence(&["verify", &reference]).ok().strip_prefix("ok ").unwrap().to_owned();
    let pinned = format!("{reference}@{digest}");
    let mut files: Vec<_> =
        fs::read_dir(layout.path("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.push(layout.path("index.json"));
    files.push(layout.path("oci-layout"));
    for path in files {
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut wrong = good.clone();
            wrong[at] ^= 1;
            fs::write(&path, &wrong).unwrap();
            let name = path.display();
            let status = match verify(layout.root(), &digest) {
                // index.json has no digest: where nothing reads it, a byte may change. What it
                // leads to is the pinned image still.
                Ok(found) => {
                    assert!(path.ends_with("index.json") && found == digest, "{name}, byte {at}");
                    continue;
                }
                Err(fault) => fault.status(),
            };
            assert!([3, 4, 6].contains(&status), "{name}, byte {at}: {status}");
            if at % 16 == 0 {
                let to = layout.path("out");
                let answer = emergence(&["unpack", &pinned, "--to", &to.display().to_string()]);
                assert!(answer.status == i32::from(status) && !to.exists(), "{name}, byte {at}");
            }
        }
        fs::write(&path, &good).unwrap();
    }
    emergence(&["verify", &pinned]).ok();
    assert_eq!(fs::read_dir(layout.root()).unwrap().count(), 3);
}

#[test]
fn archives() {
    let layout = Layout::of(&[small()]);
    let path = layout.path("a.tar");
    let tar = |words: &[&str]| {
        let output = std::process::Command::new("tar").args(words).output().unwrap();
        assert!(output.status.success());
    };
    let (text, root) = (path.display().to_string(), layout.root().display().to_string());
    tar(&["-cf", &text, "-C", &root, "oci-layout", "index.json", "blobs"]);
    let digest = emergence(&["verify", &layout.reference()]).ok().to_owned();
    for reference in [format!("oci-archive:{text}"), format!("oci-archive:{text}:t"), text.clone()] {
        assert_eq!(emergence(&["verify", &reference]).ok(), digest, "{reference}");
    }
    refused(&layout, &format!("oci-archive:{root}"), &[], 3, "oci.layout");
    let other = layout.path("b.tar");
    let beside = other.display().to_string();
    fs::hard_link(layout.path("index.json"), layout.path("first")).unwrap();
    tar(&[
        "-cPf",
        &beside,
        "-C",
        &root,
        "--transform",
        "s,^,/./,",
        "first",
        "oci-layout",
        "index.json",
        "blobs",
    ]);
    assert_eq!(emergence(&["verify", &beside]).ok(), digest, "hard links, and names with more before them");
    fs::remove_file(&other).unwrap();
    fs::remove_file(layout.path("first")).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, gzip(&whole)).unwrap();
    refused(&layout, &format!("oci-archive:{text}"), &[], 3, "oci.layout");
    fs::write(&path, &whole[..530]).unwrap();
    emergence(&["verify", &format!("oci-archive:{text}")]).refused(3, "layer.header");
    fs::write(&path, "no tar at all").unwrap();
    emergence(&["verify", &format!("oci-archive:{text}")]).refused(3, "layer.header");
    // The same file twice: which of them is meant?
    fs::write(&path, &whole).unwrap();
    tar(&["-rf", &text, "-C", &root, "index.json"]);
    refused(&layout, &format!("oci-archive:{text}"), &[], 3, "oci.layout");
    // What docker save wrote before it wrote layouts.
    fs::write(&path, tar_of(&[file("manifest.json", b"[]"), file("repositories", b"{}")])).unwrap();
    refused(&layout, &format!("oci-archive:{text}"), &[], 3, "oci.docker-v1");
}

#[test]
fn declarations_of_an_image() {
    let layout = Layout::new();
    let tar = small();
    let (blob, id) = layout.gzipped(&tar);
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
        "config": {
            "Entrypoint": ["/bin/sh", "-c", "app"], "Cmd": null, "Env": ["A=b\u{1b}[1m"],
            "ExposedPorts": { "80/tcp": {}, "53/udp": {} }, "User": "1:2", "WorkingDir": "/srv",
        },
        "rootfs": { "type": "layers", "diff_ids": [id] },
    });
    let config = layout.blob(CONFIG, config.to_string().as_bytes());
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [blob] });
    layout.index(&[tagged(layout.manifest(&manifest), "t")]);
    // A program gets JSON without asking; a person at a terminal gets words.
    let shown: Value = serde_json::from_str(emergence(&["inspect", &layout.reference()]).ok()).unwrap();
    assert_eq!(shown["kind"], "oci-image");
    let line = format!("{} emergence inspect {}", program().to_string_lossy(), layout.reference());
    let terminal = Command::new("script").args(["-qec", &line, "/dev/null"]).output().unwrap();
    let text = String::from_utf8(terminal.stdout).unwrap().replace('\r', "");
    for line in [
        "entrypoint   /bin/sh -c app",
        "ports        53/udp",
        "env          A=b\\u{1b}[1m",
        "user         1:2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(text.contains("warning      Entrypoint is in shell form"));
    let json: Value =
        serde_json::from_str(emergence(&["inspect", "--json", &layout.reference()]).ok()).unwrap();
    assert_eq!(json["ports"], json!([{ "port": 53, "protocol": "udp" }, { "port": 80, "protocol": "tcp" }]));
    assert_eq!(json["config"]["Entrypoint"], json!(["/bin/sh", "-c", "app"]));
    assert_eq!(json["warnings"].as_array().unwrap().len(), 1);
    // It reads the documents only: the layer may be missing.
    fs::remove_dir_all(layout.path("blobs")).unwrap();
    emergence(&["inspect", &layout.reference()]).refused(4, "blob.missing");
}
