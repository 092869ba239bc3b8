//! Parses config.json to a [`Spec`], or to an error with its position (line, column, field).

use std::fmt;

use serde::de::DeserializeOwned;

use super::{Mount, Process, Resources, Spec};
use crate::error::{LONGEST_PATH, LONGEST_WORDS, shortened};

/// The error of a document that cannot be parsed.
#[derive(Debug)]
pub struct ParseError {
    /// JSON path of the field; empty for the whole document.
    pub field: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// The error text.
    pub words: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}: ", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", shortened(&self.field, LONGEST_PATH))?;
        }
        f.write_str(&shortened(&self.words, LONGEST_WORDS))
    }
}

impl std::error::Error for ParseError {}

impl ParseError {
    /// Converts the parser's error, which has a position.
    pub(super) fn of(field: String, error: &serde_json::Error) -> Self {
        let words = error.to_string();
        let words = match words.rfind(" at line ") {
            Some(at) => words.get(..at).unwrap_or(&words).to_owned(),
            None => words,
        };
        Self { field, line: error.line(), column: error.column(), words }
    }
}

/// Parses the bytes of a config.json.
pub fn parse(bytes: &[u8]) -> Result<Spec, ParseError> {
    read(bytes)
}

/// Parses the bytes of a process.json, with the contents of `process` in config.json.
pub fn parse_process(bytes: &[u8]) -> Result<Process, ParseError> {
    read(bytes)
}

/// Parses a document that is the `mounts` of a config.json, or an object with them.
pub fn parse_mounts(bytes: &[u8]) -> Result<Vec<Mount>, ParseError> {
    #[derive(serde::Deserialize)]
    struct Object {
        mounts: Vec<Mount>,
    }
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return read(bytes).map_err(|fault| ParseError { field: format!("mounts{}", fault.field), ..fault });
    }
    read(bytes).map(|object: Object| object.mounts)
}

/// Parses the bytes of a document that contains only `linux.resources`, as for `update`.
pub fn parse_resources(bytes: &[u8]) -> Result<Resources, ParseError> {
    read(bytes)
}

/// Parses fast; only an invalid document is parsed again to locate the error.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ParseError> {
    serde_json::from_slice(bytes).or_else(|_| {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let parsed: Result<T, _> = serde_path_to_error::deserialize(&mut reader);
        match parsed {
            Ok(value) => reader.end().map(|()| value).map_err(|error| ParseError::of(String::new(), &error)),
            Err(error) => {
                let path = error.path().to_string();
                Err(ParseError::of(if path == "." { String::new() } else { path }, error.inner()))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_may_be_a_list_or_in_an_object() {
        let table = [
            (r#"[{"destination":"/a"}]"#, Ok(1)),
            (r#" {"mounts":[{"destination":"/a"},{"destination":"/b"}],"ociVersion":"1.0.0"}"#, Ok(2)),
            ("[]", Ok(0)),
            (r#"[{"destination":"/a"},{}]"#, Err("mounts[1]")),
            (r#"{"mounts":[{"destination":7}]}"#, Err("mounts[0].destination")),
            ("{}", Err("")),
        ];
        for (text, want) in table {
            let found = parse_mounts(text.as_bytes()).map(|mounts| mounts.len());
            assert_eq!(
                found.as_ref().map_err(|fault| fault.field.as_str()),
                want.as_ref().map_err(|s| *s),
                "{text}"
            );
        }
    }

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

    /// oci-spec understands our default document, and we understand its output.
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
