//! Automata in both forms at once, and who vouches for one.

use std::fs;
use std::path::PathBuf;

use emergence_runc::emergence::hash::Hash;
use serde_json::{Value, json};

use crate::support::{Answer, emergence, text, trusting, vector};

/// A layout with automatons.
struct Work {
    directory: tempfile::TempDir,
}

impl Work {
    fn new() -> Self {
        let work = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(work.path("tree"), "#!/bin/sh\n").unwrap();
        work
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Packs both forms of an automaton of this name; gives its index.
    fn both(&self, name: &str) -> Value {
        let spec = json!({"schemaVersion": 1, "name": name, "outputs": {"out": "@tree"}});
        fs::write(self.path("spec"), spec.to_string()).unwrap();
        let (spec, tree) = (self.text("spec"), format!("tree={}", self.text("tree")));
        let output = format!("oci:{}:{name}", self.text("layout"));
        let words = ["pack", "--spec", &spec, "--tree", &tree, "--form", "both", "--output", &output];
        self.blob(emergence(&words).ok())
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.path("layout/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
    }

    fn blob(&self, digest: &str) -> Value {
        serde_json::from_slice(&fs::read(self.file(digest)).unwrap()).unwrap()
    }

    /// Writes a blob, and has this descriptor name it.
    fn put(&self, descriptor: &mut Value, blob: &Value) {
        let bytes = blob.to_string();
        let digest = Hash::sha256(bytes.as_bytes()).to_string();
        fs::write(self.file(&digest), &bytes).unwrap();
        descriptor["digest"] = json!(digest);
        descriptor["size"] = json!(bytes.len());
    }

    /// Puts another index in the place of `a`.
    fn list(&self, index: &Value) {
        let file = self.path("layout/index.json");
        let mut top: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let all = top["manifests"].as_array_mut().unwrap();
        let named = |entry: &&mut Value| entry["annotations"]["org.opencontainers.image.ref.name"] == "a";
        self.put(all.iter_mut().find(named).unwrap(), index);
        fs::write(&file, top.to_string()).unwrap();
    }

    fn verify(&self, at: &str) -> Answer {
        emergence(&["verify", &format!("oci:{}:a{at}", self.text("layout"))])
    }
}

#[test]
fn both_forms_are_of_one_document() {
    let work = Work::new();
    let (a, b) = (work.both("a"), work.both("b"));
    work.verify("").ok();
    let image = format!("@{}", text(&a["manifests"][0]["digest"]));
    work.verify(&image).ok();
    work.verify(&format!("@{}", text(&a["manifests"][1]["digest"]))).ok();
    // The artifact is about an image that is not listed.
    let mut index = a.clone();
    index["manifests"][1] = b["manifests"][1].clone();
    work.list(&index);
    let artifact = format!("@{}", text(&b["manifests"][1]["digest"]));
    for at in ["", &image, &artifact] {
        work.verify(at).refused(3, "automaton.mismatch");
    }
    // It is about the image, but declares something else.
    let mut manifest = work.blob(text(&b["manifests"][1]["digest"]));
    manifest["subject"]["digest"] = a["manifests"][0]["digest"].clone();
    manifest["subject"]["size"] = a["manifests"][0]["size"].clone();
    work.put(&mut index["manifests"][1], &manifest);
    work.list(&index);
    let artifact = format!("@{}", text(&index["manifests"][1]["digest"]));
    for at in ["", &image, &artifact] {
        work.verify(at).refused(3, "automaton.mismatch");
    }
    // One of the two may be transferred without the other.
    fs::remove_file(work.file(text(&index["manifests"][1]["digest"]))).unwrap();
    work.verify("").ok();
    // Automata of several machines may be listed together, each with its own artifact.
    let mut both = a.clone();
    let more = b["manifests"].as_array().unwrap().clone();
    both["manifests"].as_array_mut().unwrap().extend(more);
    work.list(&both);
    for entry in both["manifests"].as_array().unwrap() {
        work.verify(&format!("@{}", text(&entry["digest"]))).ok();
    }
    // An artifact may come without its image, next to the image of another.
    fs::remove_file(work.file(text(&b["manifests"][0]["digest"]))).unwrap();
    work.verify(&image).ok();
    work.verify(&format!("@{}", text(&b["manifests"][1]["digest"]))).ok();
}

#[test]
fn an_automatons_signature_proves_its_paths() {
    let work = Work::new();
    let out = "/nix/store/zps6jszac6cj06i1id3jhr3jfl2n4gk7-app-2";
    let spec = json!({"schemaVersion": 1, "name": "app", "outputs": {"out": out}});
    fs::write(work.path("spec"), spec.to_string()).unwrap();
    let key = work.text("key");
    fs::write(&key, emergence(&["key", "generate", "mine-1"]).ok()).unwrap();
    let public = emergence(&["key", "public", &key]).ok().to_owned();
    let (spec, from) = (work.text("spec"), format!("cache:{}", vector("caches/xz").display()));
    let reference = format!("oci:{}:a", work.text("layout"));
    let keys = trusting();
    let mut words = vec!["pack", "--spec", &spec, "--path", out, "--from", &from, "--output", &reference];
    words.extend(keys.iter().map(String::as_str));
    emergence(&words).ok();
    emergence(&["verify", &reference, "--trusted-key", &public]).refused(6, "trust.unproved");
    emergence(&["sign", &reference, &key]).ok();
    let store = work.text("store");
    let trusted = ["--store", &store, "--trusted-key", &public, "--json"];
    let report = |words: &[&str]| -> Value {
        serde_json::from_str(emergence(&[&trusted[..], words].concat()).ok()).unwrap()
    };
    let verified = report(&["verify", &reference]);
    assert_eq!(verified["trust"], "pinned");
    for object in verified["objects"].as_array().unwrap() {
        let proof = (object["proof"].as_str(), object["signedBy"].as_str());
        let want = match text(&object["path"]).ends_with("-app.conf") {
            true => (Some("content"), None),
            false => (Some("pinned"), Some("mine-1")),
        };
        assert_eq!(proof, want, "{object}");
    }
    // The store remembers the signer. A reference with a hash needs no signature.
    report(&["import", &reference]);
    let known = report(&["info", out]);
    assert_eq!((&known["proof"], &known["signedBy"]), (&json!("pinned"), &json!("mine-1")));
    let named = report(&["verify", &reference, "--expect", text(&verified["automaton"])]);
    assert_eq!(named["objects"].as_array().unwrap().last().unwrap()["signedBy"], Value::Null);
}
