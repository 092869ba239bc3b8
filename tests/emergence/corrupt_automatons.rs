//! Automata that are corrupt or contradict their document, and packs that are refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use emergence_runc::emergence::hash::Hash;
use emergence_runc::emergence::{Declared, Reference, open_closure};
use serde_json::{Value, json};

use crate::automatons::{Work, listing, write};
use crate::support::{Answer, default_terms, emergence, text};

/// A layout of one manifest that can be corrupted: digests are updated after a change, up to the
/// index.
struct CorruptLayout {
    work: Work,
    layout: PathBuf,
}

impl CorruptLayout {
    fn new(form: &str) -> Self {
        let work = Work::new();
        work.pack(&format!("{}:1", work.output("good")), &["--form", form, "--compress", "none"]).ok();
        let layout = work.path("bad");
        Self { work, layout }
    }

    fn blob(&self, descriptor: &Value) -> PathBuf {
        self.layout.join("blobs").join(text(&descriptor["digest"]).replace(':', "/"))
    }

    fn put(&self, descriptor: &mut Value, bytes: &[u8]) {
        descriptor["digest"] = json!(Hash::sha256(bytes).to_string());
        descriptor["size"] = json!(bytes.len());
        fs::write(self.blob(descriptor), bytes).unwrap();
    }

    /// The good layout with its manifest, its configuration and its first layer changed.
    fn change(&self, change: &dyn Fn(&mut Value, &mut Value, &mut Vec<u8>)) -> Answer {
        let _ = fs::remove_dir_all(&self.layout);
        let copied = Command::new("cp").arg("-a").arg(self.work.path("good")).arg(&self.layout).status();
        assert!(copied.unwrap().success());
        let index_file = self.layout.join("index.json");
        let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let mut index = read(&index_file);
        let mut manifest = read(&self.blob(&index["manifests"][0]));
        let mut config = read(&self.blob(&manifest["config"]));
        let mut layer = fs::read(self.blob(&manifest["layers"][0])).unwrap();
        let old = manifest.clone();
        change(&mut manifest, &mut config, &mut layer);
        if manifest["layers"][0]["digest"] == old["layers"][0]["digest"] {
            let mut descriptor = manifest["layers"][0].take();
            self.put(&mut descriptor, &layer);
            manifest["layers"][0] = descriptor;
        }
        let mut descriptor = manifest["config"].take();
        self.put(&mut descriptor, config.to_string().as_bytes());
        manifest["config"] = descriptor;
        let mut descriptor = index["manifests"][0].take();
        self.put(&mut descriptor, manifest.to_string().as_bytes());
        index["manifests"][0] = descriptor;
        fs::write(&index_file, index.to_string()).unwrap();
        let before = self.work.listing();
        let reference = format!("oci:{}:1", self.layout.display());
        let answer = emergence(&["verify", &reference]);
        let (store, to) = (self.work.text("store"), self.work.text("to"));
        let unpacked = emergence(&["unpack", &reference, "--to", &to]);
        assert_eq!(unpacked.status, answer.status, "{}", unpacked.stderr);
        if answer.status != 0 {
            assert_eq!(self.work.listing(), before);
            let imported = emergence(&["--store", &store, "import", &reference]);
            assert_eq!(imported.status, answer.status, "{}", imported.stderr);
            assert_eq!(self.work.listing(), before);
        }
        let _ = fs::remove_dir_all(&to);
        answer
    }
}

/// Some tools drop what they do not know of a manifest, and carry the configuration on.
#[test]
fn an_automaton_without_a_declaring_manifest_is_a_plain_image_with_a_warning() {
    let corrupt = CorruptLayout::new("image");
    let answer = corrupt.change(&|manifest, _, _| {
        drop(manifest.as_object_mut().unwrap().remove("artifactType"));
        drop(manifest.as_object_mut().unwrap().remove("annotations"));
    });
    assert_eq!(answer.status, 0, "{}", answer.stderr);
    assert!(
        answer.stderr.starts_with("warning: its configuration declares an automaton"),
        "{}",
        answer.stderr
    );
    let reference = format!("oci:{}:1", corrupt.layout.display());
    let inspected = emergence(&["--json", "inspect", &reference]);
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["kind"], "oci-image");
    assert!(text(&inspected["warnings"][0]).contains("declares an automaton"), "{inspected}");
}

const NOTE: &str = "com.matrixai.emergence.";

