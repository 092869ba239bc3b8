//! Automata: packed, verified, unpacked, carried by other tools, signed, compared, corrupted.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use emergence_runc::emergence::hash::Hash;
use emergence_runc::emergence::{Declared, Reference, open_closure};
use serde_json::{Value, json};

use crate::support::{Answer, default_terms, emergence, text, vector, vectors};

const FORMS: [&str; 3] = ["image", "artifact", "both"];
const COMPRESSIONS: [&str; 3] = ["none", "zstd", "gzip"];

/// A directory with two trees, of which one refers to the other, and a document.
struct Work {
    directory: tempfile::TempDir,
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl Work {
    fn new() -> Self {
        let work = Self { directory: tempfile::tempdir().unwrap() };
        write(&work.path("lib"), "a library\n", 0o644);
        let lib = emergence(&["store-path", "source", &work.text("lib"), "--name", "lib"]).ok().to_owned();
        fs::create_dir_all(work.path("app/bin")).unwrap();
        write(&work.path("app/bin/serve"), &format!("#!/bin/sh\ncat {lib}\n"), 0o755);
        symlink("serve", work.path("app/bin/alias")).unwrap();
        write(&work.path("app/note"), "not to be run\n", 0o644);
        write(&work.path("Dockerfile"), "FROM scratch\n", 0o644);
        work.spec(&[]);
        work
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes the document, with members changed by their JSON pointers.
    fn spec(&self, changes: &[(&str, Value)]) {
        let mut spec = json!({
            "schemaVersion": 1,
            "name": "greeter",
            "declaration": {"kind": "dockerfile", "inputs": [{"path": "./Dockerfile",
                "digest": "sha256:ee8c1a1d3d2a8ef5bbf5a1be5e0cec6d4a3f07e4dbc1b1d2e3a8d6e7fba3f0c1"}]},
            "outputs": {"out": "@app"},
            "init": {"entrypoint": ["@app/bin/serve"], "args": ["--port={port}"], "env": {"LIB": "@lib"},
                "cwd": "/", "user": "1:2", "stopSignal": "SIGINT"},
            "parameters": [{"name": "port", "type": "port", "default": 8080}],
            "ports": [{"name": "http", "protocol": "tcp", "port": "{port}"}],
            "constraints": [{"kind": "arch", "anyOf": ["amd64"]}],
        });
        let digest = Hash::sha256(&fs::read(self.path("Dockerfile")).unwrap());
        spec["declaration"]["inputs"][0]["digest"] = json!(digest.to_string());
        for (pointer, value) in changes {
            let (above, name) = pointer.rsplit_once('/').unwrap();
            let above = spec.pointer_mut(above).unwrap();
            match name.parse::<usize>() {
                Ok(at) => above[at] = value.clone(),
                Err(_) => above[name] = value.clone(),
            }
        }
        fs::write(self.path("spec.json"), spec.to_string()).unwrap();
    }

    fn pack(&self, output: &str, options: &[&str]) -> Answer {
        let (spec, app, lib) = (
            self.text("spec.json"),
            format!("app={}", self.text("app")),
            format!("lib={}", self.text("lib")),
        );
        let words = ["pack", "--spec", &spec, "--tree", &app, "--tree", &lib, "--output", output];
        emergence(&[&words[..], options].concat())
    }

    fn output(&self, name: &str) -> String {
        format!("oci:{}", self.text(name))
    }

    /// All that is in the directory: names, kinds and contents.
    fn listing(&self) -> Vec<String> {
        listing(self.directory.path())
    }
}

/// Paths below a directory, with kind, permissions and content.
fn listing(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
            String::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            Hash::sha256(&fs::read(&path).unwrap()).to_string()
        };
        let name = path.strip_prefix(root).unwrap().display().to_string();
        found.push(format!("{name} {:o} {content}", meta.mode()));
    }
    found.sort();
    found
}

