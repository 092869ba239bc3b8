//! Reads a store layer strictly, in constant memory: each header must be the one that a writer
//! generates.

use std::io::Read;

use super::header::{Entry, EntryKind, PAX, octal, split_records};
use super::{BLOCK, directories};
use crate::emergence::base::compress::unread;
use crate::emergence::base::refusal::{Code, Fault, Result, shown};
use crate::emergence::base::stream::Ahead;
use crate::emergence::nix::nar::Visitor;
use crate::emergence::nix::store_path::{StoreDir, StorePath};

/// Maximum size of pax records, in bytes: enough for the longest name and target.
const LONGEST_RECORDS: u64 = 64 * 1024;

/// Maximum length of an entry's name and of a link target, in bytes, as in a NAR.
const LONGEST_NAME: usize = 255;
const LONGEST_TARGET: usize = 4095;

/// Reads a layer object by object.
pub struct LayerReader<R> {
    input: Ahead<R>,
    dir: StoreDir,
    deepest: usize,
    /// An entry that was read ahead.
    next: Option<Entry>,
}

/// The open directories of an object, outermost first.
struct Open {
    /// Path of the innermost directory, without a trailing slash.
    name: Vec<u8>,
    /// For each directory, the length of its path and the name of its last entry.
    directories: Vec<(usize, Vec<u8>)>,
}

impl<R: Read> LayerReader<R> {
    /// Starts reading a layer of objects of `dir` with trees of at most `deepest` levels. Refused
    /// with `layer.not-canonical`, as are all methods.
    pub fn new(input: R, dir: &StoreDir, deepest: usize) -> Result<Self> {
        let mut reader = Self { input: Ahead::new(input), dir: dir.clone(), deepest, next: None };
        for name in directories(dir) {
            let entry = reader.header()?;
            let directory = Entry {
                kind: EntryKind::Directory,
                mode: 0o755,
                size: 0,
                name: name.clone().into_bytes(),
                target: Vec::new(),
            };
            if entry.as_ref() != Some(&directory) {
                return Err(reader.refuse(name.as_bytes(), "is not what the layer begins with"));
            }
        }
        reader.next = reader.header()?;
        Ok(reader)
    }

    /// Reads the next object, which must be `path`, and passes its tree to `visitor`.
    pub fn object(&mut self, path: &StorePath, visitor: &mut dyn Visitor) -> Result<()> {
        let root = self.dir.path(path).trim_start_matches('/').as_bytes().to_vec();
        let Some(entry) = self.next.take() else {
            return Err(self.refuse(&root, "is declared to be in the layer, but is not"));
        };
        if *without_slash(&entry) != *root {
            let words = format!("is where {} should be", shown(&root));
            return Err(self.refuse(&entry.name, &words));
        }
        self.check_mode(&entry)?;
        let mut open = Open { name: root.clone(), directories: Vec::new() };
        if entry.kind == EntryKind::Directory {
            visitor.directory(b"")?;
            open.directories.push((root.len(), Vec::new()));
        } else {
            self.leaf(&entry, b"", visitor)?;
        }
        self.next = self.header()?;
        while let Some(entry) = self.next.take() {
            if open.directories.is_empty() || !is_below(without_slash(&entry), &root) {
                self.next = Some(entry);
                break;
            }
            self.entry(entry, &mut open, visitor)?;
            self.next = self.header()?;
        }
        open.directories.iter().try_for_each(|_| visitor.leave())
    }

    /// Checks that nothing follows the last object.
    pub fn finish(mut self) -> Result<()> {
        if let Some(entry) = self.next.take() {
            return Err(self.refuse(&entry.name, "is in the layer, but not declared to be"));
        }
        if self.fill(1)? { Err(self.refuse(b"", "trailing bytes after the end")) } else { Ok(()) }
    }

    /// Reads an entry below an object's root.
    fn entry(&mut self, entry: Entry, open: &mut Open, visitor: &mut dyn Visitor) -> Result<()> {
        let name = without_slash(&entry);
        while !is_below(name, &open.name) {
            open.leave();
            visitor.leave()?;
        }
        let base = name.get(open.name.len() + 1..).unwrap_or_default();
        let last = open.directories.last().map(|(_, last)| last.as_slice()).unwrap_or_default();
        let wrong = if base.contains(&b'/') {
            "is out of order, or its directory is missing"
        } else if base.is_empty()
            || base.len() > LONGEST_NAME
            || base.contains(&0)
            || base == b"."
            || base == b".."
        {
            "has an invalid name"
        } else if base <= last {
            "is out of order, or a duplicate"
        } else if open.directories.len() >= self.deepest {
            "is nested too deep"
        } else {
            ""
        };
        if !wrong.is_empty() {
            return Err(self.refuse(name, wrong));
        }
        self.check_mode(&entry)?;
        let base = base.to_vec();
        if entry.kind == EntryKind::Directory {
            visitor.directory(&base)?;
            open.enter(base);
        } else {
            self.leaf(&entry, &base, visitor)?;
            open.note(base);
        }
        Ok(())
    }

    /// Only the directories above the objects are writable.
    fn check_mode(&self, entry: &Entry) -> Result<()> {
        if entry.kind == EntryKind::Directory && entry.mode != 0o555 {
            Err(self.refuse(&entry.name, "is a writable directory"))
        } else {
            Ok(())
        }
    }