#[test]
fn a_consistent_layout_must_match_the_document() {
    let zeros = json!(format!("sha256:{}", "0".repeat(64)));
    let note = |name: &str| format!("{NOTE}{name}");
    for form in ["image", "artifact"] {
        let corrupt = CorruptLayout::new(form);
        corrupt.change(&|_, _, _| {}).ok();
        let document = |config: &mut Value, change: &dyn Fn(&mut Value)| match form {
            "image" => change(&mut config["com.matrixai.automaton"]),
            _ => change(config),
        };
        for name in ["automaton", "declaration", "output"] {
            corrupt
                .change(&|manifest, _, _| manifest["annotations"][note(name)] = zeros.clone())
                .refused(3, "automaton.mismatch");
            let gone = |manifest: &mut Value| {
                drop(manifest["annotations"].as_object_mut().unwrap().remove(&note(name)))
            };
            corrupt.change(&|manifest, _, _| gone(manifest)).refused(3, "automaton.mismatch");
        }
        corrupt
            .change(&|manifest, _, _| manifest["annotations"][note("closure")] = json!("x"))
            .refused(3, "automaton.mismatch");
        corrupt
            .change(&|manifest, _, _| manifest["annotations"][note("signature")] = json!("x"))
            .refused(3, "automaton.mismatch");
        corrupt
            .change(&|manifest, _, _| manifest["layers"][0]["annotations"] = json!({}))
            .refused(3, "layer.not-canonical");
        corrupt
            .change(&|manifest, _, _| {
                manifest["layers"][0]["annotations"] = manifest["layers"][1]["annotations"].clone()
            })
            .refused(3, "layer.not-canonical");
        corrupt.change(&|manifest, _, _| drop(manifest["layers"].as_array_mut().unwrap().remove(1))).refused(
            if form == "image" { 3 } else { 4 },
            if form == "image" { "oci.diff-id" } else { "closure.incomplete" },
        );
        corrupt
            .change(&|manifest, _, _| manifest["layers"][0]["mediaType"] = json!("text/plain"))
            .refused(3, "oci.media-type");
        let changed = |change: &dyn Fn(&mut Value)| corrupt.change(&|_, config, _| document(config, change));
        changed(&|document| document["x-note"] = json!(1)).ok();
        changed(&|document| document["note"] = json!(1)).refused(3, "doc.unknown-field");
        changed(&|document| document["init"]["args"] = json!("x")).refused(3, "doc.shell-form");
        changed(&|document| document["parameters"] = json!([])).refused(3, "doc.parameter");
        changed(&|document| document["declaration"]["digest"] = zeros.clone())
            .refused(3, "declaration.mismatch");
        changed(&|document| document["declaration"]["inputs"][0]["digest"] = Value::Null)
            .refused(3, "declaration.unpinned");
        changed(&|document| document["closure"][0]["narHash"] = zeros.clone())
            .refused(3, "automaton.mismatch");
        changed(&|document| drop(document["closure"].as_array_mut().unwrap().remove(0)))
            .refused(4, "closure.incomplete");
        changed(&|document| document["constraints"] = json!([])).refused(3, "automaton.mismatch");
        changed(&|document| document["ports"][0]["name"] = json!("other")).refused(3, "automaton.mismatch");
        // Who changes what is started and all that names it still has to point at a program.
        let entry = |document: &mut Value| {
            let path = text(&document["outputs"]["out"]).to_owned();
            document["init"]["entrypoint"] = json!([format!("{path}/note")]);
        };
        if form == "image" {
            changed(&entry).refused(3, "automaton.mismatch");
            corrupt
                .change(&|_, config, _| config["config"]["Entrypoint"] = json!(["/bin/sh"]))
                .refused(3, "automaton.mismatch");
            corrupt
                .change(&|_, config, _| config["rootfs"]["diff_ids"][0] = zeros.clone())
                .refused(3, "oci.diff-id");
            corrupt
                .change(&|_, config, _| {
                    drop(config.as_object_mut().unwrap().remove("com.matrixai.automaton"))
                })
                .refused(3, "json.syntax");
            // One byte of a header, of the end, and after it.
            for at in [100, 600, 1100] {
                corrupt.change(&|_, _, layer| layer[at] ^= 1).refused(3, "layer.not-canonical");
            }
            corrupt.change(&|_, _, layer| layer.push(0)).refused(3, "layer.not-canonical");
            corrupt.change(&|_, _, layer| layer.truncate(1024)).refused(3, "layer.not-canonical");
            corrupt.change(&|_, _, layer| layer[1536] ^= 1).refused(3, "nar.hash");
        } else {
            corrupt.change(&|_, _, layer| layer[0] ^= 1).refused(3, "nar.magic");
            corrupt.change(&|_, _, layer| layer[96] ^= 1).refused(3, "nar.hash");
            corrupt.change(&|_, _, layer| layer.push(0)).refused(3, "nar.trailing");
        }
    }
}

