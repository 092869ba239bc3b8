//! What a member of a layer means: an entry of the tree, or the removal of one in the layers below.

use super::tar::{Member, MemberKind};
use crate::emergence::base::refusal::{Code, Fault, Result, shown};

/// Names of a path at most: each may need a descriptor while it is looked up.
const DEEPEST: usize = 256;

/// Longest name, NAME_MAX.
const LONGEST_NAME: usize = 255;

/// What AUFS keeps for itself in the root of a layer; old engines packed it too.
const AUFS: [&[u8]; 3] = [b".wh..wh.aufs", b".wh..wh.orph", b".wh..wh.plnk"];

/// What every whiteout begins with.
const WHITEOUT: &[u8] = b".wh.";

/// The whiteout of all that a folder has in the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A path in the tree: its names, with one slash between them, none before and none behind; empty
/// for the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InTree(Vec<u8>);

impl InTree {
    /// Reads a path of a tar, with or without a slash before it. Refused: `..` (`layer.escape`),
    /// and a name or a path that is too long (`layer.header`).
    pub(super) fn read(path: &[u8]) -> Result<Self> {
        let mut plain = Vec::with_capacity(path.len());
        let mut depth = 0;
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => {
                    return Err(Fault::refused(Code::LayerEscape, shown(path), "leads out by its \"..\""));
                }
                _ => {}
            }
            depth += 1;
            if name.len() > LONGEST_NAME || depth > DEEPEST {
                let words = format!(
                    "has a name longer than {LONGEST_NAME} bytes, or is deeper than {DEEPEST} folders"
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

    /// The folder that it is in, and its name there.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (self.0.get(..at).unwrap_or_default(), self.0.get(at + 1..).unwrap_or_default()),
            None => (b"", &self.0),
        }
    }
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The root folder itself.
    Root,
    /// What is made.
    Entry(InTree),
    /// What goes of the layers below.
    Gone(InTree),
    /// A folder that shows nothing of the layers below.
    Opaque(InTree),
    /// Nothing, as all engines say of what AUFS keeps for itself.
    Nothing,
}

/// What `member` means. Refused as by [`InTree::read`], and a whiteout that cannot be one
/// (`layer.whiteout`).
pub(super) fn meaning(member: &Member) -> Result<Meaning> {
    let path = InTree::read(&member.path)?;
    let (folder, name) = path.split();
    if path.bytes().split(|byte| *byte == b'/').next().is_some_and(|first| AUFS.contains(&first)) {
        return Ok(Meaning::Nothing);
    }
    let whiteout = |words: &str| Err(Fault::refused(Code::LayerWhiteout, shown(&member.path), words));
    if folder.split(|byte| *byte == b'/').any(|name| name.starts_with(WHITEOUT)) {
        return whiteout("is below a whiteout");
    }
    if name.is_empty() {
        return match member.kind {
            MemberKind::Directory => Ok(Meaning::Root),
            _ => Err(Fault::refused(Code::LayerHeader, shown(&member.path), "is the root, but no folder")),
        };
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(Meaning::Entry(path)) };
    // AUFS makes whiteouts that are all one file, so that they are hard links in a tar; others make
    // devices of them.
    if member.kind == MemberKind::Directory {
        return whiteout("is a whiteout, but a folder");
    }
    if name == OPAQUE {
        return Ok(Meaning::Opaque(InTree(folder.to_vec())));
    }
    if matches!(hidden, b"" | b"." | b"..") || hidden.starts_with(WHITEOUT) {
        return whiteout("is a whiteout of nothing that can be there");
    }
    let gone = if folder.is_empty() { hidden.to_vec() } else { [folder, hidden].join(&b'/') };
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
