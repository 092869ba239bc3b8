//! Checks a tree, received node by node, against the declaration of its object.

use std::io;

use super::hashes::{self, FileHash, NarHashes};
use crate::emergence::base::hash::{Algorithm, Hash, Hasher};
use crate::emergence::base::refusal::Result;
use crate::emergence::base::stream::{Drain, HashThread};
use crate::emergence::nix::nar::{Both, Encoder, Visitor};
use crate::emergence::nix::object::Object;
use crate::emergence::nix::scan::{Scanner, Searched, check_found};
use crate::emergence::nix::store_path::StoreDir;
use crate::error::Doing;

/// Up to this NAR size, in bytes, starting a thread takes longer than hashing.
const LIGHT: u64 = 128 * 1024;

/// Checks one object.
pub(crate) struct Check<'a> {
    object: &'a Object,
    tree: Both<FileHash, Encoder<Hashes>>,
    scanner: Option<Scanner<'a>>,
}

/// Hashes of a NAR.
struct Hashes {
    main: Main,
    others: NarHashes,
}

enum Main {
    Here(Hasher),
    There(HashThread),
}

impl Drain for Hashes {
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        self.others.update(&full);
        match &mut self.main {
            Main::Here(hasher) => {
                hasher.update(&full);
                Ok(full)
            }
            Main::There(thread) => thread.drain(full),
        }
    }
}

impl<'a> Check<'a> {
    /// A check of this object; with `searched`, also of its references.
    pub(crate) fn new(object: &'a Object, searched: Option<&'a Searched>) -> Result<Self> {
        let main = if object.nar_size <= LIGHT {
            Main::Here(Hasher::new(Algorithm::Sha256))
        } else {
            Main::There(HashThread::start(Algorithm::Sha256).doing(|| "start a thread")?)
        };
        let nar = Encoder::new(Hashes { main, others: NarHashes::with_content(object) });
        let tree = Both(FileHash::of_address(object), nar);
        Ok(Self { object, tree, scanner: searched.map(Scanner::new) })
    }

    /// Ends the check and returns the content hash. Refused with `nar.size`, `nar.hash`,
    /// `ca.mismatch` and `refs.undeclared`.
    pub(crate) fn finish(self, dir: &StoreDir) -> Result<Hash> {
        let Both(file, nar) = self.tree;
        let size = nar.total();
        let Hashes { main, others } = nar.finish()?;
        let hash = match main {
            Main::Here(hasher) => hasher.finish(),
            Main::There(thread) => thread.finish().doing(|| "hash")?,
        };
        let content = hashes::check(self.object, size, hash, others, file)?;
        if let Some(scanner) = self.scanner {
            check_found(self.object, &scanner.into_references(), dir)?;
        }
        Ok(content)
    }
}

impl Visitor for Check<'_> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        self.scanner.as_mut().map_or(Ok(()), |scanner| scanner.directory(name))?;
        self.tree.directory(name)
    }

    fn leave(&mut self) -> Result<()> {
        self.tree.leave()
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        self.scanner.as_mut().map_or(Ok(()), |scanner| scanner.file(name, executable, size))?;
        self.tree.file(name, executable, size)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.scanner.as_mut().map_or(Ok(()), |scanner| scanner.data(bytes))?;
        self.tree.data(bytes)
    }

    fn end_file(&mut self) -> Result<()> {
        self.tree.end_file()
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.scanner.as_mut().map_or(Ok(()), |scanner| scanner.symlink(name, target))?;
        self.tree.symlink(name, target)
    }
}
