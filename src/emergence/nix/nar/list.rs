//! Lists a NAR or prints one of its files, without unpacking it.

use std::io::{Read, Write};

use super::read::{Visitor, read};
use crate::emergence::base::refusal::{Fault, Result, shown};
use crate::error::{Doing, Error, Kind};

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path from the root, which is `.`.
    pub path: Vec<u8>,
    /// Its type.
    pub kind: EntryKind,
}

/// The type of an [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Whether its owner may execute it.
        executable: bool,
        /// Size, in bytes.
        size: u64,
    },
    /// A link.
    Symlink {
        /// Its target.
        target: Vec<u8>,
    },
}

/// The visitor's position in the tree.
#[derive(Default)]
struct Position {
    path: Vec<u8>,
    /// Lengths of the path before each open directory.
    above: Vec<usize>,
}

impl Position {
    fn node(&self, name: &[u8]) -> Vec<u8> {
        match (self.path.is_empty(), name.is_empty()) {
            (_, true) => b".".to_vec(),
            (true, false) => name.to_vec(),
            (false, false) => [&self.path, name].join(&b'/'),
        }
    }

    fn enter(&mut self, name: &[u8]) {
        self.above.push(self.path.len());
        if !name.is_empty() {
            self.path = self.node(name);
        }
    }

    fn leave(&mut self) {
        self.path.truncate(self.above.pop().unwrap_or(0));
    }
}

/// A visitor that passes each entry to `tell`, in the order of the NAR.
pub struct List<F> {
    place: Position,
    tell: F,
}

impl<F: FnMut(Entry) -> Result<()>> List<F> {
    /// A visitor at the start of a NAR.
    pub fn new(tell: F) -> Self {
        Self { place: Position::default(), tell }
    }
}

impl<F: FnMut(Entry) -> Result<()>> Visitor for List<F> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        (self.tell)(Entry { path: self.place.node(name), kind: EntryKind::Directory })?;
        self.place.enter(name);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.place.leave();
        Ok(())
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        (self.tell)(Entry { path: self.place.node(name), kind: EntryKind::File { executable, size } })
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        (self.tell)(Entry {
            path: self.place.node(name),
            kind: EntryKind::Symlink { target: target.to_vec() },
        })
    }
}

/// Writes the contents of the file at `inner` to `out`. The NAR is read to its end, so that all of
/// it is validated. `Kind::NotFound`: the file does not exist, or is not a regular file.
pub fn cat(input: impl Read, deepest: usize, inner: &[u8], out: &mut impl Write) -> Result<()> {
    let parts = inner.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let wanted = parts.collect::<Vec<_>>().join(&b'/');
    let wanted = if wanted.is_empty() { b".".to_vec() } else { wanted };
    let mut cat = Cat { place: Position::default(), wanted, found: None, writing: false, out };
    read(input, deepest, &mut cat)?;
    let words = match cat.found {
        Some(EntryKind::File { .. }) => return Ok(()),
        Some(EntryKind::Directory) => "is a directory",
        Some(EntryKind::Symlink { .. }) => "is a link",
        None => "is not in the NAR",
    };
    Err(Error::new(Kind::NotFound, format!("{}: {words}", shown(inner))).into())
}

struct Cat<'a, W> {
    place: Position,
    wanted: Vec<u8>,
    found: Option<EntryKind>,
    writing: bool,
    out: &'a mut W,
}

impl<W> Cat<'_, W> {
    fn look(&mut self, name: &[u8], kind: EntryKind) {
        if self.place.node(name) == self.wanted {
            self.writing = matches!(kind, EntryKind::File { .. });
            self.found = Some(kind);
        }
    }
}

impl<W: Write> Visitor for Cat<'_, W> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        self.look(name, EntryKind::Directory);
        self.place.enter(name);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.place.leave();
        Ok(())
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        self.look(name, EntryKind::File { executable, size });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        if self.writing {
            self.out.write_all(bytes).doing(|| "write to standard output").map_err(Fault::from)?;
        }
        Ok(())
    }

    fn end_file(&mut self) -> Result<()> {
        self.writing = false;
        Ok(())
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.look(name, EntryKind::Symlink { target: target.to_vec() });
        Ok(())
    }
}
