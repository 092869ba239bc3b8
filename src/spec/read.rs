//! Reads config.json: bytes to [`Spec`], and a fault's place (file, line, column, field) when they do not fit.

use std::fmt;

use serde::de::DeserializeOwned;

use super::{Resources, Spec};

/// Why a document could not be read.
#[derive(Debug)]
pub struct Fault {
    /// JSON path of the field, empty when the whole document is meant.
    pub field: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong there.
    pub words: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}: ", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.words)
    }
}

impl std::error::Error for Fault {}

/// Parses the bytes of a config.json. Fast first; only a broken one is read again to learn where in it the fault is.
pub fn parse(bytes: &[u8]) -> Result<Spec, Fault> {
    document(bytes)
}

/// Parses the bytes of a document that is `linux.resources` alone, as `update` takes it.
pub fn parse_resources(bytes: &[u8]) -> Result<Resources, Fault> {
    document(bytes)
}

fn document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).or_else(|_| {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let parsed: Result<T, _> = serde_path_to_error::deserialize(&mut reader);
        match parsed {
            Ok(value) => reader.end().map(|()| value).map_err(|error| fault(String::new(), &error)),
            Err(error) => {
                let path = error.path().to_string();
                Err(fault(if path == "." { String::new() } else { path }, error.inner()))
            }
        }
    })
}

fn fault(field: String, error: &serde_json::Error) -> Fault {
    let words = error.to_string();
    let words = match words.rfind(" at line ") {
        Some(at) => words.get(..at).unwrap_or(&words).to_owned(),
        None => words,
    };
    Fault { field, line: error.line(), column: error.column(), words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_a_place() {
        let table = [
            (r#"{"ociVersion":"1.0.0","process":{"cwd":7}}"#, "process.cwd", 1, "invalid type: integer `7`"),
            (
                "{\"ociVersion\":\"1.0.0\",\n\"mounts\":[{\"source\":\"x\"}]}",
                "mounts[0]",
                2,
                "missing field `destination`",
            ),
            ("{\"ociVersion\":\"1.0.0\",\n\n \"root\": }", "root", 3, "expected value"),
            (r#"{}"#, "", 1, "missing field `ociVersion`"),
            (r#"{"ociVersion":"1.0.0"} x"#, "", 1, "trailing characters"),
            (
                r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":-1}}}"#,
                "process.user.uid",
                1,
                "invalid value: integer `-1`",
            ),
        ];
        for (text, field, line, words) in table {
            let fault = parse(text.as_bytes()).unwrap_err();
            assert_eq!((fault.field.as_str(), fault.line), (field, line), "{text}: {fault}");
            assert!(fault.words.starts_with(words), "{text}: {fault}");
        }
    }

    #[test]
    fn null_is_not_given_and_unknown_is_ignored() {
        let spec = parse(
            br#"{"ociVersion":"1.2.0","mounts":null,"hooks":null,"linux":{"sysctl":null},"x":{"y":[1]}}"#,
        );
        assert!(spec.unwrap().mounts.is_empty());
    }

    /// What we write by default, oci-spec understands, and we understand what it writes.
    #[test]
    fn agrees_with_oci_spec() {
        let ours = serde_json::to_vec(&super::super::defaults::spec()).unwrap();
        let theirs: oci_spec::runtime::Spec = serde_json::from_slice(&ours).unwrap();
        let back = parse(&serde_json::to_vec(&theirs).unwrap()).unwrap();
        let process = back.process.unwrap();
        assert_eq!(process.args, ["sh"]);
        assert_eq!(back.mounts.len(), theirs.mounts().as_ref().unwrap().len());
        let linux = back.linux.unwrap();
        assert_eq!(
            linux.namespaces.len(),
            theirs.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len()
        );
        assert_eq!(linux.masked_paths, *theirs.linux().as_ref().unwrap().masked_paths().as_ref().unwrap());
    }
}
