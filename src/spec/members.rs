//! Finds members of a document that none of our structures has: likely typing errors.
//!
//! serde's derived code passes the members of a structure to the deserializer. [`Reader`] is a
//! deserializer over a parsed document that compares them with the members of the document, so
//! there is no second list to maintain.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

use super::lenient::lenient;
use super::outline::outline;

/// A member without a meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMember {
    /// JSON path of the structure, empty for the document.
    pub within: String,
    /// The member's name.
    pub name: String,
    /// The member that was most likely meant, if one has a similar name.
    pub meant: Option<&'static str>,
}

impl UnknownMember {
    /// JSON path of the member.
    pub fn path(&self) -> String {
        below(&self.within, &self.name)
    }

    /// Whether a known member's name differs only in case. Go's JSON parser, and so runc, accepts
    /// such a member.
    pub fn differs_in_case_only(&self) -> bool {
        self.meant.is_some_and(|meant| meant.eq_ignore_ascii_case(&self.name))
    }

    /// Whether the specification defines it, for another platform or without a meaning for Linux
    /// runtimes.
    fn is_for_others(&self) -> bool {
        matches!(
            (self.within.as_str(), self.name.as_str()),
            ("", "solaris" | "windows" | "vm" | "zos" | "freebsd")
                | ("process", "commandLine")
                | ("process.user", "username")
        )
    }
}

/// A position in a document, as a list of steps on the stack: it becomes text only where it is
/// reported.
#[derive(Clone, Copy)]
pub(crate) enum Path<'p> {
    /// The document.
    Whole,
    /// A member of a structure.
    Member(&'p Path<'p>, &'p str),
    /// An element of a list.
    Element(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn text(&self) -> String {
        match self {
            Path::Whole => String::new(),
            Path::Member(within, name) => below(&within.text(), name),
            Path::Element(within, at) => format!("{}[{at}]", within.text()),
        }
    }
}

/// Observations while a document is read.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Members that no structure has.
    pub unknown: Vec<UnknownMember>,
    /// Whether `structures` is wanted.
    pub notes_structures: bool,
    /// The known members of each structure in the document, by its path.
    pub structures: BTreeMap<String, &'static [&'static str]>,
}

/// The members of `bytes` that a `T` does not have; none if `bytes` cannot be read.
pub fn unknown_members<T: DeserializeOwned>(bytes: &[u8]) -> Vec<UnknownMember> {
    let unknown = |document: &Value| {
        let seen = RefCell::default();
        T::deserialize(Reader::new(document, &seen)).ok().map(|_| seen.into_inner().unknown)
    };
    // A structure that is written as a list has no outline.
    let outlined = outline(bytes).ok().as_ref().and_then(unknown);
    outlined.or_else(|| unknown(&lenient(bytes).ok()?)).unwrap_or_default()
}

/// `path.name`.
pub(super) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The known name that is most similar to `name`.
fn nearest(name: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let most = 1 + name.len() / 4;
    let lower = name.to_ascii_lowercase();
    let near = known.iter().map(|known| (distance(&lower, &known.to_ascii_lowercase()), *known));
    near.filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The number of characters to insert, remove or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut costs: Vec<usize> = (0..=other.chars().count()).collect();
    for (row, left) in one.chars().enumerate() {
        let mut diagonal = row;
        let mut before = row + 1;
        for (cost, right) in costs.iter_mut().skip(1).zip(other.chars()) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cost;
            *cost = replaced.min(diagonal + 1).min(before + 1);
            before = *cost;
        }
        if let Some(first) = costs.first_mut() {
            *first = row + 1;
        }
    }
    costs.last().copied().unwrap_or_default()
}

/// A deserializer over a parsed document that records unknown members.
pub(crate) struct Reader<'a, 'p> {
    value: &'a Value,
    path: Path<'p>,
    seen: &'a RefCell<Seen>,
}

