//! The hashes that prove one object, and their comparison with its declaration. Only this code
//! decides which hashes these are, however the object is read.
//!
//! | hash | of |
//! |---|---|
//! | NAR hash | the NAR, by SHA-256 |
//! | content hash | the NAR modulo its own digest, by SHA-256; the NAR hash without self-reference |
//! | `fixed:r:ALGO` | the NAR by ALGO, modulo its own digest if the object refers to itself |
//! | `fixed:ALGO`, `text:sha256` | the bytes of the only file, as they are |
//!
//! Source: the Nix manual, "Content-addressing store objects" and "Store path specification". A
//! self-reference with an algorithm other than SHA-256 has a hash, but no store path:
//! [`ContentAddress::path`] refuses it.

use crate::emergence::base::hash::{Algorithm, Hash, Hasher};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::modulo::ModuloHasher;
use crate::emergence::nix::nar::Visitor;
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::{ContentAddress, Method};

/// Hashes of a NAR in addition to its SHA-256.
pub(super) struct NarHashes {
    /// The content hash, if the caller wants it and it is not the NAR hash.
    content: Option<ModuloHasher>,
    address: AddressHash,
}

/// The hash of the NAR for the content address.
enum AddressHash {
    /// The NAR hash, or no hash of the NAR.
    Nar,
    Other(Hasher),
    Modulo(ModuloHasher),
}

impl NarHashes {
    /// The hashes that prove the content address of `object`.
    pub(super) fn of_address(object: &Object) -> Self {
        let address = match &object.ca {
            Some(ContentAddress::Fixed(Method::Nar, hash)) if refers_to_itself(object) => {
                AddressHash::Modulo(modulo(object, hash.algorithm()))
            }
            Some(ContentAddress::Fixed(Method::Nar, hash)) if hash.algorithm() != Algorithm::Sha256 => {
                AddressHash::Other(Hasher::new(hash.algorithm()))
            }
            _ => AddressHash::Nar,
        };
        Self { content: None, address }
    }

    /// As [`Self::of_address`], and the content hash.
    pub(super) fn with_content(object: &Object) -> Self {
        let content = refers_to_itself(object).then(|| modulo(object, Algorithm::Sha256));
        Self { content, ..Self::of_address(object) }
    }

    /// Hashes the next bytes of the NAR.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.content {
            hasher.update(bytes);
        }
        match &mut self.address {
            AddressHash::Nar => {}
            AddressHash::Other(hasher) => hasher.update(bytes),
            AddressHash::Modulo(hasher) => hasher.update(bytes),
        }
    }
}

fn refers_to_itself(object: &Object) -> bool {
    object.references.contains(&object.path)
}

fn modulo(object: &Object, algorithm: Algorithm) -> ModuloHasher {
    ModuloHasher::new(algorithm, object.path.digits().as_bytes())
}

/// Hashes the only file of an object that is addressed by a file's bytes.
pub(super) struct FileHash {
    /// `None`: the address is not of a file's bytes.
    hasher: Option<Hasher>,
    is_text: bool,
    /// Whether the object is a single file that such an address allows. A text must not be
    /// executable; for other files the address does not cover the execute bit.
    is_fit: bool,
}

impl FileHash {
    pub(super) fn of_address(object: &Object) -> Self {
        let (hash, is_text) = match &object.ca {
            Some(ContentAddress::Text(hash)) => (Some(hash), true),
            Some(ContentAddress::Fixed(Method::Flat, hash)) => (Some(hash), false),
            Some(ContentAddress::Fixed(Method::Nar, _)) | None => (None, false),
        };
        Self { hasher: hash.map(|hash| Hasher::new(hash.algorithm())), is_text, is_fit: false }
    }
}

impl Visitor for FileHash {
    fn file(&mut self, name: &[u8], executable: bool, _size: u64) -> Result<()> {
        // Only the root has no name.
        self.is_fit = name.is_empty() && !(executable && self.is_text);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(())
    }
}

/// Compares the object as read with its declaration: `size` and `hash` of the NAR, and the hash of
/// its content address. Returns the content hash if [`NarHashes::with_content`] was used, otherwise
/// the NAR hash.
///
/// Refused with `nar.size`, `nar.hash` and `ca.mismatch`.
pub(super) fn check(object: &Object, size: u64, hash: Hash, nar: NarHashes, file: FileHash) -> Result<Hash> {
    if size != object.nar_size {
        let (declared, found) = (object.nar_size.to_string(), size.to_string());
        return Err(Fault::differs(Code::NarSize, "", "the NAR's size", &declared, &found));
    }
    check_hash(Code::NarHash, "the NAR's hash", &object.nar_hash, &hash)?;
    if let Some(ca) = &object.ca {
        let (ContentAddress::Text(declared) | ContentAddress::Fixed(_, declared)) = ca;
        let found = match (file.hasher, nar.address) {
            (Some(_), _) if !file.is_fit => {
                let words = "is not a single file, or a text that can be executed";
                return Err(Fault::refused(Code::CaMismatch, ca.to_string(), words));
            }
            (Some(hasher), _) => hasher.finish(),
            (None, AddressHash::Nar) => hash,
            (None, AddressHash::Other(hasher)) => hasher.finish(),
            (None, AddressHash::Modulo(hasher)) => hasher.finish(),
        };
        check_hash(Code::CaMismatch, "the content's hash", declared, &found)?;
    }
    Ok(nar.content.map_or(hash, ModuloHasher::finish))
}

