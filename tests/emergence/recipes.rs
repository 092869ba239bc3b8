//! Derivations that automata are said to be built by: what follows from them, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use emergence_runc::emergence::hash::Hash;
use serde_json::{Value, json};

use crate::support::{Answer, each, emergence, text, trusting, vector, vectors};

/// A directory for a document and what comes of it; and the recipe of an object that a cache of the
/// vectors has.
struct Work {
    directory: tempfile::TempDir,
    recipe: Value,
}

impl Work {
    fn new() -> Self {
        let all = vectors("derivations");
        let built = |one: &&Value| text(&one["file"]).ends_with("cizvm7g8hnrr9vg6ljhr6l52qxzi11ac-app-2.drv");
        let recipe = each(&all).iter().find(built).unwrap().clone();
        Self { directory: tempfile::tempdir().unwrap(), recipe }
    }

    fn text(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self) -> PathBuf {
        vector(text(&self.recipe["file"]))
    }

    /// The path of the recipe, and of what it builds.
    fn paths(&self) -> (&str, &str) {
        (text(&self.recipe["drvPath"]), text(&self.recipe["outputs"]["out"]))
    }

    /// `emergence` with a store of this test's.
    fn call(&self, words: &[&str]) -> Answer {
        let store = self.text("store");
        let keys = trusting();
        let keys = keys.iter().map(String::as_str);
        let words: Vec<&str> =
            ["--store", &store].into_iter().chain(words.iter().copied()).chain(keys).collect();
        emergence(&words)
    }

    /// Packs what the recipe builds, or `object`, with this declaration.
    fn pack(&self, declaration: &Value, outputs: Value, object: &str, from: &str) -> Answer {
        let spec = json!({"schemaVersion": 1, "name": "app", "declaration": declaration, "outputs": outputs});
        fs::write(self.text("spec.json"), spec.to_string()).unwrap();
        let (spec, output) = (self.text("spec.json"), format!("oci:{}:a", self.text("layout")));
        self.call(&["pack", "--spec", &spec, "--path", object, "--from", from, "--output", &output, "--pin"])
    }

    /// The same for what the recipe builds, out of a cache of the vectors.
    fn packed(&self, declaration: &Value) -> Answer {
        let (_, out) = self.paths();
        self.pack(declaration, json!({"out": out}), out, &built())
    }

    fn shown(&self, verb: &str) -> Value {
        let reference = format!("oci:{}:a", self.text("layout"));
        serde_json::from_str(self.call(&["--json", verb, &reference]).ok()).unwrap()
    }

    /// What the document says of the recipe.
    fn told(&self) -> (String, Option<String>) {
        let declaration = self.shown("inspect")["document"]["declaration"].clone();
        let digest = text(&declaration["digest"]).to_owned();
        (digest, declaration["equivalence"].as_str().map(str::to_owned))
    }

    fn digest(&self) -> String {
        Hash::sha256(&fs::read(self.file()).unwrap()).to_string()
    }

    fn equivalence(&self) -> String {
        format!("sha256:{}", text(&self.recipe["hashModulo"]))
    }

    /// Imports the recipe and all that it depends on.
    fn import_recipes(&self) {
        let conf = "/nix/store/7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42-app.conf";
        self.call(&["import", &format!("{}#{conf}", built())]).ok();
        let all = vectors("derivations");
        let mut there = BTreeSet::from([conf.to_owned()]);
        while !there.contains(self.paths().0) {
            let ready = |one: &&Value| {
                let known = |path: &Value| there.contains(text(path));
                !there.contains(text(&one["drvPath"])) && each(&one["references"]).iter().all(known)
            };
            let next = each(&all).iter().find(ready).expect("something is ready");
            let (nar, path) = (self.text("nar"), text(&next["drvPath"]));
            let file = vector(text(&next["file"]));
            let _ = fs::remove_file(&nar);
            emergence(&["nar", "dump", file.to_str().unwrap(), "-o", &nar]).ok();
            let digest = Hash::sha256(&fs::read(&file).unwrap()).nix32();
            let (ca, reference) = (format!("text:sha256:{digest}"), format!("nar:{nar}"));
            let mut words = vec!["import", &reference, "--store-path", path, "--ca", &ca];
            each(&next["references"]).iter().for_each(|one| words.extend(["--ref", text(one)]));
            self.call(&words).ok();
            there.insert(path.to_owned());
        }
    }
}

