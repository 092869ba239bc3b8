//! Imports go one way: the table of who may name whom, checked in the sources. docs/architecture.md
//! draws it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod imports;
mod order;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A room and the rooms it may name. A room's own name is always allowed.
const TABLE: [(&str, &[&str]); 16] = [
    ("main", &["cli", "container", "supervisor", "sys"]),
    ("supervisor", &["spec", "sys", "error"]),
    ("cli", &["container", "emergence", "spec", "sys", "error", "plan", "cgroup"]),
    (
        "container",
        &[
            "init",
            "rootfs",
            "net",
            "cgroup",
            "checkpoint",
            "plan",
            "security",
            "emergence",
            "spec",
            "sys",
            "error",
        ],
    ),
    ("checkpoint", &["sys", "error"]),
    ("init", &["rootfs", "plan", "sys"]),
    ("rootfs", &["plan", "sys"]),
    ("plan", &["security", "cgroup", "net", "spec", "sys", "error"]),
    ("net", &["spec", "sys", "error"]),
    ("cgroup", &["spec", "sys", "error"]),
    ("security", &["spec", "error"]),
    ("emergence", &["rootfs", "spec", "sys", "error"]),
    ("error", &[]),
    ("spec", &["error"]),
    ("sys", &[]),
    ("lib", &[]),
];

/// From `cgroup`, the command line takes what a request is made of, nothing that acts.
const CLI_FROM_CGROUP: &[&str] = &["Driver"];

/// Of artifacts, the runtime knows the one check before a container's process exists.
const CONTAINER_FROM_EMERGENCE: &[&str] = &["admission"];

/// Artifacts look paths up in root file systems as containers do.
const EMERGENCE_FROM_ROOTFS: &[&str] = &["walk"];

/// A file longer than this does more than its opening sentence says.
const LONGEST: usize = 550;

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    found
}

/// The room of a file: the directory below src, or the file's own name.
fn room(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The code without comments, strings' content left as it is: what names a room is code.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| match line.trim_start() {
        comment if comment.starts_with("//") => "",
        _ => line.split(" // ").next().unwrap_or(line),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Every `crate::ROOM` of `code`, also in `use crate::{a::X, b}`, with the words after the room's
/// name.
fn named(code: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for start in ["crate::", "emergence_runc::"] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            let parts = match rest.strip_prefix('{') {
                Some(group) => top_level(group),
                None => {
                    vec![rest.split([';', '(', ')', '<', '>', ' ', '\n']).next().unwrap_or("").to_owned()]
                }
            };
            for part in parts {
                let name: String =
                    part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let after = part.trim().get(name.len()..).unwrap_or("").to_owned();
                found.push((name, after));
            }
        }
    }
    found
}

/// The parts of `a::{b, c}, d}…` up to the closing brace, split at the commas outside inner braces.
fn top_level(group: &str) -> Vec<String> {
    let (mut depth, mut part, mut parts) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                part.push(c);
            }
        }
    }
    parts.push(part);
    parts
}

#[test]
fn imports_go_one_way() {
    let table: BTreeMap<_, _> = TABLE.into_iter().collect();
    let mut crossings = Vec::new();
    for (path, text) in sources() {
        let room = room(&path);
        let Some(allowed) = table.get(room.as_str()) else {
            crossings.push(format!("{}: {room} is in no table", path.display()));
            continue;
        };
        for (name, after) in named(&code(&text)) {
            let known = table.contains_key(name.as_str());
            let outside = |items: &[&str]| !items.iter().any(|item| after.contains(item));
            let narrow = match (room.as_str(), name.as_str()) {
                ("cli", "cgroup") => outside(CLI_FROM_CGROUP),
                ("container", "emergence") => outside(CONTAINER_FROM_EMERGENCE),
                ("emergence", "rootfs") => outside(EMERGENCE_FROM_ROOTFS),
                _ => false,
            };
            if known && name != room && (!allowed.contains(&name.as_str()) || narrow) {
                crossings.push(format!("{}: {room} may not name {name}{after}", path.display()));
            }
        }
    }
    assert!(crossings.is_empty(), "{crossings:#?}");
}

#[test]
fn files_stay_short() {
    let long = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST);
    let long: Vec<_> = long.map(|(path, lines)| format!("{}: {lines} lines", path.display())).collect();
    assert!(long.is_empty(), "longer than {LONGEST}: {long:#?}");
}

#[test]
fn files_say_what_they_are() {
    let silent: Vec<_> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "no opening sentence: {silent:#?}");
}

