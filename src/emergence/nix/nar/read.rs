//! Reads a NAR strictly, in constant memory. Bytes that the grammar does not allow are refused with
//! their offset.

use std::io::Read;

use super::{LONGEST_NAME, LONGEST_TARGET, MAGIC, padding};
use crate::emergence::base::compress::unread;
use crate::emergence::base::refusal::{Code, Fault, Result, shown};
use crate::emergence::base::stream::Ahead;

/// Maximum length of a grammar token that is compared; all tokens are shorter.
const LONGEST_WORD: u64 = 32;

/// Receives the nodes of a tree as they are read. `name` is empty for the root. The default methods
/// ignore the node.
pub trait Visitor {
    /// Start of a directory; the next nodes are in it, until [`Visitor::leave`].
    fn directory(&mut self, _name: &[u8]) -> Result<()> {
        Ok(())
    }

    /// End of the directory.
    fn leave(&mut self) -> Result<()> {
        Ok(())
    }

    /// Start of a file of `size` bytes, which [`Visitor::data`] receives.
    fn file(&mut self, _name: &[u8], _executable: bool, _size: u64) -> Result<()> {
        Ok(())
    }

    /// The next bytes of the file.
    fn data(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    /// End of the file.
    fn end_file(&mut self) -> Result<()> {
        Ok(())
    }

    /// A link.
    fn symlink(&mut self, _name: &[u8], _target: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// A visitor that ignores all nodes, to validate a NAR.
pub struct Nothing;

impl Visitor for Nothing {}

impl<V: Visitor + ?Sized> Visitor for &mut V {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        (**self).directory(name)
    }

    fn leave(&mut self) -> Result<()> {
        (**self).leave()
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        (**self).file(name, executable, size)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        (**self).data(bytes)
    }

    fn end_file(&mut self) -> Result<()> {
        (**self).end_file()
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        (**self).symlink(name, target)
    }
}

/// Reads one NAR, which must be all of `input`. `deepest`: maximum depth in nodes.
///
/// Refusals contain the current path (`.` is the root) and the byte offset. An error of the visitor
/// ends the reading too.
pub fn read(input: impl Read, deepest: usize, visitor: &mut impl Visitor) -> Result<()> {
    let mut reader = Reader { input: Ahead::new(input), deepest, path: Vec::new() };
    reader.magic()?;
    reader.node(b"", 1, visitor)?;
    if reader.fill(1)? {
        return Err(reader.refuse(Code::NarTrailing, "trailing bytes after the end"));
    }
    Ok(())
}

struct Reader<R> {
    input: Ahead<R>,
    deepest: usize,
    path: Vec<u8>,
}

/// A token as read, valid or not.
struct Word {
    bytes: [u8; LONGEST_WORD as usize],
    length: usize,
    offset: u64,
}

impl Word {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl<R: Read> Reader<R> {
    fn refuse(&self, code: Code, words: impl AsRef<str>) -> Fault {
        self.refuse_at(code, self.input.offset(), words)
    }

    fn refuse_at(&self, code: Code, offset: u64, words: impl AsRef<str>) -> Fault {
        let path = if self.path.is_empty() { ".".to_owned() } else { shown(&self.path) };
        Fault::refused(code, path, format!("at byte {offset}, {}", words.as_ref()))
    }

    /// Makes `count` bytes available contiguously. False: the input ends before.
    fn fill(&mut self, count: usize) -> Result<bool> {
        let filled = self.input.fill(count);
        filled.map_err(|error| unread(error, "the NAR", |words| self.refuse(Code::BlobCompression, words)))
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        if !self.fill(count)? {
            return Err(self.refuse(Code::NarTruncated, format!("{count} bytes are missing or cut off")));
        }
        Ok(self.input.used(count))
    }

    fn number(&mut self) -> Result<u64> {
        let bytes = self.take(8)?;
        Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
    }

    fn pad(&mut self, length: u64) -> Result<()> {
        let offset = self.input.offset();
        if self.take(padding(length))?.iter().any(|byte| *byte != 0) {
            return Err(self.refuse_at(Code::NarPadding, offset, "padding is not zero"));
        }
        Ok(())
    }

    fn magic(&mut self) -> Result<()> {
        let mut expected = [0; 24];
        expected.iter_mut().zip((MAGIC.len() as u64).to_le_bytes()).for_each(|(to, from)| *to = from);
        expected.iter_mut().skip(8).zip(MAGIC).for_each(|(to, from)| *to = *from);
        let whole = self.fill(expected.len())?;
        let found = self.input.unused();
        if found.iter().zip(expected).any(|(found, expected)| *found != expected) {
            return Err(self.refuse(Code::NarMagic, "it does not begin as a NAR"));
        }
        if !whole {
            return Err(self.refuse(Code::NarTruncated, "it ends before the first node"));
        }
        self.take(expected.len()).map(drop)
    }

    fn word(&mut self) -> Result<Word> {
        let mut word = Word { bytes: [0; LONGEST_WORD as usize], length: 0, offset: self.input.offset() };
        let length = self.number()?;
        if length > LONGEST_WORD {
            let words = format!("a string of {length} bytes is in the place of a fixed one of the grammar");
            return Err(self.refuse_at(Code::NarBadTag, word.offset, words));
        }
        word.length = length as usize;
        let bytes = self.take(word.length)?;
        word.bytes.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.pad(length)?;
        Ok(word)
    }

    fn unexpected(&self, word: &Word, wanted: &str) -> Fault {
        let words = format!("found \"{}\" instead of {wanted}", shown(word.bytes()));
        self.refuse_at(Code::NarBadTag, word.offset, words)
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        let word = self.word()?;
        if word.bytes() == wanted.as_bytes() { Ok(()) } else { Err(self.unexpected(&word, wanted)) }
    }

    /// Reads a name or a target: at most `longest` bytes, without NUL, with slashes only if
    /// `slashes`.
    fn string(&mut self, code: Code, longest: u64, slashes: bool) -> Result<Vec<u8>> {
        let offset = self.input.offset();
        let length = self.number()?;
        if length == 0 || length > longest {
            return Err(self.refuse_at(
                code,
                offset,
                format!("found a string of {length} bytes; it must have 1 to {longest}"),
            ));
        }
        let bytes = self.take(length as usize)?.to_vec();
        if bytes.contains(&0) || !slashes && bytes.contains(&b'/') {
            return Err(self.refuse_at(code, offset, format!("\"{}\" cannot be one", shown(&bytes))));
        }
        self.pad(length)?;
        Ok(bytes)
    }

    /// Reads the node called `name`. `deepest` limits the recursion.
    fn node(&mut self, name: &[u8], depth: usize, visitor: &mut impl Visitor) -> Result<()> {
        if depth > self.deepest {
            return Err(self.refuse(Code::NarDepth, format!("is nested {depth} deep")));
        }
        self.expect("(")?;
        self.expect("type")?;
        let kind = self.word()?;
        match kind.bytes() {
            b"regular" => self.file(name, visitor)?,
            b"symlink" => {
                self.expect("target")?;
                let target = self.string(Code::NarBadTarget, LONGEST_TARGET, true)?;
                visitor.symlink(name, &target)?;
                self.expect(")")?;
            }
            b"directory" => self.directory(name, depth, visitor)?,
            _ => return Err(self.unexpected(&kind, "regular, symlink or directory")),
        }
        Ok(())
    }

    fn file(&mut self, name: &[u8], visitor: &mut impl Visitor) -> Result<()> {
        let mut word = self.word()?;
        let executable = word.bytes() == b"executable";
        if executable {
            self.expect("")?;
            word = self.word()?;
        }
        if word.bytes() != b"contents" {
            return Err(self.unexpected(&word, "contents"));
        }
        let size = self.number()?;
        visitor.file(name, executable, size)?;
        let mut left = size;
        while left > 0 {
            if !self.fill(1)? {
                let words = format!("the file ends {left} bytes before its size, {size}");
                return Err(self.refuse(Code::NarTruncated, words));
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.unused().len());
            visitor.data(self.take(count)?)?;
            left -= count as u64;
        }
        self.pad(size)?;
        visitor.end_file()?;
        self.expect(")")
    }

    fn directory(&mut self, name: &[u8], depth: usize, visitor: &mut impl Visitor) -> Result<()> {
        visitor.directory(name)?;
        let mut last: Vec<u8> = Vec::new();
        loop {
            let word = self.word()?;
            match word.bytes() {
                b")" => return visitor.leave(),
                b"entry" => {}
                _ => return Err(self.unexpected(&word, "entry or )")),
            }
            self.expect("(")?;
            self.expect("name")?;
            let offset = self.input.offset();
            let name = self.string(Code::NarBadName, LONGEST_NAME, false)?;
            if name == b"." || name == b".." {
                return Err(self.refuse_at(
                    Code::NarBadName,
                    offset,
                    format!("\"{}\" cannot be one", shown(&name)),
                ));
            }
            if name <= last {
                let words = format!("\"{}\" does not come after \"{}\"", shown(&name), shown(&last));
                return Err(self.refuse_at(Code::NarNotSorted, offset, words));
            }
            self.expect("node")?;
            let above = self.path.len();
            if above > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            self.node(&name, depth + 1, visitor)?;
            self.path.truncate(above);
            self.expect(")")?;
            last = name;
        }
    }
}
