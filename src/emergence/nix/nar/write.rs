//! Writes the words of the grammar. Who calls it keeps the order.

use std::io;

use super::{MAGIC, padding};
use crate::emergence::base::stream::{Buffer, Drain};

/// A NAR that is being written.
pub struct Writer<'a, D>(pub &'a mut Buffer<D>);

impl<D: Drain> Writer<'_, D> {
    /// What stands before the root.
    pub fn begin(&mut self) -> io::Result<()> {
        self.string(MAGIC)
    }

    /// A link, whole.
    pub fn symlink(&mut self, target: &[u8]) -> io::Result<()> {
        self.strings(&[b"(", b"type", b"symlink", b"target", target, b")"])
    }

    /// A file up to its contents, `size` bytes that the caller puts into the buffer himself, before [`Writer::end_file`].
    pub fn begin_file(&mut self, executable: bool, size: u64) -> io::Result<()> {
        self.strings(&[b"(", b"type", b"regular"])?;
        if executable {
            self.strings(&[b"executable", b""])?;
        }
        self.string(b"contents")?;
        self.0.put(&size.to_le_bytes())
    }

    /// What stands behind the contents of a file of `size` bytes.
    pub fn end_file(&mut self, size: u64) -> io::Result<()> {
        self.pad(size)?;
        self.string(b")")
    }

    /// A folder up to its first entry.
    pub fn begin_directory(&mut self) -> io::Result<()> {
        self.strings(&[b"(", b"type", b"directory"])
    }

    /// An entry up to its node.
    pub fn begin_entry(&mut self, name: &[u8]) -> io::Result<()> {
        self.strings(&[b"entry", b"(", b"name", name, b"node"])
    }

    /// What ends an entry, and a folder.
    pub fn close(&mut self) -> io::Result<()> {
        self.string(b")")
    }

    fn strings(&mut self, all: &[&[u8]]) -> io::Result<()> {
        all.iter().try_for_each(|each| self.string(each))
    }

    fn string(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.put(&(bytes.len() as u64).to_le_bytes())?;
        self.0.put(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        self.0.put([0; 8].get(..padding(length)).unwrap_or_default())
    }
}
