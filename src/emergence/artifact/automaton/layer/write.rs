//! Writes a store layer, object by object.

use std::io::{self, Write};

use super::header::{Entry, EntryKind};
use super::{BLOCK, END, directories};
use crate::emergence::base::refusal::Result;
use crate::emergence::nix::nar::Visitor;
use crate::emergence::nix::store_path::{StoreDir, StorePath};
use crate::error::Doing;

/// Writes a layer. Objects must be sorted by path.
pub struct LayerWriter<W> {
    out: W,
    dir: StoreDir,
}

/// Writes the tree of one object, as a visitor of it.
pub struct ObjectWriter<'a, W> {
    out: &'a mut W,
    /// Path of the open directory, and the lengths of the paths above it.
    name: Vec<u8>,
    ends: Vec<usize>,
    /// Size in bytes of the current file.
    size: u64,
}

impl<W: Write> LayerWriter<W> {
    /// Starts a layer of objects of `dir`.
    pub fn new(out: W, dir: &StoreDir) -> io::Result<Self> {
        let mut layer = Self { out, dir: dir.clone() };
        for name in directories(dir) {
            let (kind, name) = (EntryKind::Directory, name.into_bytes());
            let entry = Entry { kind, mode: 0o755, size: 0, name, target: Vec::new() };
            layer.out.write_all(&entry.bytes())?;
        }
        Ok(layer)
    }

    /// The writer for the tree of the next object.
    pub fn object(&mut self, path: &StorePath) -> ObjectWriter<'_, W> {
        let name = self.dir.path(path).trim_start_matches('/').as_bytes().to_vec();
        ObjectWriter { out: &mut self.out, name, ends: Vec::new(), size: 0 }
    }

    /// Finishes the layer.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&END)?;
        Ok(self.out)
    }
}

impl<W: Write> ObjectWriter<'_, W> {
    /// Writes the header of a node. The root has the name of the object.
    fn begin(&mut self, name: &[u8], kind: EntryKind, mode: u32, size: u64, target: &[u8]) -> Result<()> {
        let above = self.name.len();
        if !name.is_empty() {
            self.name.push(b'/');
            self.name.extend_from_slice(name);
        }
        let mut entry = Entry { kind, mode, size, name: self.name.clone(), target: target.to_vec() };
        if kind == EntryKind::Directory {
            entry.name.push(b'/');
            self.ends.push(above);
        } else {
            self.name.truncate(above);
        }
        Ok(self.out.write_all(&entry.bytes()).doing(|| "write a layer")?)
    }
}

impl<W: Write> Visitor for ObjectWriter<'_, W> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        self.begin(name, EntryKind::Directory, 0o555, 0, b"")
    }

    fn leave(&mut self) -> Result<()> {
        let above = self.ends.pop().unwrap_or_default();
        self.name.truncate(above);
        Ok(())
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        self.size = size;
        self.begin(name, EntryKind::File, if executable { 0o555 } else { 0o444 }, size, b"")
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.write_all(bytes).doing(|| "write a layer")?)
    }

    fn end_file(&mut self) -> Result<()> {
        let padding = self.size.next_multiple_of(BLOCK as u64) - self.size;
        let zeros = END.get(..padding as usize).unwrap_or_default();
        Ok(self.out.write_all(zeros).doing(|| "write a layer")?)
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.begin(name, EntryKind::Link, 0o777, 0, target)
    }
}