fn report(reference: &str, options: &[&str]) -> Value {
    let answer = emergence(&[&["verify", reference, "--json"], options].concat());
    serde_json::from_str(answer.ok()).unwrap()
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (one, other) = (Work::new(), Work::new());
    // The same trees: made in another order, at another time, with other permissions that do not
    // count.
    fs::remove_dir_all(other.path("app")).unwrap();
    fs::create_dir(other.path("app")).unwrap();
    write(&other.path("app/note"), "not to be run\n", 0o600);
    fs::create_dir(other.path("app/bin")).unwrap();
    symlink("serve", other.path("app/bin/alias")).unwrap();
    write(&other.path("app/bin/serve"), &fs::read_to_string(one.path("app/bin/serve")).unwrap(), 0o700);
    for name in ["lib", "app/note", "app/bin/serve", "app"] {
        let stamp = Command::new("touch").args(["-d", "2001-01-01"]).arg(other.path(name)).status();
        assert!(stamp.unwrap().success());
    }
    for form in FORMS {
        for compression in COMPRESSIONS {
            let options = ["--form", form, "--compress", compression];
            let digest =
                one.pack(&format!("oci-archive:{}:1", one.text("out.tar")), &options).ok().to_owned();
            one.pack(&format!("{}:1", one.output(&format!("{form}-{compression}"))), &options).ok();
            // From another directory, by relative paths, with umask 077.
            let line = format!(
                "umask 077; exec {} emergence --jobs 1 pack --spec ../spec.json --tree lib=../lib --tree app=. \
                 --output oci-archive:../out.tar:1 --form {form} --compress {compression}",
                env!("CARGO_BIN_EXE_emergence-runc")
            );
            let again =
                Command::new("sh").args(["-c", &line]).current_dir(other.path("app")).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&again.stdout).trim(), digest, "{again:?}");
            assert_eq!(fs::read(one.path("out.tar")).unwrap(), fs::read(other.path("out.tar")).unwrap());
            // A directory has the same blobs.
            let verified = report(&format!("{}:1", one.output(&format!("{form}-{compression}"))), &[]);
            let archived = report(&format!("oci-archive:{}:1", one.text("out.tar")), &[]);
            assert_eq!(verified["digest"], archived["digest"]);
            assert_eq!(verified["layers"], archived["layers"]);
        }
    }
    assert!(!one.listing().iter().any(|line| line.contains(".emergence-")));
}

#[test]
fn packed_trees_unpack_to_the_same() {
    let work = Work::new();
    let want = ["app", "lib"].map(|name| emergence(&["hash", &work.text(name)]).ok().to_owned());
    let mut automatons = Vec::new();
    for form in FORMS {
        for compression in COMPRESSIONS {
            let name = format!("{form}-{compression}");
            let reference = format!("{}:{name}", work.output("layout"));
            let digest = work.pack(&reference, &["--form", form, "--compress", compression]).ok().to_owned();
            let verified = report(&reference, &["--scan"]);
            match form {
                "both" => assert_eq!(verified["kind"], "automaton-image"),
                form => assert_eq!(
                    (&verified["kind"], text(&verified["digest"])),
                    (&json!(format!("automaton-{form}")), &*digest)
                ),
            }
            assert_eq!(verified["trust"], "content");
            automatons.push(verified["automaton"].clone());
            let to = work.text(&format!("to-{name}"));
            emergence(&["unpack", &reference, "--to", &to]).ok();
            for object in verified["objects"].as_array().unwrap() {
                let path = format!("{to}{}", text(&object["path"]));
                let hash = emergence(&["hash", &path]).ok().to_owned();
                assert_eq!(hash, text(&object["narHash"]));
                assert!(want.contains(&hash));
            }
            emergence(&["same", &reference, &format!("{}:image-none", work.output("layout"))]).ok();
        }
    }
    automatons.dedup();
    assert_eq!(automatons.len(), 1);
    // Into the store, and out of it by A.
    let store = work.text("store");
    let reference = format!("{}:artifact-zstd", work.output("layout"));
    let path = emergence(&["--store", &store, "import", &reference]).ok().to_owned();
    assert!(path.ends_with("-app"), "{path}");
    let automaton = text(&automatons[0]);
    let stored = format!("store:{automaton}");
    assert_eq!(emergence(&["--store", &store, "verify", &stored]).ok(), format!("ok {automaton}"));
    emergence(&["--store", &store, "same", &stored, &reference]).ok();
    // Packed from the store, it is the same automaton.
    work.spec(&[
        ("/outputs/out", json!(path)),
        ("/init/entrypoint", json!([format!("{path}/bin/serve")])),
        ("/init/env/LIB", json!("@lib")),
    ]);
    let lib = format!("lib={}", work.text("lib"));
    let again = format!("{}:again", work.output("layout"));
    emergence(&[
        "--store",
        &store,
        "pack",
        "--spec",
        &work.text("spec.json"),
        "--path",
        &path,
        "--tree",
        &lib,
        "--output",
        &again,
    ])
    .ok();
    assert_eq!(
        emergence(&["same", &again, &reference]).ok(),
        "declaration same\noutput same\ninterface same\nautomaton same"
    );
}

