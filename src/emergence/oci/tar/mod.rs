//! Reads the members of a tar one after another, in constant memory: ustar, long names of GNU and
//! pax, and all kinds of sparse files. Ambiguous headers are refused. Nothing is unpacked here.

mod header;
mod pax;
mod sparse;

use std::io::{self, Read};

use crate::emergence::base::refusal::{Code, Fault, Result, shown};
use crate::error::Error;
use header::Kept;

/// Size of a block, in bytes.
const BLOCK: u64 = 512;

/// Maximum size of a long name or of a member's pax records, in bytes; an xattr has up to 64 KiB.
const LONGEST_SPECIAL: u64 = 1 << 20;

/// The type of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A file.
    File,
    /// A hard link.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
}

/// A run of bytes of a sparse file that are stored in the tar; between runs there are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// A member as its headers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path, as written.
    pub path: Vec<u8>,
    /// Its type.
    pub kind: MemberKind,
    /// Target of a link, as written.
    pub link: Vec<u8>,
    /// Permissions with the set-user-ID, set-group-ID and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Size of the file when unpacked, in bytes.
    pub size: u64,
    /// The stored parts of a sparse file, in ascending order.
    pub sparse: Option<Vec<Extent>>,
}

/// A byte stream whose bytes can be skipped.
pub trait Input: Read {
    /// Skips up to `count` bytes and returns their number; fewer at the end.
    fn pass(&mut self, count: u64) -> io::Result<u64>;
}

/// An input that skips by reading.
pub struct Streamed<R> {
    input: R,
    room: Vec<u8>,
}

impl<R: Read> Streamed<R> {
    /// Wraps `input`.
    pub fn new(input: R) -> Self {
        Self { input, room: vec![0; 64 * 1024] }
    }
}

impl<R: Read> Read for Streamed<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.input.read(room)
    }
}

impl<R: Read> Input for Streamed<R> {
    fn pass(&mut self, count: u64) -> io::Result<u64> {
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.room.len());
            match self.input.read(self.room.get_mut(..most).unwrap_or_default()) {
                Ok(0) => break,
                Ok(got) => left -= got as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count - left)
    }
}

/// Reads a tar.
pub struct Members<R> {
    input: R,
    /// Bytes read so far.
    at: u64,
    /// Bytes of the member in the tar that are unread.
    left: u64,
    /// Padding after them, up to the next block.
    padding: u64,
    done: bool,
}

impl<R: Input> Members<R> {
    /// A reader at the start of the tar.
    pub fn new(input: R) -> Self {
        Self { input, at: 0, left: 0, padding: 0, done: false }
    }

    /// The current offset in the tar.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Number of unread bytes of the member in the tar.
    pub fn unread(&self) -> u64 {
        self.left
    }

    /// The input.
    pub fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// The input, after the last read from the tar.
    pub fn into_input(self) -> R {
        self.input
    }

    /// The next member, skipping unread bytes of the current one. `None`: the end, after two blocks
    /// of zeros or at the end of the input.
    ///
    /// Refused with `layer.header`. An error of the input is a system error if it has an errno,
    /// otherwise `blob.compression`.
    pub fn advance(&mut self) -> Result<Option<Member>> {
        let mut kept = Kept::default();
        loop {
            self.pass_rest()?;
            let Some(block) = self.header()? else {
                return if kept.is_empty() {
                    Ok(None)
                } else {
                    Err(self.refused("ends after a long name, without its member"))
                };
            };
            if let Some(member) = self.read_header(&block, &mut kept)? {
                return Ok(Some(member));
            }
        }
    }

    /// Reads the next bytes of the member, as stored in the tar; 0 at their end.
    pub fn read(&mut self, room: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(room.len());
        if most == 0 {
            return Ok(0);
        }
        let got = self.some(room.get_mut(..most).unwrap_or_default())?;
        if got == 0 {
            return Err(self.refused("ends in the middle of a member"));
        }
        self.left -= got as u64;
        Ok(got)
    }

