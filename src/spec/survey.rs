//! Reads a config.json to its end, despite errors in its types, to report all errors at once.
//!
//! The document is read repeatedly. After each error the value in question is replaced by one of
//! another type, until the error is gone; so the structures themselves define the valid types, and
//! there is no second list to maintain.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use serde_path_to_error::Segment;

use super::Spec;
use super::lenient::lenient;
use super::members::{Reader, Seen, UnknownMember, below};
use super::places::{Places, Position};
use super::read::{ParseError, parse};

/// The results of reading a config.json.
#[derive(Debug)]
pub struct Survey {
    /// The contents of the document, with stand-ins for the values named in `faults`. `None`: it
    /// does not describe a container.
    pub spec: Option<Spec>,
    /// Type errors, in the order of their positions.
    pub faults: Vec<ParseError>,
    /// Members without a meaning.
    pub unknown: Vec<UnknownMember>,
    stand_ins: Vec<String>,
    places: Places,
}

/// More errors than anyone reads.
const MOST: usize = 500;

/// Reads the bytes of a config.json. The returned error is a syntax error, which ends the survey.
pub fn survey(bytes: &[u8]) -> Result<Survey, ParseError> {
    let mut document = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        // With the error text of other commands, if they cannot read it either.
        Err(error) => {
            parse(bytes).and_then(|_| lenient(bytes).map_err(|_| ParseError::of(String::new(), &error)))?
        }
    };
    let places = Places::of(bytes);
    let mut found = Found { places: &places, faults: Vec::new(), tried: BTreeMap::new() };
    let (spec, seen) = found.read(&mut document);
    found.twice(&seen);
    let stand_ins = found.tried.into_keys().collect();
    let mut faults = found.faults;
    faults.sort_by_key(|fault| (fault.line, fault.column));
    Ok(Survey { spec, faults, unknown: seen.unknown, stand_ins, places })
}

impl Survey {
    /// The position of the value at this JSON path, or of the value around it.
    pub fn place(&self, path: &str) -> Position {
        self.places.nearest(path)
    }

    /// Whether a statement about the value at `path` concerns a stand-in.
    pub fn is_about_stand_in(&self, path: &str) -> bool {
        self.stand_ins.iter().any(|stand_in| is_within(path, stand_in) || is_within(stand_in, path))
    }
}

/// Whether `path` is `outer` or below it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

struct Found<'a> {
    places: &'a Places,
    faults: Vec<ParseError>,
    /// Number of stand-ins tried, by path.
    tried: BTreeMap<String, usize>,
}

