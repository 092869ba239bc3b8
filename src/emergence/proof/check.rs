//! Holds a tree that is told node by node against what is declared of its object, as far as bytes can show it.

use std::io;

use super::verify::{NO_FILE, is_only_file, same};
use crate::emergence::base::hash::{Algorithm, Hash, Hasher};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::base::stream::{Drain, HashThread};
use crate::emergence::nix::modulo::ModuloHasher;
use crate::emergence::nix::nar::{Encoder, Visitor};
use crate::emergence::nix::object::Object;
use crate::emergence::nix::scan::{Scanner, Searched, check_found};
use crate::emergence::nix::store_path::{ContentAddress, Method, StoreDir};
use crate::error::Doing;

/// Bytes of a NAR up to which a thread of its own takes longer to start than to hash.
const LIGHT: u64 = 128 * 1024;

/// Watches one object.
pub(crate) struct Check<'a> {
    object: &'a Object,
    nar: Encoder<Hashes>,
    /// The only file's bytes, where the address is of them; and whether it is one.
    flat: Option<Hasher>,
    is_file: bool,
    scanner: Option<Scanner<'a>>,
}

/// Hashes of a NAR.
struct Hashes {
    main: Main,
    second: Second,
}

enum Main {
    Here(Hasher),
    There(HashThread),
}

/// One more, where the content or its address is not the SHA-256 of the NAR.
enum Second {
    None,
    Plain(Hasher),
    Modulo(ModuloHasher),
}

impl Drain for Hashes {
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        let full = match &mut self.second {
            Second::None => full,
            Second::Plain(hasher) => {
                hasher.update(&full);
                full
            }
            Second::Modulo(hasher) => hasher.drain(full)?,
        };
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
    /// Of this object; with `searched`, also for what it refers to.
    pub(crate) fn new(object: &'a Object, searched: Option<&'a Searched>) -> Result<Self> {
        let second = match &object.ca {
            _ if object.references.contains(&object.path) => {
                Second::Modulo(ModuloHasher::new(Algorithm::Sha256, object.path.digits().as_bytes()))
            }
            Some(ContentAddress::Fixed(Method::Nar, hash)) if hash.algorithm() != Algorithm::Sha256 => {
                Second::Plain(Hasher::new(hash.algorithm()))
            }
            _ => Second::None,
        };
        let main = match object.nar_size <= LIGHT {
            true => Main::Here(Hasher::new(Algorithm::Sha256)),
            false => Main::There(HashThread::start(Algorithm::Sha256).doing(|| "start a thread")?),
        };
        let flat = match &object.ca {
            Some(ContentAddress::Text(hash) | ContentAddress::Fixed(Method::Flat, hash)) => {
                Some(Hasher::new(hash.algorithm()))
            }
            _ => None,
        };
        let nar = Encoder::new(Hashes { main, second });
        Ok(Self { object, nar, flat, is_file: false, scanner: searched.map(Scanner::new) })
    }

    /// The tree was told: its content hash. Refused with `nar.size`, `nar.hash`, `ca.mismatch` and `refs.undeclared`.
    pub(crate) fn finish(self, dir: &StoreDir) -> Result<Hash> {
        let object = self.object;
        let size = self.nar.total();
        let Hashes { main, second } = self.nar.finish()?;
        let hash = match main {
            Main::Here(hasher) => hasher.finish(),
            Main::There(thread) => thread.finish().doing(|| "hash")?,
        };
        if size != object.nar_size {
            let (declared, found) = (object.nar_size.to_string(), size.to_string());
            return Err(Fault::differs(Code::NarSize, "", "the NAR's size", &declared, &found));
        }
        same(Code::NarHash, "the NAR's hash", &object.nar_hash, &hash)?;
        let (content, second) = match second {
            Second::None => (hash, hash),
            Second::Plain(hasher) => (hash, hasher.finish()),
            Second::Modulo(hasher) => {
                let content = hasher.finish();
                (content, content)
            }
        };
        match (&object.ca, self.flat) {
            (Some(ca), Some(_)) if !self.is_file => {
                return Err(Fault::refused(Code::CaMismatch, ca.to_string(), NO_FILE));
            }
            (Some(ContentAddress::Text(ca) | ContentAddress::Fixed(_, ca)), flat) => {
                let found = flat.map_or(second, Hasher::finish);
                same(Code::CaMismatch, "the content's hash", ca, &found)?;
            }
            (None, _) => {}
        }
        if let Some(scanner) = self.scanner {
            check_found(object, &scanner.found(), dir)?;
        }
        Ok(content)
    }
}

impl Visitor for Check<'_> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        self.scanner.as_mut().map_or(Ok(()), |scanner| scanner.directory(name))?;
        self.nar.directory(name)
    }

    fn leave(&mut self) -> Result<()> {
        self.nar.leave()
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        self.is_file = is_only_file(self.object.ca.as_ref(), name, executable);
        self.scanner.as_mut().map_or(Ok(()), |scanner| scanner.file(name, executable, size))?;
        self.nar.file(name, executable, size)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(flat) = &mut self.flat {
            flat.update(bytes);
        }
        self.scanner.as_mut().map_or(Ok(()), |scanner| scanner.data(bytes))?;
        self.nar.data(bytes)
    }

    fn end_file(&mut self) -> Result<()> {
        self.nar.end_file()
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.scanner.as_mut().map_or(Ok(()), |scanner| scanner.symlink(name, target))?;
        self.nar.symlink(name, target)
    }
}