#[test]
fn every_flipped_byte_of_an_image_is_seen_or_changes_nothing() {
    flip("image");
}

#[test]
fn every_flipped_byte_of_an_artifact_is_seen_or_changes_nothing() {
    flip("artifact");
}

fn flip(form: &str) {
    let terms = default_terms();
    let work = Work::new();
    let reference = format!("{}:1", work.output("out"));
    work.pack(&reference, &["--form", form]).ok();
    let verify = || {
        let reference = Reference::parse(&reference, &terms.dir)?;
        open_closure(&reference, &Declared::default(), None, &terms)?.verify(&terms)
    };
    let good = verify().unwrap();
    let files: BTreeMap<PathBuf, Vec<u8>> = listing(&work.path("out"))
        .iter()
        .map(|line| work.path("out").join(line.split(' ').next().unwrap()))
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    assert!(files.len() >= 6);
    for (path, bytes) in &files {
        let mut passed = Vec::new();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            fs::write(path, &bad).unwrap();
            match verify() {
                Err(fault) => {
                    assert!([3, 4, 6].contains(&fault.status()), "{}, byte {at}: {fault}", path.display())
                }
                Ok(report) => {
                    assert_eq!((report.digest, report.digests), (good.digest, good.digests));
                    assert_eq!(report.objects, good.objects);
                    passed.push(at);
                }
            }
        }
        fs::write(path, bytes).unwrap();
        // Nothing covers optional members of index.json: without one it is the same artifact.
        if path.ends_with("index.json") {
            let words: usize = ["artifactType", "platform", "mediaType"].iter().map(|word| word.len()).sum();
            assert!(passed.len() <= words, "{passed:?}");
        } else {
            assert_eq!(passed, [0; 0], "{}", path.display());
        }
    }
    verify().unwrap();
}

#[test]
fn a_failed_pack_leaves_nothing() {
    let work = Work::new();
    let hash = |byte: char| format!("sha256:{}", byte.to_string().repeat(64));
    let digest = Hash::sha256(&fs::read(work.path("Dockerfile")).unwrap()).to_string();
    let table: Vec<(&str, Value, i32, &str)> = vec![
        ("/extra", json!(1), 3, "doc.unknown-field"),
        ("/closure", json!([]), 3, "doc.unknown-field"),
        ("/init/entrypoint", json!("@app/bin/serve --port"), 3, "doc.shell-form"),
        ("/init/args", json!(["{other}"]), 3, "doc.parameter"),
        ("/init/args", json!([]), 3, ""),
        ("/init/entrypoint", json!(["@app/bin/none"]), 3, "doc.entrypoint"),
        ("/init/entrypoint", json!(["@app/note"]), 3, "doc.entrypoint"),
        ("/init/entrypoint", json!(["@app/bin"]), 3, "doc.entrypoint"),
        ("/init/entrypoint", json!(["@app/note/x"]), 3, "doc.entrypoint"),
        ("/init/entrypoint", json!(["/bin/sh", "@app"]), 3, "doc.entrypoint"),
        ("/init/entrypoint", json!(["@none/bin/serve"]), 3, "doc.entrypoint"),
        ("/outputs/out", json!("@none"), 3, "path.name"),
        ("/outputs/dev", json!("/nix/store/7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42-x"), 4, "closure.incomplete"),
        ("/declaration/inputs/0", json!({"path": "./Dockerfile"}), 3, "declaration.unpinned"),
        (
            "/declaration/inputs/0",
            json!({"path": "./Dockerfile", "digest": hash('0')}),
            3,
            "declaration.mismatch",
        ),
        ("/declaration/digest", json!(hash('1')), 3, "declaration.mismatch"),
        ("/declaration", json!({"kind": "fixed-output", "digest": hash('2')}), 3, "declaration.mismatch"),
        (
            "/declaration",
            json!({"kind": "nix-derivation", "inputs": [{"path": "Dockerfile", "digest": digest}]}),
            3,
            "json.syntax",
        ),
        ("/constraints/0/min", json!(0.5), 3, "json.syntax"),
    ];
    for (pointer, value, status, code) in table {
        work.spec(&[(pointer, value.clone())]);
        let before = work.listing();
        for output in [format!("{}:1", work.output("new")), format!("oci-archive:{}", work.text("new.tar"))] {
            let answer = work.pack(&output, &[]);
            match code {
                // A parameter that a port has is used.
                "" => drop(answer.ok()),
                code => {
                    answer.refused(status, code);
                    assert_eq!(work.listing(), before, "{pointer} {value}");
                }
            }
        }
        let _ = (fs::remove_dir_all(work.path("new")), fs::remove_file(work.path("new.tar")));
    }
    work.spec(&[]);
    fs::create_dir(work.path("other")).unwrap();
    write(&work.path("other/file"), "x", 0o644);
    write(&work.path("spare"), "spare\n", 0o644);
    let before = work.listing();
    work.pack(&work.output("other"), &[]).refused(3, "oci.layout");
    work.pack(&work.output("new"), &["--tree", &format!("spare={}", work.text("spare"))])
        .fails(2, "-spare: is packed, but");
    work.pack(&work.output("new"), &["--tree", "app=/etc/hostname"]).fails(2, "two trees are called app");
    work.pack(&work.output("new"), &["--tree", &format!("x={}", work.text("none"))]).fails(4, "no such file");
    work.pack("out", &[]).fails(2, "--output out: must be");
    work.pack(&work.output("none/new"), &[]).fails(1, "no such file");
    assert_eq!(work.listing(), before);
    // What is there stays as it is when something cannot be added.
    work.pack(&format!("{}:1", work.output("there")), &[]).ok();
    let before = work.listing();
    work.spec(&[("/init/entrypoint", json!(["@app/bin/none"]))]);
    let options = ["--tree", "app=/none"];
    work.pack(&format!("{}:2", work.output("there")), &[]).refused(3, "doc.entrypoint");
    work.pack(&format!("{}:2", work.output("there")), &options).fails(4, "/none");
    let left: Vec<String> =
        work.listing().into_iter().filter(|line| !line.starts_with("spec.json")).collect();
    let before: Vec<String> = before.into_iter().filter(|line| !line.starts_with("spec.json")).collect();
    assert_eq!(left, before);
}