impl Found<'_> {
    fn read(&mut self, document: &mut Value) -> (Option<Spec>, Seen) {
        loop {
            let seen = RefCell::new(Seen { notes_structures: true, ..Seen::default() });
            let mut track = serde_path_to_error::Track::new();
            let reader = serde_path_to_error::Deserializer::new(Reader::new(document, &seen), &mut track);
            let error = match Spec::deserialize(reader) {
                Ok(spec) => return (Some(spec), seen.into_inner()),
                Err(error) => error.to_string(),
            };
            let path = track.path();
            if self.faults.len() >= MOST || self.replace(document, &path, error).is_none() {
                return (None, seen.into_inner());
            }
        }
    }

    /// Records the error, if the document caused it, and inserts the next stand-in. `None`: no
    /// stand-in is left.
    fn replace(
        &mut self,
        document: &mut Value,
        path: &serde_path_to_error::Path,
        words: String,
    ) -> Option<()> {
        let stand_ins = [json!(null), json!(""), json!(0), json!([]), json!({}), json!(false)];
        let missing = words.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let (mut name, mut value) = (String::new(), document);
        for segment in path.iter() {
            (name, value) = match segment {
                Segment::Map { key } => (below(&name, key), value.get_mut(key)?),
                Segment::Seq { index } => (format!("{name}[{index}]"), value.get_mut(index)?),
                _ => return None,
            };
        }
        let around = name.clone();
        if let Some(missing) = missing {
            name = below(&name, missing);
            value = value.as_object_mut()?.entry(missing).or_insert(Value::Null);
        }
        if name.is_empty() {
            self.note(around, words);
            return None;
        }
        // A stand-in may lack members too.
        if !self.tried.keys().any(|stand_in| is_within(&name, stand_in)) {
            self.note(around, words);
        }
        let next = self.tried.get(&name).copied().unwrap_or_default();
        *value = stand_ins.get(next)?.clone();
        self.tried.insert(name, next + 1);
        Some(())
    }

    fn note(&mut self, field: String, words: String) {
        let Position { line, column } = self.places.nearest(&field);
        self.faults.push(ParseError { field, line, column, words });
    }

    /// Reports duplicate members, which a structure refuses; the parsed document has only the last
    /// one.
    fn twice(&mut self, seen: &Seen) {
        for (within, name, place) in &self.places.twice {
            if seen.structures.get(within).is_some_and(|known| known.contains(&name.as_str())) {
                let words = format!("duplicate field `{name}`");
                self.faults.push(ParseError {
                    field: within.clone(),
                    line: place.line,
                    column: place.column,
                    words,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings_for(text: &str) -> Vec<String> {
        survey(text.as_bytes()).unwrap().faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_faults_of_type_are_reported_with_their_places() {
        let text = r#"{
  "ociVersion": 1,
  "root": {"readonly": "yes"},
  "process": {"args": "sh", "env": ["A=1", 2], "user": {"uid": -1, "gid": 4294967296}, "rlimits": [{"type": "RLIMIT_CORE"}]},
  "mounts": [{}, {"destination": 7, "options": ["ro", null]}, []],
  "hooks": 7,
  "linux": {"namespaces": [{"type": []}], "resources": {"cpu": {"shares": "x"}, "pids": 3}, "sysctl": {"a": 1},
    "seccomp": {"syscalls": [{"names": ["read"], "args": [{"index": "0"}]}]}, "seccomp": {}}
}"#;
        let warnings = warnings_for(text);
        let want = [
            "line 2 column 17: ociVersion: invalid type: integer `1`, expected a string",
            "line 3 column 11: root: missing field `path`",
            "line 3 column 24: root.readonly: invalid type: string \"yes\", expected a boolean",
            "line 4 column 14: process: missing field `cwd`",
            "line 4 column 23: process.args: invalid type: string \"sh\", expected a sequence",
            "line 4 column 44: process.env[1]: invalid type: integer `2`, expected a string",
            "line 4 column 64: process.user.uid: invalid value: integer `-1`, expected u32",
            "line 4 column 75: process.user.gid: invalid value: integer `4294967296`, expected u32",
            "line 4 column 100: process.rlimits[0]: missing field `hard`",
            "line 4 column 100: process.rlimits[0]: missing field `soft`",
            "line 5 column 14: mounts[0]: missing field `destination`",
            "line 5 column 34: mounts[1].destination: invalid type: integer `7`, expected a string",
            "line 5 column 55: mounts[1].options[1]: invalid type: null, expected a string",
        ];
        for line in want {
            assert!(warnings.iter().any(|warning| warning == line), "{line:?} is not in {warnings:#?}");
        }
        let more = [
            "mounts[2]: ",
            "hooks: ",
            "linux.namespaces[0].type: ",
            "cpu.shares: ",
            "pids: ",
            "linux.sysctl.a: ",
            "linux: duplicate field `seccomp`",
            "linux.seccomp: missing field `defaultAction`",
        ];
        for words in more {
            assert_eq!(
                warnings.iter().filter(|warning| warning.contains(words)).count(),
                1,
                "{words:?} in {warnings:#?}"
            );
        }
        assert_eq!(warnings.len(), want.len() + more.len(), "{warnings:#?}");
        assert!(survey(text.as_bytes()).unwrap().spec.is_some());
    }

    #[test]
    fn a_good_document_has_none() {
        let text = serde_json::to_vec(&super::super::defaults::spec()).unwrap();
        let survey = survey(&text).unwrap();
        assert!(survey.faults.is_empty() && survey.unknown.is_empty(), "{survey:?}");
        assert_eq!(survey.spec.unwrap().process.unwrap().args, ["sh"]);
    }

    #[test]
    fn a_list_longer_than_the_structure_is_a_fault() {
        let text = br#"{"ociVersion":"1.0.0","root":["/", null, {}]}"#;
        assert!(parse(text).is_err());
        assert_eq!(survey(text).unwrap().faults.len(), 1);
    }

    /// Such a document can be read by [`parse`] too.
    #[test]
    fn unread_members_may_have_any_value() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for value in [r#""\ud800""#, "1e999", r#"{"\udfff":1}"#, &deep] {
            let text = format!(r#"{{"ociVersion":"1.0.0","none":{value},"hostname":"h"}}"#);
            assert!(parse(text.as_bytes()).is_ok(), "{value}");
            let found = survey(text.as_bytes()).unwrap();
            assert!(found.faults.is_empty() && found.unknown.len() == 1, "{found:?}");
            assert_eq!(found.spec.unwrap().hostname, "h");
            let text = format!("{{\"ociVersion\":\"1.0.0\",\n\"hostname\":{value}}}");
            let line = match survey(text.as_bytes()) {
                Ok(found) => found.faults[0].line,
                Err(fault) => fault.line,
            };
            assert_eq!(line, 2, "{value}");
        }
    }

    #[test]
    fn a_config_that_is_not_a_container_is_one_fault() {
        for text in ["[]", "7", "null", "\"x\""] {
            let survey = survey(text.as_bytes()).unwrap();
            assert!(survey.spec.is_none() && survey.faults.len() == 1, "{text}: {survey:?}");
        }
        assert_eq!(survey(b"{\n  \"a\": }").unwrap_err().line, 2);
    }

    #[test]
    fn fallbacks_are_known() {
        let survey = survey(br#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":"x"}}}"#).unwrap();
        let table = [
            ("process.user.uid", true),
            ("process.user", true),
            ("process", true),
            ("process.user.gid", false),
            ("process.cwd", false),
            ("root", false),
        ];
        for (path, want) in table {
            assert_eq!(survey.is_about_stand_in(path), want, "{path}");
        }
    }
}