    fn some(&mut self, room: &mut [u8]) -> Result<usize> {
        loop {
            match self.input.read(room) {
                Ok(got) => {
                    self.at += got as u64;
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(input_fault(error)),
            }
        }
    }

    fn refused(&self, words: &str) -> Fault {
        Fault::refused(Code::LayerHeader, format!("tar, byte {}", self.at), words)
    }

    /// Skips the rest of the member. The last padding may be missing: `umoci insert` never closes
    /// its archives, and Go's readers accept them.
    fn pass_rest(&mut self) -> Result<()> {
        let (needed, count) = (self.left, self.left + self.padding);
        (self.left, self.padding) = (0, 0);
        let passed = if count == 0 { 0 } else { self.input.pass(count).map_err(input_fault)? };
        self.at += passed;
        if passed < needed { Err(self.refused("ends in the middle of a member")) } else { Ok(()) }
    }

    /// Fills `room`. False: the input is at its end.
    fn full(&mut self, room: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.some(rest)? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(self.refused("ends in the middle of a block")),
                got => filled += got,
            }
        }
        Ok(true)
    }

    /// Reads a header block; `None` at the end.
    fn header(&mut self) -> Result<Option<[u8; 512]>> {
        let mut block = [0; BLOCK as usize];
        if self.done || !self.full(&mut block)? {
            self.done = true;
            return Ok(None);
        }
        if block.iter().any(|byte| *byte != 0) {
            return Ok(Some(block));
        }
        self.done = true;
        if self.full(&mut block)? && block.iter().any(|byte| *byte != 0) {
            return Err(self.refused("continues after a block of zeros"));
        }
        Ok(None)
    }

    /// Special members precede a member and are kept for it.
    fn read_header(&mut self, block: &[u8; 512], kept: &mut Kept) -> Result<Option<Member>> {
        let header = tar::Header::from_byte_slice(block);
        let place = self.at - BLOCK;
        let wrong = |words: String| Fault::refused(Code::LayerHeader, format!("tar, byte {place}"), words);
        let size = header::check(header).map_err(wrong)?;
        let kind = header.entry_type();
        if kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink() {
            let bytes = self.special(size)?;
            kept.keep(kind, bytes).map_err(wrong)?;
            return Ok(None);
        }
        if kind.is_pax_global_extensions() {
            let bytes = self.special(size)?;
            pax::check_global(&bytes).map_err(wrong)?;
            return Ok(None);
        }
        let kept = std::mem::take(kept);
        let (mut member, stored) = kept.member(header, size).map_err(wrong)?;
        self.left = stored;
        self.padding = stored.next_multiple_of(BLOCK).saturating_sub(stored);
        let named = |fault: Fault| fault.within(shown(&member.path));
        let extents = if kind.is_gnu_sparse() {
            let first = sparse::of_header(header).map_err(wrong).map_err(named)?;
            Some(self.more_extents(first, header).map_err(named)?)
        } else if kept.has_map_before_data() {
            Some(self.map_before_data().map_err(named)?)
        } else {
            member.sparse.take()
        };
        if let Some(extents) = extents {
            sparse::check(&extents, member.size, self.left)
                .map_err(|words| self.refused(&words).within(shown(&member.path)))?;
            member.sparse = Some(extents);
        }
        Ok(Some(member))
    }

    /// Reads the bytes of a special member.
    fn special(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > LONGEST_SPECIAL {
            return Err(self.refused("a long name or pax records have more than 1 MiB"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        if size > 0 && !self.full(&mut bytes)? {
            return Err(self.refused("ends in the middle of a member"));
        }
        self.padding = size.next_multiple_of(BLOCK) - size;
        Ok(bytes)
    }

    /// Reads the blocks after the header of GNU's old sparse format.
    fn more_extents(&mut self, first: Vec<Extent>, header: &tar::Header) -> Result<Vec<Extent>> {
        let mut extents = first;
        let mut more = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            if !self.full(block.as_mut_bytes())? {
                return Err(self.refused("ends in the middle of a sparse file's map"));
            }
            more = sparse::of_block(&block, &mut extents).map_err(|words| self.refused(&words))?;
        }
        Ok(extents)
    }

    /// Reads the map of a pax sparse file of version 1.0, which precedes the data as decimal
    /// numbers.
    fn map_before_data(&mut self) -> Result<Vec<Extent>> {
        let mut map = sparse::Map::default();
        while !map.is_whole() {
            let mut block = [0; BLOCK as usize];
            if self.left < BLOCK || !self.full(&mut block)? {
                return Err(self.refused("ends in the middle of a sparse file's map"));
            }
            self.left -= BLOCK;
            map.take(&block).map_err(|words| self.refused(&words))?;
        }
        Ok(map.extents)
    }
}

/// The error of reading and decompressing: a system error if it has an errno, otherwise a refusal
/// of the compressed bytes.
pub(crate) fn input_fault(error: io::Error) -> Fault {
    match error.raw_os_error() {
        Some(_) => Error::from(error).within("read").into(),
        None => Fault::refused(Code::BlobCompression, "", error.to_string()),
    }
}

#[cfg(test)]
mod tests;