impl<'a> Reader<'a, '_> {
    /// Reads a whole document.
    pub(crate) fn new(value: &'a Value, seen: &'a RefCell<Seen>) -> Self {
        Self { value, path: Path::Whole, seen }
    }

    fn note(&self, known: &'static [&'static str]) {
        let Value::Object(members) = self.value else { return };
        let mut seen = self.seen.borrow_mut();
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let (within, meant) = (self.path.text(), nearest(name, known));
            let unknown = UnknownMember { within, name: name.clone(), meant };
            if !unknown.is_for_others() {
                seen.unknown.push(unknown);
            }
        }
        if seen.notes_structures {
            seen.structures.insert(self.path.text(), known);
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(members) => visitor.visit_map(Members {
                members: members.iter(),
                value: None,
                path: &self.path,
                seen: self.seen,
            }),
            Value::Array(list) => {
                let mut items = list.iter().enumerate();
                let read =
                    visitor.visit_seq(Items { items: &mut items, path: &self.path, seen: self.seen })?;
                // As serde_json does: a structure may be written as a list of its members, but not
                // a longer one.
                if items.len() == 0 { Ok(read) } else { Err(invalid_length(list.len())) }
            }
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(known);
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map enum identifier
    }
}

struct Members<'a, 'p> {
    members: serde_json::map::Iter<'a>,
    value: Option<(&'a str, &'a Value)>,
    path: &'p Path<'p>,
    seen: &'a RefCell<Seen>,
}

impl<'a> MapAccess<'a> for Members<'a, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.members.next() else { return Ok(None) };
        self.value = Some((name, value));
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (name, value) = self.value.take().unwrap_or(("", &Value::Null));
        seed.deserialize(Reader { value, path: Path::Member(self.path, name), seen: self.seen })
    }
}

fn invalid_length(length: usize) -> Error {
    serde::de::Error::invalid_length(length, &"fewer elements in the list")
}

struct Items<'a, 'i> {
    items: &'i mut std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    path: &'i Path<'i>,
    seen: &'a RefCell<Seen>,
}

impl<'a> SeqAccess<'a> for Items<'a, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some((at, value)) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader { value, path: Path::Element(self.path, at), seen: self.seen }).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Spec;
    use super::*;

    #[test]
    fn unknown_members_are_found_with_the_likely_one() {
        let text = r#"{"ociVersion":"1.0.0","Hostname":"x","windows":{},"linux":{"resources":{"CPU":{"shares":7},
            "hugepageLimits":[{"pagesize":"2MB","limit":1,"pageSize":"2MB"}],"memory":{"limmit":1}},"sysctl":{"any.name":"1"}},
            "mounts":[{"destination":"/a","option":["ro"]},{"destination":"/b","com.vendor.thing":1}],
            "annotations":{"some":"thing"},"process":{"cwd":"/","user":{"username":"x","UID":0}}}"#;
        let found = unknown_members::<Spec>(text.as_bytes());
        let mut found: Vec<_> = found
            .iter()
            .map(|unknown| (unknown.path(), unknown.meant, unknown.differs_in_case_only()))
            .collect();
        found.sort();
        let want = [
            ("Hostname", Some("hostname"), true),
            ("linux.resources.CPU", Some("cpu"), true),
            ("linux.resources.hugepageLimits[0].pagesize", Some("pageSize"), true),
            ("linux.resources.memory.limmit", Some("limit"), false),
            ("mounts[0].option", Some("options"), false),
            ("mounts[1].com.vendor.thing", None, false),
            ("process.user.UID", Some("uid"), true),
        ];
        assert_eq!(found, want.map(|(path, meant, case)| (path.to_owned(), meant, case)));
    }

    #[test]
    fn a_structure_may_be_written_as_a_list() {
        for root in [r#"["/",true]"#, r#"{"path":"/"}"#] {
            let text = format!(r#"{{"ociVersion":"1.0.0","root":{root},"process":{{"CWD":"/","cwd":"/"}}}}"#);
            let found = unknown_members::<Spec>(text.as_bytes());
            assert_eq!(found.iter().map(UnknownMember::path).collect::<Vec<_>>(), ["process.CWD"], "{text}");
        }
    }

    #[test]
    fn distances() {
        for (one, other, want) in
            [("", "", 0), ("a", "", 1), ("abc", "abd", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(one, other), want, "{one} {other}");
            assert_eq!(distance(other, one), want, "{other} {one}");
        }
    }

    #[test]
    fn a_document_that_cannot_be_read_has_none() {
        for text in ["", "[]", "{}", r#"{"ociVersion":7,"X":1}"#] {
            assert_eq!(unknown_members::<Spec>(text.as_bytes()), [], "{text}");
        }
    }
}
