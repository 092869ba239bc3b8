//! `drv`.

use std::fs;

use serde_json::Value;

use crate::support::{each, emergence, text, vector, vectors};

fn file(drv: &Value) -> String {
    vector(text(&drv["file"])).to_str().unwrap().to_owned()
}

#[test]
fn outputs_and_hashes_are_nixs() {
    for drv in each(&vectors("derivations")) {
        let mut want = String::new();
        for (name, path) in drv["outputs"].as_object().unwrap() {
            want += &format!("{name} {}\n", path.as_str().unwrap_or("null"));
        }
        let modulo = match &drv["hashModulo"] {
            Value::Object(fixed) => fixed["out"].clone(),
            other => other.clone(),
        };
        want += &format!("modulo {}", modulo.as_str().unwrap_or("null"));
        assert_eq!(emergence(&["drv", "check", &file(drv)]).ok(), want, "{}", drv["attr"]);
        let json: Value =
            serde_json::from_str(emergence(&["--json", "drv", "check", &file(drv)]).ok()).unwrap();
        assert_eq!(json["outputs"], drv["outputs"]);
        assert_eq!(json["modulo"], modulo);
    }
}

#[test]
fn their_own_paths_are_nixs() {
    for drv in each(&vectors("derivations")) {
        assert_eq!(emergence(&["drv", "path", &file(drv)]).ok(), text(&drv["drvPath"]));
        // The name comes from the variable, or the option, if the file's name gives none.
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("some.drv");
        fs::copy(file(drv), &copy).unwrap();
        let copy = copy.to_str().unwrap();
        let named = emergence(&["drv", "path", copy, "--name", text(&drv["name"])]);
        assert_eq!(named.ok(), text(&drv["drvPath"]));
        // One with structured attributes has no such variable.
        if drv["attr"] != "structured" {
            assert_eq!(emergence(&["drv", "path", copy]).ok(), text(&drv["drvPath"]));
        } else {
            emergence(&["drv", "path", copy]).fails(2, "--name");
        }
    }
}

#[test]
fn they_are_shown_as_nix_shows_them() {
    for drv in each(&vectors("derivations")) {
        let shown: Value = serde_json::from_str(emergence(&["drv", "show", &file(drv)]).ok()).unwrap();
        let shown = &shown[text(&drv["drvPath"])];
        let mut references: Vec<String> = shown["inputDrvs"].as_object().unwrap().keys().cloned().collect();
        references.extend(each(&shown["inputSrcs"]).iter().map(|path| text(path).to_owned()));
        references.sort();
        let want: Vec<&str> = each(&drv["references"]).iter().map(text).collect();
        assert_eq!(references, want);
        for (name, path) in drv["outputs"].as_object().unwrap() {
            assert_eq!(shown["outputs"][name].get("path").unwrap_or(&Value::Null), path);
        }
        assert_eq!(shown["name"], drv["name"]);
        assert_eq!(shown["builder"], "/bin/sh");
    }
}

#[test]
fn a_recipe_with_wrong_paths_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let drvs = vectors("derivations");
    let of = |attr: &str| each(&drvs).iter().find(|drv| drv["attr"] == attr).unwrap();
    for drv in each(&drvs) {
        fs::copy(file(drv), directory.path().join(text(&drv["file"]).strip_prefix("drvs/").unwrap()))
            .unwrap();
    }
    let place = |attr: &str| directory.path().join(text(&of(attr)["file"]).strip_prefix("drvs/").unwrap());
    let check = |attr: &str| emergence(&["drv", "check", place(attr).to_str().unwrap()]);
    let good = fs::read(place("simple")).unwrap();
    let change = |from: &str, to: &str| {
        let text = String::from_utf8(good.clone()).unwrap();
        assert!(text.contains(from));
        fs::write(place("simple"), text.replace(from, to)).unwrap();
    };
    check("top").ok();
    // Another recipe has other paths, and is not the one that others name.
    change("echo simple", "echo simply");
    check("simple").refused(3, "drv.output-mismatch");
    check("app").refused(3, "path.mismatch");
    check("top").refused(3, "path.mismatch");
    change("Derive(", "Derive( ");
    check("top").refused(3, "drv.syntax");
    fs::remove_file(place("simple")).unwrap();
    check("top").refused(4, "drv.input-missing");
    let elsewhere = vector("drvs");
    emergence(&["drv", "check", place("top").to_str().unwrap(), "--inputs", elsewhere.to_str().unwrap()])
        .ok();
    fs::write(place("simple"), b"DrvWithVersion(\"xp-dyn-drv\",").unwrap();
    check("simple").refused(3, "drv.version");
    emergence(&["drv", "check", "/none/such.drv"]).fails(4, "/none/such.drv");
    emergence(&["drv", "show", "/dev/zero"]).refused(3, "limit.document");
    // How a fixed content is got does not count, but its path follows from the content.
    let fixed = fs::read_to_string(place("fixflat")).unwrap();
    fs::write(place("fixflat"), fixed.replace("f6e379b0", "f6e379b1")).unwrap();
    check("fixflat").refused(3, "drv.output-mismatch");
}

#[test]
fn a_long_chain_of_recipes_needs_no_deep_stack() {
    let directory = tempfile::tempdir().unwrap();
    let dir = "/nix/store";
    let mut input = String::new();
    let mut last = String::new();
    for number in 0..3000 {
        let text = |path: &str| {
            format!(
                "Derive([(\"out\",\"{path}\",\"\",\"\")],[{input}],[],\"x\",\"/b\",[\"{number}\"],[(\"name\",\"n\"),(\"out\",\"{path}\")])"
            )
        };
        // Floating ones have no paths to be found out first.
        let text = text("").replace("\"out\",\"\",\"\",\"\"", "\"out\",\"\",\"r:sha256\",\"\"");
        use emergence_runc::emergence::{Name, StoreDir, drv};
        let dir_ = StoreDir::new(dir).unwrap();
        let path =
            drv::parse(text.as_bytes(), &dir_).unwrap().path(&dir_, Name::new("n.drv").unwrap()).unwrap();
        last = directory.path().join(path.to_string()).to_str().unwrap().to_owned();
        fs::write(&last, text).unwrap();
        input = format!("(\"{}\",[\"out\"])", dir_.path(&path));
    }
    assert_eq!(emergence(&["drv", "check", &last]).ok(), "out null\nmodulo null");
}
