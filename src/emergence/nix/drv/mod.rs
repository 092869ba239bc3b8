//! Derivations: the build recipes of Nix, and the output paths computed from them.
//!
//! ```text
//! bytes of a .drv ─parse→ Derivation ─print→ the same bytes
//! Derivation + those of its inputs ─modulo→ the hash that its output paths are computed from
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

/// A derivation. Strings are bytes where Nix accepts any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    /// Its outputs, by name.
    pub outputs: BTreeMap<String, Output>,
    /// Input derivations, with the outputs that are used.
    pub input_drvs: BTreeMap<StorePath, Vec<String>>,
    /// Other input objects.
    pub input_srcs: std::collections::BTreeSet<StorePath>,
    /// The system that it can be built on.
    pub system: Vec<u8>,
    /// The program.
    pub builder: Vec<u8>,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
    /// Its environment.
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// An output of a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Input-addressed. `None`: the path depends on an input whose path is not known before the
    /// build.
    Recipe(Option<StorePath>),
    /// Fixed: its content hash is declared.
    Fixed {
        /// The path computed from the hash.
        path: StorePath,
        /// The form of the content that is hashed.
        method: Method,
        /// The content's hash.
        hash: Hash,
    },
    /// Content-addressed: its path is known after the build.
    Floating {
        /// The form of the content that will be hashed.
        method: Method,
        /// The hash algorithm.
        algorithm: Algorithm,
        /// Whether builds may give different results.
        impure: bool,
    },
}

impl Output {
    /// Its path, if it is known.
    pub fn path(&self) -> Option<&StorePath> {
        match self {
            Output::Recipe(path) => path.as_ref(),
            Output::Fixed { path, .. } => Some(path),
            Output::Floating { .. } => None,
        }
    }
}

impl Derivation {
    /// Its only output, if that is fixed.
    pub fn fixed(&self) -> Option<(&StorePath, Method, &Hash)> {
        match self.outputs.first_key_value() {
            Some((_, Output::Fixed { path, method, hash })) => Some((path, *method, hash)),
            _ => None,
        }
    }

    /// The path of the derivation itself, a text object. `name` includes `.drv`.
    pub fn path(&self, dir: &StoreDir, name: Name) -> Result<StorePath> {
        let others = self.input_srcs.iter().chain(self.input_drvs.keys()).cloned().collect();
        let text = Hash::sha256(&self.print(dir));
        ContentAddress::Text(text).path(dir, name, &References { others, itself: false })
    }
}
