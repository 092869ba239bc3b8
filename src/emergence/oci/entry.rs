//! The meaning of a layer's member: an entry of the tree, or a whiteout of an entry in the layers
//! below.

use super::tar::{Member, MemberKind};
use crate::emergence::base::refusal::{Code, Fault, Result, shown};

/// Maximum number of components of a path: each may need a file descriptor during lookup.
const DEEPEST: usize = 256;

/// Maximum length of a name, NAME_MAX.
const LONGEST_NAME: usize = 255;

/// Files of AUFS in the root of a layer, which old engines included.
const AUFS: [&[u8]; 3] = [b".wh..wh.aufs", b".wh..wh.orph", b".wh..wh.plnk"];

/// Prefix of every whiteout.
const WHITEOUT: &[u8] = b".wh.";

/// The opaque whiteout, which hides the directory's content in the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A path in the tree: components separated by single slashes, none at the start or end; empty for
/// the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InTree(Vec<u8>);

impl InTree {
    /// Parses a path of a tar, with or without a leading slash. Refused: `..` (`layer.escape`), and
    /// a component or path that is too long (`layer.header`).
    pub(super) fn read(path: &[u8]) -> Result<Self> {
        let mut plain = Vec::with_capacity(path.len());
        let mut depth = 0;
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => {
                    return Err(Fault::refused(
                        Code::LayerEscape,
                        shown(path),
                        "leads out of the tree by its \"..\"",
                    ));
                }
                _ => {}
            }
            depth += 1;
            if name.len() > LONGEST_NAME || depth > DEEPEST {
                let words = format!(
                    "has a name longer than {LONGEST_NAME} bytes, or is deeper than {DEEPEST} directories"
                );
                return Err(Fault::refused(Code::LayerHeader, shown(path), words));
            }
            if !plain.is_empty() {
                plain.push(b'/');
            }
            plain.extend_from_slice(name);
        }
        Ok(Self(plain))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its parent directory and its name.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (self.0.get(..at).unwrap_or_default(), self.0.get(at + 1..).unwrap_or_default()),
            None => (b"", &self.0),
        }
    }
}

/// The meaning of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The root directory.
    Root,
    /// An entry to create.
    Entry(InTree),
    /// A whiteout: this path is removed from the layers below.
    Gone(InTree),
    /// An opaque whiteout: the content of this directory in the layers below is removed.
    Opaque(InTree),
    /// Ignored: a file of AUFS.
    Nothing,
}

/// The meaning of `member`. Refused as by [`InTree::read`], and with `layer.whiteout` for an
/// invalid whiteout.
pub(super) fn meaning(member: &Member) -> Result<Meaning> {
    let path = InTree::read(&member.path)?;
    let (directory, name) = path.split();
    if path.bytes().split(|byte| *byte == b'/').next().is_some_and(|first| AUFS.contains(&first)) {
        return Ok(Meaning::Nothing);
    }
    let whiteout = |words: &str| Err(Fault::refused(Code::LayerWhiteout, shown(&member.path), words));
    if directory.split(|byte| *byte == b'/').any(|name| name.starts_with(WHITEOUT)) {
        return whiteout("is below a whiteout");
    }
    if name.is_empty() {
        return match member.kind {
            MemberKind::Directory => Ok(Meaning::Root),
            _ => Err(Fault::refused(
                Code::LayerHeader,
                shown(&member.path),
                "is the root, but not a directory",
            )),
        };
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(Meaning::Entry(path)) };
    // Whiteouts of AUFS are one file, so they are hard links in a tar; others are devices.
    if member.kind == MemberKind::Directory {
        return whiteout("is a whiteout, but a directory");
    }
    if name == OPAQUE {
        return Ok(Meaning::Opaque(InTree(directory.to_vec())));
    }
    if matches!(hidden, b"" | b"." | b"..") || hidden.starts_with(WHITEOUT) {
        return whiteout("is a whiteout with an invalid name");
    }
    let gone = if directory.is_empty() { hidden.to_vec() } else { [directory, hidden].join(&b'/') };
    Ok(Meaning::Gone(InTree(gone)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, kind: MemberKind) -> Member {
        Member {
            path: path.into(),
            kind,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
            sparse: None,
        }
    }

    #[test]
    fn names_and_whiteouts() {
        let path = |text: &str| InTree(text.into());
        let table = [
            ("./a//b/", Ok(Meaning::Entry(path("a/b")))),
            ("/a", Ok(Meaning::Entry(path("a")))),
            ("a/.wh.b", Ok(Meaning::Gone(path("a/b")))),
            (".wh.b", Ok(Meaning::Gone(path("b")))),
            ("a/.wh..wh..opq", Ok(Meaning::Opaque(path("a")))),
            (".wh..wh..opq", Ok(Meaning::Opaque(path("")))),
            ("a/.wh.", Err(Code::LayerWhiteout)),
            ("a/.wh..", Err(Code::LayerWhiteout)),
            ("a/.wh...", Err(Code::LayerWhiteout)),
            (".wh..wh.other", Err(Code::LayerWhiteout)),
            ("a/.wh..wh.plnk", Err(Code::LayerWhiteout)),
            ("./.wh..wh.aufs", Ok(Meaning::Nothing)),
            (".wh..wh.plnk/12.34", Ok(Meaning::Nothing)),
            (".wh.a/b", Err(Code::LayerWhiteout)),
            ("a/../b", Err(Code::LayerEscape)),
            ("..", Err(Code::LayerEscape)),
            ("./", Err(Code::LayerHeader)),
        ];
        for (text, want) in table {
            let found = meaning(&member(text, MemberKind::File)).map_err(|fault| fault.code().unwrap());
            assert_eq!(found, want, "{text}");
        }
        assert_eq!(meaning(&member("./", MemberKind::Directory)).unwrap(), Meaning::Root);
        assert!(meaning(&member("a/.wh.b", MemberKind::Directory)).is_err());
        assert!(meaning(&member(&"a/".repeat(257), MemberKind::Directory)).is_err());
        assert!(meaning(&member(&"a".repeat(256), MemberKind::File)).is_err());
    }
}
