//! Parses the text of a derivation, an ATerm, and accepts only the form that Nix writes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Derivation, Output};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result, shown};
use crate::emergence::nix::store_path::{Method, Name, StoreDir, StorePath, output_name};

/// Prefix of every derivation.
const BEGIN: &[u8] = b"Derive(";

/// Prefix of a derivation in a newer form.
const VERSIONED: &[u8] = b"DrvWithVersion(";

/// Parses a derivation. Refused with `drv.syntax` and the byte offset, or with `drv.version`.
pub fn parse(text: &[u8], dir: &StoreDir) -> Result<Derivation> {
    if text.starts_with(VERSIONED) {
        return Err(Fault::refused(Code::DrvVersion, "", "derivations of a newer form are not supported"));
    }
    let mut reader = Reader { text, at: 0 };
    let drv = reader.derivation(dir)?;
    // Escapes, order or blanks differ from Nix's form.
    if drv.print(dir) != text {
        return Err(Fault::refused(Code::DrvSyntax, "", "is not in the only form that Nix writes"));
    }
    Ok(drv)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn refuse(&self, words: impl AsRef<str>) -> Fault {
        Fault::refused(Code::DrvSyntax, "", format!("at byte {}, {}", self.at, words.as_ref()))
    }

    fn expect(&mut self, wanted: &[u8]) -> Result<()> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(wanted) {
            return Err(self.refuse(format!("{} is missing", shown(wanted))));
        }
        self.at += wanted.len();
        Ok(())
    }

    fn derivation(&mut self, dir: &StoreDir) -> Result<Derivation> {
        self.expect(BEGIN)?;
        let outputs = self.list(|reader| reader.output(dir))?;
        self.expect(b",")?;
        let input_drvs = self.list(|reader| {
            reader.expect(b"(")?;
            let drv = reader.store_path(dir)?;
            reader.expect(b",")?;
            let names = reader.list(Self::text)?;
            reader.expect(b")")?;
            reader.ascending(&names)?;
            Ok((drv, names))
        })?;
        self.expect(b",")?;
        let input_srcs = self.list(|reader| reader.store_path(dir))?;
        self.expect(b",")?;
        let system = self.string()?;
        self.expect(b",")?;
        let builder = self.string()?;
        self.expect(b",")?;
        let args = self.list(Self::string)?;
        self.expect(b",")?;
        let env = self.list(|reader| {
            reader.expect(b"(")?;
            let key = reader.string()?;
            reader.expect(b",")?;
            let value = reader.string()?;
            reader.expect(b")")?;
            Ok((key, value))
        })?;
        self.expect(b")")?;
        if self.at != self.text.len() {
            return Err(self.refuse("trailing bytes after the end"));
        }
        // A list becomes a map; printing it again checks the order.
        let drv = Derivation {
            outputs: self.map(outputs)?,
            input_drvs: self.map(input_drvs)?,
            input_srcs: input_srcs.into_iter().collect::<BTreeSet<_>>(),
            system,
            builder,
            args,
            env: self.map(env)?,
        };
        self.check_outputs(&drv)?;
        Ok(drv)
    }

    fn map<K: Ord, V>(&self, list: Vec<(K, V)>) -> Result<BTreeMap<K, V>> {
        let count = list.len();
        let map: BTreeMap<K, V> = list.into_iter().collect();
        if map.len() == count { Ok(map) } else { Err(self.refuse("a name occurs twice")) }
    }

    fn ascending(&self, names: &[String]) -> Result<()> {
        let ascend = names.iter().zip(names.iter().skip(1)).all(|(one, other)| one < other);
        if ascend && !names.is_empty() {
            return Ok(());
        }
        Err(self.refuse("the list of wanted outputs is empty, or not in ascending order"))
    }

    fn check_outputs(&self, drv: &Derivation) -> Result<()> {
        if drv.outputs.is_empty() {
            return Err(self.refuse("it has no output"));
        }
        let fixed = drv.outputs.values().filter(|output| matches!(output, Output::Fixed { .. })).count();
        if fixed > 0 && (drv.outputs.len() > 1 || !drv.outputs.contains_key("out")) {
            return Err(self.refuse("an output whose content is known must be the only one, and named out"));
        }
        Ok(())
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect(b"[")?;
        let mut list = Vec::new();
        if self.text.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(list);
        }
        loop {
            list.push(item(self)?);
            match self.text.get(self.at) {
                Some(b',') => self.at += 1,
                _ => {
                    self.expect(b"]")?;
                    return Ok(list);
                }
            }
        }
    }

    fn string(&mut self) -> Result<Vec<u8>> {
        self.expect(b"\"")?;
        let mut string = Vec::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            match rest {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(string);
                }
                [b'\\', escaped, ..] => {
                    string.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'"' | b'\\' => *escaped,
                        _ => return Err(self.refuse("a backslash precedes a character that needs none")),
                    });
                    self.at += 2;
                }
                [byte, ..] if *byte != b'\\' => {
                    string.push(*byte);
                    self.at += 1;
                }
                _ => return Err(self.refuse("a string is not terminated")),
            }
        }
    }

    fn text(&mut self) -> Result<String> {
        let string = self.string()?;
        String::from_utf8(string).map_err(|_| self.refuse("a name is not UTF-8"))
    }

    fn store_path(&mut self, dir: &StoreDir) -> Result<StorePath> {
        let text = self.text()?;
        self.of_store(&text, dir)
    }

    fn of_store(&self, text: &str, dir: &StoreDir) -> Result<StorePath> {
        dir.parse(text).map_err(|fault| self.refuse(fault.words()))
    }

    fn output(&mut self, dir: &StoreDir) -> Result<(String, Output)> {
        self.expect(b"(")?;
        let name = self.text()?;
        self.expect(b",")?;
        let path = self.text()?;
        self.expect(b",")?;
        let algorithm = self.text()?;
        self.expect(b",")?;
        let hash = self.text()?;
        self.expect(b")")?;
        // Output names are part of store paths.
        let stem = Name::new("x")?;
        if name.is_empty() || output_name(&stem, &name).is_err() {
            return Err(
                self.refuse(format!("\"{}\" cannot be the name of an output", shown(name.as_bytes())))
            );
        }
        let path = if path.is_empty() { None } else { Some(self.of_store(&path, dir)?) };
        let output = self.kind(path, &algorithm, &hash)?;
        Ok((name, output))
    }

    fn kind(&self, path: Option<StorePath>, algorithm: &str, hash: &str) -> Result<Output> {
        if algorithm.is_empty() {
            return match hash {
                "" => Ok(Output::Recipe(path)),
                _ => Err(self.refuse("an output has a hash without an algorithm")),
            };
        }
        let (method, name) = match algorithm.strip_prefix("r:") {
            Some(name) => (Method::Nar, name),
            None => (Method::Flat, algorithm),
        };
        let algorithm: Algorithm = name.parse().map_err(|words: String| self.refuse(words))?;
        match (path, hash) {
            (None, "" | "impure") => Ok(Output::Floating { method, algorithm, impure: hash == "impure" }),
            (Some(path), hash) if hash.len() == algorithm.size() * 2 => {
                let hash = Hash::parse(hash, Some(algorithm)).map_err(|fault| self.refuse(fault.words()))?;
                Ok(Output::Fixed { path, method, hash })
            }
            _ => {
                Err(self
                    .refuse("an output's path and hash are not both given, or the hash is not hexadecimal"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"Derive([("out","/nix/store/90dxglj74s001104ich7q39a0vkxcd98-simple","","")],[],[],"x86_64-linux","/bin/sh",["-c","a\"b\\c\nd\te\rf"],[("out","/nix/store/90dxglj74s001104ich7q39a0vkxcd98-simple")])"#;

    #[test]
    fn forms_that_nix_does_not_write_are_refused() {
        let dir = StoreDir::default();
        let drv = parse(GOOD.as_bytes(), &dir).unwrap();
        assert_eq!(drv.args.last().unwrap(), b"a\"b\\c\nd\te\rf");
        let change = |from: &str, to: &str| {
            assert!(GOOD.contains(from), "{from}");
            GOOD.replacen(from, to, 1)
        };
        let table = [
            String::new(),
            format!("{GOOD} "),
            change("Derive(", "Derive ("),
            change("[],[]", "[], []"),
            change("\\\"", "\""),
            change("\\n", "\n"),
            change("\\\\c", "\\c"),
            change("(\"out\",\"/nix", "(\"\",\"/nix"),
            change("(\"out\",\"/nix", "(\"o/t\",\"/nix"),
            change("/nix/store/90", "/nix/90"),
            change("\"\",\"\")", "\"\",\"00\")"),
            change("\"\",\"\")", "\"sha3\",\"00\")"),
            change("\"\",\"\")", "\"sha256\",\"\")"),
            change("[],[],", "[(\"/nix/store/90dxglj74s001104ich7q39a0vkxcd98-simple\",[])],[],"),
            change(
                "(\"out\",\"/nix",
                "(\"out\",\"/nix/store/90dxglj74s001104ich7q39a0vkxcd98-simple\",\"\",\"\"),(\"out\",\"/nix",
            ),
            GOOD.get(..GOOD.len() - 20).unwrap().to_owned(),
        ];
        for text in table {
            let refused = parse(text.as_bytes(), &dir).unwrap_err();
            assert_eq!(refused.code(), Some(Code::DrvSyntax), "{text}: {refused}");
        }
        let newer = parse(b"DrvWithVersion(\"xp-dyn-drv\",[])", &dir).unwrap_err();
        assert_eq!(newer.code(), Some(Code::DrvVersion));
    }

    #[test]
    fn any_beginning_of_a_text_is_refused() {
        let dir = StoreDir::default();
        for end in 0..GOOD.len() {
            assert!(parse(GOOD.as_bytes().get(..end).unwrap(), &dir).is_err(), "{end}");
        }
    }
}
