//! Writes a NAR from the calls of a [`Visitor`], to convert other archives and to compute a second
//! hash.

use super::Writer;
use super::read::Visitor;
use crate::emergence::base::refusal::Result;
use crate::emergence::base::stream::{Buffer, Drain};
use crate::error::Doing;

/// A visitor that writes a NAR. The calls must describe a tree that a NAR can hold, in its order.
pub struct Encoder<D> {
    out: Buffer<D>,
    /// Number of open directories.
    depth: usize,
    size: u64,
    begun: bool,
}

impl<D: Drain> Encoder<D> {
    /// An encoder that writes to `drain`.
    pub fn new(drain: D) -> Self {
        Self { out: Buffer::new(drain), depth: 0, size: 0, begun: false }
    }

    /// Bytes of the NAR so far.
    pub fn total(&self) -> u64 {
        self.out.total()
    }

    /// Ends the NAR and returns the drain.
    pub fn finish(self) -> Result<D> {
        Ok(self.out.finish().doing(|| "write the NAR")?)
    }

    fn node(
        &mut self,
        name: &[u8],
        write: impl FnOnce(&mut Writer<'_, D>) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut writer = Writer(&mut self.out);
        let all = || {
            if self.begun {
                writer.begin_entry(name)?
            } else {
                writer.begin()?
            }
            write(&mut writer)
        };
        let written = all();
        self.begun = true;
        Ok(written.doing(|| "write the NAR")?)
    }

    /// Ends a node, and its entry unless it is the root.
    fn end(&mut self, write: impl FnOnce(&mut Writer<'_, D>) -> std::io::Result<()>) -> Result<()> {
        let mut writer = Writer(&mut self.out);
        let written = write(&mut writer);
        let written = written.and_then(|()| if self.depth > 0 { writer.close() } else { Ok(()) });
        Ok(written.doing(|| "write the NAR")?)
    }
}

impl<D: Drain> Visitor for Encoder<D> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        self.node(name, |writer| writer.begin_directory())?;
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.depth = self.depth.saturating_sub(1);
        self.end(|writer| writer.close())
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        self.size = size;
        self.node(name, |writer| writer.begin_file(executable, size))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.put(bytes).doing(|| "write the NAR")?)
    }

    fn end_file(&mut self) -> Result<()> {
        let size = self.size;
        self.end(|writer| writer.end_file(size))
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.node(name, |writer| writer.symlink(target))?;
        self.end(|_| Ok(()))
    }
}

/// Passes each call to two visitors, the first one first.
pub struct Both<A, B>(pub A, pub B);

impl<A: Visitor, B: Visitor> Visitor for Both<A, B> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        self.0.directory(name)?;
        self.1.directory(name)
    }

    fn leave(&mut self) -> Result<()> {
        self.0.leave()?;
        self.1.leave()
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        self.0.file(name, executable, size)?;
        self.1.file(name, executable, size)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.data(bytes)?;
        self.1.data(bytes)
    }

    fn end_file(&mut self) -> Result<()> {
        self.0.end_file()?;
        self.1.end_file()
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.0.symlink(name, target)?;
        self.1.symlink(name, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emergence::base::hash::{Algorithm, Hash};
    use crate::emergence::base::stream::HashThread;

    #[test]
    fn a_nar_that_is_read_is_written_again() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emergence/vectors/nars");
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let mut encoder = Encoder::new(HashThread::start(Algorithm::Sha256).unwrap());
            crate::emergence::nix::nar::read(&bytes[..], crate::emergence::nix::nar::DEEPEST, &mut encoder)
                .unwrap();
            assert_eq!(encoder.total(), bytes.len() as u64);
            let hash = encoder.finish().unwrap().finish().unwrap();
            assert_eq!(hash, Hash::sha256(&bytes), "{}", entry.path().display());
        }
    }
}
