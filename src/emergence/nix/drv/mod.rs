//! Derivations: the recipes of Nix, and the paths that follow from them.
//!
//! ```text
//! bytes of a .drv ─parse→ Derivation ─print→ the same bytes
//! Derivation + those of its inputs ─modulo→ the hash that names what it builds
//! ```

mod modulo;
mod parse;
mod print;

use std::collections::BTreeMap;

pub use modulo::{Checked, Modulo, check};
pub use parse::parse;

use super::store_path::{ContentAddress, Method, Name, References, StoreDir, StorePath};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::Result;

/// A build recipe, as its text has it. Strings are bytes where Nix takes any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    /// What it builds, by name.
    pub outputs: BTreeMap<String, Output>,
    /// Other recipes, and which of their outputs are wanted.
    pub input_drvs: BTreeMap<StorePath, Vec<String>>,
    /// Other objects.
    pub input_srcs: std::collections::BTreeSet<StorePath>,
    /// What it can be built on.
    pub system: Vec<u8>,
    /// The program.
    pub builder: Vec<u8>,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
    /// Its environment.
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One output of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Its path follows from the recipe. `None`: from what an input will only then turn out to be.
    Recipe(Option<StorePath>),
    /// Its content is known before.
    Fixed {
        /// The path that follows from the content.
        path: StorePath,
        /// What is hashed.
        method: Method,
        /// The content's hash.
        hash: Hash,
    },
    /// Its path will follow from its content.
    Floating {
        /// What will be hashed.
        method: Method,
        /// By what.
        algorithm: Algorithm,
        /// Whether each build may give another one.
        impure: bool,
    },
}

impl Output {
    /// Its path, as far as it is known.
    pub fn path(&self) -> Option<&StorePath> {
        match self {
            Output::Recipe(path) => path.as_ref(),
            Output::Fixed { path, .. } => Some(path),
            Output::Floating { .. } => None,
        }
    }
}

impl Derivation {
    /// Its single output, when that is fixed.
    pub fn fixed(&self) -> Option<(&StorePath, Method, &Hash)> {
        match self.outputs.first_key_value() {
            Some((_, Output::Fixed { path, method, hash })) => Some((path, *method, hash)),
            _ => None,
        }
    }

    /// The path of the recipe itself, which is a text of Nix's. `name` is with `.drv` at its end.
    pub fn path(&self, dir: &StoreDir, name: Name) -> Result<StorePath> {
        let others = self.input_srcs.iter().chain(self.input_drvs.keys()).cloned().collect();
        let text = Hash::sha256(&self.print(dir));
        ContentAddress::Text(text).path(dir, name, &References { others, itself: false })
    }
}