/// Refused with `code` if the hash of `what` differs from the declared one.
pub(super) fn check_hash(code: Code, what: &str, declared: &Hash, found: &Hash) -> Result<()> {
    if declared == found {
        return Ok(());
    }
    Err(Fault::differs(code, "", what, &declared.to_string(), &found.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emergence::base::compress::Compression;
    use crate::emergence::base::limits::Limits;
    use crate::emergence::base::stream::Written;
    use crate::emergence::nix::nar::{self, DEEPEST, Encoder, Nothing};
    use crate::emergence::nix::object::Stored;
    use crate::emergence::nix::store_path::{StoreDir, StorePath};
    use crate::emergence::proof::check::Check;
    use crate::emergence::proof::verify::read_object;

    /// The NAR of a file with these bytes.
    fn nar_of(bytes: &[u8], executable: bool) -> Vec<u8> {
        let mut encoder = Encoder::new(Written(Vec::new()));
        encoder.file(b"", executable, bytes.len() as u64).unwrap();
        encoder.data(bytes).unwrap();
        encoder.end_file().unwrap();
        encoder.finish().unwrap().0
    }

    fn hash(algorithm: Algorithm, bytes: &[u8]) -> Hash {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The content hash from both ways of reading, which must agree.
    fn proved(nar: &[u8], object: &Object) -> Result<Hash> {
        let stored = Stored { name: "it".into(), compression: Compression::None, hash: None, size: None };
        let read = read_object(nar, object, &stored, &Limits::default(), &mut Nothing);
        let mut check = Check::new(object, None).unwrap();
        nar::read(nar, DEEPEST, &mut check).unwrap();
        let finished = check.finish(&StoreDir::default());
        assert_eq!(
            read.as_ref().err().map(Fault::to_string),
            finished.as_ref().err().map(Fault::to_string),
            "{:?}",
            object.ca
        );
        finished
    }

    #[test]
    fn either_way_of_reading_takes_the_same_hashes() {
        let path = StorePath::parse("vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo").unwrap();
        let digits = path.digits();
        let text = format!("it is /nix/store/{digits}-foo, {digits}");
        let nar = nar_of(text.as_bytes(), false);
        let places: Vec<usize> =
            String::from_utf8_lossy(&nar).match_indices(&digits).map(|(at, _)| at).collect();
        let mut modulo = nar.clone();
        places.iter().for_each(|at| modulo[*at..at + digits.len()].fill(0));
        places.iter().for_each(|at| modulo.extend(format!("|{at}").bytes()));
        assert_eq!(places.len(), 2);
        let object = |itself: bool, ca| Object {
            path: path.clone(),
            nar_hash: Hash::sha256(&nar),
            nar_size: nar.len() as u64,
            references: itself.then(|| path.clone()).into_iter().collect(),
            deriver: None,
            signatures: Vec::new(),
            ca,
        };
        let content = |itself| Hash::sha256(if itself { &modulo } else { &nar });
        use Algorithm::{Sha1, Sha256, Sha512};
        for algorithm in [Sha1, Sha256, Sha512] {
            let (plain, modulo) = (hash(algorithm, &nar), hash(algorithm, &modulo));
            let of = |hash| Some(ContentAddress::Fixed(Method::Nar, hash));
            let flat = Some(ContentAddress::Fixed(Method::Flat, hash(algorithm, text.as_bytes())));
            let table = [
                (false, of(plain), true),
                (false, of(modulo), false),
                (true, of(modulo), true),
                (true, of(plain), false),
                (false, flat, true),
                (true, flat, true),
                (true, None, true),
                (false, None, true),
            ];
            for (itself, ca, fits) in table {
                let found = proved(&nar, &object(itself, ca));
                let want = if fits { Ok(content(itself)) } else { Err(Some(Code::CaMismatch)) };
                assert_eq!(found.map_err(|fault| fault.code()), want, "{algorithm:?} {itself} {ca:?}");
            }
        }
        for itself in [false, true] {
            let text = Some(ContentAddress::Text(Hash::sha256(text.as_bytes())));
            assert_eq!(proved(&nar, &object(itself, text)).unwrap(), content(itself));
        }
    }

    #[test]
    fn a_text_is_one_file_that_is_not_executable() {
        let nar = nar_of(b"text", true);
        let object = |ca| Object {
            path: StorePath::parse("vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo").unwrap(),
            nar_hash: Hash::sha256(&nar),
            nar_size: nar.len() as u64,
            references: Default::default(),
            deriver: None,
            signatures: Vec::new(),
            ca: Some(ca),
        };
        let hash = Hash::sha256(b"text");
        let refused = proved(&nar, &object(ContentAddress::Text(hash))).unwrap_err();
        assert_eq!(refused.code(), Some(Code::CaMismatch));
        assert!(proved(&nar, &object(ContentAddress::Fixed(Method::Flat, hash))).is_ok());
    }
}