#[test]
fn objects_of_a_cache_are_packed_with_all_they_refer_to() {
    let work = Work::new();
    let caches = vectors("caches");
    let cache = crate::support::each(&caches).iter().find(|cache| cache["name"] == "ca").unwrap();
    let object = &crate::support::each(&cache["objects"])
        .iter()
        .find(|one| one["selfReference"] == true)
        .unwrap()["path"];
    let directory = format!("cache:{}", vector(text(&cache["dir"])).display());
    work.spec(&[
        ("/outputs", json!({"out": object})),
        ("/init", Value::Null),
        ("/parameters", Value::Null),
        ("/ports", Value::Null),
    ]);
    for form in ["image", "artifact"] {
        let reference = format!("{}:{form}", work.output("layout"));
        emergence(&[
            "pack",
            "--spec",
            &work.text("spec.json"),
            "--from",
            &directory,
            "--path",
            text(object),
            "--output",
            &reference,
            "--form",
            form,
        ])
        .ok();
        let verified = report(&reference, &["--scan"]);
        assert_eq!(verified["trust"], "content");
        // An object that names itself has another content than its NAR.
        let selfish = verified["objects"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["references"].as_array().unwrap().contains(&one["path"]));
        assert!(selfish);
    }
    emergence(&[
        "same",
        &format!("{}:image", work.output("layout")),
        &format!("{}:artifact", work.output("layout")),
    ])
    .ok();
}

#[test]
fn blobs_are_needed_until_their_objects_exist() {
    let work = Work::new();
    work.pack(&work.output("image:1"), &["--form", "artifact"]).ok();
    let (store, reference) = (work.text("store"), work.output("image:1"));
    let need = || emergence(&["--store", &store, "need", &reference]).ok().to_owned();
    let layers = report(&reference, &[])["layers"].clone();
    let digests: Vec<&str> =
        layers.as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap()).collect();
    assert_eq!(digests.len(), 2);
    assert_eq!(need().lines().collect::<Vec<_>>(), digests);
    emergence(&["--store", &store, "import", &reference]).ok();
    assert_eq!(need(), "");
}