#[test]
fn only_verifiable_input_is_packed() {
    let work = Work::new();
    let constraints = |value: Value| ("/constraints", json!([value]));
    let table = [
        (constraints(json!({"kind": "arch", "anyOf": ["amd64"], "color": 1})), "doc.unknown-field"),
        (constraints(json!({"kind": "arch"})), "json.syntax"),
        (constraints(json!({})), "json.syntax"),
        (constraints(json!("amd64")), "json.syntax"),
        (("/init/stopSignal", json!("SIGFOO")), "json.syntax"),
        (("/init/stopSignal", json!("0")), "json.syntax"),
    ];
    let before = work.listing();
    for ((pointer, value), code) in table {
        work.spec(&[(pointer, value)]);
        work.pack(&work.output("out"), &[]).refused(3, code);
    }
    work.spec(&[]);
    assert_eq!(before, work.listing());
    // A kind that is not known here may be known where it is run, and x- members are anyone's.
    work.spec(&[(
        "/constraints",
        json!([{"kind": "quantum"}, {"kind": "arch", "anyOf": ["amd64"], "x-why": 1}]),
    )]);
    work.pack(&work.output("out"), &[]).ok();
    emergence(&["verify", &work.output("out")]).refused(5, "constraint.unknown");
}

/// A machine does not stock what it cannot run, unless it is told to.
#[test]
fn unpack_and_import_check_constraints() {
    let work = Work::new();
    let reference = work.output("out");
    work.spec(&[("/constraints", json!([{"kind": "memory", "min": 1_u64 << 52}]))]);
    work.pack(&reference, &[]).ok();
    let (fits, small) = (work.text("fits.json"), work.text("small.json"));
    fs::write(&fits, json!({"memory": 1_u64 << 53}).to_string()).unwrap();
    fs::write(&small, json!({"memory": 1_u64 << 51}).to_string()).unwrap();
    let before = work.listing();
    let (store, to) = (work.text("store"), work.text("to"));
    let verbs: [&[&str]; 3] = [&["unpack"], &["import"], &["unpack", "--to", &to]];
    let call =
        |verb: &[&str], node: &[&str]| emergence(&[&["--store", &store], verb, node, &[&reference]].concat());
    for verb in verbs {
        for node in [&[][..], &["--node", &small]] {
            call(verb, node).refused(5, "constraint.unmet");
            assert_eq!(work.listing(), before, "{verb:?} {node:?}");
        }
    }
    for verb in verbs {
        for node in ["none", &fits] {
            call(verb, &["--node", node]).ok();
            fs::remove_dir_all(&to).ok();
            emergence(&["--store", &store, "gc"]).ok();
        }
    }
    // The store has the objects by now: the verdict is the same.
    call(&["import"], &["--node", "none"]).ok();
    call(&["import"], &[]).refused(5, "constraint.unmet");
    call(&["unpack"], &[]).refused(5, "constraint.unmet");
}
