//! A file tree as one stream of bytes, from anybody: a tree has one such stream, so what is taken
//! is written as it was.

use std::io;

use emergence_runc::emergence::Result;
use emergence_runc::emergence::nar::{DEEPEST, Visitor, Writer, read};
use emergence_runc::emergence::stream::{Buffer, Drain};
use emergence_runc::error::Error;

use super::one_line;

pub fn check(bytes: &[u8]) {
    let mut copy = Copy { out: Buffer::new(Written(Vec::new())), depth: 0, size: 0 };
    Writer(&mut copy.out).begin().expect("memory");
    match read(bytes, DEEPEST, &mut copy) {
        Ok(()) => assert!(copy.out.finish().expect("memory").0 == bytes, "written as another stream"),
        Err(fault) => one_line(&fault.to_string()),
    }
}

struct Written(Vec<u8>);

impl Drain for Written {
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        self.0.extend_from_slice(&full);
        Ok(full)
    }
}

/// Writes each node that it gets.
struct Copy {
    out: Buffer<Written>,
    /// How many directories we are in.
    depth: usize,
    /// Of the file that is being written.
    size: u64,
}

impl Copy {
    fn write(&mut self, write: impl FnOnce(&mut Writer<'_, Written>) -> io::Result<()>) -> Result<()> {
        Ok(write(&mut Writer(&mut self.out)).map_err(Error::from)?)
    }

    fn begin(&mut self, name: &[u8]) -> Result<()> {
        if self.depth > 0 { self.write(|out| out.begin_entry(name)) } else { Ok(()) }
    }

    fn end(&mut self) -> Result<()> {
        if self.depth > 0 { self.write(|out| out.close()) } else { Ok(()) }
    }
}

impl Visitor for Copy {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        self.begin(name)?;
        self.depth += 1;
        self.write(|out| out.begin_directory())
    }

    fn leave(&mut self) -> Result<()> {
        self.write(|out| out.close())?;
        self.depth -= 1;
        self.end()
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        self.begin(name)?;
        self.size = size;
        self.write(|out| out.begin_file(executable, size))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.put(bytes).map_err(Error::from)?)
    }

    fn end_file(&mut self) -> Result<()> {
        let size = self.size;
        self.write(|out| out.end_file(size))?;
        self.end()
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.begin(name)?;
        self.write(|out| out.symlink(target))?;
        self.end()
    }
}
