//! `hack/order.d/start.ld`, the order of the functions in a release, names functions that the
//! sources still have.

use std::collections::BTreeMap;
use std::path::Path;

/// Maximum share of missing names, in per cent. `hack/order` rewrites the list; it needs a release
/// build.
const MOST_GONE: usize = 5;

/// Names of modules and items that follow the crate in a mangled symbol, as in
/// `14emergence_runc9container6create6launch`. Source: The Rust Reference, "v0 Symbol Format". They
/// end where something else follows, as a back reference.
fn names(mut mangled: &str) -> Vec<&str> {
    let mut names = Vec::new();
    loop {
        let digits = mangled.len() - mangled.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
        let Ok(length) = mangled[..digits].parse::<usize>() else { return names };
        // An underscore separates the length from a name that begins with a digit or an underscore.
        let rest = &mangled[digits..];
        let rest = rest.strip_prefix('_').unwrap_or(rest);
        let Some(name) = rest.get(..length) else { return names };
        names.push(name);
        mangled = &rest[length..];
    }
}

/// Whether the sources have the item: its file, and in that a definition of the name.
fn exists(names: &[&str], sources: &BTreeMap<String, String>) -> bool {
    let mut module = String::new();
    let mut text = sources.get("lib.rs").map_or("", String::as_str);
    for name in names {
        let below = if module.is_empty() { (*name).to_owned() } else { format!("{module}/{name}") };
        let file = [format!("{below}.rs"), format!("{below}/mod.rs")];
        match file.iter().find_map(|file| sources.get(file)) {
            Some(found) => (module, text) = (below, found),
            // What is derived is in a constant without a name.
            None if *name == "_" => return true,
            None => {
                return ["fn", "struct", "enum", "trait", "const", "static", "type"].iter().any(|word| {
                    text.split(&format!("{word} {name}"))
                        .skip(1)
                        .any(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
                });
            }
        }
    }
    true
}

#[test]
fn the_list_fits_the_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = root.join("src");
    let sources: BTreeMap<String, String> = super::sources()
        .into_iter()
        .map(|(path, text)| (path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned(), text))
        .collect();
    let list = std::fs::read_to_string(root.join("hack/order.d/start.ld")).unwrap();
    let named: Vec<Vec<&str>> = list
        .lines()
        .flat_map(|line| line.split("14emergence_runc").skip(1))
        .map(names)
        .filter(|names| !names.is_empty())
        .collect();
    assert!(named.len() > 100, "only {} names were found in the list", named.len());
    let gone: Vec<String> =
        named.iter().filter(|names| !exists(names, &sources)).map(|names| names.join("::")).collect();
    assert!(
        gone.len() * 100 <= named.len() * MOST_GONE,
        "{} of {} functions in hack/order.d/start.ld are gone; run hack/order:\n{}",
        gone.len(),
        named.len(),
        gone.join("\n")
    );
}

#[test]
fn names_of_symbols() {
    assert_eq!(names("9container6create6launch)"), ["container", "create", "launch"]);
    assert_eq!(names("4spec5linux1__NtB8_5Linux"), ["spec", "linux", "_"]);
    let sources = [("a/mod.rs", "pub fn made() {}"), ("a/b.rs", "pub struct Made;\nfn make() {}")];
    let sources = sources.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
    assert!(exists(&["a", "made"], &sources) && exists(&["a", "b", "Made"], &sources));
    assert!(exists(&["a", "b"], &sources) && !exists(&["a", "b", "made"], &sources));
    assert!(!exists(&["a", "mad"], &sources) && !exists(&["c"], &sources));
}