    /// Reads a file or a symbolic link; `name` is empty for the root.
    fn leaf(&mut self, entry: &Entry, name: &[u8], visitor: &mut dyn Visitor) -> Result<()> {
        if entry.kind == EntryKind::Link {
            let target = &entry.target;
            if target.is_empty() || target.len() > LONGEST_TARGET || target.contains(&0) {
                return Err(self.refuse(&entry.name, "has an invalid target"));
            }
            return visitor.symlink(name, target);
        }
        visitor.file(name, entry.mode == 0o555, entry.size)?;
        let mut left = entry.size;
        while left > 0 {
            if !self.fill(1)? {
                return Err(self.refuse(&entry.name, "ends before its size"));
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.unused().len());
            visitor.data(self.take(count)?)?;
            left -= count as u64;
        }
        self.padding(&entry.name, entry.size)?;
        visitor.end_file()
    }

    fn padding(&mut self, name: &[u8], size: u64) -> Result<()> {
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        if self.take(padding as usize)?.iter().any(|byte| *byte != 0) {
            return Err(self.refuse(name, "has padding that is not zero"));
        }
        Ok(())
    }

    /// The next entry. `None`: the end, with both of its blocks.
    fn header(&mut self) -> Result<Option<Entry>> {
        let first = self.take(BLOCK)?.to_vec();
        if first.iter().all(|byte| *byte == 0) {
            return if self.take(BLOCK)?.iter().all(|byte| *byte == 0) {
                Ok(None)
            } else {
                Err(self.refuse(b"", "ends with one block of zeros"))
            };
        }
        let mut raw = first;
        let mut records = Vec::new();
        if raw.get(156) == Some(&PAX) {
            let size = raw.get(124..136).and_then(octal).filter(|size| *size <= LONGEST_RECORDS);
            let size = size.ok_or_else(|| self.refuse(b"", "a pax header has an invalid size"))?;
            records = self.take(size as usize)?.to_vec();
            raw.extend(&records);
            let padding = size.next_multiple_of(BLOCK as u64) - size;
            let more = self.take(padding as usize + BLOCK)?;
            raw.extend(more);
        }
        let entry = understood(&raw, &records);
        // If the header was misparsed, the regenerated bytes differ.
        match entry {
            Some(entry) if entry.bytes() == raw => Ok(Some(entry)),
            entry => {
                let name = entry.map(|entry| entry.name).unwrap_or_default();
                Err(self.refuse(&name, "has a header that is not in canonical form"))
            }
        }
    }

    fn refuse(&self, name: &[u8], words: &str) -> Fault {
        let subject = if name.is_empty() { "the layer".to_owned() } else { shown(name) };
        Fault::refused(
            Code::LayerNotCanonical,
            subject,
            format!("{words} (before byte {})", self.input.offset()),
        )
    }

    /// Makes `count` bytes contiguous in the buffer. False: the input ends before.
    fn fill(&mut self, count: usize) -> Result<bool> {
        let refused = |words| Fault::refused(Code::BlobCompression, "the layer", words);
        self.input.fill(count).map_err(|error| unread(error, "a layer", refused))
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        if !self.fill(count)? {
            return Err(self.refuse(b"", "it is truncated"));
        }
        Ok(self.input.used(count))
    }
}

impl Open {
    fn enter(&mut self, base: Vec<u8>) {
        self.name.push(b'/');
        self.name.extend_from_slice(&base);
        self.note(base);
        self.directories.push((self.name.len(), Vec::new()));
    }

    fn leave(&mut self) {
        self.directories.pop();
        self.name.truncate(self.directories.last().map_or(0, |(end, _)| *end));
    }

    fn note(&mut self, base: Vec<u8>) {
        if let Some((_, last)) = self.directories.last_mut() {
            *last = base;
        }
    }
}

fn is_below(name: &[u8], directory: &[u8]) -> bool {
    name.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

fn without_slash(entry: &Entry) -> &[u8] {
    match entry.kind {
        EntryKind::Directory => entry.name.strip_suffix(b"/").unwrap_or(&entry.name),
        _ => &entry.name,
    }
}

/// Parses a header with its pax records. Errors that regenerating the header reveals are not
/// checked.
fn understood(raw: &[u8], records: &[u8]) -> Option<Entry> {
    let header = raw.get(raw.len().checked_sub(BLOCK)?..)?;
    let text = |from: usize| {
        let field = header.get(from..from + 100)?;
        Some(field.split(|byte| *byte == 0).next()?.to_vec())
    };
    let kind = EntryKind::of_flag(*header.get(156)?)?;
    let mode = u32::try_from(octal(header.get(100..108)?)?).ok()?;
    let allowed: &[u32] = match kind {
        EntryKind::File => &[0o444, 0o555],
        EntryKind::Link => &[0o777],
        EntryKind::Directory => &[0o555, 0o755],
    };
    let mut entry =
        Entry { kind, mode, size: octal(header.get(124..136)?)?, name: text(0)?, target: text(157)? };
    for (key, value) in split_records(records)? {
        match key {
            b"path" => entry.name = value.to_vec(),
            b"linkpath" => entry.target = value.to_vec(),
            b"size" => entry.size = std::str::from_utf8(value).ok()?.parse().ok()?,
            _ => {}
        }
    }
    // Only files have contents, only links have targets, only directory names end with a slash.
    let fits = (kind == EntryKind::File || entry.size == 0)
        && (kind == EntryKind::Link || entry.target.is_empty())
        && (kind == EntryKind::Directory) == entry.name.ends_with(b"/");
    (fits && allowed.contains(&mode)).then_some(entry)
}
