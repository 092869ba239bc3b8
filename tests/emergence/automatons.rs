//! Automata: packed, verified, unpacked.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use emergence_runc::emergence::hash::Hash;
use serde_json::{Value, json};

use crate::support::{Answer, emergence, text, vector, vectors};

pub(crate) const FORMS: [&str; 3] = ["image", "artifact", "both"];

pub(crate) const COMPRESSIONS: [&str; 3] = ["none", "zstd", "gzip"];

/// A directory with two trees, of which one refers to the other, and a document.
pub(crate) struct Work {
    directory: tempfile::TempDir,
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl Work {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes the document, with members changed by their JSON pointers.
    pub(crate) fn spec(&self, changes: &[(&str, Value)]) {
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

    pub(crate) fn pack(&self, output: &str, options: &[&str]) -> Answer {
        let (spec, app, lib) = (
            self.text("spec.json"),
            format!("app={}", self.text("app")),
            format!("lib={}", self.text("lib")),
        );
        let words = ["pack", "--spec", &spec, "--tree", &app, "--tree", &lib, "--output", output];
        emergence(&[&words[..], options].concat())
    }

    pub(crate) fn output(&self, name: &str) -> String {
        format!("oci:{}", self.text(name))
    }

    /// All that is in the directory: names, kinds and contents.
    pub(crate) fn listing(&self) -> Vec<String> {
        listing(self.directory.path())
    }
}

/// Paths below a directory, with kind, permissions and content.
pub(crate) fn listing(root: &Path) -> Vec<String> {
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

pub(crate) fn report(reference: &str, options: &[&str]) -> Value {
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
