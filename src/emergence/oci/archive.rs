//! A tar of a layout, indexed by file names. The tar is scanned once; its files are read in place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::entry::InTree;
use super::tar::{Input, MemberKind, Members};
use crate::emergence::base::compress::Compression;
use crate::emergence::base::refusal::{Code, Fault, Result, shown};
use crate::error::Doing;

/// Maximum number of members of the tar: two for each blob and directory are enough.
const MOST_MEMBERS: usize = 1 << 20;

/// A part of a file, read with pread(2), so that parts can share the descriptor.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) file: Arc<File>,
    pub(super) at: u64,
    pub(super) left: u64,
}

impl Read for Part {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(room.len());
        let got = self.file.read_at(room.get_mut(..most).unwrap_or_default(), self.at)?;
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

impl Input for Part {
    fn pass(&mut self, count: u64) -> io::Result<u64> {
        let passed = count.min(self.left);
        self.at += passed;
        self.left -= passed;
        Ok(passed)
    }
}

/// A name without a leading `./` or `/`.
fn plain(name: &[u8]) -> Vec<u8> {
    InTree::read(name).map_or_else(|_| name.to_vec(), |path| path.bytes().to_vec())
}

/// The files of the tar, by name.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    files: HashMap<Vec<u8>, (u64, u64)>,
}

impl Archive {
    /// Scans the tar, called `subject` in messages.
    pub(super) fn open(file: File, subject: &str) -> Result<Self> {
        let file = Arc::new(file);
        let size = file.metadata().doing(|| format!("stat {subject}"))?.len();
        let mut first = [0; 6];
        let got = file.read_at(&mut first, 0).doing(|| format!("read {subject}"))?;
        let found = Compression::recognised(first.get(..got).unwrap_or_default());
        if found != Compression::None {
            let words = format!("is compressed ({}); a tar of a layout is not", found.name());
            return Err(Fault::refused(Code::OciLayout, subject, words));
        }
        let mut members = Members::new(Part { file: file.clone(), at: 0, left: size });
        let mut files = HashMap::new();
        let mut count = 0;
        while let Some(member) = members.advance()? {
            count += 1;
            if count > MOST_MEMBERS {
                let words = format!("has more than {MOST_MEMBERS} members");
                return Err(Fault::refused(Code::LimitEntries, subject, words));
            }
            let place = match member.kind {
                MemberKind::File if member.sparse.is_none() => (members.position(), member.size),
                // A file with several names on disk is a hard link in the tar.
                MemberKind::HardLink => match files.get(&plain(&member.link)) {
                    Some(place) => *place,
                    None => continue,
                },
                _ => continue,
            };
            if files.insert(plain(&member.path), place).is_some_and(|before| before != place) {
                let words = format!("{} occurs twice", shown(&member.path));
                return Err(Fault::refused(Code::OciLayout, subject, words));
            }
        }
        Ok(Self { file, files })
    }

    /// A file of the tar.
    pub(super) fn part(&self, name: &[u8]) -> Option<Part> {
        let (at, left) = *self.files.get(name)?;
        Some(Part { file: self.file.clone(), at, left })
    }
}
