//! Refusals of artifacts: a code for programs, a text for people, and the expected and actual
//! values.

use std::fmt::{self, Write as _};

use crate::error::{Error, Kind, OneLine};

/// Defines [`Code`] from a table: the variant, its text, the exit status of a command that ends
/// with it, and its doc comment.
macro_rules! codes {
    ($($name:ident $text:literal $status:literal $meaning:literal),+ $(,)?) => {
        /// The reason for a refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $(#[doc = $meaning] $name),+ }

        impl Code {
            /// Its text, at the end of the message and in JSON.
            pub fn text(self) -> &'static str {
                match self { $(Code::$name => $text),+ }
            }

            /// The command's exit status: 1, the system failed; 3, the artifact is not as declared;
            /// 4, something named is missing; 5, this machine lacks a requirement; 6, the artifact
            /// is not trusted; 7, the store is locked.
            pub fn status(self) -> u8 {
                match self { $(Code::$name => $status),+ }
            }
        }
    };
}

codes! {
    NarMagic "nar.magic" 3 "It does not begin as a NAR.",
    NarTruncated "nar.truncated" 3 "It is truncated.",
    NarTrailing "nar.trailing" 3 "It has trailing bytes.",
    NarBadTag "nar.bad-tag" 3 "It does not follow the grammar.",
    NarBadName "nar.bad-name" 3 "The name of an entry is invalid.",
    NarBadTarget "nar.bad-target" 3 "The target of a link is invalid.",
    NarNotSorted "nar.not-sorted" 3 "Entries are not in ascending order, or occur twice.",
    NarPadding "nar.padding" 3 "Padding is not zero.",
    NarDepth "nar.depth" 3 "Directories are nested too deep.",
    PathMismatch "path.mismatch" 3 "A path differs from the expected one.",
    PathName "path.name" 3 "A store path, or the name in it, is invalid.",
    CaSyntax "ca.syntax" 3 "A content address is malformed.",
    HashSyntax "hash.syntax" 3 "A hash is malformed.",
    LimitDocument "limit.document" 3 "A document is longer than may be read.",
    TypeUnknown "type.unknown" 3 "Its type is not supported.",
    CacheInfo "cache.info" 3 "The directory is not a binary cache, or it is one of another store.",
    CacheNarinfo "cache.narinfo" 3 "The description of an object is malformed.",
    CacheUrl "cache.url" 3 "An object's file is not below the cache's directory.",
    CacheCompression "cache.compression" 3 "An object is compressed in an unknown way.",
    CacheMissing "cache.missing" 4 "The cache does not have the object.",
    ClosureIncomplete "closure.incomplete" 4 "An object that another one refers to is missing.",
    BlobDigest "blob.digest" 3 "A file has another digest than was declared.",
    BlobSize "blob.size" 3 "A file has another size than was declared.",
    BlobMissing "blob.missing" 4 "A file is missing.",
    BlobCompression "blob.compression" 3 "Compressed data cannot be read.",
    LimitSize "limit.size" 3 "It unpacks to more bytes than allowed.",
    NarHash "nar.hash" 3 "The NAR has another hash than was declared.",
    NarSize "nar.size" 3 "The NAR has another size than was declared.",
    CaMismatch "ca.mismatch" 3 "The content does not match its address.",
    TrustUnproved "trust.unproved" 6 "Nothing proves that an object belongs to its path.",
    TrustSignature "trust.signature" 6 "A trusted key's signature is wrong.",
    TrustExpect "trust.expect" 6 "It differs from the expected digest.",
    DrvSyntax "drv.syntax" 3 "It is not a derivation, or not written as Nix writes one.",
    DrvVersion "drv.version" 3 "It is a derivation of a newer form.",
    DrvOutputMismatch "drv.output-mismatch" 3 "An output's path differs from the one computed from the recipe.",
    DrvInputMissing "drv.input-missing" 4 "The derivation of an input is missing.",
    JsonSyntax "json.syntax" 3 "A document is not JSON, or not of its form.",
    JsonDuplicateKey "json.duplicate-key" 3 "A member of a document occurs twice.",
    LimitEntries "limit.entries" 3 "There are more entries than allowed.",
    OciLayout "oci.layout" 3 "It is not an OCI layout, or it is malformed.",
    OciNoTag "oci.no-tag" 4 "The layout has nothing of this name.",
    OciNoPlatform "oci.no-platform" 4 "An index has nothing for this platform.",
    OciDockerV1 "oci.docker-v1" 3 "It has the format that docker save wrote before OCI layouts.",
    OciMediaType "oci.media-type" 3 "A blob is of a type that is not allowed there.",
    OciDiffId "oci.diff-id" 3 "A layer's content has another digest than its image's configuration says.",
    LayerEscape "layer.escape" 3 "An entry of a layer leads out of its tree.",
    LayerLink "layer.link" 3 "A hard link of a layer leads to a missing entry.",
    LayerWhiteout "layer.whiteout" 3 "A whiteout has an invalid name.",
    LayerHeader "layer.header" 3 "A layer is not a tar.",
    LayerDuplicate "layer.duplicate" 3 "A layer has an entry twice.",
    LayerNotCanonical "layer.not-canonical" 3 "A layer of store objects is not in canonical form.",
    RefsUndeclared "refs.undeclared" 3 "An object refers to one that is not declared.",
    DocUnknownField "doc.unknown-field" 3 "The document has an unknown member.",
    DocShellForm "doc.shell-form" 3 "A string is given instead of a list of arguments.",
    DocParameter "doc.parameter" 3 "A parameter is not declared, not used, or has no such value.",
    DocEntrypoint "doc.entrypoint" 3 "The program to start does not exist, or cannot be executed.",
    DeclarationUnpinned "declaration.unpinned" 3 "An input of the declaration has no digest.",
    DeclarationMismatch "declaration.mismatch" 3 "The declaration has another digest than was declared.",
    AutomatonMismatch "automaton.mismatch" 3 "A digest of the automaton differs from the computed one.",
    TrustPolicy "trust.policy" 6 "The policy does not allow it.",
    ConstraintUnmet "constraint.unmet" 5 "This machine does not meet a constraint.",
    ConstraintUnknown "constraint.unknown" 5 "A constraint is unknown.",
    StoreExists "store.exists" 3 "The destination exists already.",
    StoreCorrupt "store.corrupt" 3 "An object in the store is corrupt.",
    StoreLocked "store.locked" 7 "Another process keeps the store locked.",
    ChangedWhileReading "changed-while-reading" 1 "It changed while it was read.",
    Space "space" 1 "The file system has too little space.",
}

