//! Writes the tokens of a NAR. The caller keeps the order of the grammar.

use std::io;

use super::{MAGIC, padding};
use crate::emergence::base::stream::{Buffer, Drain};

/// A NAR that is being written.
pub struct Writer<'a, D>(pub &'a mut Buffer<D>);

impl<D: Drain> Writer<'_, D> {
    /// Writes the magic string.
    pub fn begin(&mut self) -> io::Result<()> {
        self.string(MAGIC)
    }

    /// Writes a complete link.
    pub fn symlink(&mut self, target: &[u8]) -> io::Result<()> {
        self.strings(&[b"(", b"type", b"symlink", b"target", target, b")"])
    }

    /// Begins a file. The caller writes its `size` bytes into the buffer and calls
    /// [`Writer::end_file`].
    pub fn begin_file(&mut self, executable: bool, size: u64) -> io::Result<()> {
        self.strings(&[b"(", b"type", b"regular"])?;
        if executable {
            self.strings(&[b"executable", b""])?;
        }
        self.string(b"contents")?;
        self.0.put(&size.to_le_bytes())
    }

    /// Writes the padding and the end of a file of `size` bytes.
    pub fn end_file(&mut self, size: u64) -> io::Result<()> {
        self.pad(size)?;
        self.string(b")")
    }

    /// Begins a directory.
    pub fn begin_directory(&mut self) -> io::Result<()> {
        self.strings(&[b"(", b"type", b"directory"])
    }

    /// Begins an entry; its node follows.
    pub fn begin_entry(&mut self, name: &[u8]) -> io::Result<()> {
        self.strings(&[b"entry", b"(", b"name", name, b"node"])
    }

    /// Ends an entry or a directory.
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
