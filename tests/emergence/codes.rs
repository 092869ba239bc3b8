//! The table of codes: how each is brought about, what the command ends with, and that it leaves
//! everything as it was.

use std::cell::RefCell;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use emergence_runc::emergence::hash::Hash;
use serde_json::{Value, json};

use crate::layouts::{LAYER, Layout, MANIFEST, file, link, made, tagged, tar_of};
use crate::stores::state;
use crate::support::{Answer, emergence, program, text, vector, vectors};

/// Where the inputs of one command are, and the store.
struct Place {
    directory: tempfile::TempDir,
    layouts: RefCell<Vec<Layout>>,
}

const ABSENT: &str = "7fnzwr4fvvmdl8b3vkrfyjczwiwv6n43-absent";

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
        self.text(name)
    }

    fn states(&self) -> Vec<impl PartialEq + use<>> {
        let layouts = self.layouts.borrow();
        let roots = layouts.iter().map(|layout| layout.root().to_owned());
        roots.chain([self.directory.path().to_owned()]).map(|root| state(&root)).collect()
    }

    /// The command must change nothing.
    fn run(&self, words: &[&str]) -> Answer {
        let before = self.states();
        let answer = self.prepare(words);
        assert!(self.states() == before, "{words:?}: {}", answer.stderr);
        answer
    }

    /// The command may change what it likes.
    fn prepare(&self, words: &[&str]) -> Answer {
        emergence(&[&["--store", &self.text("store")], words].concat())
    }

    /// A NAR of one file: its REF, and a path that only trust makes its own.
    fn nar(&self, name: &str, content: &str) -> (String, String) {
        let tree = self.write(name, content);
        let nar = self.text(&format!("{name}.nar"));
        emergence(&["nar", "dump", &tree, "-o", &nar]).ok();
        let path = emergence(&["store-path", "source", &tree, "--name", name]).ok().to_owned();
        (format!("nar:{nar}"), path)
    }

    fn import(&self, nar: &(String, String), references: &[&str]) {
        let references: Vec<&str> = references.iter().flat_map(|path| ["--ref", path]).collect();
        let words = ["--trust", "none", "import", &nar.0, "--store-path", &nar.1];
        self.prepare(&[&words[..], &references].concat()).ok();
    }

    /// A cache of one object, whose description is changed: its REF.
    fn cache(&self, from: &str, to: &str) -> String {
        let (_, path) = self.exported(&[]);
        self.change_info(&path, from, to);
        format!("cache:{}#{path}", self.text("cache"))
    }

    fn change_info(&self, path: &str, from: &str, to: &str) {
        let info = self.path("cache").join(format!("{}.narinfo", &path["/nix/store/".len()..][..32]));
        let text = fs::read_to_string(&info).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&info, text.replacen(from, to, 1)).unwrap();
    }

    fn exported(&self, options: &[&str]) -> (String, String) {
        let nar = self.nar("object", "an object\n");
        self.import(&nar, &[]);
        let to = format!("cache:{}", self.text("cache"));
        self.prepare(&[&["export", &nar.1, "--to", &to], options].concat()).ok();
        fs::remove_dir_all(self.path("store")).unwrap();
        nar
    }

    fn verify_cache(&self, from: &str, to: &str) -> Answer {
        let reference = self.cache(from, to);
        self.run(&["--trust", "none", "import", &reference])
    }

    fn policy(&self, policy: impl AsRef<[u8]>) -> Answer {
        let policy = self.write("policy.json", policy);
        let (nar, path) = self.nar("object", "an object\n");
        self.run(&["--policy", &policy, "import", &nar, "--store-path", &path])
    }

    /// Verifies and unpacks an image.
    fn image(&self, layout: Layout, options: &[&str]) -> Answer {
        let reference = layout.reference();
        self.layouts.borrow_mut().push(layout);
        let to = self.text("to");
        self.run(&[&["unpack", &reference, "--to", &to], options].concat())
    }

    fn layer(&self, members: &[crate::layouts::Made<'_>], options: &[&str]) -> Answer {
        self.image(Layout::of(&[tar_of(members)]), options)
    }

    /// Packs an automaton of which something is changed.
    fn spec(&self, pointer: &str, value: Value) {
        self.write("app/bin/serve", "#!/bin/sh\n");
        fs::set_permissions(self.path("app/bin/serve"), fs::Permissions::from_mode(0o755)).unwrap();
        self.write("app/note", "a note\n");
        let digest = Hash::sha256(b"an input\n").to_string();
        self.write("input", "an input\n");
        let mut spec = json!({ "schemaVersion": 1, "name": "app", "outputs": { "out": "@app" },
            "declaration": { "kind": "opaque", "inputs": [{ "path": "./input", "digest": digest }] },
            "init": { "entrypoint": ["@app/bin/serve"] } });
        if !pointer.is_empty() {
            let (above, name) = pointer.rsplit_once('/').unwrap();
            spec.pointer_mut(above).unwrap()[name] = value;
        }
        self.write("spec.json", spec.to_string());
    }

    fn pack_words(&self) -> Vec<String> {
        let (spec, tree) = (self.text("spec.json"), format!("app={}", self.text("app")));
        let output = format!("oci:{}:1", self.text("image"));
        ["pack", "--spec", &spec, "--tree", &tree, "--compress", "none", "--output", &output]
            .map(str::to_owned)
            .to_vec()
    }

    fn pack(&self, pointer: &str, value: Value) -> Answer {
        self.spec(pointer, value);
        self.run(&self.pack_words().iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Packs it, changes its manifest and its layer, and imports it.
    fn packed(&self, pointer: &str, value: Value, change: fn(&mut Value, &mut Vec<u8>)) -> Answer {
        self.spec(pointer, value);
        self.prepare(&self.pack_words().iter().map(String::as_str).collect::<Vec<_>>()).ok();
        let image = self.path("image");
        let blob = |descriptor: &Value| image.join("blobs/sha256").join(&text(&descriptor["digest"])[7..]);
        let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let put = |descriptor: &mut Value, bytes: &[u8]| {
            descriptor["digest"] = json!(Hash::sha256(bytes).to_string());
            descriptor["size"] = json!(bytes.len());
            fs::write(blob(descriptor), bytes).unwrap();
        };
        let mut index = read(&image.join("index.json"));
        let mut manifest = read(&blob(&index["manifests"][0]));
        let mut layer = fs::read(blob(&manifest["layers"][0])).unwrap();
        change(&mut manifest, &mut layer);
        put(&mut manifest["layers"][0], &layer);
        put(&mut index["manifests"][0], manifest.to_string().as_bytes());
        fs::write(image.join("index.json"), index.to_string()).unwrap();
        self.run(&["import", &format!("oci:{}:1", self.text("image"))])
    }

    /// A derivation of the vectors with a change, in a directory of all of them.
    fn drv(&self, attribute: &str, from: &str, to: &str) -> String {
        let drvs = vectors("derivations");
        let mut found = String::new();
        for drv in drvs.as_array().unwrap() {
            let name = text(&drv["file"]);
            let bytes = fs::read(vector(name)).unwrap();
            let place = self.write(name, &bytes);
            if drv["attr"] == attribute {
                let changed = String::from_utf8(bytes).unwrap().replace(from, to);
                fs::write(&place, changed).unwrap();
                found = place;
            }
        }
        found
    }

    fn bad_nar(&self, name: &str) -> Answer {
        let nar = self.write("bad.nar", fs::read(vector("bad-nars").join(name)).unwrap());
        let to = self.text("to");
        self.run(&["nar", "restore", &nar, &to])
    }
}

/// A code, and what brings it about.
type Row = (&'static str, i32, fn(&Place) -> Answer);

const TABLE: &[Row] = &[
    ("nar.magic", 3, |place| place.bad_nar("magic.nar")),
    ("nar.truncated", 3, |place| place.bad_nar("truncated-content.nar")),
    ("nar.trailing", 3, |place| {
        let (nar, path) = place.nar("object", "x");
        let nar = nar.strip_prefix("nar:").unwrap();
        let bytes = [fs::read(nar).unwrap(), b"more".to_vec()].concat();
        fs::write(nar, bytes).unwrap();
        place.run(&["--trust", "none", "import", nar, "--store-path", &path])
    }),
    ("nar.bad-tag", 3, |place| {
        let (nar, path) = place.nar("object", "x");
        let nar = nar.strip_prefix("nar:").unwrap();
        let mut bytes = fs::read(nar).unwrap();
        let at = bytes.windows(7).position(|word| word == b"regular").unwrap();
        bytes[at] ^= 1;
        fs::write(nar, bytes).unwrap();
        place.run(&["--trust", "none", "import", nar, "--store-path", &path])
    }),
    ("nar.bad-name", 3, |place| place.bad_nar("name-dotdot.nar")),
    ("nar.bad-target", 3, |place| place.bad_nar("target-empty.nar")),
    ("nar.not-sorted", 3, |place| place.bad_nar("not-sorted.nar")),
    ("nar.padding", 3, |place| place.bad_nar("padding.nar")),
    ("nar.depth", 3, |place| {
        place.write("tree/a/b", "x");
        let (tree, nar, to) = (place.text("tree"), place.text("nar"), place.text("to"));
        emergence(&["nar", "dump", &tree, "-o", &nar]).ok();
        place.run(&["--max-depth", "2", "nar", "restore", &nar, &to])
    }),
    ("path.mismatch", 3, |place| {
        let (nar, path) = place.nar("object", "x");
        let ca = "fixed:r:sha256:0000000000000000000000000000000000000000000000000000";
        place.run(&["import", &nar, "--store-path", &path, "--ca", ca])
    }),
    ("path.name", 3, |place| {
        let tree = place.write("tree", "x");
        place.run(&["store-path", "source", &tree, "--name", ".-x"])
    }),
    ("ca.syntax", 3, |place| place.run(&["store-path", "ca", "fixed:r:sha256:x", "--name", "a"])),
    ("ca.mismatch", 3, |place| {
        let ca = "fixed:r:sha256:0000000000000000000000000000000000000000000000000000";
        let path = emergence(&["store-path", "ca", ca, "--name", "a"]).ok().to_owned();
        let (nar, _) = place.nar("object", "x");
        place.run(&["import", &nar, "--store-path", &path, "--ca", ca])
    }),
    ("hash.syntax", 3, |place| place.run(&["hash", "--convert", "sha256:00"])),
    ("limit.document", 3, |place| place.policy(vec![b' '; 5 << 20])),
    ("json.syntax", 3, |place| place.policy("{")),
    ("json.duplicate-key", 3, |place| place.policy(r#"{"trust":"none","trust":"none"}"#)),
    ("doc.unknown-field", 3, |place| place.policy(r#"{"color":"red"}"#)),
    ("trust.policy", 6, |place| place.policy(r#"{"trust":"none","allow":{"kinds":["cache"]}}"#)),
    ("limit.entries", 3, |place| place.policy(r#"{"trust":"none","limits":{"entries":0}}"#)),
    ("limit.size", 3, |place| {
        let (nar, path) = place.nar("object", "x");
        place.run(&["--trust", "none", "--max-size", "100", "import", &nar, "--store-path", &path])
    }),
    ("type.unknown", 3, |place| {
        let other = place.write("other", "neither this nor that");
        place.run(&["import", &other])
    }),
    ("cache.info", 3, |place| {
        let reference = place.cache("", "");
        fs::remove_file(place.path("cache/nix-cache-info")).unwrap();
        place.run(&["--trust", "none", "import", &reference])
    }),
    ("cache.narinfo", 3, |place| place.verify_cache("StorePath", "Storepath")),
    ("cache.url", 3, |place| place.verify_cache("URL: nar/", "URL: ../nar/")),
    ("cache.compression", 3, |place| place.verify_cache("Compression: zstd", "Compression: lzip")),
    ("cache.missing", 4, |place| {
        place.cache("", "");
        place.run(&["import", &format!("cache:{}#{ABSENT}", place.text("cache"))])
    }),
    ("closure.incomplete", 4, |place| place.verify_cache("References: ", &format!("References: {ABSENT} "))),
    ("blob.digest", 3, |place| {
        let other = emergence(&["hash", "--convert", &Hash::sha256(b"").to_string(), "--format", "nix32"]);
        let reference = place.cache("FileHash: sha256:", &format!("FileHash: sha256:{}\nX: ", other.ok()));
        place.run(&["--trust", "none", "import", &reference])
    }),
    ("blob.size", 3, |place| place.verify_cache("FileSize: ", "FileSize: 1")),
    ("blob.missing", 4, |place| place.verify_cache("URL: nar/", "URL: nar/x")),
    ("blob.compression", 3, |place| place.verify_cache("Compression: zstd", "Compression: xz")),
    ("nar.hash", 3, |place| {
        let (nar, path) = place.nar("object", "x");
        let other = Hash::sha256(b"").to_string();
        let size = fs::metadata(&nar[4..]).unwrap().len().to_string();
        let declared = ["--store-path", &path, "--nar-hash", &other, "--nar-size", &size];
        place.run(&[&["--trust", "none", "import", &nar][..], &declared].concat())
    }),
    ("nar.size", 3, |place| place.verify_cache("NarSize: ", "NarSize: 1")),
    ("trust.unproved", 6, |place| {
        let (nar, path) = place.nar("object", "x");
        place.run(&["import", &nar, "--store-path", &path])
    }),
    ("trust.signature", 6, |place| {
        let key = || emergence(&["key", "generate", "mine-1"]).ok().to_owned();
        let (mine, other) = (place.write("mine", key()), place.write("other", key()));
        for secret in [&mine, &other] {
            fs::set_permissions(secret, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (_, path) = place.exported(&["--sign", &mine]);
        let other = emergence(&["key", "public", &other]).ok().to_owned();
        let reference = format!("cache:{}#{path}", place.text("cache"));
        // Whatever is demanded.
        place.run(&["--trust", "none", "--trusted-key", &other, "import", &reference])
    }),
    ("trust.expect", 6, |place| {
        let (nar, path) = place.nar("object", "x");
        let other = Hash::sha256(b"").to_string();
        place.run(&["--expect", &other, "import", &nar, "--store-path", &path])
    }),
    ("drv.syntax", 3, |place| {
        let drv = place.drv("simple", "Derive(", "Derive( ");
        place.run(&["drv", "check", &drv])
    }),
    ("drv.version", 3, |place| {
        let drv = place.drv("simple", "Derive(", "DrvWithVersion(\"xp-dyn-drv\",");
        place.run(&["drv", "check", &drv])
    }),
    ("drv.output-mismatch", 3, |place| {
        let drv = place.drv("simple", "echo simple", "echo simply");
        place.run(&["drv", "check", &drv])
    }),
    ("drv.input-missing", 4, |place| {
        let simple = place.drv("simple", "", "");
        let top = place.drv("top", "", "");
        fs::remove_file(simple).unwrap();
        place.run(&["drv", "check", &top])
    }),
    ("oci.layout", 3, |place| {
        let layout = Layout::of(&[tar_of(&[file("a", b"1")])]);
        layout.write("oci-layout", b"{}");
        place.image(layout, &[])
    }),
    ("oci.no-tag", 4, |place| {
        let layout = Layout::of(&[tar_of(&[file("a", b"1")])]);
        let reference = format!("oci:{}:none", layout.root().display());
        place.layouts.borrow_mut().push(layout);
        place.run(&["unpack", &reference])
    }),
    ("oci.no-platform", 4, |place| {
        let layout = Layout::new();
        let mut image = layout.image(&[layout.plain(&tar_of(&[file("a", b"1")]))]);
        image["platform"] = json!({ "architecture": "s390x", "os": "linux" });
        layout.index(&[tagged(layout.nested(&[image]), "t")]);
        place.image(layout, &["--platform", "linux/amd64"])
    }),
    ("oci.docker-v1", 3, |place| {
        let saved = tar_of(&[file("manifest.json", b"[]"), file("repositories", b"{}")]);
        let archive = place.write("saved.tar", saved);
        place.run(&["unpack", &format!("oci-archive:{archive}")])
    }),
    ("oci.media-type", 3, |place| {
        let layout = Layout::new();
        let config = layout.blob("text/plain", b"a text");
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] });
        layout.index(&[tagged(layout.manifest(&manifest), "t")]);
        place.image(layout, &[])
    }),
    ("oci.diff-id", 3, |place| {
        let layout = Layout::new();
        let layer = layout.blob(LAYER, &tar_of(&[file("a", b"1")]));
        layout.index(&[tagged(layout.image(&[(layer, Hash::sha256(b"x").to_string())]), "t")]);
        place.image(layout, &[])
    }),
    ("layer.escape", 3, |place| place.layer(&[link(b'1', "a", "/")], &[])),
    ("layer.link", 3, |place| place.layer(&[link(b'1', "a", "/etc/passwd")], &[])),
    ("layer.whiteout", 3, |place| place.layer(&[made(b'0', "a/.wh.")], &[])),
    ("layer.header", 3, |place| place.layer(&[made(b'V', "a")], &[])),
    ("layer.duplicate", 3, |place| place.layer(&[file("a", b"1"), file("a", b"2")], &["--strict"])),
    ("layer.not-canonical", 3, |place| place.packed("", Value::Null, |_, layer| layer.push(0))),
    ("refs.undeclared", 3, |place| {
        let inner = place.nar("inner", "inner");
        place.import(&inner, &[]);
        let outer = place.nar("outer", &format!("see {}", inner.1));
        place.import(&outer, &[&inner.1]);
        let top = place.nar("top", "top");
        place.import(&top, &[&inner.1, &outer.1]);
        let to = format!("cache:{}", place.text("cache"));
        place.prepare(&["export", &top.1, "--to", &to]).ok();
        let base = inner.1.rsplit('/').next().unwrap();
        place.change_info(&outer.1, &format!("References: {base}"), "References: ");
        fs::remove_dir_all(place.path("store")).unwrap();
        place.run(&["--trust", "none", "--scan", "import", &format!("{to}#{}", top.1)])
    }),
    ("doc.shell-form", 3, |place| place.pack("/init/entrypoint", json!("@app/bin/serve --now"))),
    ("doc.parameter", 3, |place| place.pack("/init/args", json!(["{port}"]))),
    ("doc.entrypoint", 3, |place| place.pack("/init/entrypoint", json!(["@app/note"]))),
    ("declaration.unpinned", 3, |place| place.pack("/declaration/inputs", json!([{ "path": "./input" }]))),
    ("declaration.mismatch", 3, |place| {
        place.pack("/declaration/digest", json!(Hash::sha256(b"").to_string()))
    }),
    ("automaton.mismatch", 3, |place| {
        place.packed("", Value::Null, |manifest, _| {
            let other = Hash::sha256(b"").to_string();
            manifest["annotations"]["com.matrixai.emergence.automaton"] = json!(other);
        })
    }),
    ("constraint.unmet", 5, |place| {
        place.spec("/constraints", json!([{ "kind": "memory", "min": 9_000_000_000_000_000_u64 }]));
        place.prepare(&place.pack_words().iter().map(String::as_str).collect::<Vec<_>>()).ok();
        let (reference, to) = (format!("oci:{}:1", place.text("image")), place.text("bundle"));
        place.run(&["bundle", &reference, &to])
    }),
    ("constraint.unknown", 5, |place| {
        place.spec("/constraints", json!([{ "kind": "luck" }]));
        place.prepare(&place.pack_words().iter().map(String::as_str).collect::<Vec<_>>()).ok();
        let (reference, to) = (format!("oci:{}:1", place.text("image")), place.text("bundle"));
        place.run(&["bundle", &reference, &to])
    }),
    ("store.exists", 3, |place| {
        let (one, other) = (place.nar("one", "one"), place.nar("other", "other"));
        place.import(&one, &[]);
        place.run(&["--trust", "none", "import", &other.0, "--store-path", &one.1])
    }),
    ("store.corrupt", 3, |place| {
        let one = place.nar("one", "one");
        place.import(&one, &[]);
        let tree = place.path("store").join(&one.1[1..]);
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&tree, "two").unwrap();
        place.run(&["check"])
    }),
    ("store.locked", 7, |place| {
        place.import(&place.nar("one", "one"), &[]);
        let lock = fs::File::open(place.path("store/lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        place.run(&["--lock-timeout", "20ms", "gc"])
    }),
    ("changed-while-reading", 1, shrinks),
    ("space", 1, |place| {
        let (nar, path) = place.nar("object", "x");
        let hash = Hash::sha256(&fs::read(&nar[4..]).unwrap()).to_string();
        let declared = ["--store-path", &path, "--nar-hash", &hash, "--nar-size", "9000000000000000000"];
        place.run(&[&["--trust", "none", "import", &nar][..], &declared].concat())
    }),
];

/// The program waits for who reads its NAR, and the file is cut meanwhile.
fn shrinks(place: &Place) -> Answer {
    let tree = place.write("big", "");
    let big = fs::OpenOptions::new().write(true).open(&tree).unwrap();
    big.set_len(64 << 20).unwrap();
    let mut command = Command::new(program());
    command.args(["emergence", "nar", "dump", &tree]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 200]).unwrap();
    big.set_len(0).unwrap();
    let before = place.states();
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    let answer = Answer::of(&command, child.wait_with_output().unwrap());
    assert!(place.states() == before);
    answer
}

#[test]
fn every_code_is_brought_about_and_leaves_nothing() {
    let source = include_str!("../../src/emergence/base/refusal.rs");
    let (_, rows) = source.split_once("\ncodes! {\n").unwrap();
    let (rows, _) = rows.split_once("\n}\n").unwrap();
    let mut left: Vec<(&str, i32)> = Vec::new();
    for row in rows.lines() {
        let words: Vec<&str> = row.split_whitespace().collect();
        left.push((words[1].trim_matches('"'), words[2].parse().unwrap()));
    }
    assert!(left.len() > 60);
    for (code, status, bring_about) in TABLE {
        println!("{code}");
        let place = Place { directory: tempfile::tempdir().unwrap(), layouts: RefCell::default() };
        bring_about(&place).refused(*status, code);
        let known = left.iter().position(|row| *row == (*code, *status));
        left.remove(known.unwrap_or_else(|| panic!("{code} {status} is not in the table, or here twice")));
    }
    assert!(left.is_empty(), "nothing shows {left:?}");
}