/// The refusal of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its code.
    pub code: Code,
    /// The object of the refusal: a path, a digest, a field.
    pub subject: String,
    /// The reason, without the subject.
    pub words: String,
    /// The declared value, if two values were compared.
    pub expected: Option<String>,
    /// The value found instead.
    pub actual: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        write!(f, "{} [{}]", self.words, self.code.text())
    }
}

/// An error that ends a command of `emergence`: a refusal of the artifact, or a failure of the
/// system.
#[derive(Debug)]
pub enum Fault {
    /// The artifact is refused, with the steps that led there, innermost first.
    Refused(Box<Refusal>, Vec<String>),
    /// A system call failed, or the command line is wrong.
    Failed(Error),
}

/// The result of functions that inspect artifacts.
pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// A refusal of `subject`.
    pub fn refused(code: Code, subject: impl Into<String>, words: impl Into<String>) -> Self {
        let (subject, words) = (subject.into(), words.into());
        Fault::Refused(Box::new(Refusal { code, subject, words, expected: None, actual: None }), Vec::new())
    }

    /// A refusal of `subject`, whose `what` is `actual` where `expected` was declared.
    pub fn differs(code: Code, subject: impl Into<String>, what: &str, expected: &str, actual: &str) -> Self {
        let words = format!("{what} is {actual}, declared is {expected}");
        let (expected, actual) = (Some(expected.to_owned()), Some(actual.to_owned()));
        Fault::Refused(
            Box::new(Refusal { code, subject: subject.into(), words, expected, actual }),
            Vec::new(),
        )
    }

    /// An error in the command line.
    pub fn usage(words: impl Into<String>) -> Self {
        Fault::Failed(Error::new(Kind::Usage, words))
    }

    /// Adds an outer step.
    #[must_use]
    pub fn within(self, step: impl Into<String>) -> Self {
        match self {
            Fault::Refused(refusal, mut steps) => {
                steps.push(step.into());
                Fault::Refused(refusal, steps)
            }
            Fault::Failed(error) => Fault::Failed(error.within(step)),
        }
    }

    /// The message without its code, for use in another message.
    pub(crate) fn words(&self) -> String {
        match self {
            Fault::Refused(refusal, _) => format!("{}: {}", refusal.subject, refusal.words),
            Fault::Failed(error) => error.to_string(),
        }
    }

    /// The code, if it is a refusal.
    pub fn code(&self) -> Option<Code> {
        match self {
            Fault::Refused(refusal, _) => Some(refusal.code),
            Fault::Failed(_) => None,
        }
    }

    /// The command's exit status: 1, the system failed; 2, usage; 4, something named does not
    /// exist; for refusals [`Code::status`].
    pub fn status(&self) -> u8 {
        match self {
            Fault::Refused(refusal, _) => refusal.code.status(),
            Fault::Failed(error) => match error.kind() {
                Kind::Usage => 2,
                Kind::NotFound => 4,
                _ => 1,
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Refused(refusal, steps) => {
                let mut f = OneLine(f);
                for step in steps.iter().rev() {
                    write!(f, "{step}: ")?;
                }
                write!(f, "{refusal}")
            }
            Fault::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Failed(error)
    }
}

/// Adds the step that failed, lazily.
pub trait Within<T> {
    /// Names the step and its object.
    fn within<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Within<T> for Result<T> {
    fn within<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|fault| fault.within(step()))
    }
}

/// Bytes that are usually text, escaped to one line.
pub fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_that_ends_in_the_code() {
        let fault =
            Fault::differs(Code::DrvOutputMismatch, "out", "path", "/a", "/b").within("drv check x.drv");
        assert_eq!(
            fault.to_string(),
            "drv check x.drv: out: path is /b, declared is /a [drv.output-mismatch]"
        );
        assert_eq!(fault.status(), 3);
        assert_eq!(Fault::usage("no").status(), 2);
        let failed: Fault = Error::from(std::io::Error::from_raw_os_error(libc::EIO)).into();
        assert_eq!((failed.status(), failed.code()), (1, None));
    }
}
