//! Prints a derivation in the only form that Nix writes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Derivation, Output};
use crate::emergence::nix::store_path::{Method, StoreDir};

/// Input derivations as printed: by path, or by hash when the text is hashed.
pub(crate) type Inputs = BTreeMap<String, BTreeSet<String>>;

impl Derivation {
    /// Its text.
    pub fn print(&self, dir: &StoreDir) -> Vec<u8> {
        let inputs =
            self.input_drvs.iter().map(|(path, names)| (dir.path(path), names.iter().cloned().collect()));
        self.print_with(dir, &inputs.collect(), false)
    }

    /// Its text with the given inputs; `masked`: without the paths of its own outputs.
    pub(super) fn print_with(&self, dir: &StoreDir, inputs: &Inputs, masked: bool) -> Vec<u8> {
        let mut text = Text(b"Derive(".to_vec());
        text.list(&self.outputs, |text, (name, output)| text.output(dir, name, output, masked));
        text.raw(b",");
        text.list(inputs, |text, (name, outputs)| {
            text.raw(b"(");
            text.string(name.as_bytes());
            text.raw(b",");
            text.list(outputs, |text, output| text.string(output.as_bytes()));
            text.raw(b")");
        });
        text.raw(b",");
        text.list(&self.input_srcs, |text, path| text.string(dir.path(path).as_bytes()));
        text.raw(b",");
        text.string(&self.system);
        text.raw(b",");
        text.string(&self.builder);
        text.raw(b",");
        text.list(&self.args, |text, arg| text.string(arg));
        text.raw(b",");
        text.list(&self.env, |text, (key, value)| {
            let own = masked && std::str::from_utf8(key).is_ok_and(|key| self.outputs.contains_key(key));
            text.raw(b"(");
            text.string(key);
            text.raw(b",");
            text.string(if own { b"" } else { value });
            text.raw(b")");
        });
        text.raw(b")");
        text.0
    }
}

struct Text(Vec<u8>);

impl Text {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn string(&mut self, bytes: &[u8]) {
        self.raw(b"\"");
        for byte in bytes {
            match byte {
                b'"' => self.raw(b"\\\""),
                b'\\' => self.raw(b"\\\\"),
                b'\n' => self.raw(b"\\n"),
                b'\r' => self.raw(b"\\r"),
                b'\t' => self.raw(b"\\t"),
                _ => self.0.push(*byte),
            }
        }
        self.raw(b"\"");
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut item: impl FnMut(&mut Self, T)) {
        self.raw(b"[");
        for (at, each) in items.into_iter().enumerate() {
            if at > 0 {
                self.raw(b",");
            }
            item(self, each);
        }
        self.raw(b"]");
    }

    fn output(&mut self, dir: &StoreDir, name: &str, output: &Output, masked: bool) {
        let path = output.path().filter(|_| !masked).map(|path| dir.path(path)).unwrap_or_default();
        let prefix = |method: &Method| if *method == Method::Nar { "r:" } else { "" };
        let (algorithm, hash) = match output {
            Output::Recipe(_) => (String::new(), String::new()),
            Output::Fixed { method, hash, .. } => {
                (format!("{}{}", prefix(method), hash.algorithm()), hash.hex())
            }
            Output::Floating { method, algorithm, impure } => {
                let hash = if *impure { "impure" } else { "" };
                (format!("{}{algorithm}", prefix(method)), hash.to_owned())
            }
        };
        self.raw(b"(");
        for (at, word) in [name, &path, &algorithm, &hash].into_iter().enumerate() {
            if at > 0 {
                self.raw(b",");
            }
            self.string(word.as_bytes());
        }
        self.raw(b")");
    }
}