/// The cache that has what is built.
fn built() -> String {
    format!("cache:{}", vector("caches/xz").display())
}

#[test]
fn paths_computed_from_a_recipe_are_written_and_others_refused() {
    let work = Work::new();
    let (path, out) = work.paths();
    let file = work.file();
    let declared = |more: Value| {
        let mut all = json!({"kind": "nix-derivation", "storePath": path,
            "inputs": [{"path": file.to_str().unwrap()}]});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    work.packed(&declared(json!({}))).ok();
    assert_eq!(work.told(), (work.digest(), Some(work.equivalence())));
    assert_eq!(work.shown("verify")["recipe"], "declared");
    work.packed(&declared(json!({"digest": work.digest(), "equivalence": work.equivalence()}))).ok();
    let other = format!("sha256:{}", "0".repeat(64));
    let path_of_other = path.replacen(&path[11..43], "7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42", 1);
    for wrong in
        [json!({"digest": other}), json!({"equivalence": other}), json!({"storePath": path_of_other})]
    {
        work.packed(&declared(wrong)).refused(3, "declaration.mismatch");
    }
    // Something else is packed than what the recipe builds; or it is called another output.
    let simple = "/nix/store/90dxglj74s001104ich7q39a0vkxcd98-simple";
    for (outputs, object) in [(json!({"out": simple}), simple), (json!({"doc": out}), out)] {
        work.pack(&declared(json!({})), outputs, object, &built()).refused(3, "declaration.mismatch");
    }
}

#[test]
fn outputs_are_computed_from_the_recipe_alone() {
    let work = Work::new();
    let alone = work.text("alone.drv");
    fs::copy(work.file(), &alone).unwrap();
    let (_, out) = work.paths();
    let declared = json!({"kind": "nix-derivation", "inputs": [{"path": "alone.drv"}]});
    work.packed(&declared).ok();
    assert_eq!(work.told(), (work.digest(), None));
    let simple = "/nix/store/90dxglj74s001104ich7q39a0vkxcd98-simple";
    work.pack(&declared, json!({"out": simple}), simple, &built()).refused(3, "declaration.mismatch");
    // A recipe whose outputs do not follow from it is none.
    let text = fs::read_to_string(&alone).unwrap().replace(out, simple);
    fs::write(&alone, text).unwrap();
    fs::create_dir(work.text("beside")).unwrap();
    for entry in fs::read_dir(vector("drvs")).unwrap().flatten() {
        fs::copy(entry.path(), work.directory.path().join("beside").join(entry.file_name())).unwrap();
    }
    fs::copy(&alone, work.text("beside/false.drv")).unwrap();
    let declared = json!({"kind": "nix-derivation", "inputs": [{"path": "beside/false.drv"}]});
    work.pack(&declared, json!({"out": simple}), simple, &built()).refused(3, "drv.output-mismatch");
}

#[test]
fn recipes_are_found_in_stores_and_caches() {
    let work = Work::new();
    let (path, out) = work.paths();
    let declared = json!({"kind": "nix-derivation", "storePath": path});
    work.packed(&declared).refused(3, "json.syntax");
    work.import_recipes();
    work.call(&["import", &format!("{}#{out}", built())]).ok();
    work.pack(&declared, json!({"out": out}), out, "store:").ok();
    assert_eq!(work.told(), (work.digest(), Some(work.equivalence())));
    assert_eq!(work.shown("verify")["recipe"], "computed");
    let cache = format!("cache:{}", work.text("cache"));
    work.call(&["export", path, out, "--to", &cache]).ok();
    work.pack(&declared, json!({"out": out}), out, &cache).ok();
    assert_eq!(work.told(), (work.digest(), Some(work.equivalence())));
    // Without the recipe, a wrong declaration is passed on; with it, it is detected.
    let mut lie = declared.clone();
    lie["digest"] = json!(work.digest());
    lie["equivalence"] = json!(format!("sha256:{}", "0".repeat(64)));
    work.packed(&lie).ok();
    let reference = format!("oci:{}:a", work.text("layout"));
    work.call(&["verify", &reference]).refused(3, "declaration.mismatch");
    fs::rename(work.text("store"), work.text("elsewhere")).unwrap();
    assert_eq!(work.shown("verify")["recipe"], "declared");
}
