//! Reads the imports of a module out of its source, and finds circles among sibling modules.

use std::collections::{BTreeMap, BTreeSet};

/// A path of a module or an item below the crate's root: `["plan", "mounts"]`.
pub(crate) type Place = Vec<String>;

/// The modules of a crate, and the items that each re-exports.
#[derive(Default)]
pub(crate) struct Crate {
    modules: BTreeMap<Place, String>,
    /// Name of a re-exported item in a module, and the path that it refers to.
    exports: BTreeMap<(Place, String), Place>,
}

/// An import between two siblings: the importing module, and the imported path.
pub(crate) type Import = (String, String);

/// Siblings that import each other, with the imports.
pub(crate) type Circle = Vec<(String, String, Vec<Import>)>;

impl Crate {
    /// `modules`: the path of each module, and its code without comments and tests.
    pub(crate) fn new(modules: BTreeMap<Place, String>) -> Self {
        let mut found = Self { modules, exports: BTreeMap::new() };
        let mut exports = BTreeMap::new();
        for (module, code) in &found.modules {
            for (is_public, tree) in uses(code) {
                for (path, name) in leaves(&tree).into_iter().filter(|_| is_public) {
                    if let Some(path) = found.absolute(module, &path) {
                        exports.insert((module.clone(), name), path);
                    }
                }
            }
        }
        found.exports = exports;
        found
    }

    /// A path as it is written in `module`, from the crate's root; `None`: it is of another crate.
    fn absolute(&self, module: &Place, path: &[String]) -> Option<Place> {
        let mut place = module.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => {
                place.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    place.pop();
                    rest = &rest[1..];
                }
            }
            child => {
                let mut below = place.clone();
                below.push(child.to_owned());
                self.modules.get(&below)?;
            }
        }
        place.extend(rest.iter().filter(|word| *word != "self").cloned());
        Some(place)
    }

    /// The module that defines what a path names, through all re-exports.
    fn defining(&self, path: &Place) -> Place {
        let mut path = path.clone();
        for _ in 0..8 {
            let module = (0..=path.len()).rev().map(|end| path[..end].to_vec());
            let module =
                module.into_iter().find(|place| self.modules.contains_key(place)).unwrap_or_default();
            let next =
                path.get(module.len()).and_then(|name| self.exports.get(&(module.clone(), name.clone())));
            match next {
                Some(next) if *next != path => path = [next, &path[module.len() + 1..]].concat(),
                _ => return module,
            }
        }
        path
    }

    /// Every circle of imports among the children of one module.
    pub(crate) fn circles(&self) -> Vec<Circle> {
        let mut levels: BTreeMap<Place, BTreeMap<(String, String), Vec<Import>>> = BTreeMap::new();
        for (module, code) in &self.modules {
            for path in paths(code).iter().filter_map(|path| self.absolute(module, path)) {
                let to = self.defining(&path);
                let common = module.iter().zip(&to).take_while(|(one, other)| one == other).count();
                if let (Some(from), Some(into)) = (module.get(common), to.get(common)) {
                    let level = levels.entry(to[..common].to_vec()).or_default();
                    let imports = level.entry((from.clone(), into.clone())).or_default();
                    imports.push((module.join("::"), path.join("::")));
                }
            }
        }
        levels.values().flat_map(circles_of).collect()
    }
}

/// The circles of one level: an edge is in one when its start can be reached from its end.
fn circles_of(edges: &BTreeMap<(String, String), Vec<Import>>) -> Vec<Circle> {
    let reachable = |start: &String| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(at) = left.pop() {
            if seen.insert(at.clone()) {
                left.extend(edges.keys().filter(|(from, _)| *from == at).map(|(_, to)| to.clone()));
            }
        }
        seen
    };
    let mut circles: BTreeMap<BTreeSet<String>, Circle> = BTreeMap::new();
    for ((from, to), imports) in edges {
        let forth = reachable(to);
        if forth.contains(from) {
            let members = forth.into_iter().filter(|one| reachable(one).contains(from)).collect();
            circles.entry(members).or_default().push((from.clone(), to.clone(), imports.clone()));
        }
    }
    circles.into_values().collect()
}

/// Each `use` of the code: whether it is public, and its tree.
fn uses(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let Some(line) = statement.rfind("use ").map(|at| (&statement[..at], &statement[at + 4..])) else {
            continue;
        };
        let before = line.0.rsplit('\n').next().unwrap_or("").trim();
        if before.is_empty() || before.starts_with("pub") {
            found.push((!before.is_empty(), line.1.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    found
}

/// The paths of a use tree, with the name that each has afterwards.
fn leaves(tree: &str) -> Vec<(Place, String)> {
    let words = |text: &str| -> Place {
        text.split("::").map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let Some((before, group)) = tree.split_once('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path = words(path);
        let last = path.iter().rfind(|word| *word != "self").cloned().unwrap_or_default();
        return vec![(path, if name.is_empty() { last } else { name.trim().to_owned() })];
    };
    let before = words(before);
    let parts = super::top_level(group);
    let inner = parts.iter().filter(|part| !part.trim().is_empty()).flat_map(|part| leaves(part.trim()));
    inner
        .map(|(path, name)| {
            let name = if name.is_empty() { before.last().cloned().unwrap_or_default() } else { name };
            ([before.clone(), path].concat(), name)
        })
        .collect()
}

/// Every path of the code that begins with `crate`, `self` or `super`, and those of private
/// imports; public ones are an interface.
fn paths(code: &str) -> Vec<Place> {
    let mut found: Vec<Place> = Vec::new();
    let mut rest = code.to_owned();
    for (is_public, tree) in uses(code) {
        if !is_public {
            found.extend(leaves(&tree).into_iter().map(|(path, _)| path));
        }
    }
    // What is left when the imports are removed: paths in the code itself.
    while let Some(at) = rest.find("use ").filter(|at| starts_line(&rest, *at)) {
        let end = rest[at..].find(';').map_or(rest.len(), |end| at + end);
        rest.replace_range(at..end, "");
    }
    for start in ["crate::", "self::", "super::"] {
        for (at, _) in rest.match_indices(start) {
            let before = rest[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let path: String =
                rest[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            found.push(path.split("::").filter(|word| !word.is_empty()).map(str::to_owned).collect());
        }
    }
    found
}

fn starts_line(code: &str, at: usize) -> bool {
    let before = code[..at].rsplit('\n').next().unwrap_or("").trim();
    before.is_empty() || before.starts_with("pub")
}