#[test]
fn the_reader_of_imports_reads() {
    let found = named(
        "use crate::{error::{Doing, Result}, sys};\nlet x = crate::plan::Step::new(emergence_runc::cli::main());",
    );
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["error", "sys", "plan", "cli"]);
    assert_eq!(code("// crate::a\nx // crate::b\n"), "\nx");
}

/// Pages whose readers look for the files that they name.
const PAGES: [&str; 8] = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/README.md",
    "docs/decisions.md",
    "docs/security.md",
    "docs/emergence.md",
    "docs/formats.md",
];

/// The paths below the repository's own directories that `text` has in backticks, and file names
/// without a directory.
fn paths_in(text: &str) -> Vec<&str> {
    let quoted = text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
    let first = |word: &str| word.split('/').next().unwrap_or_default().to_owned();
    let ours = ["src", "tests", "hack", "fuzz", "docs", "conformance", ".ci"];
    let is_path =
        |word: &&str| (word.contains('/') && ours.contains(&first(word).as_str())) || word.ends_with(".rs");
    quoted.filter_map(|words| words.split_whitespace().next()).filter(is_path).collect()
}

#[test]
fn paths_in_documents_exist() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for page in PAGES {
        let text = fs::read_to_string(repository.join(page)).unwrap();
        let found = paths_in(&text);
        let absent = found.iter().filter(|path| !repository.join(path).exists());
        missing.extend(absent.map(|path| format!("{page}: {path}")));
        assert!(page != "docs/architecture.md" || found.len() > 100, "the map has {} paths", found.len());
    }
    assert!(missing.is_empty(), "paths from the top of the repository that do not exist: {missing:#?}");
}

#[test]
fn paths_are_found_in_prose() {
    let text = "`src/no/such.rs` and `hack/bench emergence`\n```\n`src/in/code`\n```\n`alone.rs`, `memory.max`, `a/b`";
    assert_eq!(paths_in(text), ["src/no/such.rs", "hack/bench", "alone.rs"]);
}

#[test]
fn refusal_codes_are_documented() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(repository.join("src/emergence/base/refusal.rs")).unwrap();
    let table = source.split_once("\ncodes! {\n").unwrap().1.split_once("\n}").unwrap().0;
    let page = fs::read_to_string(repository.join("docs/formats.md")).unwrap();
    let row_of =
        |code: &str| page.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{code}`")));
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in table.lines() {
        let parts: Vec<&str> = line.split('"').collect();
        let (code, status) = (parts[1], parts[2].trim());
        count += 1;
        if !row_of(code).is_some_and(|row| row.contains(&format!("| {status} |"))) {
            wrong.push(format!("{code} with status {status}"));
        }
    }
    assert!(count > 50, "the table of codes has {count} lines");
    assert!(wrong.is_empty(), "not in the table of docs/formats.md: {wrong:#?}");
}

/// The modules of the crate without their tests.
fn modules() -> BTreeMap<imports::Place, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    for (path, text) in sources() {
        let below = path.strip_prefix(&src).unwrap().with_extension("");
        let mut place: Vec<String> =
            below.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        if place.iter().any(|part| part == "tests") {
            continue;
        }
        place.pop_if(|last| last == "mod" || last == "lib");
        let code = code(&text);
        let untested = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
        found.insert(place, untested);
    }
    found
}

#[test]
fn siblings_form_no_circle() {
    let circles = imports::Crate::new(modules()).circles();
    assert!(circles.is_empty(), "modules that import each other: {circles:#?}");
}

#[test]
fn a_circle_is_found_at_any_level() {
    let circles = |more: &[(&str, &str)]| {
        let mut modules = modules();
        for (place, code) in more {
            let place = place.split("::").map(str::to_owned).collect();
            modules.entry(place).or_default().push_str(code);
        }
        imports::Crate::new(modules).circles().len()
    };
    let before = circles(&[]);
    assert_eq!(circles(&[("plan::ids", "use super::ids::X;\n")]), before, "a module may name itself");
    let two = [("plan::a", "use super::b::{C, D};\n"), ("plan::b", "fn f() { crate::plan::a::g() }\n")];
    assert_eq!(circles(&two), before + 1);
    let deep = [
        ("emergence::nix::a", "use crate::emergence::nix::b;\n"),
        ("emergence::nix::b", "use super::c::{self, X as Y};\n"),
        ("emergence::nix::c", "use super::a;\n"),
    ];
    assert_eq!(circles(&deep), before + 1);
    let exported = [
        ("net", "\npub use self::a::Thing;\n"),
        ("net::a", "use super::b::Other;\n"),
        ("net::b", "use crate::net::Thing;\n"),
    ];
    assert_eq!(circles(&exported), before + 1, "through a re-export");
}
