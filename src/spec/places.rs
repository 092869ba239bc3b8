//! Finds the line and column of each value in a JSON document.

use std::collections::BTreeMap;

use super::lenient::DEEPEST;
use super::members::below;

/// A position in a document: line and column count from 1; columns count bytes, as in serde_json.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1; 0: unknown.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// The positions of all values of a document.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// By JSON path; the empty one is the whole document.
    values: BTreeMap<String, Position>,
    /// Duplicate members of an object: the object's path, the name, the position of the later one.
    pub twice: Vec<(String, String, Position)>,
}

impl Places {
    /// Scans a document with valid syntax.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut scan = Scan { bytes, at: 0, here: Position { line: 1, column: 1 }, places: Self::default() };
        scan.value(String::new(), 0);
        scan.places
    }

    /// The position of the value at `path`, or of the nearest existing value around it.
    pub(crate) fn nearest(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(place) = self.values.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None if path.is_empty() => return Position::default(),
                None => path = "",
            }
        }
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    here: Position,
    places: Places,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.here = match byte {
            b'\n' => Position { line: self.here.line + 1, column: 1 },
            _ => Position { column: self.here.column + 1, ..self.here },
        };
        Some(byte)
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.next();
        }
    }

    fn value(&mut self, path: String, level: usize) {
        self.skip_space();
        self.places.values.insert(path.clone(), self.here);
        match self.peek() {
            Some(b'{' | b'[') if level > DEEPEST => self.skip_levels(),
            Some(b'{') => self.object(&path, level),
            Some(b'[') => self.list(&path, level),
            Some(b'"') => drop(self.string()),
            _ => {
                while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
                    self.next();
                }
            }
        }
    }

    /// Skips a structure or a list, whatever it contains.
    fn skip_levels(&mut self) {
        let mut open = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => {
                    drop(self.string());
                    continue;
                }
                Some(b'{' | b'[') => open += 1,
                Some(b'}' | b']') => open -= 1,
                Some(_) => {}
                None => return,
            }
            self.next();
            if open == 0 {
                return;
            }
        }
    }

    fn object(&mut self, path: &str, level: usize) {
        self.next();
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'"') => {
                    let here = self.here;
                    let name = self.string();
                    let member = below(path, &name);
                    self.skip_space();
                    self.next(); // the colon
                    if self.places.values.contains_key(&member) {
                        self.places.twice.push((path.to_owned(), name, here));
                    }
                    self.value(member, level + 1);
                }
                Some(b',') => drop(self.next()),
                _ => {
                    self.next();
                    return;
                }
            }
        }
    }

    fn list(&mut self, path: &str, level: usize) {
        self.next();
        let mut count = 0;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b',') => drop(self.next()),
                Some(b']') | None => {
                    self.next();
                    return;
                }
                Some(_) => {
                    let before = self.at;
                    self.value(format!("{path}[{count}]"), level + 1);
                    count += 1;
                    if self.at == before {
                        self.next();
                    }
                }
            }
        }
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.next();
        loop {
            match self.next() {
                Some(b'\\') => drop(self.next()),
                Some(b'"') | None => break,
                Some(_) => {}
            }
        }
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        serde_json::from_slice(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_places() {
        let text =
            "{\"a\": [1, {\"b\": null},\n  \"x\\\"]\"], \"a.c\": -1.5e+3,\n\"\\u0064\" : true, \"d\":{} }";
        let places = Places::of(text.as_bytes());
        let table = [
            ("", 1, 1),
            ("a", 1, 7),
            ("a[0]", 1, 8),
            ("a[1]", 1, 11),
            ("a[1].b", 1, 17),
            ("a[2]", 2, 3),
            ("a.c", 2, 19),
            ("d", 3, 22),
            // A missing value has the position of the value around it.
            ("a[1].none", 1, 11),
            ("a[7]", 1, 7),
            ("none.at.all", 1, 1),
        ];
        for (path, line, column) in table {
            assert_eq!(places.nearest(path), Position { line, column }, "{path}");
        }
        assert_eq!(places.twice, [(String::new(), "d".to_owned(), Position { line: 3, column: 18 })]);
    }

    #[test]
    fn every_document_comes_to_an_end() {
        for text in ["", "{", "[", "\"", "{\"a\"", "{\"a\":", "[1,", "{x}", "[}"] {
            Places::of(text.as_bytes());
        }
    }
}
