//! The hash of a derivation *modulo* its inputs: input paths are replaced by hashes of the inputs'
//! derivations, so that two ways to the same fixed-output input count as one. Output paths are
//! computed from it. Source: the Nix manual, "Store derivation", and the vectors in tests.

use std::collections::{BTreeMap, HashMap};

use super::print::Inputs;
use super::{Derivation, Output};
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::nix::store_path::{ContentAddress, Name, References, StoreDir, StorePath, fixed_out};

/// The substitute for a derivation in the derivations that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modulo {
    /// This hash, for any of its outputs.
    Recipe(Hash),
    /// This hash, for its only output. It covers the content and not how the content is fetched.
    Fixed(Hash),
    /// None: its output paths are not known before the build.
    Unknown,
}

impl Modulo {
    /// The hash, if there is one.
    pub fn hash(&self) -> Option<&Hash> {
        match self {
            Modulo::Recipe(hash) | Modulo::Fixed(hash) => Some(hash),
            Modulo::Unknown => None,
        }
    }
}

/// A derivation whose output paths were verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Each output's path; `None` if it is not known before the build.
    pub outputs: BTreeMap<String, Option<StorePath>>,
    /// Its substitute in other derivations.
    pub modulo: Modulo,
}

/// A derivation whose inputs are being checked.
struct Open {
    path: Option<StorePath>,
    name: Name,
    drv: Derivation,
    /// Inputs still to be checked.
    left: Vec<StorePath>,
}

impl Open {
    fn new(path: Option<StorePath>, name: Name, drv: Derivation) -> Self {
        let left = match drv.fixed() {
            // The inputs of a fixed output do not count.
            Some(_) => Vec::new(),
            None => drv.input_drvs.keys().cloned().collect(),
        };
        Self { path, name, drv, left }
    }
}

/// Recomputes the output paths of `drv`, called `name`. `load` returns the derivation of an input.
/// Its text is checked against its path, and its outputs are checked as those of `drv`.
///
/// Refused: an output path that differs (`drv.output-mismatch`), an input whose text does not match
/// its path (`path.mismatch`), and refusals of `load`.
pub fn check(
    drv: Derivation,
    name: Name,
    dir: &StoreDir,
    mut load: impl FnMut(&StorePath) -> Result<Derivation>,
) -> Result<Checked> {
    let mut known: HashMap<StorePath, Modulo> = HashMap::new();
    // An explicit stack, because the graph may be deep. A derivation's path is the hash of its
    // text, so there are no cycles.
    let mut stack = vec![Open::new(None, name, drv)];
    loop {
        let Some(open) = stack.last_mut() else {
            return Err(Fault::usage("no derivation is given"));
        };
        if let Some(next) = open.left.pop() {
            if !known.contains_key(&next) {
                let drv = loaded(&next, dir, &mut load)?;
                let name = drv_name(&next)?;
                stack.push(Open::new(Some(next), name, drv));
            }
            continue;
        }
        let Some(open) = stack.pop() else { continue };
        let checked = check_derivation(&open, dir, &known);
        match open.path {
            None => return checked,
            Some(path) => {
                let checked = checked.within(|| dir.path(&path))?;
                known.insert(path, checked.modulo);
            }
        }
    }
}

fn loaded(
    path: &StorePath,
    dir: &StoreDir,
    load: &mut impl FnMut(&StorePath) -> Result<Derivation>,
) -> Result<Derivation> {
    let drv = load(path)?;
    let found = drv.path(dir, path.name().clone())?;
    if found != *path {
        let (declared, found) = (dir.path(path), dir.path(&found));
        return Err(Fault::differs(Code::PathMismatch, &declared, "the path of its text", &declared, &found));
    }
    Ok(drv)
}

/// The name of a derivation's outputs: its own without `.drv`.
pub(crate) fn drv_name(path: &StorePath) -> Result<Name> {
    let name = path.name().as_str();
    let stem = name.strip_suffix(".drv").ok_or_else(|| {
        Fault::refused(Code::PathName, path.to_string(), "is an input to be built, but not a derivation")
    })?;
    Name::new(stem)
}

/// Checks one derivation whose inputs are all known.
fn check_derivation(open: &Open, dir: &StoreDir, known: &HashMap<StorePath, Modulo>) -> Result<Checked> {
    let drv = &open.drv;
    if let Some((path, method, hash)) = drv.fixed() {
        let follows =
            ContentAddress::Fixed(method, *hash).path(dir, open.name.clone(), &References::default())?;
        check_output_path(dir, drv, "out", path, &follows)?;
        let text = format!("{}{}", fixed_out(method, hash), dir.path(path));
        let outputs = BTreeMap::from([("out".to_owned(), Some(path.clone()))]);
        return Ok(Checked { outputs, modulo: Modulo::Fixed(Hash::sha256(text.as_bytes())) });
    }
    let none = || drv.outputs.keys().map(|name| (name.clone(), None)).collect();
    let Some(inputs) = inputs(drv, known) else {
        if let Some((name, path)) = drv.outputs.iter().find_map(|(name, output)| Some((name, output.path()?)))
        {
            let words = format!("has the path {}, but its inputs were not checked before", dir.path(path));
            return Err(Fault::refused(Code::DrvOutputMismatch, name, words));
        }
        return Ok(Checked { outputs: none(), modulo: Modulo::Unknown });
    };
    if !drv.outputs.values().all(|output| matches!(output, Output::Recipe(Some(_)))) {
        return Ok(Checked { outputs: none(), modulo: Modulo::Unknown });
    }
    let own = Hash::sha256(&drv.print_with(dir, &inputs, true));
    let mut outputs = BTreeMap::new();
    for (name, output) in &drv.outputs {
        let follows = StorePath::output(dir, &own, name, &open.name)?;
        if let Some(path) = output.path() {
            check_output_path(dir, drv, name, path, &follows)?;
        }
        outputs.insert(name.clone(), Some(follows));
    }
    let modulo = Modulo::Recipe(Hash::sha256(&drv.print_with(dir, &inputs, false)));
    Ok(Checked { outputs, modulo })
}

/// Checks that an output, and its environment variable, have the computed path.
fn check_output_path(
    dir: &StoreDir,
    drv: &Derivation,
    name: &str,
    declared: &StorePath,
    follows: &StorePath,
) -> Result<()> {
    let (declared, follows) = (dir.path(declared), dir.path(follows));
    if declared != follows {
        return Err(Fault::differs(Code::DrvOutputMismatch, name, "its path", &declared, &follows));
    }
    match drv.env.get(name.as_bytes()) {
        Some(told) if *told != follows.as_bytes() => {
            let told = String::from_utf8_lossy(told);
            Err(Fault::differs(Code::DrvOutputMismatch, name, "its path", &told, &follows)
                .within("in the environment"))
        }
        _ => Ok(()),
    }
}

/// The inputs by hash; `None` if one of them has no hash.
fn inputs(drv: &Derivation, known: &HashMap<StorePath, Modulo>) -> Option<Inputs> {
    let mut inputs = Inputs::new();
    for (path, names) in &drv.input_drvs {
        let (hash, names) = match known.get(path)? {
            Modulo::Recipe(hash) => (hash, names.clone()),
            Modulo::Fixed(hash) => (hash, vec!["out".to_owned()]),
            Modulo::Unknown => return None,
        };
        inputs.entry(hash.hex()).or_default().extend(names);
    }
    Some(inputs)
}