#[test]
fn many_objects_share_the_last_layer() {
    let work = Work::new();
    let mut words = vec![
        "pack".to_owned(),
        "--spec".into(),
        work.text("spec.json"),
        "--output".into(),
        format!("{}:1", work.output("many")),
    ];
    let mut outputs = serde_json::Map::new();
    for at in 0..130 {
        let name = format!("t{at}");
        write(&work.path(&name), &format!("tree {at}\n"), 0o755);
        words.extend(["--tree".to_owned(), format!("{name}={}", work.text(&name))]);
        outputs.insert(name.clone(), json!(format!("@{name}")));
    }
    work.spec(&[
        ("/outputs", Value::Object(outputs)),
        ("/init", json!({"entrypoint": ["@t0"]})),
        ("/parameters", json!([])),
        ("/ports", json!([])),
    ]);
    emergence(&words).ok();
    let verified = report(&format!("{}:1", work.output("many")), &[]);
    assert_eq!(verified["layers"].as_array().unwrap().len(), 100);
    assert_eq!(verified["objects"].as_array().unwrap().len(), 130);
    let to = work.text("to");
    emergence(&["unpack", &format!("{}:1", work.output("many")), "--to", &to]).ok();
    assert_eq!(fs::read_dir(work.path("to/nix/store")).unwrap().count(), 130);
    words.extend(["--form".into(), "artifact".into()]);
    emergence(&words).ok();
    assert_eq!(report(&format!("{}:1", work.output("many")), &[])["layers"].as_array().unwrap().len(), 130);
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
fn pins_are_written_and_digests_follow() {
    let work = Work::new();
    work.spec(&[("/declaration/inputs/0", json!({"path": "./Dockerfile"}))]);
    let one = format!("{}:1", work.output("out"));
    work.pack(&one, &["--pin"]).ok();
    let shown: Value = serde_json::from_str(emergence(&["inspect", &one, "--json"]).ok()).unwrap();
    let digest = Hash::sha256(&fs::read(work.path("Dockerfile")).unwrap()).to_string();
    let declaration = &shown["document"]["declaration"];
    assert_eq!(text(&declaration["inputs"][0]["digest"]), digest);
    let line = format!("./Dockerfile {digest}\n");
    assert_eq!(text(&declaration["digest"]), Hash::sha256(line.as_bytes()).to_string());
    // A fixed output is what its content is.
    work.spec(&[("/declaration", json!({"kind": "fixed-output"}))]);
    work.pack(&one, &[]).ok();
    let verified = report(&one, &[]);
    let app = verified["objects"].as_array().unwrap().iter().find(|one| text(&one["path"]).ends_with("-app"));
    assert_eq!(verified["declaration"], app.unwrap()["narHash"]);
}

#[test]
fn references_of_trees_are_found() {
    let work = Work::new();
    let path = |name: &str, references: &[&str]| {
        let mut words = vec!["store-path", "source", name, "--name"];
        let base = Path::new(name).file_name().unwrap().to_str().unwrap();
        words.push(base);
        references.iter().for_each(|reference| words.extend(["--ref", reference]));
        emergence(&words).ok().to_owned()
    };
    // a refers to b, b to c: the path of b follows from that of c, and so on.
    write(&work.path("c"), "c\n", 0o755);
    let c = path(&work.text("c"), &[]);
    write(&work.path("b"), &format!("{c}\n"), 0o644);
    let b = path(&work.text("b"), &[&c]);
    write(&work.path("a"), &format!("{b}\n"), 0o644);
    let a = path(&work.text("a"), &[&b]);
    work.spec(&[
        ("/outputs", json!({"out": "@a"})),
        ("/init", json!({"entrypoint": ["@c"]})),
        ("/parameters", json!([])),
        ("/ports", json!([])),
    ]);
    let (spec, output) = (work.text("spec.json"), format!("{}:1", work.output("out")));
    let pack = || {
        let trees = ["a", "b", "c"].map(|name| format!("{name}={}", work.text(name)));
        emergence(&[
            "pack", "--spec", &spec, "--output", &output, "--tree", &trees[0], "--tree", &trees[1], "--tree",
            &trees[2],
        ])
    };
    pack().ok();
    let paths: Vec<String> = report(&output, &["--scan"])["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| text(&one["path"]).to_owned())
        .collect();
    assert_eq!(paths, [c.clone(), b, a]);
    // Computed as if b referred to nothing, the path of b is one that it has not.
    let stale = path(&work.text("b"), &[]);
    write(&work.path("a"), &format!("{stale}\n"), 0o644);
    let before = work.listing();
    pack().refused(3, "path.mismatch");
    // In a circle, there is no path that could be in both.
    write(&work.path("a"), "a\n", 0o644);
    let alone = path(&work.text("a"), &[]);
    write(&work.path("b"), &format!("{alone}\n"), 0o644);
    let alone = path(&work.text("b"), &[]);
    write(&work.path("c"), &format!("{alone}\n"), 0o755);
    let alone = path(&work.text("c"), &[]);
    write(&work.path("a"), &format!("{alone} {c}\n"), 0o644);
    let answer = pack();
    assert_ne!(answer.status, 0, "{}", answer.stderr);
    let names = |lines: Vec<String>| {
        lines.into_iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(work.listing()), names(before));
}

#[test]
fn entry_points_are_followed_over_links() {
    let work = Work::new();
    let lib = emergence(&["store-path", "source", &work.text("lib"), "--name", "lib"]).ok().to_owned();
    fs::create_dir(work.path("tools")).unwrap();
    write(&work.path("tools/real"), "#!/bin/sh\n", 0o755);
    let tools = emergence(&["store-path", "source", &work.text("tools"), "--name", "tools"]).ok().to_owned();
    for (link, target) in [
        ("up", "../../up"),
        ("absolute", &*format!("{tools}/real")),
        ("directory", &tools),
        ("loop", "loop"),
        ("outside", "/bin/sh"),
        ("text", &lib),
        ("beside", &*format!("../../{}/real", tools.rsplit_once('/').unwrap().1)),
    ] {
        symlink(target, work.path("app/bin").join(link)).unwrap();
    }
    let tree = format!("tools={}", work.text("tools"));
    for (program, good) in [
        ("alias", true),
        ("absolute", true),
        ("directory/real", true),
        ("beside", true),
        ("../bin/./alias", true),
        ("up", false),
        ("loop", false),
        ("outside", false),
        ("text", false),
        ("directory", false),
        ("alias/x", false),
        ("directory/../real", false),
    ] {
        work.spec(&[("/init/entrypoint", json!([format!("@app/bin/{program}")]))]);
        for form in ["image", "artifact"] {
            let reference = format!("{}:{form}", work.output("out"));
            let answer = work.pack(&reference, &["--tree", &tree, "--form", form]);
            match good {
                true => {
                    answer.ok();
                    emergence(&["verify", &reference]).ok();
                }
                false => answer.refused(3, "doc.entrypoint"),
            }
        }
    }
}

#[test]
fn signatures_are_added_and_demanded() {
    let work = Work::new();
    let key = |name: &str, file: &str| {
        let file = work.text(file);
        fs::write(&file, emergence(&["key", "generate", name]).ok()).unwrap();
        let public = emergence(&["key", "public", &file]).ok().to_owned();
        (file, public)
    };
    let ((mine, public), (_, forged), (theirs, other)) =
        (key("mine", "1.sk"), key("mine", "2.sk"), key("theirs", "3.sk"));
    for form in FORMS {
        for archive in [false, true] {
            let reference = match archive {
                true => format!("oci-archive:{}:{form}", work.text(&format!("{form}.tar"))),
                false => format!("{}:{form}", work.output("out")),
            };
            let plain = work.pack(&reference, &["--form", form]).ok().to_owned();
            let before = report(&reference, &[]);
            let check = |key: &str, more: &[&str]| {
                emergence(
                    &[&["verify", &reference, "--trust", "signed", "--trusted-key", key], more].concat(),
                )
            };
            check(&public, &[]).refused(6, "trust.unproved");
            let signature = emergence(&["sign", &reference, &mine]).ok().to_owned();
            assert!(signature.starts_with("mine:"));
            check(&public, &[]).ok();
            check(&other, &[]).refused(6, "trust.unproved");
            check(&forged, &[]).refused(6, "trust.signature");
            emergence(&["verify", &reference, "--trusted-key", &forged, "--trust", "none"])
                .refused(6, "trust.signature");
            // Another signature comes to it, the same one does not come twice.
            emergence(&["sign", &reference, &theirs]).ok();
            emergence(&["sign", &reference, &mine]).ok();
            check(&public, &[]).ok();
            check(&other, &[]).ok();
            let after = report(&reference, &[]);
            assert_eq!((&after["automaton"], &after["layers"]), (&before["automaton"], &before["layers"]));
            assert_ne!(after["digest"], before["digest"]);
            // Signed while it is packed, it is the same.
            let signed = work.pack(&reference, &["--form", form, "--sign", &mine]).ok().to_owned();
            assert_ne!(signed, plain);
            check(&public, &[]).ok();
        }
    }
    let reference = format!("{}:image", work.output("out"));
    let known = report(&reference, &[]);
    for expected in ["automaton", "digest"] {
        emergence(&["verify", &reference, "--expect", text(&known[expected])]).ok();
    }
    emergence(&["verify", &reference, "--expect", text(&known["output"])]).refused(6, "trust.expect");
    let before = work.listing();
    emergence(&["sign", &work.output("none"), &mine]).fails(4, "none");
    emergence(&["sign", &format!("{}:none", work.output("out")), &mine]).refused(4, "oci.no-tag");
    assert_eq!(work.listing(), before);
}

/// A layout of one manifest that can be corrupted: digests are updated after a change, up to the
/// index.
struct Spoilt {
    work: Work,
    layout: PathBuf,
}

impl Spoilt {
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
    let spoilt = Spoilt::new("image");
    let answer = spoilt.change(&|manifest, _, _| {
        drop(manifest.as_object_mut().unwrap().remove("artifactType"));
        drop(manifest.as_object_mut().unwrap().remove("annotations"));
    });
    assert_eq!(answer.status, 0, "{}", answer.stderr);
    assert!(
        answer.stderr.starts_with("warning: its configuration declares an automaton"),
        "{}",
        answer.stderr
    );
    let reference = format!("oci:{}:1", spoilt.layout.display());
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
        let spoilt = Spoilt::new(form);
        spoilt.change(&|_, _, _| {}).ok();
        let document = |config: &mut Value, change: &dyn Fn(&mut Value)| match form {
            "image" => change(&mut config["com.matrixai.automaton"]),
            _ => change(config),
        };
        for name in ["automaton", "declaration", "output"] {
            spoilt
                .change(&|manifest, _, _| manifest["annotations"][note(name)] = zeros.clone())
                .refused(3, "automaton.mismatch");
            let gone = |manifest: &mut Value| {
                drop(manifest["annotations"].as_object_mut().unwrap().remove(&note(name)))
            };
            spoilt.change(&|manifest, _, _| gone(manifest)).refused(3, "automaton.mismatch");
        }
        spoilt
            .change(&|manifest, _, _| manifest["annotations"][note("closure")] = json!("x"))
            .refused(3, "automaton.mismatch");
        spoilt
            .change(&|manifest, _, _| manifest["annotations"][note("signature")] = json!("x"))
            .refused(3, "automaton.mismatch");
        spoilt
            .change(&|manifest, _, _| manifest["layers"][0]["annotations"] = json!({}))
            .refused(3, "layer.not-canonical");
        spoilt
            .change(&|manifest, _, _| {
                manifest["layers"][0]["annotations"] = manifest["layers"][1]["annotations"].clone()
            })
            .refused(3, "layer.not-canonical");
        spoilt.change(&|manifest, _, _| drop(manifest["layers"].as_array_mut().unwrap().remove(1))).refused(
            if form == "image" { 3 } else { 4 },
            if form == "image" { "oci.diff-id" } else { "closure.incomplete" },
        );
        spoilt
            .change(&|manifest, _, _| manifest["layers"][0]["mediaType"] = json!("text/plain"))
            .refused(3, "oci.media-type");
        let changed = |change: &dyn Fn(&mut Value)| spoilt.change(&|_, config, _| document(config, change));
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
            spoilt
                .change(&|_, config, _| config["config"]["Entrypoint"] = json!(["/bin/sh"]))
                .refused(3, "automaton.mismatch");
            spoilt
                .change(&|_, config, _| config["rootfs"]["diff_ids"][0] = zeros.clone())
                .refused(3, "oci.diff-id");
            spoilt
                .change(&|_, config, _| {
                    drop(config.as_object_mut().unwrap().remove("com.matrixai.automaton"))
                })
                .refused(3, "json.syntax");
            // One byte of a header, of the end, and after it.
            for at in [100, 600, 1100] {
                spoilt.change(&|_, _, layer| layer[at] ^= 1).refused(3, "layer.not-canonical");
            }
            spoilt.change(&|_, _, layer| layer.push(0)).refused(3, "layer.not-canonical");
            spoilt.change(&|_, _, layer| layer.truncate(1024)).refused(3, "layer.not-canonical");
            spoilt.change(&|_, _, layer| layer[1536] ^= 1).refused(3, "nar.hash");
        } else {
            spoilt.change(&|_, _, layer| layer[0] ^= 1).refused(3, "nar.magic");
            spoilt.change(&|_, _, layer| layer[96] ^= 1).refused(3, "nar.hash");
            spoilt.change(&|_, _, layer| layer.push(0)).refused(3, "nar.trailing");
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
fn other_tools_carry_it() {
    let work = Work::new();
    let skopeo = |words: &[&str]| {
        let done = Command::new("skopeo").arg("--insecure-policy").args(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    for form in ["image", "artifact"] {
        let from = format!("{}:{form}", work.output("out"));
        let digest = work.pack(&from, &["--form", form]).ok().to_owned();
        let archive = format!("oci-archive:{}:{form}", work.text(&format!("{form}.tar")));
        skopeo(&["copy", "--preserve-digests", &from, &archive]);
        assert_eq!(emergence(&["verify", &archive]).ok(), format!("ok {digest}"));
        let dir = format!("dir:{}", work.text(&format!("{form}-dir")));
        skopeo(&["copy", "--preserve-digests", &archive, &dir]);
        let back = format!("{}:back-{form}", work.output("back"));
        skopeo(&["copy", "--preserve-digests", &dir, &back]);
        assert_eq!(emergence(&["verify", &back]).ok(), format!("ok {digest}"));
    }
    // umoci makes the same tree of the image.
    let raw = work.text("raw");
    let image = format!("{}:image", work.text("out"));
    let done = Command::new("umoci").args(["raw", "unpack", "--image", &image, &raw]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let to = work.text("to");
    emergence(&["unpack", &format!("oci:{image}"), "--to", &to]).ok();
    for object in report(&format!("oci:{image}"), &[])["objects"].as_array().unwrap() {
        let path = text(&object["path"]);
        for root in [&raw, &to] {
            assert_eq!(emergence(&["hash", &format!("{root}{path}")]).ok(), text(&object["narHash"]));
        }
    }
}

/// A registry of its own, on a port that the kernel gives.
struct Registry(std::process::Child, u16);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Registry {
    fn start(work: &Work) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            work.text("registry")
        );
        fs::write(work.path("registry.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &work.text("registry.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self(child, port);
        for _ in 0..600 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return registry;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("no registry answers");
    }
}

#[test]
fn a_registry_carries_it() {
    let work = Work::new();
    let registry = Registry::start(&work);
    for form in ["image", "artifact"] {
        let from = format!("{}:{form}", work.output("out"));
        let digest = work.pack(&from, &["--form", form]).ok().to_owned();
        let there = format!("docker://127.0.0.1:{}/greeter:{form}", registry.1);
        let back = format!("{}:{form}", work.output("back"));
        for (from, to) in [(&from, &there), (&there, &back)] {
            let done = Command::new("skopeo")
                .args([
                    "--insecure-policy",
                    "copy",
                    "--preserve-digests",
                    "--src-tls-verify=false",
                    "--dest-tls-verify=false",
                    from,
                    to,
                ])
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        assert_eq!(emergence(&["verify", &back]).ok(), format!("ok {digest}"));
        let index: Value = serde_json::from_slice(&fs::read(work.path("back/index.json")).unwrap()).unwrap();
        let entry = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| text(&entry["digest"]) == digest)
            .unwrap();
        let manifest =
            fs::read(work.path("back/blobs").join(text(&entry["digest"]).replace(':', "/"))).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["artifactType"], "application/vnd.matrixai.automaton.v1");
    }
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

#[test]
fn a_demand_for_signatures_names_the_keys() {
    let work = Work::new();
    let key = vector("keys/test-1.sk").display().to_string();
    work.pack(&work.output("out"), &["--sign", &key]).ok();
    let keys = vectors("keys");
    let trusted = ["--trusted-key", text(&keys["test-1"])];
    let shown = |options: &[&str]| {
        let report = report(&work.output("out"), &[&trusted[..], options].concat());
        let object = report["objects"][0].clone();
        (report["trust"].clone(), object["proof"].clone(), object["signedBy"].clone())
    };
    assert_eq!(shown(&[]), (json!("content"), json!("content"), Value::Null));
    assert_eq!(shown(&["--trust", "signed"]), (json!("signature"), json!("signature"), json!("test-1")));
}

#[test]
fn a_policy_knows_an_automaton_by_its_own_name() {
    let work = Work::new();
    work.pack(&work.output("out"), &[]).ok();
    let policy = work.text("policy.json");
    let verify = |names: &str| {
        fs::write(&policy, format!(r#"{{"allow":{{"names":["{names}"]}}}}"#)).unwrap();
        emergence(&["--policy", &policy, "verify", &work.output("out")])
    };
    verify("greet*").ok();
    verify("app").refused(6, "trust.policy");
}
